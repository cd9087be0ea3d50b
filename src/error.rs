//! One error type for the library. Every message names the thing (file, layer,
//! tensor, the shapes expected and found) and what to do about it.

use std::path::{Path, PathBuf};

/// The result type of the library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by cause. The text is written where the error arises; callers match the variant, never the
/// text. The text names settings as the fields of their structs are named, in backticks; the command replaces these
/// names by its options.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller asked for something that does not exist or does not fit:
    /// an unknown model, layer, option or device. The command exits with 2.
    #[error("{0}")]
    Usage(String),
    /// A setting has an invalid value, or contradicts other settings. The command exits with 2.
    #[error("{field}{space}{value}: {reason}", space = if value.is_empty() { "" } else { " " })]
    Setting {
        /// The field, as in `config.json`: `lr`, `distill.share`.
        field: &'static str,
        /// The value; empty where the reason suffices.
        value: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("{path}: cannot {action}: {source}{advice}", path = path.display(), advice = advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: "read", "create folder", ...
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A data set is not usable: no classes, an empty class, unreadable images.
    #[error("{0}")]
    Data(String),
    /// A weight file or checkpoint is damaged or does not match the model.
    #[error("{0}")]
    Weights(String),
    /// Shapes, dtypes or attributes of an operation do not fit together.
    #[error("{0}")]
    Shape(String),
    /// The device is missing, lost, or refused a command.
    #[error("{0}")]
    Gpu(String),
    /// The device, or the memory budget given to it, has no room for an allocation. A smaller request may fit: a
    /// smaller batch, fewer trainable layers.
    #[error("{0}")]
    OutOfMemory(String),
    /// Training diverged: the loss is not finite.
    #[error("{0}")]
    Diverged(String),
    /// The user pressed Ctrl-C; the state is saved. The command exits with 130.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// An I/O error with its path; `action` completes "cannot ...".
    pub fn io(path: impl AsRef<Path>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), action, source }
    }

    /// An invalid setting; the text leaves out an empty `value`.
    pub(crate) fn setting(
        field: &'static str,
        value: impl std::fmt::Display,
        reason: impl Into<String>,
    ) -> Self {
        Error::Setting { field, value: value.to_string(), reason: reason.into() }
    }

    /// The command's exit code: 2 wrong usage, 130 interrupted, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Setting { .. } => 2,
            Error::Interrupted(_) => 130,
            _ => 1,
        }
    }
}

/// Advice for a system error, where there is any.
fn advice(source: &std::io::Error) -> &'static str {
    use std::io::ErrorKind as E;
    match source.kind() {
        E::NotFound => "; is the name right?",
        E::PermissionDenied | E::ReadOnlyFilesystem => "; ask for the right to, or name another place",
        E::AlreadyExists | E::NotADirectory => "; a file is in the way: name another place",
        E::StorageFull | E::QuotaExceeded => "; make room, and do it again",
        _ => "",
    }
}

/// A path as a shell reads it, for commands that messages offer.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c) || (cfg!(windows) && c == '\\');
    // A shell would take a leading hyphen for an option.
    let start = if text.starts_with('-') { "./" } else { "" };
    if !text.is_empty() && text.chars().all(plain) {
        format!("{start}{text}")
    } else if cfg!(windows) {
        format!("\"{start}{text}\"")
    } else if text.chars().any(char::is_control) {
        let escaped = text.replace('\\', r"\\").replace('\'', r"\'");
        let escape = |c: char| match c.is_control() {
            true => format!("\\u{:04x}", u32::from(c)),
            false => c.to_string(),
        };
        format!("$'{start}{}'", escaped.chars().map(escape).collect::<String>())
    } else {
        format!("'{start}{}'", text.replace('\'', r"'\''"))
    }
}

/// ` (did you mean 'x'?)` for the candidate nearest to `given`, or nothing where none is near. The limits bound the
/// time for input from files: names of more than 200 bytes are no typing mistakes, and at most 20,000 candidates are
/// compared.
pub fn did_you_mean<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    const LONGEST: usize = 200;
    const MOST: usize = 20_000;
    if given.len() > LONGEST {
        return String::new();
    }
    let given_lower = given.to_lowercase();
    let candidates = candidates.into_iter().take(MOST).filter(|c| c.len() <= LONGEST);
    candidates
        .map(|c| (c, c.to_lowercase()))
        .map(|(c, low)| {
            (strsim::jaro_winkler(&given_lower, &low), strsim::levenshtein(&given_lower, &low), c)
        })
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
        .filter(|(score, ..)| *score > 0.75)
        .map_or(String::new(), |(.., c)| format!(" (did you mean '{c}'?)"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_every_path() {
        let paths =
            ["runs/a-2", "run ü 1", "it's", "-x", "a$b`c\"d\\e", "line\nbreak \u{1b}[31m it's \\", "*?", ""];
        for path in paths {
            let command = format!("printf %s {}", quoted(Path::new(path)));
            let output =
                std::process::Command::new("bash").args(["-c", &command]).output().expect("bash runs");
            let read = String::from_utf8(output.stdout).expect("UTF-8");
            assert_eq!(read.strip_prefix("./").unwrap_or(&read), path, "{command}");
        }
        assert_eq!(quoted(Path::new("runs/ü_1.x")), "runs/ü_1.x");
        assert_eq!(quoted(Path::new("run ü 1")), "'run ü 1'");
    }
}
