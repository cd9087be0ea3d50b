//! The list of optimizers: a line each, and their names. What an optimizer takes is told in its file of
//! [`crate::train::optimizer`], which the list names.

use serde::{Deserialize, Serialize};

/// Hands the list to another macro.
macro_rules! optimizers {
    ($macro:ident) => {
        $macro! {
            /// SGD with momentum.
            Sgd = "sgd", sgd;
            /// Adam with decoupled weight decay.
            #[default]
            Adamw = "adamw", adamw;
        }
    };
}
pub(crate) use optimizers;

macro_rules! names {
    ($($(#[$about:meta])* $name:ident = $text:literal, $module:ident;)*) => {
        /// How parameters are updated.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum OptimizerKind {
            $($(#[$about])* #[serde(rename = $text)] $name,)*
        }

        impl OptimizerKind {
            /// Their names.
            pub const NAMES: &[&str] = &[$($text),*];
            /// All of them.
            pub const ALL: &[OptimizerKind] = &[$(OptimizerKind::$name),*];

            /// As `config.json` has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(OptimizerKind::$name => $text,)*
                }
            }
        }
    };
}

optimizers!(names);
