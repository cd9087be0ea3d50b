//! Measurements and experiments around a training: benchmarks, certificates, the demo, few-shot evaluation,
//! pre-training, learning rate searches, contact sheets.

pub(super) mod bench;
pub(super) mod certify;
pub(super) mod demo;
pub(super) mod fewshot;
pub(super) mod pretrain;
pub(super) mod sheet;
pub(super) mod sweep;
