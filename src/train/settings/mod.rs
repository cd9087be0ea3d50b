//! The settings of a training. [`table`] has one entry per setting: its type, default, limits, option, help, and its
//! role in a resumed run. [`Config`], its check, the command's options and their help, and docs/settings.md are
//! derived from the table.

mod choices;
pub(super) mod config;
mod optimizers;
mod strategies;
pub(super) mod table;
mod value;

use std::ffi::OsString;

pub use choices::{Distill, HeadSolver};
pub use optimizers::OptimizerKind;
pub(super) use optimizers::optimizers;
pub use strategies::Strategy;
pub(super) use strategies::strategies;
pub use table::Config;

use crate::{Error, Result};

/// The section of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Data and network.
    Network,
    /// The form of the data.
    Data,
    /// Trainable and frozen layers.
    Freezing,
    /// The update of the parameters.
    Optimizing,
    /// Training.
    Training,
    /// Augmentation.
    Augmenting,
}

impl Section {
    /// The section's heading.
    pub fn heading(self) -> &'static str {
        match self {
            Section::Network => "Data and network",
            Section::Data => "What the data is",
            Section::Freezing => "What is trained",
            Section::Optimizing | Section::Training => "Training",
            Section::Augmenting => "Augmentation",
        }
    }
}

/// The role of a setting in a resumed run. Resuming cannot change the setting in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The resumed run keeps the value.
    Kept,
    /// The resumed run drops the value.
    Dropped,
}

/// Limits of the numbers of a setting; the numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The smallest and the largest number.
    pub ends: (f64, f64),
    /// Whether the smallest and the largest number are themselves excluded.
    pub open: (bool, bool),
    /// The reason in the error for a number outside.
    pub reason: &'static str,
}

impl Limits {
    const fn from(least: f64, reason: &'static str) -> Self {
        Limits { ends: (least, f64::MAX), open: (false, false), reason }
    }

    const fn above(least: f64, reason: &'static str) -> Self {
        Limits { open: (true, false), ..Limits::from(least, reason) }
    }

    const fn most(self, greatest: f64) -> Self {
        Limits { ends: (self.ends.0, greatest), ..self }
    }

    const fn below(self, greatest: f64) -> Self {
        Limits { open: (self.open.0, true), ..self.most(greatest) }
    }

    /// Whether a number is within the limits.
    pub fn hold(&self, number: f64) -> bool {
        let ((low, high), (above, below)) = (self.ends, self.open);
        (number > low || (number == low && !above)) && (number < high || (number == high && !below))
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ((low, high), (above, below)) = (self.ends, self.open);
        match high < f64::MAX {
            true => {
                let (begin, end) = (if above { '(' } else { '[' }, if below { ')' } else { ']' });
                write!(f, "{begin}{low}, {high}{end}")
            }
            false if low > 0.0 && low < 1e-6 => write!(f, "from {low:e}"),
            false => write!(f, "{} {low}", if above { "above" } else { "from" }),
        }
    }
}

/// Parses the texts of an option into the settings.
type Set = fn(&mut Config, &[OsString]) -> Result<(), String>;

/// Access to a setting's fields.
#[derive(Debug, Clone, Copy)]
struct Access {
    set: Set,
    numbers: fn(&Config) -> Vec<f64>,
    shown: fn(&Config) -> Option<String>,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The fields of [`Config`] that the setting sets, as in `config.json`: `lr`, `augment.flip`.
    pub fields: &'static [&'static str],
    /// The option's name, without leading hyphens; none where only the library has the setting.
    pub option: Option<&'static str>,
    /// Name of the option's value in the help; empty where the option takes no value.
    pub value: &'static str,
    /// Names of the possible values, where they have names.
    pub choices: &'static [&'static str],
    /// Whether the option may be given several times.
    pub repeats: bool,
    /// Whether commas separate several values.
    pub commas: bool,
    /// Whether a value may begin with a hyphen.
    pub hyphens: bool,
    /// The option that this one requires.
    pub needs: Option<&'static str>,
    /// The section of the setting.
    pub section: Section,
    /// The default in words, where the default is not [`Config`]'s own value.
    otherwise: Option<&'static str>,
    /// Limits of the setting's numbers.
    pub limits: Option<Limits>,
    /// The role of the setting in a resumed run.
    pub resume: Resume,
    help: &'static [&'static str],
    /// Text of the help after the field's doc comment.
    more: &'static [&'static str],
    /// Function that composes the default in words.
    words: Option<fn() -> String>,
    access: Access,
    reads: Option<Set>,
}

impl Setting {
    /// An entry of the table.
    const fn of(section: Section) -> Self {
        let access = Access { set: |_, _| Ok(()), numbers: |_| Vec::new(), shown: |_| None };
        Setting {
            fields: &[],
            option: None,
            value: "",
            choices: &[],
            repeats: false,
            commas: false,
            hyphens: false,
            needs: None,
            section,
            otherwise: None,
            limits: None,
            resume: Resume::Kept,
            help: &[],
            more: &[],
            words: None,
            access,
            reads: None,
        }
    }

    /// Adds the field's path, doc comment and access. Values that the entry sets itself take precedence.
    const fn at(self, path: &'static [&'static str], help: &'static [&'static str], access: Access) -> Self {
        let fields = if self.fields.is_empty() { path } else { self.fields };
        let set = match self.reads {
            Some(set) => set,
            None => access.set,
        };
        Setting { fields, help, access: Access { set, ..access }, ..self }
    }

    /// Sets several fields at once.
    const fn fields(self, fields: &'static [&'static str], reads: Set) -> Self {
        Setting { fields, reads: Some(reads), access: Access { set: reads, ..self.access }, ..self }
    }

    const fn numbers(self, numbers: fn(&Config) -> Vec<f64>) -> Self {
        Setting { access: Access { numbers, ..self.access }, ..self }
    }

    const fn help(self, help: &'static [&'static str]) -> Self {
        Setting { help, ..self }
    }

    const fn and(self, more: &'static [&'static str]) -> Self {
        Setting { more, ..self }
    }

    const fn described(self, words: fn() -> String) -> Self {
        Setting { words: Some(words), ..self }
    }

    const fn hyphens(self) -> Self {
        Setting { hyphens: true, ..self }
    }

    const fn needs(self, option: &'static str) -> Self {
        Setting { needs: Some(option), ..self }
    }

    const fn dropped(self) -> Self {
        Setting { resume: Resume::Dropped, ..self }
    }

    const fn option(self, option: &'static str) -> Self {
        Setting { option: Some(option), ..self }
    }

    const fn value(self, value: &'static str) -> Self {
        Setting { value, ..self }
    }

    const fn choices(self, choices: &'static [&'static str]) -> Self {
        Setting { choices, ..self }
    }

    const fn repeats(self) -> Self {
        Setting { repeats: true, ..self }
    }

    const fn commas(self) -> Self {
        Setting { commas: true, repeats: true, ..self }
    }

    const fn otherwise(self, words: &'static str) -> Self {
        Setting { otherwise: Some(words), ..self }
    }

    const fn within(self, limits: Limits) -> Self {
        Setting { limits: Some(limits), ..self }
    }

    /// Help text: the field's doc comment, on one line.
    pub fn about(&self) -> String {
        let text = self.help.iter().chain(self.more).map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        text.strip_suffix('.').unwrap_or(&text).to_string()
    }

    /// The default in words, where there is one.
    pub fn default(&self) -> Option<String> {
        if let Some(words) = self.words {
            return Some(words());
        }
        let own = || (self.access.shown)(&Config::default());
        self.otherwise.map_or_else(own, |words| Some(words.into()).filter(|words: &String| !words.is_empty()))
    }

    /// Parses the values of the option into the settings.
    ///
    /// # Errors
    /// What is wrong: not a number, or a number outside the limits.
    pub fn set(&self, config: &mut Config, given: &[OsString]) -> Result<(), String> {
        (self.access.set)(config, given)?;
        self.outside(config).map_or(Ok(()), |(_, reason)| Err(reason.into()))
    }

    /// A number outside the limits, and the reason.
    fn outside(&self, config: &Config) -> Option<(f64, &'static str)> {
        let limits = self.limits?;
        let outside = (self.access.numbers)(config).into_iter().find(|&number| !limits.hold(number));
        outside.map(|number| (number, limits.reason))
    }
}

/// All settings, in order of sections.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    table::TABLE.iter().flat_map(|settings| settings.iter())
}

/// Checks that all numbers are within their limits.
///
/// # Errors
/// [`Error::Setting`] naming the first setting that is not.
pub(super) fn check(config: &Config) -> Result<()> {
    for setting in settings() {
        if let Some((number, reason)) = setting.outside(config) {
            return Err(Error::setting(setting.fields[0], number, reason));
        }
    }
    Ok(())
}
