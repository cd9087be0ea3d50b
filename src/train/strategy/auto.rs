//! The experiment that the literature recommends, done for the user: short trials of strategies and rates on the
//! images at hand (Li et al. 2020, arXiv:2002.11770; Kornblith et al. 2019, arXiv:1805.08974), then the best.

use std::sync::Arc;

use serde::Serialize;

use super::super::events::{Event, Observer};
use super::super::run::Context;
use super::super::settings::Config;
use super::super::trainer::Trainer;
use super::{Rule, Strategy};
use crate::data::Splits;
use crate::models::Network;
use crate::task::Score;
use crate::{Error, Result};

pub(super) const ABOUT: &str = "auto: short trials of these, then the best of them.";

pub(super) struct Auto;

impl Rule for Auto {
    /// Of what is chosen, where it has none of its own.
    fn epochs(&self) -> usize {
        6
    }

    fn without_trials(&self) -> Option<Strategy> {
        Some(Strategy::TwoPhase)
    }
}

/// Epochs of the network in a trial.
const EPOCHS: usize = 2;

/// One trial and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// What was tried.
    pub strategy: Strategy,
    /// The head's learning rate in the last phase.
    pub lr: f64,
    /// What the weights are worth on the validation images.
    pub score: Score,
    /// Wall time.
    pub seconds: f64,
    /// Parameters that learned at the end.
    pub parameters: usize,
}

/// Settings of the trials: the head alone, then everything at a third, once and three times the usual rates.
fn candidates(config: &Config, groups: &[String]) -> Result<Vec<Config>> {
    let two_phase = Config { strategy: Strategy::TwoPhase, stop_after: None, ..config.clone() };
    let last = two_phase.phases(groups).pop().unwrap_or_else(|| two_phase.clone());
    let usual = last.rates(groups)?;
    let (lr, lr_range, layer_decay) = (Vec::new(), None, None);
    let head = Config { strategy: Strategy::Features, lr, lr_range, layer_decay, ..two_phase.clone() };
    let whole = |factor: f64| Config {
        epochs: Some(EPOCHS),
        lr: usual.iter().map(|rate| factor * rate).collect(),
        lr_range: None,
        layer_decay: None,
        ..two_phase.clone()
    };
    Ok(std::iter::once(head).chain([1.0 / 3.0, 1.0, 3.0].map(whole)).collect())
}

/// Tries strategies and rates, tells what came of each, and returns the settings of the best: the least calibrated
/// validation loss, and of those within a hundredth of it the one with the fewest parameters that learn.
pub(in super::super) fn choose(
    config: &Config,
    net: &Network,
    splits: &Splits,
    context: &mut Context<'_>,
) -> Result<(Config, Vec<Trial>)> {
    let (train, val) = (Arc::new(splits.train.clone()), Arc::new(splits.val.clone()));
    let mut tried: Vec<(Config, Trial)> = Vec::new();
    let groups = &net.structure().groups;
    for candidate in candidates(config, groups)? {
        let mut own = net.clone();
        let summary = own.freeze(candidate.freeze())?;
        let mut quiet = Quiet(context.observer);
        let mut trainer = Trainer::new(context.device, candidate.clone())
            .observer(&mut quiet)
            .stop(context.stop)
            .cache(context.cache.clone());
        let outcome = trainer.fit_best(&mut own, &train, &val);
        if let Err(Error::Diverged(_)) = outcome {
            let last = candidate.lr.last().copied().unwrap_or(0.0);
            let text = format!("a trial with the rate {last:.1e} left the numbers; it is out");
            context.observer.event(&Event::Warning(text));
            continue;
        }
        let (report, best) = outcome?;
        if report.interrupted {
            return Err(Error::Interrupted(
                "interrupted while strategies were tried; nothing was kept".into(),
            ));
        }
        let last = candidate.phases(groups).pop().unwrap_or_else(|| candidate.clone());
        let trial = Trial {
            strategy: candidate.strategy,
            lr: last.rates(groups)?.last().copied().unwrap_or(0.0),
            score: best.score,
            seconds: report.seconds,
            parameters: summary.total.parameters,
        };
        context.observer.event(&Event::Trial(trial.clone()));
        tried.push((candidate, trial));
    }
    let least = tried.iter().map(|(_, trial)| trial.score.rank).fold(f64::INFINITY, f64::min);
    let good = |(_, trial): &&(Config, Trial)| trial.score.rank <= least * 1.01;
    let cost = |(_, trial): &&(Config, Trial)| trial.parameters;
    let order = |a: &&(Config, Trial), b: &&(Config, Trial)| {
        cost(a).cmp(&cost(b)).then(a.1.score.rank.total_cmp(&b.1.score.rank))
    };
    let best = tried.iter().filter(good).min_by(order);
    let chosen = best.map_or_else(|| config.clone(), |(candidate, _)| candidate.clone());
    let chosen = Config { epochs: config.epochs, stop_after: config.stop_after, ..chosen };
    Ok((chosen, tried.into_iter().map(|(_, trial)| trial).collect()))
}

/// Passes on what moves, not what each trial's epochs are worth.
struct Quiet<'a>(&'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Progress { .. } | Event::Warning(_) | Event::Skipped(_)) {
            self.0.event(event);
        }
    }
}
