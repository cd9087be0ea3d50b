//! The list of strategies, one line each, with their names. The list names the file in [`crate::train::strategy`]
//! that defines each strategy.

use serde::{Deserialize, Serialize};

/// Hands the list to another macro.
macro_rules! strategies {
    ($macro:ident) => {
        $macro! {
            /// The frozen network runs once an image, its features are cached, and the head is trained on them.
            Features = "features", features,
                "features: the frozen network runs once an image and its head is trained on its features;";
            /// Everything that is not frozen learns, on augmented images.
            Finetune = "finetune" or "partial", finetune,
                "finetune (or partial): all that is not frozen learns, on augmented images;";
            /// First the head on cached features, then everything that is not frozen, lower layers at lower rates
            /// (Kumar et al. 2022, arXiv:2202.10054: a fresh head would spoil the features).
            #[default]
            TwoPhase = "two-phase", two_phase,
                "two-phase: features, then finetune with lower rates for lower layers;";
            /// First the head on cached features, then one layer group after the other from the top (Howard and Ruder
            /// 2018, arXiv:1801.06146).
            Gradual = "gradual", gradual,
                "gradual: features, then one layer group after the other from the top;";
            /// Everything learns from initial weights: what pre-training is worth, and how it is made.
            Scratch = "scratch", scratch,
                "scratch: everything, from initial weights;";
            /// Short trials of the others on the images at hand, then the best of them.
            Auto = "auto", auto,
                "auto: short trials of these, then the best of them.";
        }
    };
}
pub(crate) use strategies;

macro_rules! names {
    ($($(#[$about:meta])* $name:ident = $text:literal $(or $alias:literal)?, $module:ident, $help:literal;)*) => {
        /// Which layers are trained, and in which order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum Strategy {
            $($(#[$about])* #[serde(rename = $text $(, alias = $alias)?)] $name,)*
        }

        impl Strategy {
            /// Names of the strategies, each followed by its alias.
            pub const NAMES: &[&str] = &[$($text, $($alias,)?)*];
            /// All strategies.
            pub const ALL: &[Strategy] = &[$(Strategy::$name),*];
            /// The help's text on the strategies.
            pub(super) const HELP: &[&str] = &[$($help),*];

            /// The name, as in `config.json`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Strategy::$name => $text,)*
                }
            }

            /// What the strategy does, after its name.
            pub fn about(self) -> &'static str {
                let help = match self {
                    $(Strategy::$name => $help,)*
                };
                help.trim_end_matches([';', '.'])
            }
        }
    };
}

strategies!(names);
