//! Adam with decoupled weight decay.

use super::{Rates, Rule};
use crate::ops::AdamW;
use crate::plan::Optimizer;
use crate::train::settings::Config;

pub(super) struct Adamw;

impl Rule for Adamw {
    fn update(&self, _: &Config) -> Optimizer {
        AdamW::default().into()
    }

    fn rates(&self) -> Rates {
        Rates { head_alone: 1e-3, body: 1e-4, head: 5e-3, learned: 5e-4, scratch: 1e-3 }
    }

    fn weight_decay(&self) -> f64 {
        0.1
    }
}
