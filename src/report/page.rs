//! The page of a report: its texts and figures, laid out by `templates/report.html`.

use askama::Template;

use super::chart::{COLOURS, Chart, around, hex};
use super::findings::{Example, Findings};
use super::savings::{Measured, Savings, StepCost};
use crate::Result;
use crate::models::Network;
use crate::task::{self, Calibration, MetricNames, Table, most_confused};
use crate::text::{duration, grouped};
use crate::train::{EpochMetrics, RunFile};

/// Number of classes in the confusion matrix.
const MATRIX: usize = 30;
/// Pairs of classes that are listed.
const PAIRS: usize = 12;

/// A name and its value.
pub(super) type Row = (String, String);

pub(super) struct Figure {
    title: String,
    svg: String,
    legend: Vec<(String, &'static str)>,
}

/// A row of the table of classes: cells as shown, and as sorted by.
struct ClassRow {
    name: String,
    example: Option<String>,
    cells: Vec<(String, f64)>,
    /// The share that the bar shows and its interval, per cent.
    bar: Option<[f64; 3]>,
}

struct Cell {
    count: usize,
    /// Whether images of it are shown.
    shown: bool,
    /// Share of the class's images, per cent.
    share: u32,
    right: bool,
}

struct MatrixRow {
    name: String,
    example: Option<String>,
    number: usize,
    support: usize,
    /// Per mille.
    recall: u32,
    cells: Vec<Cell>,
}

struct Pair {
    class: String,
    predicted: String,
    count: usize,
    images: [Option<String>; 2],
}

/// The content of the page.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct Page {
    title: String,
    headline: String,
    under: String,
    cards: Vec<(String, String, String)>,
    figures: Vec<Figure>,
    class_head: Vec<&'static str>,
    classes: Vec<ClassRow>,
    matrix: Vec<MatrixRow>,
    left_out: usize,
    pairs: Vec<Pair>,
    /// What the rows, bars and columns of the table stand for.
    table_of: &'static str,
    bar: Option<&'static str>,
    note: &'static str,
    /// Whether there is a confusion matrix.
    confusions: bool,
    /// Whether there are maps.
    explained: bool,
    large: Vec<Example>,
    small: Vec<Example>,
    mistakes: String,
    savings_head: String,
    savings: Vec<[String; 5]>,
    savings_said: String,
    frozen: String,
    sheet: Option<String>,
    data: Vec<Row>,
    preprocessing: Vec<Row>,
    settings: Vec<Row>,
    environment: Vec<Row>,
    style: &'static str,
    script: &'static str,
}

/// The material of a page.
pub(super) struct Material<'a> {
    pub(super) name: String,
    /// Which images were evaluated.
    pub(super) set: String,
    pub(super) file: &'a RunFile,
    pub(super) net: &'a Network,
    pub(super) metrics: &'a [EpochMetrics],
    pub(super) best_epoch: Option<usize>,
    pub(super) findings: Findings,
    pub(super) savings: Savings,
    pub(super) frozen: String,
    pub(super) sheet: Option<String>,
}

/// A word of `config.json`.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}

impl Page {
    pub(super) fn new(from: Material<'_>) -> Result<Page> {
        let Material { name, set, file, net, metrics: epochs, best_epoch, findings, savings, frozen, sheet } =
            from;
        let task = task::of(net)?;
        let config = &file.arguments;
        let names = net.classes();
        let Findings { of, metrics, unreadable, examples, large, small, wrong } = findings;
        let seconds = epochs.last().map_or(0.0, |m| m.seconds);
        let mut cards = Vec::new();
        let mut add =
            |name: &str, value: String, about: &str| cards.push((name.to_string(), value, about.to_string()));
        let (count, all) = (metrics.count(), metrics.figures());
        let headline = all.first().map_or(String::new(), |first| format!("{} {}", first.name, first.value));
        all.iter().for_each(|figure| add(figure.name, figure.value.clone(), &figure.note));
        if let (Some(best), Some(last)) = (best_epoch, epochs.last()) {
            add("best epoch", best.to_string(), &format!("of {}", last.epoch));
        }
        if seconds > 0.0 {
            add("training took", duration(seconds), &file.device);
        }
        let confusion = metrics.confusion();
        let (matrix, left_out) =
            confusion.map_or_else(Default::default, |m| matrix(m, names, &examples, &small));
        let pairs = confusion.map_or_else(Vec::new, |m| pairs(m, names, &examples, &small));
        let mistakes = if wrong > small.len() {
            format!("{} of {}, the largest losses first", grouped(small.len()), grouped(wrong))
        } else {
            format!("all {}, the largest losses first", small.len())
        };
        let table = metrics.table(names);
        let classes = class_rows(&table, &examples);
        let seen = if count < of - unreadable.min(of) {
            format!(", {} of them", grouped(count))
        } else {
            String::new()
        };
        let mut data = vec![
            ("images".to_string(), config.data.display().to_string()),
            ("for training".into(), grouped(file.train_images)),
            ("for validation".into(), grouped(file.val_images)),
            ("looked at here".into(), format!("{} {set}{seen}", grouped(of))),
        ];
        if unreadable > 0 {
            data.push(("unreadable".into(), grouped(unreadable)));
        }
        let p = net.preprocess();
        let preprocessing = vec![
            ("placement".to_string(), format!("{}; {}, antialiased", p.in_words(), word(&p.filter))),
            ("channels".into(), word(&p.channels)),
            ("mean (red, green, blue)".into(), format!("{:?}", p.mean)),
            ("deviation".into(), format!("{:?}", p.std)),
        ];
        let mut environment = vec![
            ("Defrost".to_string(), file.defrost.clone()),
            ("device".into(), file.device.clone()),
            ("system".into(), file.system.clone()),
            ("seed".into(), config.seed.to_string()),
        ];
        if let Some(temperature) = net.config().temperature {
            environment.push(("temperature of the probabilities".into(), format!("{temperature:.3}")));
        }
        let (savings_head, savings, savings_said) = match &savings {
            Savings::Nothing => {
                (String::new(), Vec::new(), "Nothing was frozen, so nothing was saved.".to_string())
            }
            Savings::Everything => {
                let said = "A step that trains all layers does not fit this device: there is no comparison.";
                (String::new(), Vec::new(), said.to_string())
            }
            Savings::Measured(measured) => told(measured),
        };
        Ok(Page {
            under: format!(
                "{} on {} {set}, {}, strategy {}",
                net.config().model,
                grouped(count),
                task.count_text(names.len()),
                word(&config.strategy)
            ),
            title: name,
            headline,
            cards,
            figures: figures(epochs, best_epoch, task.metric(), metrics.calibration())?,
            table_of: table.of,
            bar: table.bar,
            note: table.note,
            class_head: table.head,
            classes,
            matrix,
            left_out,
            pairs,
            confusions: confusion.is_some(),
            explained: large.iter().any(|mistake| !mistake.maps.is_empty()),
            large,
            small,
            mistakes,
            savings_head,
            savings,
            savings_said,
            frozen,
            sheet,
            data,
            preprocessing,
            settings: settings(file),
            environment,
            style: include_str!("../../templates/report.css"),
            script: include_str!("../../templates/report.js"),
        })
    }
}

fn figures(
    metrics: &[EpochMetrics],
    best_epoch: Option<usize>,
    names: MetricNames,
    calibration: Option<&Calibration>,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let legend = || {
        vec![
            (hex(COLOURS[0]), "training images, as they were augmented"),
            (hex(COLOURS[1]), "validation images"),
        ]
    };
    let curve =
        |f: fn(&EpochMetrics) -> f64| metrics.iter().map(|m| (m.epoch as f64, f(m))).collect::<Vec<_>>();
    let last = metrics.iter().map(|m| m.epoch).max().unwrap_or(1) as f64;
    if metrics.len() > 1 {
        let figure = names.title();
        type Of = fn(&EpochMetrics) -> f64;
        let loss: [Of; 2] = [|m| m.train_loss, |m| m.val_loss];
        let accuracy: [Of; 2] = [|m| m.train_accuracy, |m| m.val_accuracy];
        for (title, of) in [("loss", loss), (&figure[..], accuracy)] {
            let curves = of.map(curve);
            let chart = Chart {
                labels: ["epoch", title],
                x: [1.0, last.max(2.0)],
                y: around(curves.iter().flatten().map(|point| point.1)),
                curves: curves.into(),
                mark: best_epoch.map(|epoch| epoch as f64),
                diagonal: false,
            };
            figures.push(Figure {
                title: if title == "loss" { "Loss".into() } else { capital(title) },
                svg: chart.svg()?,
                legend: legend(),
            });
        }
    }
    if let Some(calibration) = calibration {
        let bins = calibration.bins.iter().filter(|bin| bin.count > 0);
        let chart = Chart {
            labels: ["confidence", "accuracy"],
            x: [0.0, 1.0],
            y: [0.0, 1.0],
            curves: vec![Vec::new(), bins.map(|bin| (bin.confidence, bin.accuracy)).collect()],
            mark: None,
            diagonal: true,
        };
        figures.push(Figure {
            title: "Calibration".into(),
            svg: chart.svg()?,
            legend: vec![(
                hex(COLOURS[1]),
                "these images; on the diagonal, a confidence of 80% means correct in 80 of 100",
            )],
        });
    }
    Ok(figures)
}

/// The table with an image of each class, where there is one.
fn class_rows(table: &Table, examples: &std::collections::BTreeMap<usize, String>) -> Vec<ClassRow> {
    let per_cent = |x: f64| (1e3 * x).round() / 10.0;
    let row = |(c, row): (usize, &task::Row)| ClassRow {
        name: row.name.clone(),
        example: examples.get(&c).cloned(),
        cells: row.cells.clone(),
        bar: row.bar.map(|bar| bar.map(per_cent)),
    };
    table.rows.iter().enumerate().map(row).collect()
}

/// With a capital at its beginning.
fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The matrix of all classes, or of the most confused ones; and the number of the others.
fn matrix(
    confusion: &[Vec<usize>],
    names: &[String],
    examples: &std::collections::BTreeMap<usize, String>,
    small: &[Example],
) -> (Vec<MatrixRow>, usize) {
    let mut shown: Vec<usize> = (0..names.len()).collect();
    if names.len() > MATRIX {
        let column = |c: usize| confusion.iter().map(|row| row[c]).sum::<usize>();
        let wrong = |c: usize| confusion[c].iter().sum::<usize>() + column(c) - 2 * confusion[c][c];
        shown.sort_by_key(|&c| std::cmp::Reverse(wrong(c)));
        shown.truncate(MATRIX);
        shown.sort_unstable();
    }
    let row = |&c: &usize| {
        let support: usize = confusion[c].iter().sum();
        let cell = |&answer: &usize| {
            let count = confusion[c][answer];
            let shown = small.iter().any(|mistake| mistake.cell == Some((c, answer)));
            Cell { count, shown, share: (100 * count / support.max(1)) as u32, right: answer == c }
        };
        MatrixRow {
            name: names[c].clone(),
            example: examples.get(&c).cloned(),
            number: c,
            support,
            // A class without images comes last.
            recall: (1000 * confusion[c][c]).checked_div(support).unwrap_or(1001) as u32,
            cells: shown.iter().map(cell).collect(),
        }
    };
    (shown.iter().map(row).collect(), names.len() - shown.len())
}

fn pairs(
    confusion: &[Vec<usize>],
    names: &[String],
    examples: &std::collections::BTreeMap<usize, String>,
    small: &[Example],
) -> Vec<Pair> {
    let pair = |(class, answer, count): (usize, usize, usize)| {
        let one = small.iter().find(|m| m.cell == Some((class, answer))).map(|m| m.image.clone());
        Pair {
            class: names[class].clone(),
            predicted: names[answer].clone(),
            count,
            images: [one, examples.get(&answer).cloned()],
        }
    };
    most_confused(confusion).into_iter().take(PAIRS).map(pair).collect()
}

/// The table of the cost of steps, and its summary.
fn told(savings: &Measured) -> (String, Vec<[String; 5]>, String) {
    let all = savings.everything;
    let row = |what: String, step: &StepCost| {
        [
            what,
            grouped(step.learning),
            format!("{:.2} GFLOP", step.flops / 1e9),
            format!("{:.1} MiB", step.bytes as f64 / f64::from(1 << 20)),
            duration(step.seconds),
        ]
    };
    let mut rows: Vec<[String; 5]> = Vec::new();
    let mut said = String::new();
    for (i, phase) in savings.phases.iter().enumerate() {
        rows.push(row(
            if savings.phases.len() > 1 { format!("phase {}", i + 1) } else { "as trained".into() },
            &phase.step,
        ));
        if phase.step.learning == all.learning {
            continue;
        }
        let less = |a: f64, b: f64| 100.0 * (1.0 - a / b);
        let name = if savings.phases.len() > 1 { format!("In phase {} a", i + 1) } else { "A".into() };
        let [time, memory] =
            [less(phase.step.seconds, all.seconds), less(phase.step.bytes as f64, all.bytes as f64)]
                .map(|x| x.max(0.0));
        said += &format!(
            "{name} step took {time:.0}% less time and {memory:.0}% less memory than one that trains all layers. "
        );
        if phase.caches {
            said += "The output of the frozen layers was computed once an image and cached, so these layers did not run at every step. ";
        }
    }
    rows.push(row("all layers trained".into(), &all));
    (format!("a step of {} images, measured", savings.batch), rows, said)
}

/// All settings that differ from their defaults.
fn settings(file: &RunFile) -> Vec<Row> {
    let all = |config: &crate::train::Config| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let usual = all(&crate::train::Config::default());
    let given = all(&file.arguments).into_iter().filter(|(name, value)| usual.get(name) != Some(value));
    given
        .filter(|(name, _)| name != "seed")
        .map(|(name, value)| (name.replace('_', " "), word(&value)))
        .collect()
}
