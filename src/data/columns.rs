//! The lines and columns of a table of labels; [`super::table`] lists the names that columns may have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use csv::StringRecord;

use super::folder::{has_image_extension, nfc};
use super::group::GroupBy;
use super::options::DataOptions;
use super::split::Part;
use super::target::TargetKind;
use crate::{Error, Result, did_you_mean};

const IMAGE: [&str; 7] = ["image", "file", "filename", "path", "name", "fname", "id"];
const LABEL: [&str; 7] = ["label", "labels", "class", "category", "target", "tag", "tags"];
const PART: [&str; 2] = ["is_valid", "split"];

/// Known classes, and the function that looks up a table's names among them.
pub(crate) struct Known<'a> {
    pub(crate) classes: &'a [String],
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<u32>,
}

/// One line of the table.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) name: String,
    /// Path of the image, whether the file exists or not.
    pub(super) path: PathBuf,
    pub(super) is_there: bool,
    pub(super) labels: Vec<String>,
    pub(super) part: Option<Part>,
    pub(super) group: Option<String>,
}

/// Positions of the columns.
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    pub(super) image: usize,
    pub(super) labels: Vec<usize>,
    pub(super) part: Option<usize>,
    pub(super) group: Option<usize>,
}

/// Reads the lines and columns of the table.
pub(super) fn read_rows(
    file: &Path,
    options: &DataOptions,
    known: Option<&Known<'_>>,
) -> Result<(Columns, Vec<Row>)> {
    let bytes = std::fs::read(file).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Data(format!("{}: there is no such file", file.display())),
        _ => Error::io(file, "read", e),
    })?;
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(Error::Data(format!("{}: is UTF-16; save it as UTF-8", file.display())));
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let (told, bytes) = told_delimiter(bytes);
    let first = bytes.split(|&b| b == b'\n' || b == b'\r').next().unwrap_or_default();
    let delimiter =
        told.or_else(|| [b',', b';', b'\t'].into_iter().find(|d| first.contains(d))).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(bytes);
    // Lines are counted from the file's first line.
    let before = u64::from(told.is_some());
    let header = reader.headers().map_err(|e| damaged(file, &e, before))?;
    let names: Vec<String> = header.iter().map(nfc).collect();
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| damaged(file, &e, before))?;
        let line = record.position().map_or(0, csv::Position::line) + before;
        // Spreadsheets append empty rows, and cells without a column.
        let length =
            (1..).zip(record.iter()).filter(|(_, cell)| !cell.is_empty()).last().map_or(0, |(n, _)| n);
        if length == 0 {
            continue;
        }
        let least = names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        if length > names.len() || record.len() < least {
            return Err(Error::Data(format!(
                "{}:{line}: {} cells where the first line names {} columns ({}); a name or label that contains \
                 a '{}' needs double quotes",
                file.display(),
                record.len(),
                names.len(),
                names.join(", "),
                char::from(delimiter)
            )));
        }
        lines.push((line, record));
    }
    let columns = Columns::find(names, &lines, file, options, known)?;

    let mut rows = Vec::new();
    for (line, record) in lines {
        let cell = |column: usize| record.get(column).map_or(String::new(), nfc);
        let name = cell(columns.image);
        if name.is_empty() {
            return Err(columns.wrong(
                file,
                line,
                columns.image,
                "names no image; fill it or remove the line",
            ));
        }
        let decimal_comma = options.targets == TargetKind::Values && delimiter != b',';
        let label = |&column: &usize| if decimal_comma { with_point(cell(column)) } else { cell(column) };
        let labels = columns.labels.iter().map(label).collect();
        let part =
            columns.part.map(|column| columns.part_of(file, line, column, &cell(column))).transpose()?;
        let group = columns.group.map(cell);
        if let (Some(column), Some("")) = (columns.group, group.as_deref()) {
            return Err(columns.wrong(
                file,
                line,
                column,
                format_args!("names no group for {name}; fill it"),
            ));
        }
        rows.push(Row { line, name, path: PathBuf::new(), is_there: false, labels, part, group });
    }
    Ok((columns, rows))
}

/// The delimiter in Excel's first line `sep=;`, and the bytes after that line.
fn told_delimiter(bytes: &[u8]) -> (Option<u8>, &[u8]) {
    let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    match line {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => {
            let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.get(1..)).unwrap_or_default();
            (Some(*delimiter), rest)
        }
        _ => (None, bytes),
    }
}

/// `2,5` as `2.5`.
fn with_point(cell: String) -> String {
    if cell.contains('.') || cell.matches(',').count() != 1 { cell } else { cell.replace(',', ".") }
}

/// The value of a flag's cell: 0 or 1.
pub(super) fn flag(cell: &str) -> Option<bool> {
    match cell.to_lowercase().as_str() {
        "1" | "true" | "yes" | "1.0" => Some(true),
        "0" | "false" | "no" | "0.0" => Some(false),
        _ => None,
    }
}

/// Converts an error of the CSV reader.
fn damaged(file: &Path, error: &csv::Error, before: u64) -> Error {
    let line = error.position().map_or(1, csv::Position::line) + before;
    let reason = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; save the table as UTF-8".to_string(),
        _ => error.to_string(),
    };
    Error::Data(format!("{}:{line}: {reason}", file.display()))
}

impl Columns {
    fn find(
        names: Vec<String>,
        lines: &[(u64, StringRecord)],
        file: &Path,
        options: &DataOptions,
        known: Option<&Known<'_>>,
    ) -> Result<Columns> {
        let position = |wanted: &str| names.iter().position(|n| n == wanted).or_else(|| like(&names, wanted));
        let usual = |usual: &[&str]| usual.iter().find_map(|wanted| like(&names, wanted));
        let asked = |field: &'static str, of: &str, wanted: &String| {
            position(wanted).ok_or_else(|| {
                let near = did_you_mean(wanted, names.iter().map(String::as_str));
                let (file, names) = (file.display(), names.join(", "));
                let reason = format!("there is no such column in {file}{near}; there are {names}");
                Error::setting(field, format!("{of}{wanted}"), reason)
            })
        };
        let image = match &options.image_column {
            Some(wanted) => asked("image_column", "", wanted)?,
            None => usual(&IMAGE).unwrap_or(0),
        };
        let part = usual(&PART).filter(|&column| column != image);
        // The columns of the values that a network was trained on are found by name.
        let wanted = match known {
            Some(known) if options.targets == TargetKind::Values && options.label_columns.is_empty() => {
                known.classes
            }
            _ => &options.label_columns,
        };
        let mut labels = Vec::new();
        for name in wanted {
            labels.push(asked("label_columns", "", name)?);
        }
        let group = match &options.group_by {
            Some(GroupBy::Column(name)) => Some(asked("group_by", "column:", name)?),
            _ => None,
        };
        let mut one_hot = false;
        if labels.is_empty() {
            let free = |&column: &usize| column != image && Some(column) != part && Some(column) != group;
            let first_free = || [1].into_iter().chain(0..names.len()).find(|c| free(c) && *c < names.len());
            let found = usual(&LABEL).filter(free);
            // Without a label column, columns of 0 and 1 are classes.
            let is_flag = |&c: &usize| {
                !names[c].is_empty() && lines.iter().all(|(_, r)| r.get(c).and_then(flag).is_some())
            };
            let flags: Vec<usize> = match (found, first_free(), options.targets) {
                (None, Some(first), TargetKind::Class | TargetKind::Labels)
                    if !lines.is_empty() && is_flag(&first) =>
                {
                    (0..names.len()).filter(free).filter(is_flag).collect()
                }
                _ => Vec::new(),
            };
            one_hot = flags.len() > 1;
            let found = found.or_else(first_free).filter(|&c| !names[c].is_empty());
            labels = if one_hot { flags } else { Vec::from_iter(found) };
            labels.first().ok_or_else(|| {
                Error::Data(format!(
                    "{}:1: no column of labels beside '{}'; the first line names the columns, such as image,label",
                    file.display(),
                    names.join(", ")
                ))
            })?;
        }
        let mut used: BTreeSet<usize> = [image].into();
        if let Some(&twice) = labels.iter().find(|&&column| !used.insert(column)) {
            return Err(Error::Usage(format!(
                "{}: column '{}' would serve twice; name others with `image_column` and `label_columns`",
                file.display(),
                names[twice]
            )));
        }
        if options.targets == TargetKind::Class
            && labels.len() > 1
            && !one_hot
            && !lines_are_flags(lines, &labels)
        {
            return Err(Error::Usage(format!(
                "{} label columns: an image of one class has one; choose `targets = values` or `targets = labels`",
                labels.len()
            )));
        }
        let name = &names[image];
        if has_image_extension(Path::new(name)) {
            return Err(Error::Data(format!(
                "{}:1: '{name}' is an image, not a column's name; put a line such as image,label above it",
                file.display()
            )));
        }
        Ok(Columns { names, image, labels, part, group })
    }

    /// The error for a cell.
    pub(super) fn wrong(&self, file: &Path, line: u64, column: usize, what: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}:{line}: column '{}' {what}", file.display(), self.names[column]))
    }

    /// The part of the data that an image belongs to.
    fn part_of(&self, file: &Path, line: u64, column: usize, cell: &str) -> Result<Part> {
        let is_valid = self.names[column].eq_ignore_ascii_case("is_valid");
        match cell.to_lowercase().as_str() {
            "true" | "1" | "yes" if is_valid => Ok(Part::Val),
            "false" | "0" | "no" if is_valid => Ok(Part::Train),
            "train" | "training" if !is_valid => Ok(Part::Train),
            "val" | "valid" | "validation" if !is_valid => Ok(Part::Val),
            "test" if !is_valid => Ok(Part::Test),
            _ => {
                let wanted = if is_valid { "true or false" } else { "train, val or test" };
                Err(self.wrong(file, line, column, format_args!("holds '{cell}' where it says {wanted}")))
            }
        }
    }
}

/// Whether all cells of these columns are 0 or 1.
fn lines_are_flags(lines: &[(u64, StringRecord)], columns: &[usize]) -> bool {
    !lines.is_empty()
        && lines.iter().all(|(_, record)| columns.iter().all(|&c| record.get(c).and_then(flag).is_some()))
}

/// The column of this name, ignoring case.
fn like(names: &[String], wanted: &str) -> Option<usize> {
    names.iter().position(|name| name.eq_ignore_ascii_case(wanted) || *name == nfc(wanted))
}
