//! The network's predictions on the validation images: the figures and images of a report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::image::thumbnail;
use crate::data::{Dataset, Image, View};
use crate::explain::{Explainer, Method, overlay};
use crate::models::Network;
use crate::plan::Device;
use crate::task::{self, Metrics, Mistake, TaskRef};
use crate::train::{Observer, Outputs, Predictor};
use crate::{Error, Result};

/// Images that are evaluated; of a larger set, this many are picked evenly.
const MOST: usize = 20_000;
/// Mistakes that are shown large, with their Grad-CAM maps.
const LARGE: usize = 8;
/// Mistakes that are shown small, and kinds of mistakes of which one is shown.
const SMALL: usize = 120;
const KINDS: usize = 400;
/// Sides, pixels.
const LARGE_SIDE: usize = 192;
const SMALL_SIDE: usize = 64;

/// An image that the network is wrong about.
#[derive(Debug, Clone)]
pub(super) struct Example {
    pub(super) name: String,
    /// Its target and the prediction, in words.
    pub(super) class: String,
    pub(super) predicted: String,
    /// Numbers of the classes, where they are classes.
    pub(super) cell: Option<(usize, usize)>,
    pub(super) loss: f64,
    pub(super) image: String,
    /// Grad-CAM maps of the predicted and of the correct class.
    pub(super) maps: Vec<String>,
}

/// All findings.
pub(super) struct Findings {
    /// Number of validation images.
    pub(super) of: usize,
    pub(super) metrics: Box<dyn Metrics>,
    pub(super) unreadable: usize,
    /// An image of each class, by its number.
    pub(super) examples: BTreeMap<usize, String>,
    /// The worst first.
    pub(super) large: Vec<Example>,
    pub(super) small: Vec<Example>,
    /// Number of mistakes; for a regression, the number of images.
    pub(super) wrong: usize,
}

/// Evaluates all validation images.
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
    let task = task::of(net)?;
    let mut predictor = Predictor::new(device, net, 32.min(set.len().max(1)))?;
    let outputs = predictor.outputs(set.clone(), observer)?;
    let metrics = task.measure(outputs.raw(net), net.config().temperature)?;
    let Outputs { logits, targets, indices, skipped } = &outputs;
    let mut examples = BTreeMap::new();
    for (target, &index) in targets.iter().zip(indices) {
        if let Some(class) = target.class()
            && let std::collections::btree_map::Entry::Vacant(entry) = examples.entry(class as usize)
        {
            entry.insert(thumbnail(&crop(net, &set, index)?, SMALL_SIDE)?);
        }
    }
    let rows = logits.chunks_exact(net.outputs()).zip(targets).enumerate();
    let mut wrong: Vec<Wrong> = rows
        .filter_map(|(row, (outputs, target))| {
            Some(Wrong { row, mistake: task.mistake(outputs, target, net.config().temperature)? })
        })
        .collect();
    wrong.sort_by(|a, b| b.mistake.loss.total_cmp(&a.mistake.loss));
    // Each kind of mistake has an image; the rest are the worst mistakes.
    let (mut kinds, mut small) = (BTreeSet::new(), Vec::new());
    for (i, wrong) in wrong.iter().enumerate() {
        let first = kinds.len() < KINDS && kinds.insert(wrong.mistake.classes);
        if i < SMALL || first {
            let image = thumbnail(&crop(net, &set, indices[wrong.row])?, SMALL_SIDE)?;
            small.push(wrong.told(net, task, &set, &outputs, image));
        }
    }
    let large = large(device, net, task, &set, &outputs, &wrong)?;
    Ok(Findings { of, metrics, unreadable: skipped.len(), examples, large, small, wrong: wrong.len() })
}

/// The worst mistakes, with Grad-CAM maps where there are classes.
fn large(
    device: &Device,
    net: &Network,
    task: TaskRef,
    set: &Arc<Dataset>,
    outputs: &Outputs,
    wrong: &[Wrong],
) -> Result<Vec<Example>> {
    let worst = &wrong[..wrong.len().min(LARGE)];
    let crops: Vec<Image> =
        worst.iter().map(|w| crop(net, set, outputs.indices[w.row])).collect::<Result<_>>()?;
    let mut explained: Vec<Vec<String>> = vec![Vec::new(); worst.len()];
    let cells: Option<Vec<(usize, usize)>> = worst.iter().map(|w| w.mistake.classes).collect();
    if let Some(cells) = cells.filter(|cells| !cells.is_empty())
        && let Some(mut explainer) = explainer(device, net, worst.len())?
    {
        let pixels: Vec<Vec<u8>> = crops.iter().map(|crop| crop.rgb.clone()).collect();
        for side in [|cell: &(usize, usize)| cell.1, |cell: &(usize, usize)| cell.0] {
            let asked: Vec<Option<usize>> = cells.iter().map(|cell| Some(side(cell))).collect();
            let maps = explainer.maps(&pixels, &asked)?;
            for ((map, crop), to) in maps.iter().zip(&crops).zip(&mut explained) {
                to.push(thumbnail(&overlay(crop, map)?, LARGE_SIDE)?);
            }
        }
    }
    let all = worst.iter().zip(&crops).zip(explained);
    all.map(|((wrong, crop), maps)| {
        Ok(Example { maps, ..wrong.told(net, task, set, outputs, thumbnail(crop, LARGE_SIDE)?) })
    })
    .collect()
}

/// Grad-CAM at the last layer whose map has at least four columns: for small images the usual layer has only one or
/// two positions. None where there is no such layer.
fn explainer(device: &Device, net: &Network, batch: usize) -> Result<Option<Explainer>> {
    const COLUMNS: usize = 4;
    let layer = Explainer::last_layer(net, COLUMNS)?;
    layer.map(|layer| Explainer::new(device, net, Method::GradCam, Some(&layer), batch)).transpose()
}

/// The preprocessed crop of an image.
fn crop(net: &Network, set: &Dataset, index: usize) -> Result<Image> {
    let [height, width] = net.preprocess().size;
    let rgb = View::Eval(net.preprocess().clone()).image(set, index)?;
    Ok(Image { width, height, rgb })
}

/// A row of the outputs that is wrong.
struct Wrong {
    row: usize,
    mistake: Mistake,
}

impl Wrong {
    fn told(&self, net: &Network, task: TaskRef, set: &Dataset, outputs: &Outputs, image: String) -> Example {
        let index = outputs.indices[self.row];
        let row = &outputs.logits[self.row * net.outputs()..][..net.outputs()];
        Example {
            name: set.samples[index].name().display().to_string(),
            class: outputs.targets[self.row].describe(net.classes()),
            predicted: task.predicted(row).describe(net.classes()),
            cell: self.mistake.classes,
            loss: self.mistake.loss,
            image,
            maps: Vec::new(),
        }
    }
}

/// The confusion matrix as comma-separated values: a row for each class, a column for what its images are predicted as.
///
/// # Errors
/// Where a name cannot be written.
pub(super) fn confusion_csv(confusion: &[Vec<usize>], classes: &[String]) -> Result<String> {
    let failed =
        |e: &dyn std::fmt::Display| Error::Data(format!("the confusion matrix cannot be written: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = std::iter::once("class".to_string()).chain(classes.iter().cloned());
    writer.write_record(head).map_err(|e| failed(&e))?;
    for (name, row) in classes.iter().zip(confusion) {
        let row = std::iter::once(name.clone()).chain(row.iter().map(usize::to_string));
        writer.write_record(row).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}
