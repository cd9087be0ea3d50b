//! The lines and columns of a table of labels; what its columns may be called is told in [`super::table`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::has_picture_extension;
use super::group::GroupBy;
use super::options::DataOptions;
use super::split::Part;
use super::table::Known;
use crate::models::Task;
use crate::{Error, Result, did_you_mean};

const IMAGE: [&str; 7] = ["image", "file", "filename", "path", "name", "fname", "id"];
const LABEL: [&str; 7] = ["label", "labels", "class", "category", "target", "tag", "tags"];
const PART: [&str; 2] = ["is_valid", "split"];

/// One line of the table.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) name: String,
    /// Where the picture lies, or would lie.
    pub(super) path: PathBuf,
    pub(super) is_there: bool,
    pub(super) labels: Vec<String>,
    pub(super) part: Option<Part>,
    pub(super) group: Option<String>,
}

/// Which columns hold what, by position.
pub(super) struct Columns {
    pub(super) names: Vec<String>,
    pub(super) image: usize,
    pub(super) labels: Vec<usize>,
    pub(super) part: Option<usize>,
    pub(super) group: Option<usize>,
}

/// Lines and columns of the table.
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
    let first = bytes.split(|&b| b == b'\n' || b == b'\r').next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t'].into_iter().find(|d| first.contains(d)).unwrap_or(b',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(bytes);
    let header = reader.headers().map_err(|e| damaged(file, &e))?;
    let columns = Columns::find(header.iter().map(String::from).collect(), file, options, known)?;

    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| damaged(file, &e))?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.names.len() {
            return Err(Error::Data(format!(
                "{}:{line}: {} cells where the first line names {} columns ({}); a name or label that contains \
                 a '{}' needs double quotes",
                file.display(),
                record.len(),
                columns.names.len(),
                columns.names.join(", "),
                char::from(delimiter)
            )));
        }
        let cell = |column: usize| record.get(column).unwrap_or_default().to_string();
        let name = cell(columns.image);
        if name.is_empty() {
            return Err(columns.wrong(
                file,
                line,
                columns.image,
                "names no picture; fill it or remove the line",
            ));
        }
        let labels = columns.labels.iter().map(|&column| cell(column)).collect();
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

/// An error of the CSV reader, in our words.
fn damaged(file: &Path, error: &csv::Error) -> Error {
    let line = error.position().map_or(1, csv::Position::line);
    let reason = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; save the table as UTF-8".to_string(),
        _ => error.to_string(),
    };
    Error::Data(format!("{}:{line}: {reason}", file.display()))
}

impl Columns {
    fn find(
        names: Vec<String>,
        file: &Path,
        options: &DataOptions,
        known: Option<&Known<'_>>,
    ) -> Result<Columns> {
        let position = |wanted: &str| names.iter().position(|n| n == wanted).or_else(|| like(&names, wanted));
        let usual = |usual: &[&str]| usual.iter().find_map(|wanted| like(&names, wanted));
        let asked = |option: &str, wanted: &String| {
            position(wanted).ok_or_else(|| {
                let near = did_you_mean(wanted, names.iter().map(String::as_str));
                Error::Usage(format!(
                    "{}: {option} {wanted}: there is no such column{near}; there are {}",
                    file.display(),
                    names.join(", ")
                ))
            })
        };
        let image = match &options.image_column {
            Some(wanted) => asked("--image-column", wanted)?,
            None => usual(&IMAGE).unwrap_or(0),
        };
        let part = usual(&PART).filter(|&column| column != image);
        // The values that a network was taught are looked for by their names.
        let wanted = match known {
            Some(known) if options.task == Task::Regression && options.label_columns.is_empty() => {
                known.classes
            }
            _ => &options.label_columns,
        };
        let mut labels = Vec::new();
        for name in wanted {
            labels.push(asked("--label-column", name)?);
        }
        if labels.is_empty() {
            let free = |&column: &usize| column != image && Some(column) != part;
            let first_free = || [1].into_iter().chain(0..names.len()).find(|c| free(c) && *c < names.len());
            let found = usual(&LABEL).filter(free).or_else(first_free);
            labels.push(found.ok_or_else(|| {
                Error::Data(format!(
                    "{}:1: no column of labels beside '{}'; the first line names the columns, such as image,label",
                    file.display(),
                    names.join(", ")
                ))
            })?);
        }
        let mut used: BTreeSet<usize> = [image].into();
        if let Some(&twice) = labels.iter().find(|&&column| !used.insert(column)) {
            return Err(Error::Usage(format!(
                "{}: column '{}' would serve twice; name others with --image-column and --label-column",
                file.display(),
                names[twice]
            )));
        }
        if options.task == Task::Classes && labels.len() > 1 {
            return Err(Error::Usage(format!(
                "{} label columns: a picture of one class has one; add --task regression or --task multi-label",
                labels.len()
            )));
        }
        let name = &names[image];
        if has_picture_extension(Path::new(name)) {
            return Err(Error::Data(format!(
                "{}:1: '{name}' is a picture, not a column's name; put a line such as image,label above it",
                file.display()
            )));
        }
        let group = match &options.group_by {
            Some(GroupBy::Column(name)) => Some(asked("--group-by column", name)?),
            _ => None,
        };
        Ok(Columns { names, image, labels, part, group })
    }

    /// What is wrong in a cell.
    pub(super) fn wrong(&self, file: &Path, line: u64, column: usize, what: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}:{line}: column '{}' {what}", file.display(), self.names[column]))
    }

    /// What a picture is for.
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

/// The column of this name, whatever its case.
fn like(names: &[String], wanted: &str) -> Option<usize> {
    names.iter().position(|name| name.eq_ignore_ascii_case(wanted))
}
