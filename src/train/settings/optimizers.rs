//! The list of optimizers, one line each, with their names. The list names the file in [`crate::train::optimizer`]
//! that defines each optimizer's properties.

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
        /// The optimizer of the parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum OptimizerKind {
            $($(#[$about])* #[serde(rename = $text)] $name,)*
        }

        impl OptimizerKind {
            /// Names of the optimizers.
            pub const NAMES: &[&str] = &[$($text),*];
            /// All optimizers.
            pub const ALL: &[OptimizerKind] = &[$(OptimizerKind::$name),*];

            /// The name, as in `config.json`.
            pub fn name(self) -> &'static str {
                match self {
                    $(OptimizerKind::$name => $text,)*
                }
            }
        }
    };
}

optimizers!(names);
