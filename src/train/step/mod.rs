//! What runs on the device: the recordings of a step and of an evaluation, and the programs made of them.

pub(super) mod finite;
pub(super) mod plans;
pub(super) mod session;
pub(super) mod workload;
