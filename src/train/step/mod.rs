//! Programs of the device: recordings of training steps and evaluations, and the compiled programs.

pub(super) mod finite;
pub(super) mod plans;
pub(super) mod session;
pub(super) mod workload;
