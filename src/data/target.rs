//! Targets: the labels or values of an image, in the forms in which data sets store them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The target of one image. The variants are forms of storage, not tasks: a task names the form that it reads, and
/// several tasks may read the same form.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A single class: an index into [`super::Dataset::classes`].
    Class(u32),
    /// Multi-label: 1 for each of [`super::Dataset::classes`] in the image, else 0.
    Labels(Arc<[f32]>),
    /// A number for each of [`super::Dataset::classes`], which are the names of the numbers.
    Values(Arc<[f32]>),
}

impl Target {
    /// The target's form.
    pub fn kind(&self) -> TargetKind {
        match self {
            Target::Class(_) => TargetKind::Class,
            Target::Labels(_) => TargetKind::Labels,
            Target::Values(_) => TargetKind::Values,
        }
    }

    /// The class, where it has a single one.
    pub fn class(&self) -> Option<u32> {
        match self {
            Target::Class(class) => Some(*class),
            Target::Labels(_) | Target::Values(_) => None,
        }
    }

    /// A number for each class or value; none where there is a single class.
    pub fn numbers(&self) -> &[f32] {
        match self {
            Target::Class(_) => &[],
            Target::Labels(numbers) | Target::Values(numbers) => numbers,
        }
    }

    /// The classes that the image counts for, ascending: its single class, its labels, or all values.
    pub fn classes(&self) -> impl Iterator<Item = usize> + '_ {
        let (range, shown) = match self {
            Target::Class(class) => (*class as usize..*class as usize + 1, None),
            Target::Labels(labels) => (0..labels.len(), Some(labels)),
            Target::Values(values) => (0..values.len(), None),
        };
        range.filter(move |&class| shown.is_none_or(|labels| labels[class] > 0.0))
    }

    /// Text for messages: `rose`; `rose, tulip` or `none`; `height 2.500, width 7.000`.
    pub fn describe(&self, classes: &[String]) -> String {
        let name = |class: usize| classes.get(class).map_or("", String::as_str);
        let parts: Vec<String> = match self {
            Target::Class(_) | Target::Labels(_) => self.classes().map(|class| name(class).into()).collect(),
            Target::Values(values) => {
                values.iter().enumerate().map(|(i, value)| format!("{} {value:.3}", name(i))).collect()
            }
        };
        if parts.is_empty() { "none".into() } else { parts.join(", ") }
    }

    /// Text for tables: `rose`, `rose;tulip`, `2.5;7`.
    pub fn text(&self, classes: &[String]) -> String {
        let name = |class: usize| classes.get(class).map_or_else(String::new, Clone::clone);
        let parts: Vec<String> = match self {
            Target::Class(_) | Target::Labels(_) => self.classes().map(name).collect(),
            Target::Values(values) => values.iter().map(f32::to_string).collect(),
        };
        parts.join(";")
    }
}

/// The form of a data set's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// [`Target::Class`].
    #[default]
    #[serde(alias = "classes")]
    Class,
    /// [`Target::Labels`].
    #[serde(alias = "multi-label")]
    Labels,
    /// [`Target::Values`].
    #[serde(alias = "regression")]
    Values,
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetKind::Class => "one class each",
            TargetKind::Labels => "any number of labels each",
            TargetKind::Values => "numbers",
        })
    }
}
