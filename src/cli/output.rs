//! What the command writes: results on stdout, all else on stderr; as text, or one JSON object a line.

pub(super) use crate::nn::freeze::grouped;
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::data::Skipped;
use crate::{Error, Result};

/// Of each JSON object.
const SCHEMA_VERSION: u32 = 1;
/// Unreadable pictures that are named without `-v`.
const NAMED: usize = 10;

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn on(self, terminal: bool) -> bool {
        let wanted = || std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty());
        match self {
            Color::Auto => terminal && wanted(),
            Color::Always => true,
            Color::Never => false,
        }
    }
}

/// How text is marked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// Headings and figures.
    Bold,
    /// What matters less.
    Dim,
    /// Warnings.
    Yellow,
    /// Errors.
    Red,
}

/// Where everything is written.
#[derive(Debug)]
pub(super) struct Output {
    /// One JSON object a line instead of text.
    pub(super) json: bool,
    /// Only results, warnings and errors.
    pub(super) quiet: bool,
    /// All there is to tell.
    pub(super) verbose: bool,
    color: [bool; 2],
    failure: RefCell<Option<io::Error>>,
}

impl Output {
    pub(super) fn new(json: bool, quiet: bool, verbose: bool, color: Color) -> Self {
        let color = [color.on(io::stdout().is_terminal()), color.on(io::stderr().is_terminal())];
        Output { json, quiet, verbose, color, failure: RefCell::default() }
    }

    fn paint(&self, style: Style, text: impl Display, stream: usize) -> String {
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Yellow => 33,
            Style::Red => 31,
        };
        if self.color[stream] { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Text as it looks on stdout.
    pub(super) fn style(&self, style: Style, text: impl Display) -> String {
        self.paint(style, text, 0)
    }

    /// One line of a result. A reader that went away (`| head`) is no error; a full disk is, at the end.
    pub(super) fn line(&self, text: impl Display) {
        let mut stdout = io::stdout().lock();
        let outcome = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        if let Err(e) = outcome
            && e.kind() != io::ErrorKind::BrokenPipe
        {
            self.failure.borrow_mut().get_or_insert(e);
        }
    }

    /// One JSON object: `fields` behind version and name.
    pub(super) fn event(&self, name: &str, fields: Value) {
        let mut object = Map::new();
        object.insert("schema_version".into(), SCHEMA_VERSION.into());
        object.insert("event".into(), name.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        self.line(Value::Object(object));
    }

    /// A line on stderr. Where nobody listens, nothing is lost.
    pub(super) fn aside(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Something worth knowing, unless quiet.
    pub(super) fn note(&self, text: impl Display) {
        if self.json {
            self.event("note", json!({ "message": text.to_string() }));
        } else if !self.quiet {
            self.aside(self.paint(Style::Dim, text, 1));
        }
    }

    /// Something that is not as one would expect.
    pub(super) fn warn(&self, text: impl Display) {
        if self.json {
            self.event("warning", json!({ "message": text.to_string() }));
        }
        self.warning(text);
    }

    fn warning(&self, text: impl Display) {
        self.aside(format_args!("{} {text}", self.paint(Style::Yellow, "warning:", 1)));
    }

    /// Files that are not used: how many, and the first of them; all with `-v` and as JSON.
    pub(super) fn skipped(&self, skipped: &[Skipped]) {
        if skipped.is_empty() {
            return;
        }
        if self.json {
            let file = |s: &Skipped| json!({ "path": s.path.to_string_lossy(), "reason": s.reason });
            self.event("skipped", json!({ "files": skipped.iter().map(file).collect::<Vec<_>>() }));
        }
        let shown = if self.verbose { skipped.len() } else { skipped.len().min(NAMED) };
        self.warning(format_args!("{} not used:", count(skipped.len(), "file is", "files are")));
        for s in &skipped[..shown] {
            self.aside(format_args!("  {}: {}", s.path.display(), s.reason));
        }
        if shown < skipped.len() {
            self.aside(format_args!("  and {} more; -v names them all", skipped.len() - shown));
        }
    }

    /// A picture that nothing can be said about.
    pub(super) fn unreadable(&self, Skipped { path, reason }: &Skipped) {
        if self.json {
            self.event("unreadable", json!({ "path": path.to_string_lossy(), "reason": reason }));
        }
        self.warning(format_args!("skipped {}: {reason}", path.display()));
    }

    /// The command's last words where it failed.
    pub(super) fn error(&self, error: &Error) {
        if self.json {
            self.event("error", json!({ "message": error.to_string(), "exit_code": error.exit_code() }));
        }
        self.aside(format_args!("{} {error}", self.paint(Style::Red, "error:", 1)));
    }

    /// Whether all results could be written.
    pub(super) fn finish(&self) -> Result<()> {
        self.failure.take().map_or(Ok(()), |e| Err(Error::io("standard output", "write", e)))
    }
}

/// "1 file is", "2 files are".
pub(super) fn count(n: usize, one: &str, more: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { more })
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// 3.0e8 -> "300.00 M".
pub(super) fn amount(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// 0.9477 -> "94.77%".
pub(super) fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// Seconds for people.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
    }
}

/// Lines of columns, two spaces apart. `right` says which columns end flush, not begin.
pub(super) fn table(rows: &[Vec<String>], right: &[bool]) -> Vec<String> {
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..right.len()).map(|c| width(c).unwrap_or(0)).collect();
    let cell = |(c, text): (usize, &String)| {
        let width = widths[c];
        if right[c] { format!("{text:>width$}") } else { format!("{text:<width$}") }
    };
    let line = |row: &Vec<String>| row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
    rows.iter().map(|row| line(row).trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["layer", "parameters"], ["conv1", "864"], ["fc", "11,689,512"]];
        let rows = rows.map(|row| row.map(String::from).to_vec());
        let lines = table(&rows, &[false, true]);
        assert_eq!(lines, ["layer  parameters", "conv1         864", "fc     11,689,512"]);
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!([3.12, 125.0, 7260.0].map(duration), ["3.1 s", "2 min 05 s", "2 h 01 min"]);
    }
}
