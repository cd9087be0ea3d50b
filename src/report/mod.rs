//! What a run tells people, as files.

mod card;
mod python;

pub use card::{Card, Exported};
