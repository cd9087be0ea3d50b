//! Structs of options: fields may be added, so other crates begin with the default and change it.

/// Gives options a method that changes some of them.
macro_rules! options {
    ($name:ty) => {
        impl $name {
            /// The same with some fields changed: `.with(|c| c.seed = 7)`.
            #[must_use]
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }
        }
    };
}
