//! The feature cache: what the frozen backbone makes of each image, computed once and read back from the disk.

pub(super) mod features;
pub(super) mod store;
