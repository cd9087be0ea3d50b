//! The page: everything in words and figures, set by `templates/report.html`.

use askama::Template;

use super::chart::{COLOURS, Chart, around, hex};
use super::findings::{Findings, Mistake};
use super::savings::{Measured, Savings, StepCost};
use crate::Result;
use crate::data::Task;
use crate::models::Network;
use crate::nn::freeze::grouped;
use crate::train::{EpochMetrics, Measures, RunFile, SingleLabel, interval};

/// Classes that the confusion matrix has room for.
const MATRIX: usize = 30;
/// Pairs of classes that are listed.
const PAIRS: usize = 12;

/// A name and what is said of it.
pub(super) type Row = (String, String);

pub(super) struct Figure {
    title: &'static str,
    svg: String,
    legend: Vec<(String, &'static str)>,
}

/// A row of the table of classes: cells as shown, and as sorted by.
struct ClassRow {
    name: String,
    example: Option<String>,
    cells: Vec<(String, f64)>,
    /// Share that is right and its interval, per cent.
    bar: Option<[f64; 3]>,
}

struct Cell {
    count: usize,
    /// Whether pictures of it are shown.
    shown: bool,
    /// Share of the class's pictures, per cent.
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
    answer: String,
    count: usize,
    pictures: [Option<String>; 2],
}

/// What the page says.
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
    classifies: bool,
    /// Whether there are maps.
    explained: bool,
    large: Vec<Mistake>,
    small: Vec<Mistake>,
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

/// What a page is made of.
pub(super) struct Material<'a> {
    pub(super) name: String,
    /// Which pictures were looked at.
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

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// Seconds for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", 1e3 * s),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
    }
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
        let Material { name, set, file, net, metrics, best_epoch, findings, savings, frozen, sheet } = from;
        let task = net.config().task;
        let config = &file.arguments;
        let names = net.classes();
        let Findings { of, measures, unreadable, examples, large, small, wrong } = findings;
        let seconds = metrics.last().map_or(0.0, |m| m.seconds);
        let mut cards = Vec::new();
        let mut add =
            |name: &str, value: String, about: &str| cards.push((name.to_string(), value, about.to_string()));
        let (headline, count) = match &measures {
            Measures::SingleLabel(m) => {
                let (low, high) = m.top1_interval;
                add("right", percent(m.top1), &format!("{} of {}", grouped(m.right()), grouped(m.count)));
                add("95% interval", format!("{} to {}", percent(low), percent(high)), "Wilson's");
                if names.len() > 5 {
                    add("right within five", percent(m.top5), "");
                }
                add("loss", format!("{:.3}", m.loss), "cross-entropy");
                add("calibration error", percent(m.calibration.ece), "ECE: 0 is honest");
                (format!("{} right", percent(m.top1)), m.count)
            }
            Measures::MultiLabel(m) => {
                add("mAP", percent(m.mean_average_precision), "mean average precision");
                add("all labels right", percent(m.exact), "");
                add("loss", format!("{:.3}", m.loss), "");
                (format!("mAP {}", percent(m.mean_average_precision)), m.count)
            }
            Measures::Regression(m) => {
                add("R2", format!("{:.3}", m.average.r2), "1 is perfect");
                add("mean absolute error", format!("{:.4}", m.average.mae), "");
                add("root mean square error", format!("{:.4}", m.average.rmse), "");
                (format!("R2 {:.3}", m.average.r2), m.count)
            }
        };
        if let (Some(best), Some(last)) = (best_epoch, metrics.last()) {
            add("best epoch", best.to_string(), &format!("of {}", last.epoch));
        }
        if seconds > 0.0 {
            add("training took", duration(seconds), &file.device);
        }
        let single = match &measures {
            Measures::SingleLabel(m) => Some(m),
            _ => None,
        };
        let (matrix, left_out) =
            single.map_or_else(Default::default, |m| matrix(m, names, &examples, &small));
        let pairs = single.map_or_else(Vec::new, |m| pairs(m, names, &examples, &small));
        let mistakes = match task {
            Task::Regression => "the pictures with the largest errors".to_string(),
            _ if wrong > small.len() => format!("{} of {}, the worst first", small.len(), grouped(wrong)),
            _ => format!("all {}, the worst first", small.len()),
        };
        let (class_head, classes) = class_rows(&measures, names, &examples);
        let seen = if count < of - unreadable.min(of) {
            format!(", {} of them", grouped(count))
        } else {
            String::new()
        };
        let mut data = vec![
            ("pictures".to_string(), config.data.display().to_string()),
            ("to learn from".into(), grouped(file.train_pictures)),
            ("to validate with".into(), grouped(file.val_pictures)),
            ("looked at here".into(), format!("{} {set}{seen}", grouped(of))),
        ];
        if unreadable > 0 {
            data.push(("unreadable".into(), grouped(unreadable)));
        }
        let p = net.preprocess();
        let preprocessing = vec![
            (
                "resize".to_string(),
                format!("short side to {} pixels, {}, antialiased", p.resize, word(&p.filter)),
            ),
            ("crop".into(), format!("the middle {0} x {0} pixels", p.crop)),
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
                let said = "A step where everything learns does not fit this device: there is nothing to compare with.";
                (String::new(), Vec::new(), said.to_string())
            }
            Savings::Measured(measured) => told(measured),
        };
        Ok(Page {
            under: format!(
                "{} on {} {set}, {}, strategy {}",
                net.config().model,
                grouped(count),
                plural(names.len(), task),
                word(&config.strategy)
            ),
            title: name,
            headline,
            cards,
            figures: figures(metrics, best_epoch, task, single)?,
            class_head,
            classes,
            matrix,
            left_out,
            pairs,
            classifies: single.is_some(),
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

fn plural(n: usize, task: Task) -> String {
    let what = match task {
        Task::Classes => "classes",
        Task::MultiLabel => "labels",
        Task::Regression => "numbers",
    };
    format!("{} {what}", grouped(n))
}

fn figures(
    metrics: &[EpochMetrics],
    best_epoch: Option<usize>,
    task: Task,
    single: Option<&SingleLabel>,
) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let legend = || {
        vec![
            (hex(COLOURS[0]), "training pictures, as they were varied"),
            (hex(COLOURS[1]), "validation pictures"),
        ]
    };
    let curve =
        |f: fn(&EpochMetrics) -> f64| metrics.iter().map(|m| (m.epoch as f64, f(m))).collect::<Vec<_>>();
    let last = metrics.iter().map(|m| m.epoch).max().unwrap_or(1) as f64;
    if metrics.len() > 1 {
        let figure = match task {
            Task::Classes => "accuracy",
            Task::MultiLabel => "labels right, mAP",
            Task::Regression => "R2",
        };
        type Of = fn(&EpochMetrics) -> f64;
        let loss: [Of; 2] = [|m| m.train_loss, |m| m.val_loss];
        let accuracy: [Of; 2] = [|m| m.train_accuracy, |m| m.val_accuracy];
        for (title, of) in [("loss", loss), (figure, accuracy)] {
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
                title: if title == "loss" { "Loss" } else { "Accuracy" },
                svg: chart.svg()?,
                legend: legend(),
            });
        }
    }
    if let Some(measures) = single {
        let bins = measures.calibration.bins.iter().filter(|bin| bin.count > 0);
        let chart = Chart {
            labels: ["how sure it is", "how often it is right"],
            x: [0.0, 1.0],
            y: [0.0, 1.0],
            curves: vec![Vec::new(), bins.map(|bin| (bin.confidence, bin.accuracy)).collect()],
            mark: None,
            diagonal: true,
        };
        figures.push(Figure {
            title: "Whether it may be believed",
            svg: chart.svg()?,
            legend: vec![(
                hex(COLOURS[1]),
                "these pictures; on the diagonal, 80% sure means right in 80 of 100",
            )],
        });
    }
    Ok(figures)
}

fn class_rows(
    measures: &Measures,
    names: &[String],
    examples: &std::collections::BTreeMap<usize, String>,
) -> (Vec<&'static str>, Vec<ClassRow>) {
    let number = |x: f64, text: String| (text, x);
    let share = |x: f64| number(x, percent(x));
    match measures {
        Measures::SingleLabel(m) => {
            let row = |(c, name): (usize, &String)| {
                let (right, class) = (m.confusion[c][c], &m.classes[c]);
                let (low, high) = interval(right, class.support);
                let s = class.scores;
                let known = |x: f64| if class.support > 0 { share(x) } else { number(-1.0, "-".into()) };
                let cells = vec![
                    number(class.support as f64, grouped(class.support)),
                    known(s.precision),
                    known(s.recall),
                    known(s.f1),
                ];
                let bar =
                    (class.support > 0).then(|| [s.recall, low, high].map(|x| (1e3 * x).round() / 10.0));
                ClassRow { name: name.clone(), example: examples.get(&c).cloned(), cells, bar }
            };
            (vec!["pictures", "precision", "recall", "F1"], names.iter().enumerate().map(row).collect())
        }
        Measures::MultiLabel(m) => {
            let row = |(name, l): (&String, &crate::train::LabelScores)| {
                let s = l.class.scores;
                let average = l.average_precision.map_or_else(|| number(-1.0, "-".into()), share);
                let cells = vec![
                    number(l.class.support as f64, grouped(l.class.support)),
                    share(s.precision),
                    share(s.recall),
                    share(s.f1),
                    average,
                ];
                ClassRow { name: name.clone(), example: None, cells, bar: None }
            };
            (
                vec!["pictures", "precision", "recall", "F1", "average precision"],
                names.iter().zip(&m.classes).map(row).collect(),
            )
        }
        Measures::Regression(m) => {
            let row = |(name, e): (&String, &crate::train::OutputErrors)| {
                let cells = [e.mae, e.rmse, e.r2].map(|x| number(x, format!("{x:.4}"))).into();
                ClassRow { name: name.clone(), example: None, cells, bar: None }
            };
            (
                vec!["mean absolute error", "root mean square error", "R2"],
                names.iter().zip(&m.outputs).map(row).collect(),
            )
        }
    }
}

/// The matrix of all classes, or of those that are confused the most; and how many are left out.
fn matrix(
    measures: &SingleLabel,
    names: &[String],
    examples: &std::collections::BTreeMap<usize, String>,
    small: &[Mistake],
) -> (Vec<MatrixRow>, usize) {
    let mut shown: Vec<usize> = (0..names.len()).collect();
    if names.len() > MATRIX {
        let column = |c: usize| measures.confusion.iter().map(|row| row[c]).sum::<usize>();
        let wrong =
            |c: usize| measures.confusion[c].iter().sum::<usize>() + column(c) - 2 * measures.confusion[c][c];
        shown.sort_by_key(|&c| std::cmp::Reverse(wrong(c)));
        shown.truncate(MATRIX);
        shown.sort_unstable();
    }
    let row = |&c: &usize| {
        let support: usize = measures.confusion[c].iter().sum();
        let cell = |&answer: &usize| {
            let count = measures.confusion[c][answer];
            let shown = small.iter().any(|mistake| mistake.cell == Some((c, answer)));
            Cell { count, shown, share: (100 * count / support.max(1)) as u32, right: answer == c }
        };
        MatrixRow {
            name: names[c].clone(),
            example: examples.get(&c).cloned(),
            number: c,
            support,
            // A class without pictures comes last.
            recall: (1000 * measures.confusion[c][c]).checked_div(support).unwrap_or(1001) as u32,
            cells: shown.iter().map(cell).collect(),
        }
    };
    (shown.iter().map(row).collect(), names.len() - shown.len())
}

fn pairs(
    measures: &SingleLabel,
    names: &[String],
    examples: &std::collections::BTreeMap<usize, String>,
    small: &[Mistake],
) -> Vec<Pair> {
    let pair = |(class, answer, count): (usize, usize, usize)| {
        let one = small.iter().find(|m| m.cell == Some((class, answer))).map(|m| m.picture.clone());
        Pair {
            class: names[class].clone(),
            answer: names[answer].clone(),
            count,
            pictures: [one, examples.get(&answer).cloned()],
        }
    };
    measures.most_confused().into_iter().take(PAIRS).map(pair).collect()
}

/// The table of what steps cost, and what it comes to.
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
            "{name} step took {time:.0}% less time and {memory:.0}% less memory than one where everything learns. "
        );
        if phase.keeps {
            said += "And the frozen part was not run at every step: what it makes of a picture was computed once and kept. ";
        }
    }
    rows.push(row("everything learns".into(), &all));
    (format!("a step of {} pictures, measured", savings.batch), rows, said)
}

/// All arguments, but those that are as they are by default.
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
