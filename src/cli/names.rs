//! Messages of the library name settings; the command replaces these names by its options.

use std::borrow::Cow;

use crate::Error;
use crate::data::TargetKind;
use crate::task;
use crate::train::settings;

/// Other names of the library, with the command's names for them: options of single commands, and a function.
const OTHERS: &[(&str, &str)] = &[
    ("brightness", "--jitter: brightness"),
    ("contrast", "--jitter: contrast"),
    ("saturation", "--jitter: saturation"),
    ("hue", "--jitter: hue"),
    ("device", "--device"),
    ("half", "--half"),
    ("mix", "--mix"),
    ("offline", "--offline"),
    ("out", "--out"),
    ("resume", "defrost train --resume"),
    ("shots", "--shots"),
    ("steps", "--steps"),
    ("trials", "--trials"),
];

/// The command's option for a setting, found by the whole path of the setting or its last part.
pub(super) fn option(field: &str) -> Option<Cow<'static, str>> {
    if let Some(kind) = field.strip_prefix("targets = ") {
        let kind: TargetKind = serde_json::from_value(kind.into()).ok()?;
        return Some(format!("--task {}", task::for_targets(kind).name()).into());
    }
    let last = field.rsplit('.').next().unwrap_or(field);
    let other = OTHERS.iter().find(|(name, _)| *name == last).map(|(_, option)| (*option).into());
    let is = |path: &str| path == field || path.rsplit('.').next() == Some(field);
    let setting = || settings().find(|setting| setting.fields.iter().any(|path| is(path)));
    other.or_else(|| Some(format!("--{}", setting()?.option?).into()))
}

/// A text of the library, with options in place of the settings that it names in backticks.
pub(super) fn in_options(text: &str) -> String {
    let (mut said, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('`') {
        said.push_str(before);
        match after.split_once('`').and_then(|(name, behind)| Some((option(name)?, behind))) {
            Some((option, behind)) => {
                said.push_str(&option);
                rest = behind;
            }
            None => {
                said.push('`');
                rest = after;
            }
        }
    }
    said + rest
}

/// An error as the command prints it.
pub(super) fn message(error: &Error) -> String {
    let Error::Setting { field, .. } = error else { return in_options(&error.to_string()) };
    let text = error.to_string();
    let rest = text.strip_prefix(field).unwrap_or(&text);
    match option(field) {
        Some(option) => option.into_owned() + &in_options(rest),
        None => in_options(&text),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn settings_become_options() {
        for (text, expected) in [
            ("choose a smaller `batch`, or freeze more", "choose a smaller --batch, or freeze more"),
            ("`strict` allows none", "--strict allows none"),
            ("go on with `resume` runs/a", "go on with defrost train --resume runs/a"),
            ("`label_columns` or `task` regression", "--label-column or --task regression"),
            ("choose `targets = values`", "choose --task regression"),
            ("`nobody`, `lr", "`nobody`, `lr"),
            ("a`b`lr`c", "a`b--lrc"),
            ("", ""),
        ] {
            assert_eq!(in_options(text), expected);
        }
        let error = Error::setting("distill.share", 2, "give less, or a smaller `lr`");
        assert_eq!(error.to_string(), "distill.share 2: give less, or a smaller `lr`");
        assert_eq!(message(&error), "--distill-share 2: give less, or a smaller --lr");
        let error = Error::setting("augment.hue", 0.7, "it lies within 0 and 0.5");
        assert_eq!(message(&error), "--jitter: hue 0.7: it lies within 0 and 0.5");
        let error = Error::setting("ratio", "0,1", "it needs 0 < least");
        assert_eq!(message(&error), "ratio 0,1: it needs 0 < least");
    }

    #[test]
    fn every_option_that_is_named_exists() {
        fn options(command: &clap::Command) -> Vec<String> {
            let own =
                command.get_arguments().filter_map(|arg| arg.get_long().map(|long| format!("--{long}")));
            own.chain(command.get_subcommands().flat_map(options)).collect()
        }
        let there = options(&super::super::Cli::command());
        for (name, option) in OTHERS {
            let long = option.split([' ', ':']).find(|word| word.starts_with("--")).unwrap();
            assert!(there.iter().any(|option| option == long), "{name}: there is no option {option}");
        }
    }
}
