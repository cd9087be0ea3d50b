//! A head solved for in place of trained: logistic regression on cached features.

pub(super) mod lbfgs;
pub(super) mod logistic;
pub(super) mod solver;
