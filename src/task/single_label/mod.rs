//! One class for each image: softmax cross-entropy.

mod metrics;

pub use metrics::{SingleLabel, Uncalibrated};

use super::scores::{Tally, largest, log_sum_exp, predicted, softmax};
use super::{
    Ability, Card, Collated, LossOptions, MetricNames, Metrics, Mistake, Raw, Score, Targets, Task, Unit,
    at_temperature, class_of, fit_temperature,
};
use crate::Result;
use crate::data::{Target, TargetKind};
use crate::ops::{Accuracy, CrossEntropy, LossKind, TargetLoss};
use crate::tape::{Tape, Type, ValueId};
use crate::text::grouped;

pub(super) const NAME: &str = "single-label";
pub(super) const HELP: &str = "single-label: each image shows one class;";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct SingleLabelTask;

/// Whether the targets are shares of each class, not labels: where images are mixed, and where label smoothing is
/// combined with class weights.
fn is_soft(options: LossOptions) -> bool {
    options.mixed || options.class_weights && options.smoothing > 0.0
}

impl Task for SingleLabelTask {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "each image shows one class"
    }

    fn targets(&self) -> TargetKind {
        TargetKind::Class
    }

    fn can(&self, ability: Ability) -> bool {
        match ability {
            Ability::Mixing
            | Ability::Smoothing
            | Ability::ClassWeights
            | Ability::SolvedHead
            | Ability::Calibration
            | Ability::Teacher
            | Ability::Alignment => true,
        }
    }

    fn inputs(&self, options: LossOptions, batch: usize, outputs: usize) -> Vec<(&'static str, Type)> {
        let labels = ("labels", Type::u32(&[batch]));
        match is_soft(options) {
            true => vec![("targets", Type::f32(&[batch, outputs])), labels],
            false => vec![labels],
        }
    }

    fn loss(
        &self,
        tape: &mut Tape,
        outputs: ValueId,
        inputs: &[ValueId],
        weights: ValueId,
        options: LossOptions,
    ) -> Result<ValueId> {
        let values = [outputs, inputs[0], weights];
        match is_soft(options) {
            true => tape.apply(TargetLoss { kind: LossKind::Softmax, temperature: 1.0 }, &values),
            false => tape.apply(CrossEntropy { smoothing: options.smoothing }, &values),
        }
    }

    fn hits(
        &self,
        tape: &mut Tape,
        outputs: ValueId,
        inputs: &[ValueId],
        weights: ValueId,
        _: LossOptions,
    ) -> Result<ValueId> {
        let labels = inputs[inputs.len() - 1];
        tape.apply(Accuracy, &[outputs, labels, weights])
    }

    fn collate(&self, targets: Targets<'_>, options: LossOptions) -> Result<Collated> {
        let mut labels: Vec<u32> = targets.rows.iter().map(class_of).collect::<Result<_>>()?;
        let weight = |&label: &u32| *targets.class_weights.get(label as usize).unwrap_or(&1.0);
        let mut weights: Vec<f32> = labels.iter().map(weight).collect();
        let mut inputs = Vec::new();
        if is_soft(options) {
            let shares = soften(&mut labels, &mut weights, targets, options.smoothing);
            inputs.push(("targets", bytemuck::cast_slice(&shares).to_vec()));
        }
        inputs.push(("labels", bytemuck::cast_slice(&labels).to_vec()));
        Ok(Collated { inputs, weights })
    }

    fn metric(&self) -> MetricNames {
        MetricNames::both("accuracy", Unit::Proportion)
    }

    /// A head has dozens of epochs. Choosing its most accurate one follows chance: it gives an optimistic figure and
    /// costs a point on images never seen (measured on the test part of ten kinds of clothing). Fine-tuning has few
    /// epochs, where this does no harm.
    fn metric_first(&self) -> bool {
        true
    }

    fn score(&self, raw: Raw<'_>) -> Result<Score> {
        let labels = raw.labels()?;
        let (mut plain, mut calibrated) = (Tally::default(), Tally::default());
        plain.add(raw.outputs, &labels);
        let loss = plain.mean_loss();
        let selection_loss = match fit_temperature(raw.outputs, &labels) {
            Ok(temperature) => {
                calibrated.add(&at_temperature(raw.outputs, temperature), &labels);
                calibrated.mean_loss()
            }
            Err(_) => loss,
        };
        Ok(Score { accuracy: plain.top1(), loss, selection_loss, count: labels.len() })
    }

    fn measure(&self, raw: Raw<'_>, temperature: Option<f64>) -> Result<Box<dyn Metrics>> {
        let (labels, classes) = (raw.labels()?, raw.classes.len());
        let plain = SingleLabel::new(raw.outputs, &labels, classes)?;
        Ok(Box::new(match temperature {
            None => plain,
            Some(temperature) => {
                let before = Uncalibrated { temperature, loss: plain.loss, ece: plain.calibration.ece };
                let outputs = at_temperature(raw.outputs, temperature);
                let found = SingleLabel::new(&outputs, &labels, classes)?;
                SingleLabel { uncalibrated: Some(before), ..found }
            }
        }))
    }

    fn predict(&self, outputs: &[f32], temperature: Option<f64>) -> Vec<f32> {
        match temperature {
            Some(temperature) => softmax(&at_temperature(outputs, temperature)),
            None => softmax(outputs),
        }
    }

    fn mistake(&self, outputs: &[f32], target: &Target, temperature: Option<f64>) -> Option<Mistake> {
        let class = target.class()? as usize;
        let found = predicted(outputs, class);
        let logits = at_temperature(outputs, temperature.unwrap_or(1.0));
        let loss = log_sum_exp(logits.iter().map(|&x| x.into())) - f64::from(logits[class]);
        (found != class).then_some(Mistake { loss, classes: Some((class, found)) })
    }

    fn predicted(&self, outputs: &[f32]) -> Target {
        Target::Class(largest(outputs) as u32)
    }

    fn card(&self, classes: &[String]) -> Card {
        Card {
            what: format!("tells which of {} classes an image shows", grouped(classes.len())),
            pipeline: Some("image-classification"),
            outputs: "Classes",
            limits: vec![
                "Whatever an image shows, the prediction is one of the classes above: there is no \"none of them\".",
            ],
        }
    }

    fn count_text(&self, classes: usize) -> String {
        format!("{} classes", grouped(classes))
    }

    fn python(&self, temperature: Option<f64>) -> String {
        match temperature {
            None => "net(image)[0].softmax(0)".into(),
            Some(temperature) => format!("(net(image)[0] / {temperature}).softmax(0)"),
        }
    }
}

/// Labels as shares `[rows, classes]`: a part of each is spread over all classes, mixed as the images are, and each
/// class is multiplied by its weight. As in PyTorch's `CrossEntropyLoss`: with labels, the loss is divided by the sum
/// of the labels' weights (`weight` and `label_smoothing`); with shares of mixed classes, by the number of rows. A
/// mixed row counts as correct where the class with the greater share is predicted.
fn soften(labels: &mut Vec<u32>, weights: &mut [f32], targets: Targets<'_>, smoothing: f32) -> Vec<f32> {
    let class_weights = targets.class_weights;
    let classes = class_weights.len();
    let spread = smoothing / classes as f32;
    let share =
        |label: u32, class: usize| spread + if label as usize == class { 1.0 - smoothing } else { 0.0 };
    let mut shares = Vec::with_capacity(labels.len() * classes);
    let Some((partners, own)) = targets.mix else {
        for &label in labels.iter() {
            let row = (0..classes).map(|c| share(label, c) * class_weights[c]);
            // The row's weight is its label's.
            shares.extend(row.map(|target| target / class_weights[label as usize]));
        }
        return shares;
    };
    let pairs: Vec<(u32, u32)> =
        labels.iter().zip(partners).map(|(&label, &partner)| (label, labels[partner])).collect();
    for &(label, partner) in &pairs {
        let mixed = |c: usize| own * share(label, c) + (1.0 - own) * share(partner, c);
        shares.extend((0..classes).map(|c| mixed(c) * class_weights[c]));
    }
    weights.fill(1.0);
    if own < 0.5 {
        *labels = pairs.into_iter().map(|(_, partner)| partner).collect();
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [[f64; 3]; 4] = [[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [-0.5, 1.0, 0.0], [0.1, 0.2, 0.3]];

    /// The loss as [`TargetLoss`] computes it.
    fn loss(batch: &Collated) -> f64 {
        let targets: &[f32] = bytemuck::cast_slice(&batch.inputs[0].1);
        let total: f32 = batch.weights.iter().sum();
        let row = |(n, logits): (usize, &[f64; 3])| {
            let whole = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
            let own: f64 =
                logits.iter().zip(&targets[3 * n..][..3]).map(|(z, t)| f64::from(*t) * (whole - z)).sum();
            own * f64::from(batch.weights[n] / total)
        };
        LOGITS.iter().enumerate().map(row).sum()
    }

    /// `CrossEntropyLoss(weight=[0.5, 2, 1.25], label_smoothing=0.2)` of PyTorch 2.15 in f64: of labels, and of shares
    /// of two classes each.
    #[test]
    fn weighted_and_smoothed_targets_give_pytorchs_loss() -> Result<()> {
        let rows = [2, 0, 1, 0].map(Target::Class);
        let plain = Targets { rows: &rows, mix: None, class_weights: &[0.5, 2.0, 1.25] };
        let mixed = Targets { mix: Some((&[1, 2, 3, 0], 0.3)), ..plain };
        let options = LossOptions { smoothing: 0.2, class_weights: true, mixed: false };
        let plain = SingleLabelTask.collate(plain, options)?;
        let mixed = SingleLabelTask.collate(mixed, LossOptions { mixed: true, ..options })?;
        assert!((loss(&plain) - 0.721_040_333_855_258_5).abs() < 1e-6, "{}", loss(&plain));
        assert!((loss(&mixed) - 1.363_895_470_949_129_8).abs() < 1e-6, "{}", loss(&mixed));
        assert_eq!(bytemuck::cast_slice::<u8, u32>(&plain.inputs[1].1), [2, 0, 1, 0]);
        // The class with the greater share counts.
        assert_eq!(bytemuck::cast_slice::<u8, u32>(&mixed.inputs[1].1), [0, 1, 0, 2]);
        Ok(())
    }
}
