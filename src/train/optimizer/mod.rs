//! Optimizers as settings: what each takes of them, and where they do not say. An optimizer is its op in `ops/optimizer`,
//! a file here, and a line of the registry below.

mod adamw;
mod sgd;

use serde::{Deserialize, Serialize};

use super::settings::Config;
use crate::plan::Optimizer;

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

macro_rules! optimizers {
    ($($(#[$about:meta])* $name:ident = $text:literal, $module:ident;)*) => {
        /// How parameters are updated.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum OptimizerKind {
            $($(#[$about])* #[serde(rename = $text)] $name,)*
        }

        impl OptimizerKind {
            /// Their names.
            pub const NAMES: &[&str] = &[$($text),*];

            fn rule(self) -> &'static dyn Rule {
                match self {
                    $(OptimizerKind::$name => &$module::$name,)*
                }
            }

            /// The usual decay of weights of each, in words.
            pub(super) fn weight_decay_in_words() -> String {
                let each = [$((OptimizerKind::$name, $text)),*];
                each.map(|(kind, name)| format!("{} with {name}", kind.weight_decay())).join(", ")
            }
        }
    };
}

optimizers! {
    /// SGD with momentum.
    Sgd = "sgd", sgd;
    /// Adam with decoupled weight decay.
    #[default]
    Adamw = "adamw", adamw;
}

impl OptimizerKind {
    /// The update of parameters.
    pub(super) fn update(self, config: &Config) -> Optimizer {
        self.rule().update(config)
    }

    /// The usual learning rates.
    pub(super) fn rates(self) -> Rates {
        self.rule().rates()
    }

    /// The usual decay of weights.
    pub(super) fn weight_decay(self) -> f64 {
        self.rule().weight_decay()
    }
}
