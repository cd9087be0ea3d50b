//! How the learning rate goes over a training.

use serde::{Deserialize, Serialize};

/// How the learning rate goes over the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// A tenth after each third of the epochs.
    Step,
    /// Half a cosine, down to 0.
    Cosine,
    /// Up from a 25th during the first 30%, then down to a 250 000th, both along a cosine (Smith 2018,
    /// with PyTorch's constants; the momentum stays).
    OneCycle,
    /// A tenth whenever the validation loss has not fallen for [`Schedule::PLATEAU`] epochs.
    Plateau,
}

/// Where a training stands, for its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Updates done.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// How often the validation loss has come to rest.
    pub plateaus: usize,
}

impl Schedule {
    /// Epochs without a lower validation loss after which `plateau` goes down.
    pub const PLATEAU: usize = 2;

    /// The factor on the learning rate.
    pub fn factor(self, at: Standing) -> f64 {
        let Standing { step, steps, epoch, epochs, plateaus } = at;
        let cosine = |from: f64, to: f64, share: f64| {
            to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
        };
        let steps = steps.max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Plateau => 0.1f64.powi(plateaus as i32),
            Schedule::Step => 0.1f64.powi((epoch / epochs.div_ceil(3).max(1)) as i32),
            Schedule::Cosine => cosine(1.0, 0.0, step as f64 / steps),
            Schedule::OneCycle => {
                let peak = (0.3 * steps - 1.0).max(1.0);
                let at = step as f64;
                if at <= peak {
                    cosine(1.0 / 25.0, 1.0, at / peak)
                } else {
                    cosine(1.0, 1.0 / 250_000.0, (at - peak) / (steps - 1.0 - peak).max(1.0))
                }
            }
        }
    }
}
