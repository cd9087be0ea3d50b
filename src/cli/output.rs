//! Output of the command: results on stdout, everything else on stderr; as text, or one JSON object a line.

pub(super) use crate::text::{count, duration, grouped, percent};
use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::names::{in_options, message};
use crate::data::Skipped;
use crate::{Error, Result};

/// Version of each JSON object.
const SCHEMA_VERSION: u32 = 1;
/// Unreadable images that are named without `-v`.
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

/// Styles of text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// Headings and figures.
    Bold,
    /// Less important text.
    Dim,
    /// Warnings.
    Yellow,
    /// Errors.
    Red,
}

impl Style {
    /// The code that begins it.
    const fn begin(self) -> &'static str {
        match self {
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Yellow => "\x1b[33m",
            Style::Red => "\x1b[31m",
        }
    }
}

/// The code that ends every style.
const END: &str = "\x1b[0m";

/// Text from outside, safe to print: names of files and classes, messages of a server. Characters that control a
/// terminal or imitate a new line are escaped (`\x1b`, `\n`), and so are those that turn the
/// direction of writing (`\u{202e}`).
pub(super) fn escaped(text: impl Display) -> String {
    let mut safe = String::new();
    text.to_string().chars().for_each(|c| escape(c, &mut safe));
    safe
}

/// Text of our own with escaped names in it: its lines and styles stay, everything else is escaped.
fn composed(text: impl Display) -> String {
    const STYLES: [&str; 5] =
        [Style::Bold.begin(), Style::Dim.begin(), Style::Yellow.begin(), Style::Red.begin(), END];
    let (text, mut composed) = (text.to_string(), String::new());
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let style = STYLES.into_iter().find(|style| rest.starts_with(style));
        let own = style.or((c == '\n').then_some("\n"));
        match own {
            Some(own) => composed.push_str(own),
            None => escape(c, &mut composed),
        }
        rest = &rest[own.map_or(c.len_utf8(), str::len)..];
    }
    composed
}

fn escape(c: char, to: &mut String) {
    let (lines, directions) = ('\u{2028}'..='\u{2029}', ['\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}']);
    match c {
        '\n' => to.push_str("\\n"),
        '\r' => to.push_str("\\r"),
        '\t' => to.push_str("\\t"),
        c if c.is_ascii_control() => to.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if c.is_control() || lines.contains(&c) || directions.iter().any(|d| d.contains(&c)) => {
            to.extend(c.escape_unicode());
        }
        c => to.push(c),
    }
}

/// The output streams and their settings.
#[derive(Debug)]
pub(super) struct Output {
    /// One JSON object a line instead of text.
    pub(super) json: bool,
    /// Only results, warnings and errors.
    pub(super) quiet: bool,
    /// Everything, with details.
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
        let text = escaped(text);
        if self.color[stream] { format!("{}{text}{END}", style.begin()) } else { text }
    }

    /// Text, escaped, as it looks on stdout.
    pub(super) fn style(&self, style: Style, text: impl Display) -> String {
        self.paint(style, text, 0)
    }

    /// A line of a result, or several; names in it are [`escaped`]. A closed pipe (`| head`) is no error; a full disk
    /// is, at the end.
    pub(super) fn line(&self, text: impl Display) {
        self.raw(composed(text));
    }

    /// The same for programs: without escapes.
    pub(super) fn raw(&self, text: impl Display) {
        let mut stdout = io::stdout().lock();
        let outcome = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
        if let Err(e) = outcome
            && e.kind() != io::ErrorKind::BrokenPipe
        {
            self.failure.borrow_mut().get_or_insert(e);
        }
    }

    /// One JSON object: version, name, then `fields`.
    pub(super) fn event(&self, name: &str, fields: Value) {
        let mut object = Map::new();
        object.insert("schema_version".into(), SCHEMA_VERSION.into());
        object.insert("event".into(), name.into());
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        self.raw(Value::Object(object));
    }

    /// A line on stderr; names in it are [`escaped`]. A closed stderr is no error.
    pub(super) fn aside(&self, text: impl Display) {
        let _ = writeln!(io::stderr().lock(), "{}", composed(text));
    }

    /// A note, unless quiet.
    pub(super) fn note(&self, text: impl Display) {
        let text = in_options(&text.to_string());
        if self.json {
            self.event("note", json!({ "message": text }));
        } else if !self.quiet {
            self.aside(self.paint(Style::Dim, text, 1));
        }
    }

    /// A warning.
    pub(super) fn warn(&self, text: impl Display) {
        let text = in_options(&text.to_string());
        if self.json {
            self.event("warning", json!({ "message": text }));
        }
        self.warning(text);
    }

    fn warning(&self, text: impl Display) {
        self.aside(format_args!("{} {}", self.paint(Style::Yellow, "warning:", 1), escaped(text)));
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
            self.aside(format_args!("  {}: {}", escaped(s.path.display()), escaped(&s.reason)));
        }
        if shown < skipped.len() {
            self.aside(format_args!("  and {} more; -v names them all", skipped.len() - shown));
        }
    }

    /// An image that cannot be read.
    pub(super) fn unreadable(&self, Skipped { path, reason }: &Skipped) {
        if self.json {
            self.event("unreadable", json!({ "path": path.to_string_lossy(), "reason": reason }));
        }
        self.warning(format_args!("skipped {}: {reason}", path.display()));
    }

    /// The error that ended the command.
    pub(super) fn error(&self, error: &Error) {
        let message = message(error);
        if self.json {
            self.event("error", json!({ "message": message, "exit_code": error.exit_code() }));
        }
        let text = match error {
            // A driver's message may have several lines, and has no file names.
            Error::Gpu(_) | Error::OutOfMemory(_) => message,
            _ => escaped(message),
        };
        self.aside(format_args!("{} {text}", self.paint(Style::Red, "error:", 1)));
    }

    /// Whether all results could be written.
    pub(super) fn finish(&self) -> Result<()> {
        self.failure.take().map_or(Ok(()), |e| Err(Error::io("standard output", "write", e)))
    }
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

/// Lines of columns, two spaces apart; cells are [`escaped`]. `right` says which columns end flush, not begin.
pub(super) fn table(rows: &[Vec<String>], right: &[bool]) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(escaped).collect()).collect();
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
    fn nothing_from_outside_steers_a_terminal() {
        for (name, expected) in [
            ("caf\u{e9} \u{5d0}\u{1f600}\u{200d}.png", "caf\u{e9} \u{5d0}\u{1f600}\u{200d}.png"),
            ("\x1b]0;owned\x07\x1b[31mred", "\\x1b]0;owned\\x07\\x1b[31mred"),
            ("a\nb\r\tc\0\x7f", "a\\nb\\r\\tc\\x00\\x7f"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            ("\u{202e}gpj.\u{2066}\u{2069}\u{2028}", "\\u{202e}gpj.\\u{2066}\\u{2069}\\u{2028}"),
        ] {
            assert_eq!(escaped(name), expected);
        }
        // Every control character.
        let all: String = (0..=0x2100).filter_map(char::from_u32).filter(|c| c.is_control()).collect();
        assert!(all.chars().count() == 65 && !escaped(&all).chars().any(char::is_control));
        let out = Output { color: [true; 2], ..Output::new(false, false, false, Color::Never) };
        let line = format!("{}:\n  {}", out.style(Style::Bold, "a\x1b[0m"), escaped("b\n"));
        assert_eq!(composed(&line), "\x1b[1ma\\x1b[0m\x1b[0m:\n  b\\n");
        assert_eq!(composed("\x1b[2J\x1b[1mx\x1b[0m\x07"), "\\x1b[2J\x1b[1mx\x1b[0m\\x07");
        let rows = [vec!["a\x1b".to_string(), "1".into()], vec!["bb".into(), "22".into()]];
        assert_eq!(table(&rows, &[false, true]), ["a\\x1b   1", "bb     22"]);
    }
}
