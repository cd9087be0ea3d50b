//! The feature cache: the output of the frozen backbone for each image, computed once and read back from disk.

pub(super) mod features;
pub(super) mod store;
