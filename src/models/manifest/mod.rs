//! Pretrained weights that can be fetched by name: `weights/manifest.toml`.

mod find;
mod weights;

pub use find::find;
pub use weights::{Weights, all};
