//! Settings that are a choice, or several numbers that belong together.

use serde::{Deserialize, Serialize};

/// How the head is trained on cached features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadSolver {
    /// Gradient descent by the optimizer.
    #[default]
    #[serde(alias = "steps")]
    GradientDescent,
    /// Logistic regression by L-BFGS; cross-validation chooses the penalty.
    Lbfgs,
}

/// Knowledge distillation (Hinton, Vinyals, Dean 2015, arXiv:1503.02531): the loss is
/// `(1 - share) * loss + share * T^2 * cross-entropy of the logits / T with the teacher's`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distill {
    /// The temperature T.
    pub temperature: f32,
    /// Share of the distillation loss, 0 to 1.
    pub share: f32,
}

impl Default for Distill {
    fn default() -> Self {
        Distill { temperature: 4.0, share: 0.5 }
    }
}
