//! What a run's network makes of its validation pictures: the figures and pictures of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::picture::thumbnail;
use crate::data::{Dataset, Picture, View};
use crate::explain::{Explainer, Method, overlay};
use crate::models::{Network, Task};
use crate::plan::Device;
use crate::train::{
    Measures, MultiLabel, Observer, Outputs, Predictor, Regression, SingleLabel, answer, at_temperature,
    log_sum_exp,
};
use crate::{Error, Result};

/// Pictures that are looked at; of more, as many are picked evenly.
const MOST: usize = 20_000;
/// Mistakes that are shown large, with what the network looked at.
const LARGE: usize = 8;
/// Mistakes that are shown small, and kinds of mistakes of which one is.
const SMALL: usize = 120;
const KINDS: usize = 400;
/// Sides, pixels.
const LARGE_SIDE: usize = 192;
const SMALL_SIDE: usize = 64;

/// A picture that the network is wrong about.
#[derive(Debug, Clone)]
pub(super) struct Mistake {
    pub(super) name: String,
    /// What it is, and what the network says; of numbers, both in words.
    pub(super) class: String,
    pub(super) answer: String,
    /// Numbers of the classes, where they are classes.
    pub(super) cell: Option<(usize, usize)>,
    pub(super) loss: f64,
    pub(super) picture: String,
    /// What speaks for the answer, and what for the class.
    pub(super) maps: Vec<String>,
}

/// All that was found.
pub(super) struct Findings {
    /// Validation pictures there are.
    pub(super) of: usize,
    pub(super) measures: Measures,
    pub(super) unreadable: usize,
    /// A picture of each class, by its number.
    pub(super) examples: BTreeMap<usize, String>,
    /// The worst first.
    pub(super) large: Vec<Mistake>,
    pub(super) small: Vec<Mistake>,
    /// How many pictures the network is wrong about; of numbers, all.
    pub(super) wrong: usize,
}

/// Looks at all validation pictures.
pub(super) fn look(
    device: &Device,
    net: &Network,
    val: &Arc<Dataset>,
    observer: &mut dyn Observer,
) -> Result<Findings> {
    let of = val.len();
    let mut set = Dataset::clone(val);
    if of > MOST {
        let all = std::mem::take(&mut set.samples);
        set.samples = (0..MOST).map(|i| all[i * of / MOST].clone()).collect();
    }
    let set = Arc::new(set);
    let classes = net.classes().len();
    let mut predictor = Predictor::new(device, net, 32.min(set.len().max(1)))?;
    let mut outputs = predictor.outputs(set.clone(), observer)?;
    if let Some(temperature) = net.config().temperature.filter(|_| set.task == Task::Classes) {
        outputs.logits = at_temperature(&outputs.logits, temperature);
    }
    let Outputs { logits, labels, targets, indices, skipped } = &outputs;
    let measures = match set.task {
        Task::Classes => Measures::SingleLabel(SingleLabel::new(logits, labels, classes)?),
        Task::MultiLabel => Measures::MultiLabel(MultiLabel::new(logits, targets, classes)?),
        Task::Regression => Measures::Regression(Regression::new(logits, targets, classes)?),
    };
    let mut examples = BTreeMap::new();
    if set.task == Task::Classes {
        for (&label, &index) in labels.iter().zip(indices) {
            if let std::collections::btree_map::Entry::Vacant(entry) = examples.entry(label as usize) {
                entry.insert(thumbnail(&crop(net, &set, index)?, SMALL_SIDE)?);
            }
        }
    }
    let mut wrong: Vec<Wrong> =
        (0..indices.len()).filter_map(|row| Wrong::of(&outputs, set.task, row, classes)).collect();
    wrong.sort_by(|a, b| b.loss.total_cmp(&a.loss));
    // Each kind of mistake has a picture; for the rest it is the worst that count.
    let (mut kinds, mut small) = (BTreeSet::new(), Vec::new());
    for (i, wrong) in wrong.iter().enumerate() {
        let first = kinds.len() < KINDS && kinds.insert((wrong.class, wrong.answer));
        if i < SMALL || first {
            let picture = thumbnail(&crop(net, &set, indices[wrong.row])?, SMALL_SIDE)?;
            small.push(wrong.told(net, &set, &outputs, picture));
        }
    }
    let large = large(device, net, &set, &outputs, &wrong)?;
    Ok(Findings { of, measures, unreadable: skipped.len(), examples, large, small, wrong: wrong.len() })
}

/// The worst mistakes, with what the network looked at where there are classes.
fn large(
    device: &Device,
    net: &Network,
    set: &Arc<Dataset>,
    outputs: &Outputs,
    wrong: &[Wrong],
) -> Result<Vec<Mistake>> {
    let worst = &wrong[..wrong.len().min(LARGE)];
    let crops: Vec<Picture> =
        worst.iter().map(|w| crop(net, set, outputs.indices[w.row])).collect::<Result<_>>()?;
    let mut explained: Vec<Vec<String>> = vec![Vec::new(); worst.len()];
    if set.task == Task::Classes
        && !worst.is_empty()
        && let Some(mut explainer) = explainer(device, net, worst.len())?
    {
        let pixels: Vec<Vec<u8>> = crops.iter().map(|crop| crop.rgb.clone()).collect();
        for side in [|w: &Wrong| w.answer, |w: &Wrong| w.class] {
            let asked: Vec<Option<usize>> = worst.iter().map(|w| Some(side(w))).collect();
            let maps = explainer.maps(&pixels, &asked)?;
            for ((map, crop), to) in maps.iter().zip(&crops).zip(&mut explained) {
                to.push(thumbnail(&overlay(crop, map)?, LARGE_SIDE)?);
            }
        }
    }
    let all = worst.iter().zip(&crops).zip(explained);
    all.map(|((wrong, crop), maps)| {
        Ok(Mistake { maps, ..wrong.told(net, set, outputs, thumbnail(crop, LARGE_SIDE)?) })
    })
    .collect()
}

/// Grad-CAM at the last layer whose map has at least four columns: of small pictures the usual one is a point or two. None
/// where there is no such layer.
fn explainer(device: &Device, net: &Network, batch: usize) -> Result<Option<Explainer>> {
    const COLUMNS: usize = 4;
    let layer = Explainer::last_layer(net, COLUMNS)?;
    layer.map(|layer| Explainer::new(device, net, Method::GradCam, Some(&layer), batch)).transpose()
}

/// What the network sees of a picture.
fn crop(net: &Network, set: &Dataset, index: usize) -> Result<Picture> {
    let side = net.preprocess().crop;
    let rgb = View::Eval(net.preprocess().clone()).picture(set, index)?;
    Ok(Picture { width: side, height: side, rgb })
}

/// A row of the outputs that is wrong, and by how much.
struct Wrong {
    row: usize,
    class: usize,
    answer: usize,
    loss: f64,
}

impl Wrong {
    fn of(outputs: &Outputs, task: Task, row: usize, classes: usize) -> Option<Wrong> {
        let row_of = |all: &'_ [f32]| -> Vec<f64> {
            let row = all.get(row * classes..(row + 1) * classes).unwrap_or_default();
            row.iter().map(|&x| x.into()).collect()
        };
        let (logits, targets) = (row_of(&outputs.logits), row_of(&outputs.targets));
        match task {
            Task::Classes => {
                let class = outputs.labels[row] as usize;
                let answer = answer(&outputs.logits[row * classes..][..classes], class);
                let loss = log_sum_exp(logits.iter().copied()) - logits[class];
                (answer != class).then_some(Wrong { row, class, answer, loss })
            }
            Task::MultiLabel => {
                // Binary cross-entropy, summed over the labels.
                let entropy = |(x, t): (&f64, &f64)| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p();
                let wrong = logits.iter().zip(&targets).any(|(x, t)| (*x > 0.0) != (*t > 0.5));
                let loss = logits.iter().zip(&targets).map(entropy).sum();
                wrong.then_some(Wrong { row, class: 0, answer: 0, loss })
            }
            Task::Regression => {
                let loss = logits.iter().zip(&targets).map(|(x, t)| (x - t).powi(2)).sum();
                Some(Wrong { row, class: 0, answer: 0, loss })
            }
        }
    }

    fn told(&self, net: &Network, set: &Dataset, outputs: &Outputs, picture: String) -> Mistake {
        let names = net.classes();
        let row = self.row * names.len()..(self.row + 1) * names.len();
        let numbers = |all: &[f32], is: fn(f32) -> bool, labels: bool| {
            let values = names.iter().zip(all.get(row.clone()).unwrap_or_default());
            let told: Vec<String> = values
                .filter(|(_, v)| !labels || is(**v))
                .map(|(name, v)| if labels { name.clone() } else { format!("{name} {v:.3}") })
                .collect();
            if told.is_empty() { "none".to_string() } else { told.join(", ") }
        };
        let (class, answer) = match set.task {
            Task::Classes => (names[self.class].clone(), names[self.answer].clone()),
            task => {
                let labels = task == Task::MultiLabel;
                (
                    numbers(&outputs.targets, |t| t > 0.5, labels),
                    numbers(&outputs.logits, |x| x > 0.0, labels),
                )
            }
        };
        let cell = (set.task == Task::Classes).then_some((self.class, self.answer));
        let name = set.samples[outputs.indices[self.row]].name().display().to_string();
        Mistake { name, class, answer, cell, loss: self.loss, picture, maps: Vec::new() }
    }
}

/// The confusion matrix as comma-separated values: a row for each class, a column for what its pictures were taken for.
///
/// # Errors
/// Where a name cannot be written.
pub(super) fn confusion_csv(measures: &SingleLabel, classes: &[String]) -> Result<String> {
    let failed =
        |e: &dyn std::fmt::Display| Error::Data(format!("the confusion matrix cannot be written: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = std::iter::once("class".to_string()).chain(classes.iter().cloned());
    writer.write_record(head).map_err(|e| failed(&e))?;
    for (name, row) in classes.iter().zip(&measures.confusion) {
        let row = std::iter::once(name.clone()).chain(row.iter().map(usize::to_string));
        writer.write_record(row).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
