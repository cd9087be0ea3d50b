//! Trained networks: predictions, evaluation, calibration of confidence.

pub(super) mod calibrate;
pub(super) mod prediction;
pub(super) mod predictor;
