//! Batch norm and its three modes.

use std::fmt::Display;

use super::{Graph, Kind, Layout, Mode, NormMode};
use crate::ops::{Affine, BatchNorm, BatchNormFold, BatchStats, Epilogue, RunningUpdate, Statistics};
use crate::tape::ValueId;
use crate::{Error, Result};

impl Graph<'_> {
    /// Batch norm over the channels of `x`, in one of three modes:
    ///
    /// - *train*: uses batch statistics, and updates the running statistics;
    /// - *frozen-stats*: uses running statistics; scale and shift are trained;
    /// - *frozen*, and every norm in [`Mode::Eval`]: one scale and shift a channel, computed from the four tensors
    ///   (once, if none of them changes) and applied in the epilogue of the previous op.
    ///
    /// # Errors
    /// [`Error::Shape`], also where the batch has one value a channel, which has no variance.
    pub fn batch_norm(&mut self, name: impl Display, x: ValueId) -> Result<ValueId> {
        let channels = self.tape.shape(x).channels();
        let rows = self.tape.shape(x).rows();
        let settings = self.settings;
        let (eps, momentum) = (settings.norm.eps, settings.norm.momentum);
        self.layer(name, |g| {
            let mut declare = |name, kind| g.param(name, &[channels], Layout::Plain, kind);
            let weight = declare("weight", Kind::NormWeight)?;
            let bias = declare("bias", Kind::NormBias)?;
            let running_mean = declare("running_mean", Kind::RunningMean)?;
            let running_var = declare("running_var", Kind::RunningVar)?;
            let epilogue = Epilogue::default();
            let norm = |statistics| BatchNorm { eps, statistics, epilogue };
            match (settings.mode, g.norm_mode()) {
                (Mode::Train, NormMode::Train) => {
                    if rows < 2 {
                        return Err(Error::Shape(format!(
                            "layer {}: one value a channel has no variance; use a batch of at least 2 \
                             or freeze the batch norm's statistics",
                            g.path()
                        )));
                    }
                    let [mean, var] = g.tape.record(BatchStats, &[x])?[..] else {
                        return Err(Error::Shape("batch statistics are a mean and a variance".into()));
                    };
                    g.tape
                        .record(RunningUpdate { momentum, rows }, &[running_mean, running_var, mean, var])?;
                    g.tape.apply(norm(Statistics::Batch), &[x, mean, var, weight, bias])
                }
                (Mode::Train, NormMode::FrozenStats) => {
                    g.tape.apply(norm(Statistics::Running), &[x, running_mean, running_var, weight, bias])
                }
                _ => {
                    let fold = BatchNormFold { eps };
                    let affine = g.tape.apply(fold, &[weight, bias, running_mean, running_var])?;
                    g.tape.apply(Affine { epilogue }, &[x, affine])
                }
            }
        })
    }
}
