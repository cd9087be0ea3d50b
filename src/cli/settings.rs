//! Options of the commands from the table of settings: [`Given`] is a group of them, like a group derived by clap.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Debug;
use std::marker::PhantomData;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::names::in_options;
use super::usage_error;
use crate::Result;
use crate::data::{Augment, DataOptions};
use crate::train::{Config, Section, Setting, settings};

/// The sections of the table that a command takes.
pub(super) trait Sections: Debug + Clone {
    const SECTIONS: &'static [Section];
}

macro_rules! sections {
    ($($(#[doc = $doc:literal])* $name:ident: $($section:ident),*;)*) => {
        $($(#[doc = $doc])*
        #[derive(Debug, Clone)]
        pub(super) struct $name;

        impl Sections for $name {
            const SECTIONS: &'static [Section] = &[$(Section::$section),*];
        })*
    };
}
sections! {
    /// The settings of a training.
    Everything: Network, Data, Freezing, Optimizing, Training, Augmenting;
    /// The settings of the data.
    About: Data;
    /// The settings of a training step.
    Step: Freezing, Optimizing;
}

/// The given settings of some sections.
#[derive(Debug, Clone)]
pub(super) struct Given<S> {
    given: BTreeMap<&'static str, Vec<OsString>>,
    sections: PhantomData<S>,
}

/// The settings of some sections that have options.
fn of<S: Sections>() -> impl Iterator<Item = (&'static str, &'static Setting)> {
    settings()
        .filter(|setting| S::SECTIONS.contains(&setting.section))
        .filter_map(|setting| Some((setting.option?, setting)))
}

/// Options that do not apply with `--resume`: the run has its own settings.
pub(super) fn refused_with_resume() -> Vec<&'static str> {
    of::<Everything>().map(|(option, _)| option).chain(["data", "out", "dry_run"]).collect()
}

/// A setting's option.
fn arg(option: &'static str, setting: &'static Setting) -> Arg {
    let default = setting.default().filter(|_| !setting.value.is_empty());
    let default = default.map_or(String::new(), |default| format!(" [default: {default}]"));
    let arg = Arg::new(option).long(option).help(in_options(&setting.about()) + &default);
    let arg = match setting.section {
        Section::Network => arg,
        section => arg.help_heading(section.heading()),
    };
    if setting.value.is_empty() {
        return arg.action(ArgAction::SetTrue);
    }
    let arg = arg
        .value_name(setting.value)
        .action(if setting.repeats { ArgAction::Append } else { ArgAction::Set })
        .allow_negative_numbers(setting.limits.is_some())
        .allow_hyphen_values(setting.hyphens)
        .requires_all(setting.needs);
    let arg = if setting.commas { arg.value_delimiter(',') } else { arg };
    match setting.choices {
        [] => arg.value_parser(OsStringValueParser::new().try_map(|text| {
            let mut scratch = Config::default();
            setting.set(&mut scratch, std::slice::from_ref(&text)).map(|()| text)
        })),
        choices => arg.value_parser(PossibleValuesParser::new(choices).map(OsString::from)),
    }
}

impl<S: Sections> Args for Given<S> {
    fn augment_args(command: Command) -> Command {
        command.args(of::<S>().map(|(option, setting)| arg(option, setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Sections> FromArgMatches for Given<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(option, setting): (&'static str, &'static Setting)| {
            let texts: Vec<OsString> = match setting.value.is_empty() {
                true => matches.get_flag(option).then(OsString::new).into_iter().collect(),
                false => matches.get_many::<OsString>(option)?.cloned().collect(),
            };
            (!texts.is_empty()).then_some((option, texts))
        };
        Ok(Given { given: of::<S>().filter_map(given).collect(), sections: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.append(&mut Self::from_arg_matches(matches)?.given);
        Ok(())
    }
}

impl<S: Sections> Given<S> {
    /// Writes the given options into the settings.
    pub(super) fn apply(&self, config: &mut Config) -> Result<()> {
        for (option, setting) in of::<S>() {
            if let Some(texts) = self.given.get(option) {
                setting.set(config, texts).map_err(|reason| usage_error(format!("--{option}: {reason}")))?;
            }
        }
        Ok(())
    }

    /// Whether any option of a section was given, except one.
    pub(super) fn any(&self, section: Section, but: &str) -> bool {
        of::<S>().any(|(option, s)| s.section == section && option != but && self.has(option))
    }

    /// Whether an option was given.
    pub(super) fn has(&self, option: &str) -> bool {
        self.given.contains_key(option)
    }
}

impl Given<About> {
    /// The options in the form of the library.
    pub(super) fn options(&self) -> Result<DataOptions> {
        let mut config = Config::default();
        self.apply(&mut config)?;
        Ok(config.open)
    }
}

/// Refuses options for augmented images where images are not augmented.
pub(super) fn check_varied(config: &Config) -> Result<()> {
    let asked = config.augment != Augment::default() && config.augment != Augment::none();
    match asked && !config.augments() {
        true => Err(usage_error(
            "--strategy features sees each image once and never augmented; --augment and its like need --copies N, or \
             another strategy, such as two-phase or finetune",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::train::{Limits, Resume};

    /// Paths of all fields of the settings.
    fn fields() -> Vec<String> {
        let Ok(Value::Object(all)) = serde_json::to_value(Config::default()) else { panic!("no object") };
        let of = |(name, value): (&String, &Value)| match value {
            Value::Object(inner) => inner.keys().map(|key| format!("{name}.{key}")).collect(),
            _ => vec![name.clone()],
        };
        all.iter().flat_map(of).collect()
    }

    #[test]
    fn every_field_has_one_entry() {
        let entries: Vec<&str> = settings().flat_map(|setting| setting.fields).copied().collect();
        for field in fields() {
            assert_eq!(entries.iter().filter(|entry| **entry == field).count(), 1, "{field}");
        }
        let of_fields = |entry: &&&str| **entry == "augment" || fields().iter().any(|field| field == **entry);
        assert_eq!(entries.iter().filter(of_fields).count(), entries.len(), "{entries:?}");
        // A help is divided into sections: the options of each stand together.
        let mut headings: Vec<_> = settings().map(|setting| setting.section.heading()).collect();
        headings.dedup();
        let all = headings.len();
        headings.sort_unstable();
        headings.dedup();
        assert_eq!(headings.len(), all);
    }

    #[test]
    fn limits_hold_at_their_ends() {
        let number = |x: f64| format!("{x:?}").trim_end_matches(".0").to_string();
        let mut tried = 0;
        for (option, setting) in of::<Everything>() {
            let Some(Limits { ends: (low, high), open, .. }) = setting.limits else { continue };
            let count = setting.value.split(',').count();
            let set = |x: f64| {
                let text = vec![number(x); count].join(",");
                setting.set(&mut Config::default(), &[text.into()])
            };
            let step = if low == 1e-30 { 1e-31 } else { 1.0 };
            assert_eq!(set(low).is_err(), open.0, "{option} {low}");
            assert!(set(low - step).is_err(), "{option} below {low}");
            if high < f64::MAX {
                assert_eq!(set(high).is_err(), open.1, "{option} {high}");
                assert!(set(high + 1.0).is_err(), "{option} above {high}");
            }
            for wrong in ["", "x", "nan", "inf"] {
                let texts = vec![wrong; count].join(",");
                assert!(setting.set(&mut Config::default(), &[texts.into()]).is_err(), "{option} {wrong}");
            }
            tried += 1;
        }
        assert!(tried > 25, "only {tried} settings have limits");
    }

    #[test]
    fn every_choice_is_understood() {
        for (option, setting) in of::<Everything>() {
            for choice in setting.choices {
                let mut config = Config::default();
                setting
                    .set(&mut config, &[(*choice).into()])
                    .unwrap_or_else(|e| panic!("--{option} {choice}: {e}"));
            }
        }
    }

    /// The text of docs/settings.md, from the table.
    fn page() -> String {
        let mut page = String::from(
            "# Settings of a training\n\n\
             Fields of `train::Config`, as in a run's `config.json`, and the options of `defrost train` that set them. Written from \
             the table in `src/train/settings/table.rs` by `DEFROST_BLESS=1 cargo test --lib settings`.\n\n\
             A run that is resumed goes on with its own settings: none of these options goes together with `--resume`. ",
        );
        let dropped: Vec<String> = settings()
            .filter(|setting| setting.resume == Resume::Dropped)
            .map(|setting| format!("`{}`", setting.fields[0]))
            .collect();
        let _ = writeln!(page, "Only {} is left out when it goes on.", dropped.join(", "));
        let mut heading = "";
        for setting in settings() {
            if setting.section.heading() != heading {
                heading = setting.section.heading();
                let _ = writeln!(
                    page,
                    "\n## {heading}\n\n| setting | option | default | limits | |\n|---|---|---|---|---|"
                );
            }
            let fields: Vec<String> = setting.fields.iter().map(|field| format!("`{field}`")).collect();
            let option = setting
                .option
                .map_or(String::new(), |option| format!("`--{option} {}`", setting.value).replace(" `", "`"));
            let limits = setting.limits.map_or(String::new(), |limits| limits.to_string());
            let choices: Vec<String> = setting.choices.iter().map(|choice| format!("`{choice}`")).collect();
            let limits = if choices.is_empty() { limits } else { choices.join(", ") };
            let (default, about) = (setting.default().unwrap_or_default(), in_options(&setting.about()));
            let cells =
                [fields.join(", "), option, default, limits, about].map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(page, "| {} |", cells.join(" | "));
        }
        page
    }

    #[test]
    fn the_documentation_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
        if std::env::var_os("DEFROST_BLESS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
        assert!(written == page(), "docs/settings.md is old: DEFROST_BLESS=1 cargo test --lib settings");
    }
}
