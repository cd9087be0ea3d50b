//! Learning rate range test (Smith 2015, arXiv:1506.01186): the learning rate grows from step to step until the loss
//! explodes.

use std::sync::Arc;

use serde::Serialize;

use crate::data::{Dataset, Part};
use crate::models::Network;
use crate::train::events::Event;
use crate::train::fit::trainer::Trainer;
use crate::train::step::session::DeviceBatch;
use crate::{Error, Result};

/// Decay of the smoothed loss, as in fastai.
const SMOOTHING: f64 = 0.98;
/// The sweep ends where the smoothed loss exceeds this multiple of its minimum.
const EXPLODED: f64 = 4.0;

/// One step of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The head's learning rate; the other groups' rates are proportional.
    pub lr: f64,
    /// The batch's loss before the update.
    pub loss: f64,
    /// Moving average of the loss.
    pub smoothed: f64,
}

/// Result of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// All steps.
    pub points: Vec<SweepPoint>,
    /// The suggested learning rate for the head.
    pub suggestion: f64,
    /// Suggested rates of all layer groups, proportional to the head's.
    pub rates: Vec<f64>,
}

/// fastai's valley rule: finds the longest decreasing subsequence of the losses and returns the point halfway through
/// its second third. None for fewer than three points.
pub fn valley(losses: &[f64]) -> Option<usize> {
    let mut lengths = vec![1usize; losses.len()];
    let (mut start, mut end) = (0i64, 0);
    for i in 1..losses.len() {
        for j in 0..i {
            if losses[i] < losses[j] && lengths[i] < lengths[j] + 1 {
                lengths[i] = lengths[j] + 1;
            }
            if lengths[end] < lengths[i] {
                end = i;
                start = end as i64 - lengths[end] as i64;
            }
        }
    }
    let third = (end as i64 - start) as f64 / 3.0;
    let halfway = start + third as i64 + (third / 2.0) as i64;
    (losses.len() > 2).then(|| halfway.clamp(0, losses.len() as i64 - 1) as usize)
}

impl Trainer<'_> {
    /// Sweeps the learning rate from `from` to `to` over `steps` updates of the strategy's last phase; the earlier
    /// phases are trained first. `net` stays unchanged.
    ///
    /// # Errors
    /// As for [`Trainer::fit`]; [`Error::Diverged`] where the loss is NaN or infinite from the first steps on.
    pub fn find_rate(
        mut self,
        net: &Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
        (from, to, steps): (f64, f64, usize),
    ) -> Result<Sweep> {
        let mut net = net.clone();
        self.config.stop_after = None;
        self.config.strategy = self.config.strategy.without_trials();
        let mut phases = self.config.phases(&net.structure().groups);
        let last = phases.pop().unwrap_or_else(|| self.config.clone());
        if let Some(head) = phases.into_iter().next() {
            self.config = head;
            net.freeze(self.config.freeze())?;
            self = self.trained(&mut net, train, val)?;
        }
        self.config = last;
        net.freeze(self.config.freeze())?;
        self.load_teacher(&net)?;
        let proportions = self.config.rates(&net.structure().groups)?;
        let Some(top) = proportions.last().copied().filter(|top| *top > 0.0) else {
            return Err(Error::setting("lr", 0, "there is nothing to sweep; leave it away"));
        };
        let mut points: Vec<SweepPoint> = Vec::new();
        let (mut average, mut least) = (0.0, f64::INFINITY);
        let ratio = (to / from).powf(1.0 / steps.saturating_sub(1).max(1) as f64);
        self.each_update(&net, [train, val], steps, from / top, &mut |n, outcome: Result<f64>| {
            let loss = match outcome {
                Ok(loss) => loss,
                // Divergence is the expected end of the sweep.
                Err(Error::Diverged(_)) if n > 2 => return Ok(None),
                Err(e) => return Err(e),
            };
            average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
            let smoothed = average / (1.0 - SMOOTHING.powi(n as i32 + 1));
            points.push(SweepPoint { lr: from * ratio.powi(n as i32), loss, smoothed });
            least = least.min(smoothed);
            let exploded = n > 0 && smoothed > EXPLODED * least;
            Ok((!exploded).then(|| from * ratio.powi(n as i32 + 1) / top))
        })?;
        if self.stopped() || points.len() < 3 {
            let what = if self.stopped() { "interrupted" } else { "too few steps" };
            return Err(Error::Interrupted(format!(
                "{what}: no rate can be suggested; give it more `steps`, or time"
            )));
        }
        // As in fastai: skip the first tenth and the last five points.
        let (first, end) = (points.len() / 10, points.len().saturating_sub(5));
        let inner = points.get(first..end).filter(|p| p.len() > 2).unwrap_or(&points);
        let losses: Vec<f64> = inner.iter().map(|p| p.smoothed).collect();
        let suggestion = inner[valley(&losses).unwrap_or(0)].lr;
        let rates = proportions.iter().map(|rate| rate / top * suggestion).collect();
        Ok(Sweep { points, suggestion, rates })
    }

    /// Runs up to `steps` updates of the current phase, the first at `factor` on the learning rates. After each
    /// update, `next` receives the loss and returns the factor of the next update, or none to stop.
    fn each_update(
        &mut self,
        net: &Network,
        sets: [&Arc<Dataset>; 2],
        steps: usize,
        mut factor: f64,
        next: &mut dyn FnMut(usize, Result<f64>) -> Result<Option<f64>>,
    ) -> Result<()> {
        let (source, taps) = self.source(net, sets[0], sets[1])?;
        let (mut session, batch) = self.session(net, &source, &taps)?;
        let (config, parts) = (self.config.clone(), self.config.accumulate);
        let weights = source.class_weights(&config);
        let mut done = 0;
        for epoch in 0.. {
            let plan = source.plan(&config, batch, session.pads(), epoch);
            let mut fed = source.train(&config, net, epoch, plan)?.peekable();
            while fed.peek().is_some() {
                if done == steps || self.stopped() {
                    return Ok(());
                }
                let mut group: Vec<DeviceBatch> = fed.by_ref().take(parts).collect::<Result<_>>()?;
                for part in &mut group {
                    self.miss(source.sets(), Part::Train, std::mem::take(&mut part.failed))?;
                }
                group.retain(|part| part.rows() > 0);
                if group.is_empty() {
                    continue;
                }
                group.iter_mut().try_for_each(|part| self.attach(net, part, &weights))?;
                let mut results = Vec::new();
                let started =
                    session.train(net, &group, batch, factor, done as u64 + 1, &mut |r| results.push(r));
                let outcome = started.and_then(|()| {
                    while let Some(result) = session.finish()? {
                        results.push(result);
                    }
                    Ok(())
                });
                let rows: usize = results.iter().map(|r| r.rows).sum();
                let loss = results.iter().map(|r| r.loss * r.rows as f64).sum::<f64>() / rows.max(1) as f64;
                let Some(then) = next(done, outcome.map(|()| loss))? else { return Ok(()) };
                (factor, done) = (then, done + 1);
                self.tell(&Event::progress("sweep", done, steps));
            }
        }
        Ok(())
    }

    fn trained(mut self, net: &mut Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Self> {
        debug_assert!(self.config.strategy.head_only());
        self.folder = None;
        self.fit(net, train, val)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::valley;

    /// Expected: `fastai.callback.schedule.valley` on the same numbers.
    #[test]
    fn the_valley_is_fastais() {
        let bowl: Vec<f64> = (0..50).map(|i| ((i as f64 - 30.0) / 10.0).powi(2)).collect();
        assert_eq!(valley(&bowl), Some(14));
        let noisy: Vec<f64> = bowl.iter().enumerate().map(|(i, x)| x + 0.3 * ((i * 7 % 5) as f64)).collect();
        assert_eq!(valley(&noisy), Some(27));
        assert_eq!(valley(&[1.0, 2.0]), None);
    }
}
