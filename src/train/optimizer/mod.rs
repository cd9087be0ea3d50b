//! Optimizers as settings: their parameters and defaults. An optimizer is an op in `ops/optimizer`, a file here, and
//! a line of the list in [`crate::train::settings`].

mod adamw;
pub(super) mod schedule;
mod sgd;

use crate::plan::Optimizer;
use crate::train::settings::{Config, OptimizerKind, optimizers};

pub(super) use sgd::KIND as SGD;

/// Default learning rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Of a head trained alone.
    pub(super) head_alone: f64,
    /// Of the layers below a new head.
    pub(super) body: f64,
    /// Of a new head above trainable layers.
    pub(super) head: f64,
    /// Of a head that has been trained; each lower layer group gets a share of this rate.
    pub(super) learned: f64,
    /// Of all layers, trained from random weights.
    pub(super) scratch: f64,
}

/// The properties of an optimizer.
trait Rule: Sync {
    /// The update rule for the parameters.
    fn update(&self, config: &Config) -> Optimizer;

    /// Default learning rates.
    fn rates(&self) -> Rates;

    /// Default weight decay.
    fn weight_decay(&self) -> f64;
}

macro_rules! rules {
    ($($(#[$about:meta])* $name:ident = $text:literal, $module:ident;)*) => {
        fn rule(optimizer: OptimizerKind) -> &'static dyn Rule {
            match optimizer {
                $(OptimizerKind::$name => &$module::$name,)*
            }
        }
    };
}

optimizers!(rules);

impl OptimizerKind {
    /// The update rule for the parameters.
    pub(super) fn update(self, config: &Config) -> Optimizer {
        rule(self).update(config)
    }

    /// Default learning rates.
    pub(super) fn rates(self) -> Rates {
        rule(self).rates()
    }

    /// The default weight decay of each optimizer, in words.
    pub(super) fn weight_decay_in_words() -> String {
        let each = Self::ALL.iter().map(|kind| format!("{} with {}", kind.weight_decay(), kind.name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Default weight decay.
    pub(super) fn weight_decay(self) -> f64 {
        rule(self).weight_decay()
    }
}
