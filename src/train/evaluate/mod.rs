//! Networks that have learned: predictions, their evaluation, the calibration of their confidence.

pub(super) mod calibrate;
pub(super) mod prediction;
pub(super) mod predictor;
