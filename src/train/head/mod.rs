//! Heads that are solved for instead of trained by gradient descent: logistic regression on cached features.

pub(super) mod lbfgs;
pub(super) mod logistic;
pub(super) mod solver;
