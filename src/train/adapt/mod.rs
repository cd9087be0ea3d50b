//! Networks adapted to images of another origin, without labels.

pub(super) mod coral;
pub(super) mod matrix_root;
pub(super) mod means;
