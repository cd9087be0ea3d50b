//! Strategy `auto`: short trials of strategies and learning rates, then the best of them.

use std::sync::Arc;

use crate::data::Splits;
use crate::models::Network;
use crate::train::events::{Event, Observer, Trial};
use crate::train::fit::trainer::Trainer;
use crate::train::runs::context::Context;
use crate::train::settings::Config;
use crate::train::strategy::candidates;
use crate::{Error, Result};

/// Tries strategies and learning rates, reports each result, and returns the settings of the best trial. The best
/// trial has the lowest calibrated validation loss; among trials within a hundredth of it, the one with the fewest
/// trainable parameters.
pub(crate) fn choose(
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
            let text = format!("a trial with the rate {last:.1e} diverged; it is out");
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
    let least = tried.iter().map(|(_, trial)| trial.score.selection_loss).fold(f64::INFINITY, f64::min);
    let good = |(_, trial): &&(Config, Trial)| trial.score.selection_loss <= least * 1.01;
    let cost = |(_, trial): &&(Config, Trial)| trial.parameters;
    let order = |a: &&(Config, Trial), b: &&(Config, Trial)| {
        cost(a).cmp(&cost(b)).then(a.1.score.selection_loss.total_cmp(&b.1.score.selection_loss))
    };
    let best = tried.iter().filter(good).min_by(order);
    let chosen = best.map_or_else(|| config.clone(), |(candidate, _)| candidate.clone());
    let chosen = Config { epochs: config.epochs, stop_after: config.stop_after, ..chosen };
    Ok((chosen, tried.into_iter().map(|(_, trial)| trial).collect()))
}

/// Passes on progress, but not the metrics of each trial's epochs.
struct Quiet<'a>(&'a mut dyn Observer);

impl Observer for Quiet<'_> {
    fn event(&mut self, event: &Event) {
        if matches!(event, Event::Progress { .. } | Event::Warning(_) | Event::Skipped(_)) {
            self.0.event(event);
        }
    }
}
