//! Run folders: a training from settings to files, checkpoints, and resuming.

pub(super) mod checkpoint;
pub(super) mod context;
pub(super) mod description;
pub(super) mod folder;
pub(super) mod images;
pub(super) mod run;
pub(super) mod tensorboard;
pub(super) mod trials;
