//! The form of a data set, where its folders do not show it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::group::GroupBy;
use super::target::TargetKind;
use crate::{Error, Result};

/// How to read a data set. Stored with a run, so that the data is read the same way again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DataOptions {
    /// The table that names images and labels; its relative paths begin at the data folder.
    pub labels: Option<PathBuf>,
    /// The table's column of images; found by name where absent.
    pub image_column: Option<String>,
    /// The table's columns of labels or values; found by name where empty.
    pub label_columns: Vec<String>,
    /// Separator of the labels in a cell; detected where absent.
    pub label_separator: Option<String>,
    /// The form of the images' targets.
    #[serde(alias = "task")]
    pub targets: TargetKind,
    /// The groups that a random split keeps together.
    pub group_by: Option<GroupBy>,
}

options!(DataOptions);

/// A table of labels and the folder where its relative paths begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableFile {
    pub(crate) file: PathBuf,
    pub(crate) root: PathBuf,
}

impl DataOptions {
    /// The table where there is one: `data` itself if it is a `.csv` file, or the file in `labels`, which may be in
    /// `data`.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that need a table where there is none, and for two tables.
    pub(crate) fn table(&self, data: &Path) -> Result<Option<TableFile>> {
        let is_csv = data.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) && !data.is_dir();
        match &self.labels {
            Some(labels) if is_csv => Err(Error::setting(
                "labels",
                labels.display(),
                format!(
                    "and {} are two tables; with `labels`, the data is the folder of the images",
                    data.display()
                ),
            )),
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
                Some((field, value)) => Err(Error::setting(
                    field,
                    value,
                    "it needs a table of labels: give a .csv file as the data, or `labels` FILE.csv",
                )),
                None => Ok(None),
            },
        }
    }

    /// Checks that no option contradicts drawn images, whose form is fixed.
    ///
    /// # Errors
    /// [`Error::Usage`] naming such an option.
    pub(crate) fn suit_drawn(&self, data: &Path) -> Result<()> {
        let given = match self {
            DataOptions { labels: Some(labels), .. } => Some(("labels", labels.display().to_string())),
            DataOptions { group_by: Some(rule), .. } => Some(("group_by", rule.to_string())),
            _ => self.needs_table(),
        };
        match given {
            Some((field, value)) => Err(Error::setting(
                field,
                value,
                format!("it means nothing for {}, whose images are drawn; leave it away", data.display()),
            )),
            None => Ok(()),
        }
    }

    /// An option that requires a table, and its value.
    fn needs_table(&self) -> Option<(&'static str, String)> {
        Some(match self {
            DataOptions { image_column: Some(name), .. } => ("image_column", name.clone()),
            DataOptions { label_separator: Some(text), .. } => ("label_separator", format!("'{text}'")),
            DataOptions { label_columns, .. } if !label_columns.is_empty() => {
                ("label_columns", label_columns.join(", "))
            }
            DataOptions { targets: TargetKind::Labels, .. } => ("targets = labels", String::new()),
            DataOptions { targets: TargetKind::Values, .. } => ("targets = values", String::new()),
            DataOptions { group_by: Some(rule @ GroupBy::Column(_)), .. } => ("group_by", rule.to_string()),
            _ => return None,
        })
    }

    /// The same options with absolute paths, for a file that is read from elsewhere.
    pub fn absolute(&self, data: &Path) -> DataOptions {
        let labels = self.labels.as_ref().map(|labels| {
            let file = self.table(data).ok().flatten().map_or_else(|| labels.clone(), |table| table.file);
            std::path::absolute(&file).unwrap_or(file)
        });
        DataOptions { labels, ..self.clone() }
    }
}
