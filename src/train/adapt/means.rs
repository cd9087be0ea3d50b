//! Adaptive batch normalisation (Li et al. 2016, arXiv:1603.04779): adapts a network to another domain by estimating
//! the running statistics of its batch norms on unlabelled images of that domain. No weight changes.
//!
//! One pass estimates all norms. Images come in random order, in batches of nearly equal size, and each norm uses its
//! batch's statistics, as in PyTorch's training mode. The result is the mean and unbiased variance of all values of
//! each channel over all batches: the law of total variance joins the batches' moments, in f64. PyTorch's
//! `momentum=None` averages the batches' variances instead, and so ignores how the batches' means differ.

use std::collections::HashMap;
use std::sync::Arc;

use crate::data::{Dataset, Loader, Skipped, View, batches, epoch_order};
use crate::models::{Network, Recording};
use crate::nn::{Freeze, Kind, Mode, NormMode};
use crate::ops::{Add, RunningUpdate};
use crate::plan::{Device, Program, Request, compile};
use crate::tape::{Role, Tape, ValueId};
use crate::train::evaluate::predictor::AHEAD;
use crate::train::events::{Event, Observer};
use crate::train::step::plans::{fitting_batch, scaled};
use crate::{Error, Result};

/// With fewer images than this, estimated statistics are unreliable.
pub(crate) const FEW: usize = 32;

/// How batch norms are adapted to another domain.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct AdaptOptions {
    /// Share of the network's old statistics in the result, 0 to 1: 0 takes only the new ones, 1 changes nothing. A
    /// few images give poor estimates: for n images Schneider et al. (2020, arXiv:2006.16971) use N / (N + n), with N
    /// about 16.
    pub mix: f64,
    /// Images per batch.
    pub batch: usize,
    /// Seed of the images' order.
    pub seed: u64,
}

options!(AdaptOptions);

impl Default for AdaptOptions {
    fn default() -> Self {
        AdaptOptions { mix: 0.0, batch: 32, seed: 0 }
    }
}

/// Result of an adaptation.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// Number of images in the estimate.
    pub images: usize,
    /// Number of batch norms whose statistics changed.
    pub norms: usize,
    /// Distance of the domains: the shift of the means in standard deviations of the old statistics, averaged over
    /// all channels.
    pub shift: f64,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

/// Moments of all values that one batch norm saw.
#[derive(Default)]
struct Moments {
    rows: f64,
    mean: Vec<f64>,
    /// Sums of squared deviations from the mean.
    squares: Vec<f64>,
}

impl Moments {
    /// Joins the mean and biased variance of `rows` more values.
    fn add(&mut self, rows: f64, mean: &[f32], var: &[f32]) {
        self.mean.resize(mean.len(), 0.0);
        self.squares.resize(mean.len(), 0.0);
        let total = self.rows + rows;
        let own = self.mean.iter_mut().zip(&mut self.squares);
        for ((own_mean, squares), (&mean, &var)) in own.zip(mean.iter().zip(var)) {
            let apart = f64::from(mean) - *own_mean;
            *own_mean += apart * rows / total;
            *squares += f64::from(var) * rows + apart * apart * self.rows * rows / total;
        }
        self.rows = total;
    }
}

/// One batch norm of a recorded network.
struct Norm {
    /// Paths of its running statistics.
    paths: [String; 2],
    /// Number of values per channel in one batch.
    rows: usize,
}

/// A forward pass of `batch` images whose outputs are the mean and variance of each batch norm in turn. With a `mix`,
/// each norm normalises with that share of its old statistics, so that later norms see the inputs they will get after
/// the adaptation.
fn recorded(net: &Network, batch: usize, mix: f64) -> Result<(Request, Vec<Norm>)> {
    let mut tape = Tape::new();
    net.record(&mut tape, Recording::new(Mode::Train, batch))?;
    for value in &mut tape.values {
        value.requires_grad = false;
        value.live &= value.role != Role::Param;
    }
    let (mut norms, mut outputs) = (Vec::new(), Vec::new());
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    for mut node in std::mem::take(&mut tape.nodes) {
        for v in &mut node.inputs {
            *v = instead.get(v).copied().unwrap_or(*v);
        }
        let update = node.op.as_any().downcast_ref::<RunningUpdate>().map(|update| update.rows);
        let (Some(rows), &[mean, var, new_mean, new_var]) = (update, &node.inputs[..]) else {
            tape.nodes.push(node);
            continue;
        };
        tape.set_layer(&node.layer);
        for (old, new) in [(mean, new_mean), (var, new_var)] {
            outputs.push((tape.values[old.0].name.clone(), new));
            if mix > 0.0 {
                let parts = [(old, mix), (new, 1.0 - mix)];
                let parts = parts.map(|(v, share)| scaled(&mut tape, v, share as f32));
                let [old, fresh] = parts;
                instead.insert(new, tape.apply(Add::default(), &[old?, fresh?])?);
            }
        }
        norms.push(Norm { paths: [mean, var].map(|v| tape.values[v.0].name.clone()), rows });
    }
    Ok((Request { tape, outputs, gradients: Default::default(), update: None, checkpointing: false }, norms))
}

/// A network that runs with batch statistics and outputs the moments of its batch norms.
struct Pass<'a> {
    net: &'a Network,
    device: &'a Device,
    mix: f64,
    batch: usize,
    program: Program,
    norms: Vec<Norm>,
    moments: Vec<Moments>,
}

impl<'a> Pass<'a> {
    /// Takes up to `batch` images at a time, or fewer where the device cannot hold as many.
    fn new(net: &'a Network, device: &'a Device, batch: usize, mix: f64) -> Result<Self> {
        let mut norms = Vec::new();
        let (batch, plan) = fitting_batch(batch, |batch| {
            let (request, found) = recorded(net, batch, mix)?;
            norms = found;
            compile(request, &Arc::default(), &device.caps())
        })?;
        let store = device.store(&Arc::default(), net)?;
        let program = Program::new(plan, &store, net)?;
        let moments = norms.iter().map(|_| Moments::default()).collect();
        Ok(Pass { net, device, mix, batch, program, norms, moments })
    }

    /// Joins the moments of `images` complete images.
    fn add(&mut self, pixels: &[u8], images: usize) -> Result<()> {
        if images != self.batch {
            let moments = std::mem::take(&mut self.moments);
            *self = Pass { moments, ..Pass::new(self.net, self.device, images, self.mix)? };
        }
        let outputs = self.program.run(&[("image", pixels)])?;
        let found = outputs.chunks_exact(2).zip(&self.norms);
        for (moments, (found, norm)) in self.moments.iter_mut().zip(found) {
            moments.add(norm.rows as f64, &found[0], &found[1]);
        }
        Ok(())
    }
}

/// Estimates the statistics of all batch norms of `net` on images whose labels are ignored. The weights and the
/// freeze mask stay as they are; a fitted temperature is removed.
///
/// # Errors
/// [`Error::Usage`] where there is no batch norm, or for a share out of range; [`Error::Data`] where no image can be
/// read, or statistics are NaN or infinite; [`Error::Shape`] where a norm sees one value a channel; from the device.
pub fn adapt(
    net: &mut Network,
    device: &Device,
    dataset: Arc<Dataset>,
    options: &AdaptOptions,
    observer: &mut dyn Observer,
) -> Result<Adapted> {
    let &AdaptOptions { mix, batch, seed } = options;
    if !(0.0..=1.0).contains(&mix) {
        return Err(Error::Usage(format!("mix {mix}: it is a share from 0 to 1")));
    }
    if !net.specs().iter().any(|s| s.kind == Kind::RunningMean) {
        return Err(Error::Usage(format!(
            "{} has no batch norm whose statistics could be brought to another domain",
            net.config().model
        )));
    }
    let mut training = net.clone();
    training.freeze(Freeze::none().norm(NormMode::Train))?;
    training.set_dropout(Some(0.0))?;

    let total = dataset.len();
    let mut pass = Pass::new(&training, device, batch.min(total), mix)?;
    let (batch, of_one) = (pass.batch, net.preprocess().bytes());
    let order = batches(&epoch_order(total, seed, 0), batch, 1);
    let loader = Loader::new(dataset, order, View::Eval(net.preprocess().clone()), AHEAD)?;
    let (mut waiting, mut skipped, mut images, mut done) = (Vec::new(), Vec::new(), 0, 0);
    for mut loaded in loader {
        done += loaded.targets.len() + loaded.failed.len();
        images += loaded.targets.len();
        waiting.append(&mut loaded.pixels);
        skipped.extend(std::mem::take(&mut loaded.failed).into_iter().map(|(_, skipped)| skipped));
        // The last two batches are divided evenly.
        while waiting.len() >= 2 * batch * of_one {
            pass.add(&waiting[..batch * of_one], batch)?;
            waiting.drain(..batch * of_one);
        }
        observer.event(&Event::progress("adapt", done, total));
    }
    let left = waiting.len() / of_one;
    let first = if left > batch { left.div_ceil(2) } else { left };
    for part in waiting.chunks((first * of_one).max(1)) {
        pass.add(part, part.len() / of_one)?;
    }
    if images == 0 {
        let reason = skipped.first();
        let reason = reason.map_or(String::new(), |s| format!("; {}: {}", s.path.display(), s.reason));
        return Err(Error::Data(format!("none of the {total} images can be read{reason}")));
    }
    if images < FEW && mix == 0.0 {
        observer.event(&Event::Warning(format!(
            "the statistics come from {images} images only, which say little: keep a share of the old ones (`mix` \
             {:.1}), or give more images",
            16.0 / (16.0 + images as f64)
        )));
    }
    let Pass { norms, moments, .. } = pass;
    let shift = write(net, &norms, &moments, mix)?;
    Ok(Adapted { images, norms: norms.len(), shift, skipped })
}

/// Writes the moments into the network's running statistics; returns [`Adapted::shift`].
fn write(net: &mut Network, norms: &[Norm], moments: &[Moments], mix: f64) -> Result<f64> {
    let eps = f64::from(net.config().norm.eps);
    let (mut shift, mut channels) = (0.0, 0);
    for (Norm { paths: [mean, var], .. }, moments) in norms.iter().zip(moments) {
        let olds = [net.tensor(mean)?.to_vec(), net.tensor(var)?.to_vec()];
        let unbiased = moments.squares.iter().map(|squares| squares / (moments.rows - 1.0));
        let news = [moments.mean.clone(), unbiased.collect()];
        for ((new, old), var) in news[0].iter().zip(&olds[0]).zip(&olds[1]) {
            shift += (new - f64::from(*old)).abs() / (f64::from(*var) + eps).sqrt();
            channels += 1;
        }
        for ((path, old), new) in [mean, var].into_iter().zip(olds).zip(news) {
            let mixed = old.iter().zip(new).map(|(&old, new)| mix * f64::from(old) + (1.0 - mix) * new);
            let mixed: Vec<f32> = mixed.map(|x| x as f32).collect();
            if let Some(wrong) = mixed.iter().find(|x| !x.is_finite()) {
                return Err(Error::Data(format!("{path} would become {wrong}: the network is damaged")));
            }
            net.set_tensor(path, mixed)?;
        }
    }
    Ok(shift / f64::from(channels.max(1)))
}
