//! What a data set is, where its folders do not tell.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::group::GroupBy;
use super::target::TargetKind;
use crate::{Error, Result};

/// How to read a data set: kept with a run, so that it is read again in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DataOptions {
    /// The table that names pictures and labels; its relative paths begin at the data folder.
    pub labels: Option<PathBuf>,
    /// The table's column of pictures; found by name where absent.
    pub image_column: Option<String>,
    /// The table's columns of labels or values; found by name where empty.
    pub label_columns: Vec<String>,
    /// What stands between the labels of a cell; found where absent.
    pub label_separator: Option<String>,
    /// The form of what is known of the images.
    #[serde(alias = "task")]
    pub targets: TargetKind,
    /// Which pictures a random split keeps together.
    pub group_by: Option<GroupBy>,
}

/// A table of labels and the folder where its relative paths begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFile {
    pub(crate) file: PathBuf,
    pub(crate) root: PathBuf,
}

impl DataOptions {
    /// The table where there is one: `data` itself when it is a `.csv` file, or the one of `labels`, which may
    /// lie in `data`.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that need a table where there is none, and for two tables.
    pub(crate) fn table(&self, data: &Path) -> Result<Option<TableFile>> {
        let is_csv = data.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) && !data.is_dir();
        match &self.labels {
            Some(labels) if is_csv => Err(Error::Usage(format!(
                "{} and --labels {}: two tables; with --labels, give the folder of the pictures before it",
                data.display(),
                labels.display()
            ))),
            Some(labels) => {
                let inside = data.join(labels);
                let file = if !labels.exists() && inside.exists() { inside } else { labels.clone() };
                Ok(Some(TableFile { file, root: data.to_path_buf() }))
            }
            None if is_csv => {
                let root = data.parent().map(Path::to_path_buf).unwrap_or_default();
                Ok(Some(TableFile { file: data.to_path_buf(), root }))
            }
            None => match self.needs_table() {
                Some(option) => Err(Error::Usage(format!(
                    "{option} needs a table of labels: give a .csv file as DATA, or --labels FILE.csv"
                ))),
                None => Ok(None),
            },
        }
    }

    /// Drawn pictures are what they are: options that say otherwise are wrong.
    ///
    /// # Errors
    /// [`Error::Usage`] naming such an option.
    pub(crate) fn suit_drawn(&self, data: &Path) -> Result<()> {
        let option = match self {
            DataOptions { labels: Some(_), .. } => Some("--labels"),
            DataOptions { group_by: Some(_), .. } => Some("--group-by"),
            _ => self.needs_table(),
        };
        match option {
            Some(option) => Err(Error::Usage(format!(
                "{}: {option} means nothing for pictures that are drawn; leave it away",
                data.display()
            ))),
            None => Ok(()),
        }
    }

    /// An option that means nothing without a table.
    fn needs_table(&self) -> Option<&'static str> {
        match self {
            DataOptions { image_column: Some(_), .. } => Some("--image-column"),
            DataOptions { label_separator: Some(_), .. } => Some("--label-separator"),
            DataOptions { label_columns, .. } if !label_columns.is_empty() => Some("--label-column"),
            DataOptions { targets: TargetKind::Labels, .. } => Some("--task multi-label"),
            DataOptions { targets: TargetKind::Values, .. } => Some("--task regression"),
            DataOptions { group_by: Some(GroupBy::Column(_)), .. } => Some("--group-by column:NAME"),
            _ => None,
        }
    }

    /// The same with absolute paths, for a file that is read from elsewhere.
    pub fn absolute(&self, data: &Path) -> DataOptions {
        let labels = self.labels.as_ref().map(|labels| {
            let file = self.table(data).ok().flatten().map_or_else(|| labels.clone(), |table| table.file);
            std::path::absolute(&file).unwrap_or(file)
        });
        DataOptions { labels, ..self.clone() }
    }
}
