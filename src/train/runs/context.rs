//! What a run needs from outside.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::plan::Device;
use crate::train::events::Observer;

/// What a run needs from outside.
pub struct Context<'a> {
    /// What it runs on.
    pub device: &'a Device,
    /// Where features are kept.
    pub cache: PathBuf,
    /// Who watches.
    pub observer: &'a mut dyn Observer,
    /// Set to true to stop after the step at hand.
    pub stop: &'a AtomicBool,
}
