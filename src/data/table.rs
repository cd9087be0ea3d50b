//! Tables that name images and labels: CSV files in the style of fastai, Kaggle and AutoGluon.
//!
//! The first line names the columns, whatever their case.
//!
//! | column | its names, the first found counts | else |
//! |---|---|---|
//! | the image | `image file filename path name fname id` | the first |
//! | the label | `label labels class category target tag tags` | the second |
//! | what it is for | `is_valid` (true, false, 1, 0), `split` (train, val, valid, validation, test) | drawn at random |
//!
//! Columns are separated by commas; where the first line has none, by `;` or tabs, or by the delimiter in a line
//! `sep=;` above it. Empty rows are skipped. Names are compared in Unicode's composed form. The labels of a cell are
//! separated by the requested separator; else by the first of `;`, `|`, `,` that any label cell contains; else by
//! blanks. An image's name may lack its extension, and may have `\` between folders. Several label columns are the
//! values of [`TargetKind::Values`] (`2,5` is 2.5 where commas separate no columns), or one class each of
//! [`TargetKind::Labels`], with 0 or 1 in their cells. Where no column has a label's name and the other columns
//! besides the image's hold 0 and 1, each is a class: for [`TargetKind::Class`] every row has a single 1.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::columns::{Columns, Known, Row, flag, read_rows};
use super::dataset::{Dataset, Sample, Skipped, Source};
use super::folder::{EXTENSIONS, existing, has_image_extension};
use super::options::{DataOptions, TableFile};
use super::split::Part;
use super::target::{Target, TargetKind};
use crate::{Error, Result, did_you_mean};

/// A table's images.
#[derive(Debug)]
pub(crate) struct Table {
    /// All images but the missing ones, which are in `skipped`.
    pub(crate) all: Dataset,
    /// Part of each image, where the table has a column for it.
    pub(crate) parts: Option<Vec<Part>>,
    /// Group of each image, where the table has a column for it.
    pub(crate) groups: Option<Vec<String>>,
    /// Warnings.
    pub(crate) warnings: Vec<String>,
}

/// Reads a table. Where no classes are `known`, the labels in the table define them.
///
/// # Errors
/// [`Error::Data`] names file, line and column, and what to do; [`Error::Usage`] for a column that was asked for
/// and is not there; [`Error::Io`].
pub(crate) fn read(table: &TableFile, options: &DataOptions, known: Option<&Known<'_>>) -> Result<Table> {
    let file = &table.file;
    if !table.root.as_os_str().is_empty() && !table.root.is_dir() {
        return Err(Error::Data(format!(
            "{}: there is no such folder; is the name right?",
            table.root.display()
        )));
    }
    let (columns, mut rows) = read_rows(file, options, known)?;
    rows.par_iter_mut().for_each(|row| {
        // By components, so that ./a.jpg is a.jpg.
        let clean = |name: &str| -> PathBuf {
            let name = Path::new(name).components();
            table.root.join(name.filter(|part| !matches!(part, Component::CurDir)).collect::<PathBuf>())
        };
        let path = clean(&row.name);
        let windows = || find(&clean(&row.name.replace('\\', "/")));
        let found = find(&path).or_else(|| row.name.contains('\\').then(windows).flatten());
        (row.is_there, row.path) = (found.is_some(), found.unwrap_or(path));
    });
    let reader = Reader { file, columns };
    let mut warnings = Vec::new();
    let rows = reader.without_repeats(rows, &mut warnings)?;
    if rows.is_empty() {
        return Err(Error::Data(format!("{}: names no image below its first line", file.display())));
    }
    let (classes, said) = match options.targets {
        TargetKind::Class if reader.columns.labels.len() > 1 => reader.one_hot(&rows, known)?,
        TargetKind::Class => reader.classes(&rows, known)?,
        TargetKind::Labels if reader.columns.labels.len() > 1 => reader.flags(&rows, known)?,
        TargetKind::Labels => {
            reader.label_sets(&rows, options.label_separator.as_deref(), known, &mut warnings)?
        }
        TargetKind::Values => reader.values(&rows)?,
    };

    let mut all = Dataset { targets: options.targets, classes, ..Dataset::default() };
    let (mut parts, mut groups) = (Vec::new(), Vec::new());
    for (row, said) in rows.into_iter().zip(said) {
        if !row.is_there {
            let reason = format!("no such file (line {} of {})", row.line, file.display());
            all.skipped.push(Skipped::new(row.path, reason));
            continue;
        }
        let source = Source::file(row.path);
        all.samples.push(Sample { source, target: said });
        parts.extend(row.part);
        groups.extend(row.group);
    }
    if let (true, Some(missing)) = (all.is_empty(), all.skipped.first()) {
        return Err(Error::Data(format!(
            "{}: none of its {} images is there, the first would be {}; give the folder where their names \
             begin as the data, and `labels` {0}",
            file.display(),
            all.skipped.len(),
            missing.path.display()
        )));
    }
    let Columns { part, group, .. } = reader.columns;
    Ok(Table { all, parts: part.map(|_| parts), groups: group.map(|_| groups), warnings })
}

/// Interprets the rows' labels.
struct Reader<'a> {
    file: &'a Path,
    columns: Columns,
}

impl Reader<'_> {
    /// Leaves out rows whose image was already named, with a warning.
    fn without_repeats(&self, rows: Vec<Row>, warnings: &mut Vec<String>) -> Result<Vec<Row>> {
        let mut first: HashMap<PathBuf, usize> = HashMap::with_capacity(rows.len());
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        let mut repeats = Vec::new();
        for row in rows {
            let earlier = *first.entry(row.path.clone()).or_insert(kept.len());
            let Some(before) = kept.get(earlier) else {
                kept.push(row);
                continue;
            };
            if before.labels != row.labels || before.part != row.part {
                let what = |row: &Row| {
                    let part = row.part.map_or("", |part| match part {
                        Part::Train => " (train)",
                        Part::Val => " (val)",
                        Part::Test => " (test)",
                    });
                    format!("'{}'{part}", row.labels.join("', '"))
                };
                let message = format!(
                    "names {} again as {}, which line {} has as {}; keep one of the lines",
                    row.name,
                    what(&row),
                    before.line,
                    what(before)
                );
                return Err(self.columns.wrong(self.file, row.line, self.columns.image, message));
            }
            repeats.push((row.line, before.line));
        }
        if let Some((line, before)) = repeats.first() {
            let file = self.file.display();
            warnings.push(match repeats.len() {
                1 => format!("{file}:{line}: repeats line {before} and is left out"),
                n => format!("{file}:{line}: repeats line {before} and is left out, as {} more are", n - 1),
            });
        }
        Ok(kept)
    }

    fn wrong(&self, row: &Row, column: usize, what: impl std::fmt::Display) -> Error {
        self.columns.wrong(self.file, row.line, self.columns.labels[column], what)
    }

    /// The table's classes, or the known ones, and the position of each name among them.
    fn positions<'r>(
        &self,
        named: impl Iterator<Item = (&'r Row, &'r str)>,
        known: Option<&Known<'_>>,
    ) -> Result<(Vec<String>, HashMap<&'r str, u32>)> {
        let mut first: HashMap<&str, &Row> = HashMap::new();
        for (row, name) in named {
            first.entry(name).or_insert(row);
        }
        let Some(known) = known else {
            let names: BTreeSet<&str> = first.into_keys().collect();
            let positions = names.iter().enumerate().map(|(at, &name)| (name, at as u32)).collect();
            return Ok((names.iter().map(|name| name.to_string()).collect(), positions));
        };
        let mut named: Vec<(&str, &Row)> = first.into_iter().collect();
        named.sort_by_key(|(_, row)| row.line);
        let position = |(name, row): (&'r str, &Row)| {
            let found = (known.lookup)(name).filter(|&at| (at as usize) < known.classes.len());
            found.map(|at| (name, at)).ok_or_else(|| {
                let near = did_you_mean(name, known.classes.iter().map(String::as_str));
                let of = known.classes.len();
                self.wrong(row, 0, format_args!("holds '{name}', none of the {of} known classes{near}"))
            })
        };
        Ok((known.classes.to_vec(), named.into_iter().map(position).collect::<Result<_>>()?))
    }

    /// One class a row.
    fn classes(&self, rows: &[Row], known: Option<&Known<'_>>) -> Result<(Vec<String>, Vec<Target>)> {
        if let Some(row) = rows.iter().find(|row| row.labels[0].is_empty()) {
            return Err(self.wrong(
                row,
                0,
                format_args!("is empty for {}; fill it or remove the line", row.name),
            ));
        }
        let named = rows.iter().map(|row| (row, row.labels[0].as_str()));
        let (classes, positions) = self.positions(named, known)?;
        Ok((classes, rows.iter().map(|row| Target::Class(positions[row.labels[0].as_str()])).collect()))
    }

    /// Several labels in a cell.
    fn label_sets(
        &self,
        rows: &[Row],
        separator: Option<&str>,
        known: Option<&Known<'_>>,
        warnings: &mut Vec<String>,
    ) -> Result<(Vec<String>, Vec<Target>)> {
        let occurs = |separator: &&str| rows.iter().any(|row| row.labels[0].contains(separator));
        let separator = separator.or_else(|| [";", "|", ","].into_iter().find(occurs)).unwrap_or(" ");
        if separator.is_empty() {
            return Err(Error::setting("label_separator", "''", "give a character, such as ';'"));
        }
        let labels = |row: &'_ Row| -> Vec<String> {
            let parts = row.labels[0].split(separator).map(str::trim);
            parts.filter(|part| !part.is_empty()).map(String::from).collect()
        };
        let sets: Vec<Vec<String>> = rows.iter().map(labels).collect();
        let named = rows.iter().zip(&sets).flat_map(|(row, set)| set.iter().map(move |l| (row, l.as_str())));
        let (classes, positions) = self.positions(named, known)?;
        let said = sets.iter().map(|set| {
            let mut targets = vec![0.0; classes.len()];
            set.iter().for_each(|label| targets[positions[label.as_str()] as usize] = 1.0);
            Target::Labels(targets.into())
        });
        let said = said.collect();
        let bare: Vec<&Row> =
            rows.iter().zip(&sets).filter(|(_, set)| set.is_empty()).map(|(r, _)| r).collect();
        if let Some(row) = bare.first() {
            warnings.push(format!(
                "{}: {} of {} images have no label, the first in line {}: taken to show none of the classes",
                self.file.display(),
                bare.len(),
                rows.len(),
                row.line
            ));
        }
        Ok((classes, said))
    }

    /// A column a class, with 1 in one of them.
    fn one_hot(&self, rows: &[Row], known: Option<&Known<'_>>) -> Result<(Vec<String>, Vec<Target>)> {
        let (classes, said) = self.flags(rows, known)?;
        let single = said.into_iter().zip(rows).map(|(said, row)| {
            let Target::Labels(targets) = said else { return Ok(said) };
            let mut set = (0u32..).zip(&*targets).filter(|(_, target)| **target > 0.0).map(|(class, _)| class);
            match (set.next(), set.next()) {
                (Some(class), None) => Ok(Target::Class(class)),
                (None, _) => Err(Error::Data(format!(
                    "{}:{}: {} is of none of the classes {}: give it a 1 or remove the line; where images may show \
                     none or several of them, choose `targets = labels`",
                    self.file.display(),
                    row.line,
                    row.name,
                    classes.join(", ")
                ))),
                (Some(a), Some(b)) => Err(Error::Data(format!(
                    "{}:{}: {} is of several classes, '{}' and '{}' among them: choose `targets = labels`, or name the one \
                     column of labels with `label_columns`",
                    self.file.display(),
                    row.line,
                    row.name,
                    classes[a as usize],
                    classes[b as usize]
                ))),
            }
        });
        let single = single.collect::<Result<_>>()?;
        Ok((classes, single))
    }

    /// A column a class, with 0 or 1.
    fn flags(&self, rows: &[Row], known: Option<&Known<'_>>) -> Result<(Vec<String>, Vec<Target>)> {
        let columns = self.columns.labels.iter().map(|&column| self.columns.names[column].clone());
        let columns: Vec<String> = columns.collect();
        let head = &rows[0];
        let (classes, positions) = self.positions(columns.iter().map(|name| (head, name.as_str())), known)?;
        let said = rows.iter().map(|row| {
            let mut targets = vec![0.0; classes.len()];
            for (column, (name, cell)) in columns.iter().zip(&row.labels).enumerate() {
                targets[positions[name.as_str()] as usize] = match flag(cell) {
                    Some(is_set) => f32::from(u8::from(is_set)),
                    None => {
                        return Err(self.wrong(
                            row,
                            column,
                            format_args!("holds '{cell}' where 0 or 1 belongs"),
                        ));
                    }
                };
            }
            Ok(Target::Labels(targets.into()))
        });
        let said = said.collect::<Result<_>>()?;
        Ok((classes, said))
    }

    /// A number a column.
    fn values(&self, rows: &[Row]) -> Result<(Vec<String>, Vec<Target>)> {
        let number = |row: &Row, column: usize| {
            let cell = &row.labels[column];
            cell.parse::<f32>().ok().filter(|value| value.is_finite()).ok_or_else(|| {
                let what = if cell.is_empty() { "is empty".into() } else { format!("holds '{cell}'") };
                self.wrong(row, column, format_args!("{what} where a number such as 2.5 belongs"))
            })
        };
        let values = |row| -> Result<Vec<f32>> {
            (0..self.columns.labels.len()).map(|column| number(row, column)).collect()
        };
        let said = rows.iter().map(|row| Ok(Target::Values(values(row)?.into()))).collect::<Result<_>>()?;
        let names = self.columns.labels.iter().map(|&column| self.columns.names[column].clone());
        Ok((names.collect(), said))
    }
}

/// The image at this path, or at this path plus an image extension; the Unicode form of names does not matter.
fn find(path: &Path) -> Option<PathBuf> {
    if let Some(found) = existing(path).filter(|found| found.is_file()) {
        return Some(found);
    }
    if !has_image_extension(path) {
        let with = |extension: &str| {
            let mut whole = path.as_os_str().to_os_string();
            whole.push(format!(".{extension}"));
            existing(Path::new(&whole)).filter(|path| path.is_file())
        };
        let found = EXTENSIONS.iter().find_map(|e| with(e).or_else(|| with(&e.to_uppercase())));
        if found.is_some() {
            return found;
        }
    }
    None
}
