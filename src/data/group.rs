//! Groups of images that belong together: of one patient, one place, one film. A split that divides a group measures
//! what the network memorised, not how it generalises.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Source};
use super::split::relative;
use crate::{Error, Result};

/// The rule that gives an image's group. A group may contain images of several classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GroupBy {
    /// `parent`: the folder in which it lies, within its class folder. Images directly in the class folder are
    /// groups of their own.
    Parent,
    /// `column:NAME`: what a table's column says.
    Column(String),
    /// `prefix:SEPARATOR`: its file name up to the first separator, `patient01` for `patient01_003.jpg` and `_`;
    /// without one, the name but for its extension.
    Prefix(String),
}

impl FromStr for GroupBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "parent" => Ok(GroupBy::Parent),
            Some(("column", name)) if !name.is_empty() => Ok(GroupBy::Column(name.into())),
            Some(("prefix", separator)) if !separator.is_empty() => Ok(GroupBy::Prefix(separator.into())),
            _ => Err(Error::setting(
                "group_by",
                text,
                "give parent, column:NAME or prefix:SEPARATOR, such as prefix:_",
            )),
        }
    }
}

impl TryFrom<String> for GroupBy {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<GroupBy> for String {
    fn from(by: GroupBy) -> String {
        by.to_string()
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupBy::Parent => f.write_str("parent"),
            GroupBy::Column(name) => write!(f, "column:{name}"),
            GroupBy::Prefix(separator) => write!(f, "prefix:{separator}"),
        }
    }
}

/// The group of each image by its path below `root`; the first `depth` folders of the path are the class's.
///
/// # Errors
/// [`Error::Usage`] for images that are not files of their own.
pub(crate) fn by_path(by: &GroupBy, images: &Dataset, root: &Path, depth: usize) -> Result<Vec<String>> {
    let group = |sample: &super::Sample| {
        if !matches!(sample.source, Source::File { .. }) {
            let image = sample.name();
            let reason = format!("{} is no file of its own; there is nothing to group by", image.display());
            return Err(Error::setting("group_by", by, reason));
        }
        let name = relative(sample, root);
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", &name));
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        Ok(match by {
            GroupBy::Prefix(separator) => {
                stem.split_once(separator).map_or(stem, |(prefix, _)| prefix).into()
            }
            _ => match folder.split('/').skip(depth).collect::<Vec<_>>().join("/") {
                own if own.is_empty() => name,
                folder => folder,
            },
        })
    };
    images.samples.iter().map(group).collect()
}

/// A warning where a group is in both parts of the data's own split.
pub(crate) fn divided(train: &[String], val: &[String]) -> Option<String> {
    let train: BTreeSet<&String> = train.iter().collect();
    let both: BTreeSet<&String> = val.iter().filter(|group| train.contains(group)).collect();
    both.first().map(|first| {
        format!(
            "{} of the groups, '{first}' among them, have images for training and for validation: the accuracy \
             will look better than it is",
            both.len()
        )
    })
}
