//! The training loop: a trainer, its phases, and their batches.

pub(super) mod lost;
pub(super) mod phase;
pub(super) mod phases;
pub(super) mod prepare;
pub(super) mod saving;
pub(super) mod score;
pub(super) mod source;
pub(super) mod state;
pub(super) mod teacher;
pub(super) mod trainer;
