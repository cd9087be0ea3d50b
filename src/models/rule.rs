//! Weights by rule: networks are compared with their reference implementations without any file of weights.

use super::Network;
use crate::nn::init::by_rule;

/// Fills all tensors by the rule of `tools/fixtures.py`, so that PyTorch and Defrost can be compared
/// on any architecture without its weights.
pub fn rule_fill(net: &mut Network) {
    net.fill(by_rule);
}
