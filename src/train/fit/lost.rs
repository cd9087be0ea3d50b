//! Images that become unreadable during a training: a network share disconnects, the disk fails, files are deleted.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::data::{Dataset, Part, Skipped};
use crate::{Error, Result};

/// Largest share of a part of the data that may become unreadable; with less data the training would not be the one
/// asked for.
const MOST: f64 = 0.1;

/// Indices of the lost training and validation images.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    train: BTreeSet<usize>,
    val: BTreeSet<usize>,
}

impl Lost {
    /// Counts images that could not be read when a batch was made. Warns of new ones and reports them.
    ///
    /// # Errors
    /// [`Error::Data`] where more than a tenth of the part or a whole class is lost; with `strict`, where any image
    /// is lost.
    pub(crate) fn count(
        &mut self,
        [train, val]: [&Arc<Dataset>; 2],
        part: Part,
        failed: Vec<(usize, Skipped)>,
        strict: bool,
        folder: Option<&Path>,
    ) -> Result<Option<(String, Vec<Skipped>)>> {
        if failed.is_empty() {
            return Ok(None);
        }
        let (set, what, lost) = match part {
            Part::Val => (val, "validation", &mut self.val),
            _ => (train, "training", &mut self.train),
        };
        let new: Vec<(usize, Skipped)> =
            failed.into_iter().filter(|(index, _)| lost.insert(*index)).collect();
        let Some((_, first)) = new.first() else { return Ok(None) };
        let (count, of) = (lost.len(), set.len());
        let told = format!(
            "{count} of {of} {what} images can no longer be read, {} among them: {}",
            first.path.display(),
            first.reason
        );
        let why = match new.iter().find_map(|(index, _)| emptied(set, lost, *index)) {
            Some(class) => Some(format!("none of class '{class}' is left")),
            None if count as f64 > MOST * of as f64 => Some("too many".into()),
            None if strict => Some("`strict` allows none".into()),
            None => None,
        };
        if let Some(why) = why {
            let go_on = folder.map_or(String::new(), |folder| {
                format!(", then go on with `resume` {}", crate::error::quoted(folder))
            });
            return Err(Error::Data(format!("{told}; {why}: bring them back{go_on}")));
        }
        let told = format!("{told}; training and figures go on without");
        Ok(Some((told, new.into_iter().map(|(_, skipped)| skipped).collect())))
    }
}

/// The class of image `index`, if that class has lost all its images.
fn emptied<'a>(set: &'a Dataset, lost: &BTreeSet<usize>, index: usize) -> Option<&'a str> {
    let left = |class: usize| {
        let others = set.samples.iter().enumerate().filter(|(i, _)| !lost.contains(i));
        others.into_iter().any(|(_, sample)| sample.target.classes().any(|own| own == class))
    };
    let mut classes = set.samples[index].target.classes();
    classes.find(|&class| !left(class)).map(|class| set.classes[class].as_str())
}
