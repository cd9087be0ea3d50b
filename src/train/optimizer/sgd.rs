//! SGD with momentum.

use super::{Rates, Rule};
use crate::ops;
use crate::plan::Optimizer;
use crate::train::settings::{Config, OptimizerKind};

/// The optimizer's kind.
pub(crate) const KIND: OptimizerKind = OptimizerKind::Sgd;

pub(super) struct Sgd;

impl Rule for Sgd {
    fn update(&self, config: &Config) -> Optimizer {
        ops::Sgd { momentum: config.momentum, nesterov: config.nesterov }.into()
    }

    fn rates(&self) -> Rates {
        Rates { head_alone: 1e-2, body: 1e-3, head: 1e-2, learned: 5e-3, scratch: 0.1 }
    }

    fn weight_decay(&self) -> f64 {
        1e-4
    }
}
