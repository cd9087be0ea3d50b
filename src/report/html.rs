//! `report.html`: from a run folder to a page.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use askama::Template;

use super::findings::{confusion_csv, look};
use super::page::{Material, Page};
use super::savings::savings;
use crate::data::{Augment, DataOptions, Splits, by_name, open_labelled_with};
use crate::nn::write_atomically;
use crate::plan::Device;
use crate::train::{Observer, RunFile, contact_sheet, read_best, read_metrics, reopen};
use crate::{Error, Result};

/// Writes `report.html` of the run in `folder`, a page that needs no other file and no network: figures, curves, each
/// class, the confusion matrix, the worst mistakes with their Grad-CAM maps, the frozen layers and what freezing
/// saved, settings. Beside it, writes `confusion.csv` and, where images were augmented, `augmented.png`. Returns the
/// path of the page. The figures are those of the validation images, or of the labelled images in the folder or table
/// `data`.
///
/// # Errors
/// As for [`reopen`]; [`Error::Data`] where no validation image can be read; from the device and the disk.
///
/// ```no_run
/// use std::path::Path;
///
/// use defrost::{plan::Device, report, train::Silent};
///
/// # fn main() -> defrost::Result<()> {
/// let page = report::write(Path::new("runs/photos"), None, &Device::Cpu, &mut Silent)?;
/// println!("open {} in a browser", page.display());
/// # Ok(())
/// # }
/// ```
pub fn write(
    folder: &Path,
    data: Option<&Path>,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<PathBuf> {
    let file = RunFile::read(folder)?;
    let (config, mut net, Splits { train, val, .. }) = reopen(folder)?;
    let (train, val) = (Arc::new(train), Arc::new(val));
    let metrics = read_metrics(folder)?;
    let best_epoch = read_best(folder)?.map(|best| best.epoch);
    let (val, set) = match data {
        None => (val, "validation images".to_string()),
        Some(path) => {
            let classes = by_name(net.classes());
            // The run's own table names its own images.
            let options = DataOptions { labels: None, group_by: None, ..config.open.clone() };
            let images = open_labelled_with(path, &options, net.classes(), classes)?;
            (Arc::new(images), format!("images of {}", path.display()))
        }
    };
    let findings = look(device, &net, &val, observer)?;
    let phases = config.phases(&net.structure().groups);
    let frozen = phases.iter().map(|phase| net.freeze(phase.freeze()).map(|summary| summary.to_string()));
    let frozen: Vec<String> = frozen.collect::<Result<_>>()?;
    let frozen = match &frozen[..] {
        [only] => only.clone(),
        all => {
            let phase = |(i, text): (usize, &String)| format!("phase {}: {text}", i + 1);
            all.iter().enumerate().map(phase).collect::<Vec<_>>().join("\n\n")
        }
    };
    // A head alone is trained on images without augmentation, unless augmented views were asked for.
    let augmented = config.augment != Augment::none() && phases.iter().any(|phase| phase.augments());
    let sheet = match augmented {
        true => {
            let sheet = contact_sheet(&net, &train, &config.augment, config.seed)?;
            sheet.write_png(&folder.join("augmented.png"))?;
            Some(super::image::embedded(&sheet)?)
        }
        false => None,
    };
    if let Some(confusion) = findings.metrics.confusion() {
        let table = confusion_csv(confusion, net.classes())?;
        write_atomically(folder.join("confusion.csv"), |file| file.write_all(table.as_bytes()))?;
    }
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let savings = savings(device, &net, &config)?;
    let material = Material {
        set,
        name,
        file: &file,
        net: &net,
        metrics: &metrics,
        best_epoch,
        findings,
        savings,
        frozen,
        sheet,
    };
    let page = Page::new(material)?
        .render()
        .map_err(|e| Error::Data(format!("{}: the report cannot be set: {e}", folder.display())))?;
    let path = folder.join("report.html");
    write_atomically(path.clone(), |file| file.write_all(page.as_bytes()))?;
    Ok(path)
}
