//! Messages of the library name settings; the command names its options in their place.

use std::borrow::Cow;

use crate::Error;
use crate::data::TargetKind;
use crate::task;

/// Settings whose option has their name, with hyphens for underscores.
#[rustfmt::skip]
const SAME: &[&str] = &[
    "accumulate", "augment", "auxiliary", "balanced", "batch", "batch_norm", "blur", "checkpoint_every",
    "class_weights", "clip", "copies", "cutmix", "device", "ema", "epochs", "erase", "flip", "freeze",
    "freeze_groups", "freeze_through", "grad_checkpointing", "grey", "group_by", "half", "head_hidden",
    "head_solver", "image_column", "label_separator", "labels", "layer_decay", "lr", "mix", "mixup", "model",
    "momentum", "nesterov", "offline", "optimizer", "out", "patience", "rotate", "schedule", "seed", "shots", "size",
    "steps", "stop_after", "strategy", "strict", "task", "teacher", "trials", "val_fraction", "vertical_flip",
    "warmup", "weight_decay", "weights",
];

/// Settings whose option has another name, and functions that are commands.
const OTHERWISE: &[(&str, &str)] = &[
    ("smoothing", "--label-smoothing"),
    ("distill.share", "--distill-share"),
    ("distill.temperature", "--distill-temperature"),
    ("label_columns", "--label-column"),
    ("scale", "--crop-scale"),
    ("brightness", "--jitter: brightness"),
    ("contrast", "--jitter: contrast"),
    ("saturation", "--jitter: saturation"),
    ("hue", "--jitter: hue"),
    ("resume", "defrost train --resume"),
];

/// What the command calls a setting.
pub(super) fn option(field: &str) -> Option<Cow<'static, str>> {
    if let Some(kind) = field.strip_prefix("targets = ") {
        let kind: TargetKind = serde_json::from_value(kind.into()).ok()?;
        return Some(format!("--task {}", task::for_targets(kind).name()).into());
    }
    let other = OTHERWISE.iter().find(|(name, _)| *name == field).map(|(_, option)| (*option).into());
    let same = || SAME.contains(&field).then(|| format!("--{}", field.replace('_', "-")).into());
    other.or_else(same)
}

/// A text of the library with options where it names settings in backticks.
pub(super) fn in_options(text: &str) -> String {
    let mut parts = text.split('`');
    let mut said = parts.next().unwrap_or_default().to_string();
    // Whether a backtick stands before the part that has not been written.
    let mut open = true;
    for part in parts {
        match option(part).filter(|_| open) {
            Some(option) => {
                said.push_str(&option);
                open = false;
            }
            None => {
                if open {
                    said.push('`');
                }
                said.push_str(part);
                open = true;
            }
        }
    }
    said
}

/// An error as the command tells it.
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
        for field in SAME.iter().chain(OTHERWISE.iter().map(|(name, _)| name)) {
            let option = option(field).unwrap();
            let long = option.split([' ', ':']).find(|word| word.starts_with("--")).unwrap();
            assert!(there.iter().any(|option| option == long), "{field}: there is no option {option}");
        }
    }
}
