//! A whole training from settings to a run folder, and resuming.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::{self, Dataset, DrawnSet, Image, Manifest, Splits};
use crate::error::quoted;
use crate::gpu::Caps;
use crate::models::{self, HeadPolicy, Network};
use crate::plan::Plan;
use crate::task;
use crate::train::cache::features::BACKBONE_BATCH;
use crate::train::events::{Event, Observer, Silent};
use crate::train::fit::state::{Report, State};
use crate::train::fit::trainer::Trainer;
use crate::train::runs::checkpoint::{beginning, last_checkpoint, read_metrics, read_state};
use crate::train::runs::context::Context;
use crate::train::runs::description::{RunFile, write_description, write_trials};
use crate::train::runs::folder::{Destination, RunFolder, has_begun};
use crate::train::runs::images::{Images, Known};
use crate::train::runs::trials::choose;
use crate::train::settings::Config;
use crate::train::step::plans::{fitting_batch, inference_plan, training_plan};
use crate::train::studies::sheet::contact_sheet;
use crate::train::studies::sweep::Sweep;
use crate::{Error, Result};

/// Trains as `config` says and writes a run folder. Data, weights and options are checked before anything is written.
/// A run that fails before its first step leaves no files.
///
/// # Errors
/// [`Error::Usage`], [`Error::Data`], [`Error::Weights`], [`Error::Gpu`], each naming the cause; [`Error::Usage`]
/// where the folder holds a run or files of another origin, or another process trains in it.
pub fn run(config: &Config, out: impl Into<Destination>, context: Context<'_>) -> Result<Report> {
    let out = out.into();
    out.check()?;
    let (net, splits) = prepare(config, context.observer)?;
    begin(config, RunFolder::claim(&out)?, net, splits, context)
}

/// Trains in a folder that is empty or holds a run that has not begun.
fn begin(
    config: &Config,
    folder: RunFolder,
    mut net: Network,
    splits: Splits,
    mut context: Context<'_>,
) -> Result<Report> {
    let out = folder.path();
    context.observer.event(&Event::Folder(out.into()));
    let outcome = write_description(out, config, &net, &splits, context.device).and_then(|()| {
        if !config.strategy.tries() {
            return fit(config, &folder, net, splits, context, None);
        }
        let (config, trials) = choose(config, &net, &splits, &mut context)?;
        context.observer.event(&Event::Frozen(net.freeze(config.freeze())?));
        // The description states the chosen settings only once the trials are on disk.
        write_trials(out, &trials)?;
        write_description(out, &config, &net, &splits, context.device)?;
        fit(&config, &folder, net, splits, context, None)
    });
    // Where the data was read, a run that failed for an outside reason can resume once the cause is gone. Otherwise
    // there is nothing to resume from: the half-written run is removed.
    let from_without =
        matches!(outcome, Err(Error::Data(_) | Error::Io { .. } | Error::Gpu(_) | Error::OutOfMemory(_)));
    let goes_on = read_state(out).is_ok_and(|state| state.batch > 0 || (from_without && Images::are_in(out)));
    if outcome.is_err() && !goes_on {
        folder.clear();
    }
    outcome
}

/// The plan that takes most of a run's time, at the run's batch size: the one worth tuning.
///
/// # Errors
/// As for [`run`].
pub fn busiest_plan(config: &Config, caps: &Caps) -> Result<Plan> {
    config.check()?;
    let mut net = open_network(config, &mut Silent)?;
    let Splits { train, val, .. } = data::open(&config.data, &config.open_options(None))?;
    replace_head(&mut net, config, &train)?;
    net.freeze(config.freeze())?;
    let plan = match config.strategy.head_only() {
        true => {
            let batch = BACKBONE_BATCH.min(train.len() + val.len());
            fitting_batch(batch, |batch| inference_plan(&net, batch, caps))
        }
        false => fitting_batch(config.batch(train.len()), |batch| training_plan(&net, config, batch, caps)),
    };
    Ok(plan?.1)
}

/// Opens data and network as [`run`] would, reports the trainable parameters and the data, and draws augmented
/// training images: the [`contact_sheet`].
///
/// # Errors
/// As for [`run`] and [`contact_sheet`].
pub fn dry_run(config: &Config, observer: &mut dyn Observer) -> Result<Image> {
    let (net, splits) = prepare(config, observer)?;
    contact_sheet(&net, &Arc::new(splits.train), &config.augment, config.seed)
}

/// Sweeps the learning rate under the settings of [`run`]: from `from` to `to` over `steps` updates.
///
/// # Errors
/// As for [`run`] and [`Trainer::find_rate`].
pub fn find_rate(config: &Config, sweep: (f64, f64, usize), context: Context<'_>) -> Result<Sweep> {
    let (net, splits) = prepare(config, context.observer)?;
    let trainer = Trainer::new(context.device, config.clone())
        .observer(context.observer)
        .stop(context.stop)
        .cache(context.cache);
    trainer.find_rate(&net, &Arc::new(splits.train), &Arc::new(splits.val), sweep)
}

/// Checks settings, network and data, and reports them to the observer.
fn prepare(config: &Config, observer: &mut dyn Observer) -> Result<(Network, Splits)> {
    config.check()?;
    let mut net = open_network(config, observer)?;
    let splits = data::open(&config.data, &config.open_options(None))?;
    replace_head(&mut net, config, &splits.train)?;
    if let Some(outputs) = task::of(&net)?.initial_outputs(&splits.train) {
        net.centre_head(&outputs)?;
    }
    announce(&mut net, config, &splits, observer)?;
    Ok((net, splits))
}

/// Settings, network and data of the run in `folder`; the data has the run's original split.
///
/// # Errors
/// [`Error::Usage`] where there is no run, [`Error::Data`] where the data changed; errors about files.
pub fn reopen(folder: &Path) -> Result<(Config, Network, Splits)> {
    let file = RunFile::read(folder)?;
    let config = Config { stop_after: None, ..file.arguments };
    let net = Network::open(folder.join("model.safetensors"))?;
    let splits = open_splits(&config, folder, &net)?;
    Ok((config, net, splits))
}

/// The data of a run, with its original split.
fn open_splits(config: &Config, folder: &Path, net: &Network) -> Result<Splits> {
    let split = folder.join("split.json");
    let manifest = if split.exists() { Some(Manifest::read(&split)?) } else { None };
    let splits = data::open(&config.data, &config.open_options(manifest))?;
    if net.classes() != splits.train.classes {
        return Err(Error::Data(format!(
            "{}: its classes are {}, but the run was trained on {}; begin a new run",
            config.data.display(),
            splits.train.classes.join(", "),
            net.classes().join(", ")
        )));
    }
    Ok(splits)
}

/// Resumes the run in `folder` from its last checkpoint; the result is that of an uninterrupted run. A run without a
/// checkpoint begins again.
///
/// # Errors
/// As for [`run`]; [`Error::Usage`] where there is no run, [`Error::Data`] where the images, their labels or classes
/// differ from those the run began with.
pub fn resume(folder: &Path, context: Context<'_>) -> Result<Report> {
    let (folder, file) = RunFolder::reopen(folder)?;
    let config = Config { stop_after: None, ..file.arguments.clone() };
    let path = folder.path();
    if !has_begun(path) {
        let (net, splits) = prepare(&config, context.observer)?;
        return begin(&config, folder, net, splits, context);
    }
    if !last_checkpoint(path).exists() {
        return Err(Error::Usage(format!(
            "{}: the run's last checkpoint is missing, so it cannot go on; begin a new run",
            last_checkpoint(path).display()
        )));
    }
    let state = read_state(path)?;
    let network = beginning(path, state.phase);
    if !network.exists() {
        if let Some(report) = finished(&config, path, &state)? {
            return Ok(report);
        }
        return Err(Error::Usage(format!(
            "{}: the network that the phase began with is missing, so the run cannot go on; begin a new run",
            network.display()
        )));
    }
    let mut net = Network::open(network)?;
    let mut splits = open_splits(&config, path, &net)?;
    let root = root_of(&config)?;
    let begun = Images::read(path)?;
    if let Some(begun) = &begun {
        [splits.train, splits.val] = begun.align(&root, [splits.train, splits.val])?;
    }
    context.observer.event(&Event::Folder(path.into()));
    announce(&mut net, &config, &splits, context.observer)?;
    fit(&config, &folder, net, splits, context, Some(begun))
}

/// The report of a completed run; none for a run that is not complete.
fn finished(config: &Config, folder: &Path, state: &State) -> Result<Option<Report>> {
    let model = folder.join("model.safetensors");
    if !model.exists() {
        return Ok(None);
    }
    let net = Network::open(model)?;
    let phases = config.phases(&net.structure().groups);
    let Some((last, earlier)) = phases.split_last() else { return Ok(None) };
    let over = state.epoch >= last.epochs() || state.is_enough(last.patience);
    let Some(best) = state.best.filter(|_| state.phase == earlier.len() && over) else { return Ok(None) };
    Ok(Some(Report {
        task: task::of(&net)?,
        val_accuracy: best.score.accuracy,
        val_loss: best.score.loss,
        val_images: best.score.count,
        best_epoch: best.epoch,
        epochs: earlier.iter().map(Config::epochs).sum::<usize>() + state.epoch,
        seconds: read_metrics(folder)?.last().map_or(0.0, |m| m.seconds),
        run: Some(folder.into()),
        interrupted: false,
    }))
}

/// The folder that a run's image names are relative to.
fn root_of(config: &Config) -> Result<PathBuf> {
    let table =
        if DrawnSet::named(&config.data).is_some() { None } else { config.open.table(&config.data)? };
    Ok(table.map_or_else(|| config.data.clone(), |table| table.root))
}

fn open_network(config: &Config, observer: &mut dyn Observer) -> Result<Network> {
    let weights = match &config.weights {
        Some(weights) if config.strategy.pretrained() => weights,
        Some(weights) => {
            return Err(Error::setting(
                "weights",
                weights.display(),
                format!("`strategy` {} begins with no weights; leave one away", config.strategy.name()),
            ));
        }
        None if !config.strategy.pretrained() => {
            let mut net = models::create(&config.model, 2)?;
            resize(&mut net, config.size)?;
            net.init(config.seed);
            net.set_auxiliary(config.auxiliary, config.seed)?;
            return Ok(net);
        }
        None => {
            models::create(&config.model, 2)?;
            return Err(Error::setting(
                "weights",
                "",
                format!(
                    "missing; give the file of pretrained {} weights (safetensors, from torchvision or timm)",
                    config.model
                ),
            ));
        }
    };
    let (mut net, loaded) = models::load_with(&config.model, weights, HeadPolicy::Replace)?;
    loaded.warnings.into_iter().for_each(|warning| observer.event(&Event::Warning(warning)));
    resize(&mut net, config.size)?;
    if config.auxiliary {
        net.load_auxiliary(weights, config.seed)?;
    }
    Ok(net)
}

/// Changes the network's input size, with the same ratio of crop to resize.
fn resize(net: &mut Network, side: Option<usize>) -> Result<()> {
    let Some(side) = side else { return Ok(()) };
    let preprocess = net.preprocess().at_size([side; 2]);
    preprocess.check().map_err(|_| Error::setting("size", side, "a side is 8 to 4096 pixels"))?;
    let model = net.config().model.clone();
    net.set_preprocess(preprocess)
        .map_err(|e| Error::setting("size", side, format!("it does not suit {model}: {e}")))
}

/// Replaces the head by one for the data's classes; an existing hidden layer stays.
fn replace_head(net: &mut Network, config: &Config, train: &Dataset) -> Result<()> {
    let hidden = config.head_hidden.or(net.config().hidden);
    task::replace_head(net, config.task(train.targets)?, train.classes.clone(), hidden, config.seed)
}

/// Freezes layers as the settings say, and reports network and data to the observer.
fn announce(net: &mut Network, config: &Config, splits: &Splits, observer: &mut dyn Observer) -> Result<()> {
    config.rates(&net.structure().groups)?;
    net.set_dropout(config.dropout)?;
    let summary = net.freeze(config.freeze())?;
    if net.learning().next().is_none() {
        return Err(Error::Usage("everything is frozen: nothing would learn; freeze less".into()));
    }
    observer.event(&Event::Data {
        train: splits.train.len(),
        val: splits.val.len(),
        classes: splits.train.classes.clone(),
        task: task::of(net)?,
        skipped: [&splits.train.skipped[..], &splits.val.skipped].concat(),
    });
    for warning in &splits.warnings {
        observer.event(&Event::Warning(warning.clone()));
    }
    observer.event(&Event::Frozen(summary));
    Ok(())
}

/// Trains in a run folder: from the beginning, or from the checkpoint where `resumed` holds the images the run began
/// with.
fn fit(
    config: &Config,
    folder: &RunFolder,
    mut net: Network,
    splits: Splits,
    context: Context<'_>,
    resumed: Option<Option<Images>>,
) -> Result<Report> {
    let out = folder.path();
    let trainer = Trainer::new(context.device, config.clone())
        .observer(context.observer)
        .stop(context.stop)
        .run_folder(out)
        .cache(context.cache);
    let mut trainer = if resumed.is_some() { trainer.resumed() } else { trainer };
    trainer.images = Some(Known { root: root_of(config)?, begun: resumed.flatten() });
    let outcome = trainer.fit(&mut net, &Arc::new(splits.train), &Arc::new(splits.val));
    // The last checkpoint must be on disk before the result is reported.
    drop(trainer);
    let resume = |message| {
        let from = quoted(out);
        format!("{message}; to go on from the last checkpoint: `resume` {from}")
    };
    outcome.map_err(|e| match e {
        Error::Gpu(message) if last_checkpoint(out).exists() => Error::Gpu(resume(message)),
        Error::OutOfMemory(message) if last_checkpoint(out).exists() => Error::OutOfMemory(resume(message)),
        e => e,
    })
}
