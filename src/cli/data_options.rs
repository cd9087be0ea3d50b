//! Options that say what the data is.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::Error;
use crate::data::{DataOptions, GroupBy};
use crate::task::{self, TaskRef};
use crate::train::Config;

/// What the data is.
#[derive(Debug, Args)]
#[command(next_help_heading = "What the data is")]
pub(super) struct DataArgs {
    /// A table that names pictures and labels; its relative paths begin at DATA
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,
    /// The table's column of pictures [default: image, file, filename, path, name, fname or id, else the first]
    #[arg(long, value_name = "NAME")]
    image_column: Option<String>,
    /// The table's column of labels; for several values or 0/1 columns give it several times [default: label, labels,
    /// class, category, target, tag or tags, else the second]
    #[arg(long, value_name = "NAME")]
    label_column: Vec<String>,
    /// What stands between several labels of a cell [default: the first of ; | , that is met, else blanks]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    label_separator: Option<String>,
    #[arg(long, value_name = "TASK", value_parser = known_task(), help = task_help())]
    task: Option<TaskRef>,
    /// Keep pictures together that a random split must not divide: parent (the folder within the class folder),
    /// column:NAME of the table, or prefix:SEPARATOR, such as prefix:_ for patient01_003.jpg
    #[arg(long, value_name = "RULE", value_parser = rule)]
    group_by: Option<GroupBy>,
}

fn rule(text: &str) -> Result<GroupBy, String> {
    text.parse().map_err(|e| match e {
        Error::Setting { reason, .. } => reason,
        other => other.to_string(),
    })
}

/// A task by its name, or by one that it had.
fn known_task() -> impl TypedValueParser<Value = TaskRef> {
    const OLD: &str = "classes";
    let names = task::TASKS.iter().map(|task| PossibleValue::new(task.name()));
    PossibleValuesParser::new(names.chain([PossibleValue::new(OLD).hide(true)]))
        .try_map(|name| task::find(&name))
}

fn task_help() -> String {
    let lines = task::TASKS.iter().map(|task| format!("{}: {}", task.name(), task.about()));
    format!("{} [default: {}]", lines.collect::<Vec<_>>().join("; "), task::TASKS[0].name())
}

impl DataArgs {
    /// Into the settings of a training.
    pub(super) fn apply(&self, config: &mut Config) {
        config.open = self.options();
        config.task = self.task.map(|task| task.name().to_string());
    }

    /// As the library takes them.
    pub(super) fn options(&self) -> DataOptions {
        DataOptions {
            labels: self.labels.clone(),
            image_column: self.image_column.clone(),
            label_columns: self.label_column.clone(),
            label_separator: self.label_separator.clone(),
            targets: self.task.map(|task| task.targets()).unwrap_or_default(),
            group_by: self.group_by.clone(),
        }
    }
}
