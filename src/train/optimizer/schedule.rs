//! Learning rate schedules.

use serde::{Deserialize, Serialize};

/// The learning rate schedule of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// A constant rate.
    Constant,
    /// Divides the rate by ten after each third of the epochs.
    Step,
    /// Half a cosine, from the full rate down to 0.
    Cosine,
    /// One-cycle (Smith 2018, with PyTorch's constants; the momentum stays constant): from 1/25 of the rate up to the
    /// rate during the first 30%, then down to 1/250 000 of it, both along a cosine.
    OneCycle,
    /// Divides the rate by ten whenever the validation loss has not fallen for [`Schedule::PLATEAU`] epochs.
    Plateau,
}

/// Position of a training, for its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// Number of updates done.
    pub step: usize,
    /// Number of updates in all.
    pub steps: usize,
    /// Number of epochs done.
    pub epoch: usize,
    /// Number of epochs in all.
    pub epochs: usize,
    /// Number of plateaus of the validation loss so far.
    pub plateaus: usize,
}

impl Schedule {
    /// Epochs without a lower validation loss after which `plateau` lowers the rate.
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
