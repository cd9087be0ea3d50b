//! Adaptation of networks to images of another domain, without labels.

pub(super) mod coral;
pub(super) mod matrix_root;
pub(super) mod means;
