//! The environment of a run.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::plan::Device;
use crate::train::events::Observer;

/// The environment of a run: device, cache folder, observer, stop flag.
pub struct Context<'a> {
    /// The device of the run.
    pub device: &'a Device,
    /// Folder of the feature cache.
    pub cache: PathBuf,
    /// The observer of events.
    pub observer: &'a mut dyn Observer,
    /// Set to true to stop after the current step.
    pub stop: &'a AtomicBool,
}
