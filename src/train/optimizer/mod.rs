//! Optimizers as settings: what each takes of them, and where they do not say. An optimizer is its op in `ops/optimizer`,
//! a file here, and a line of the list in [`crate::train::settings`].

mod adamw;
pub(super) mod schedule;
mod sgd;

use crate::plan::Optimizer;
use crate::train::settings::{Config, OptimizerKind, optimizers};

pub(super) use sgd::KIND as SGD;

/// Learning rates where the settings do not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Of a head alone.
    pub(super) head_alone: f64,
    /// Of what lies under a fresh head.
    pub(super) body: f64,
    /// Of a fresh head above it.
    pub(super) head: f64,
    /// Of a head that has learned already; lower layer groups have a share of it.
    pub(super) learned: f64,
    /// Of everything, from random weights.
    pub(super) scratch: f64,
}

/// What an optimizer is as a setting.
trait Rule: Sync {
    /// The update of parameters.
    fn update(&self, config: &Config) -> Optimizer;

    /// The usual learning rates.
    fn rates(&self) -> Rates;

    /// The usual decay of weights.
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
    /// The update of parameters.
    pub(super) fn update(self, config: &Config) -> Optimizer {
        rule(self).update(config)
    }

    /// The usual learning rates.
    pub(super) fn rates(self) -> Rates {
        rule(self).rates()
    }

    /// The usual decay of weights of each, in words.
    pub(super) fn weight_decay_in_words() -> String {
        let each = Self::ALL.iter().map(|kind| format!("{} with {}", kind.weight_decay(), kind.name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The usual decay of weights.
    pub(super) fn weight_decay(self) -> f64 {
        rule(self).weight_decay()
    }
}
