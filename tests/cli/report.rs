//! `report.html` and what else lies in a run folder.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;

use command::{Outcome, Place};
use defrost::data::{DrawnSet, Scenes, TargetKind};
use defrost::models::shipped;
use defrost::task::TASKS;
use serde_json::Value;

/// Things drawn small, and the shipped weights.
fn place() -> Place {
    let place = Place::new();
    let set = DrawnSet::new(Scenes::Things).with(|c| {
        c.side = 64;
        c.train = 4;
        c.val = 4;
        c.test = 2;
    });
    set.write(&place.path("things")).unwrap();
    shipped::write(&place.path("signs.safetensors")).unwrap();
    place
}

fn train(place: &Place, data: &str, more: &[&str]) -> Outcome {
    let base = ["train", data, "--weights", "signs.safetensors", "--device", "cpu", "--out", "run", "--json"];
    place.ok(&[&base[..], more].concat())
}

fn page(place: &Place) -> String {
    fs::read_to_string(place.path("run/report.html")).unwrap()
}

/// What a browser would fetch: addresses in attributes and in style sheets.
fn fetched(page: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for key in ["src=\"", "href=\"", "url(", "action=\"", "@import"] {
        found.extend(page.split(key).skip(1).map(|rest| &rest[..rest.len().min(40)]));
    }
    found
}

#[test]
fn a_run_has_a_page_that_needs_nothing_else() {
    let place = place();
    let outcome = train(&place, "things", &["--epochs", "2", "--seed", "5"]);
    assert_eq!(outcome.named("done")[0]["report"], "run/report.html");
    let page = page(&place);
    let outside: Vec<&str> = fetched(&page).into_iter().filter(|at| !at.starts_with("data:")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let addresses = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!addresses.contains("http://") && !addresses.contains("https://"));
    // Curves, a confusion matrix, thumbnails, mistakes with maps, what was frozen, the sheet, seed and device.
    assert_eq!(page.matches("<svg").count(), 3);
    for word in [
        "umbrella",
        "id=\"matrix\"",
        "what speaks for",
        "In phase 1 a step took",
        "augmented training images",
        "CPU",
    ] {
        assert!(page.contains(word), "no '{word}'");
    }
    assert!(page.contains("<dt>seed</dt><dd>5</dd>"));
    assert!(page.contains("prefers-color-scheme: dark"));

    // The figures are the run's.
    let eval = place.ok(&["eval", "run", "things/val", "--device", "cpu", "--json"]);
    let done = &eval.named("done")[0];
    let right = done["top1"].as_f64().unwrap();
    assert!(page.contains(&format!("<h1>accuracy {:.2}%</h1>", 100.0 * right)), "{right}");
    let table = fs::read_to_string(place.path("run/confusion.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0][1..], ["boat", "cup", "fish", "house", "key", "mushroom", "tree", "umbrella"]);
    let matrix: Vec<Vec<u64>> =
        rows[1..].iter().map(|row| row[1..].iter().map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!(serde_json::to_value(&matrix).unwrap(), done["confusion"]);
    let wrong: u64 = matrix.iter().flatten().sum::<u64>() - (0..8).map(|c| matrix[c][c]).sum::<u64>();
    assert_eq!(page.matches("data-cell=").count() as u64, wrong);

    // The same figures as a table and as JSON lines; the sheet as an image.
    let csv = fs::read_to_string(place.path("run/metrics.csv")).unwrap();
    let json = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    assert_eq!(csv.lines().count() - 1, json.lines().count());
    for (line, json) in csv.lines().skip(1).zip(json.lines()) {
        let json: Value = serde_json::from_str(json).unwrap();
        let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        assert_eq!(json["epoch"].as_f64(), Some(cells[0]));
        assert!((json["val_loss"].as_f64().unwrap() - cells[3]).abs() < 1e-6);
    }
    assert!(image::open(place.path("run/augmented.png")).unwrap().width() > 500);
    let config: Value = serde_json::from_slice(&fs::read(place.path("run/config.json")).unwrap()).unwrap();
    assert!(config["system"].as_str().unwrap().contains(std::env::consts::ARCH));
}

/// After `calibrate` the page says what `eval` says.
#[test]
fn probabilities_are_those_of_the_temperature() {
    let place = place();
    train(&place, "things", &["--strategy", "features", "--epochs", "5"]);
    place.ok(&["calibrate", "run", "--device", "cpu"]);
    place.ok(&["report", "run", "--device", "cpu"]);
    let eval = place.ok(&["eval", "run", "things/val", "--device", "cpu", "--json"]);
    let loss = eval.done()["loss"].as_f64().unwrap();
    let page = page(&place);
    assert!(page.contains(&format!("<b>{loss:.4}</b>")) && page.contains("temperature"), "{loss}");
}

#[test]
fn a_report_can_be_of_other_images_and_can_be_left_away() {
    let place = place();
    let outcome = train(&place, "things", &["--strategy", "features", "--epochs", "3", "--no-report"]);
    assert!(outcome.named("done")[0]["report"].is_null());
    assert!(!place.path("run/report.html").exists());
    let written = place.ok(&["report", "run", "--data", "things/test", "--device", "cpu"]);
    assert_eq!(written.stdout.trim(), "run/report.html");
    let page = page(&place);
    assert!(page.contains("on 16 images of things/test"));
    assert!(page.contains("The output of the frozen layers was computed once an image and cached"));
    assert!(!page.contains("id=\"varied\""), "features sees images as they are");
    let missing = place.run(&["report", "elsewhere", "--device", "cpu"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("elsewhere: no run"), "{}", missing.stderr);
}

/// Class names come from folders, which may be called anything.
#[cfg(unix)]
#[test]
fn names_of_classes_are_text_and_nothing_else() {
    let place = place();
    let name = "<script>alert(1)</script>".replace('/', "\u{2215}") + "\"&'";
    for part in ["train", "val", "test"] {
        fs::rename(place.path("things").join(part).join("fish"), place.path("things").join(part).join(&name))
            .unwrap();
    }
    train(&place, "things", &["--strategy", "features", "--epochs", "1"]);
    let page = page(&place);
    assert!(!page.contains("<script>alert"));
    assert_eq!(page.matches("<script>").count(), 1);
    assert!(page.contains("&#60;script&#62;alert(1)") || page.contains("&lt;script&gt;alert(1)"));
}

/// Whatever task is registered: its data is found out, trained, evaluated, predicted and reported.
#[test]
fn every_task_has_a_run() {
    for task in TASKS {
        let place = place();
        let mut table = String::from("image,value,split\n");
        for (i, class) in ["boat", "cup", "fish"].iter().cycle().take(18).enumerate() {
            let part = if i < 12 { "train" } else { "val" };
            let value = match task.targets() {
                TargetKind::Class => class.to_string(),
                TargetKind::Labels => format!("{class};{}", if i % 2 == 0 { "even" } else { "odd" }),
                TargetKind::Values => i.to_string(),
            };
            table += &format!(
                "things/{part}/{class}/{:04}.png,{value},{part}\n",
                i / 3 % 4 + if i < 12 { 6 } else { 2 }
            );
        }
        fs::write(place.path("table.csv"), table).unwrap();
        let trained =
            train(&place, "table.csv", &["--task", task.name(), "--strategy", "features", "--epochs", "1"]);
        let done = &trained.named("done")[0];
        assert_eq!(done["task"], task.name(), "{done}");
        assert!(done["val_accuracy"].is_number() && done["val_loss"].is_number(), "{done}");
        assert!(page(&place).contains("<h2>"), "{}", task.name());
        let images = ["things/val/cup/0002.png", "--device", "cpu"];
        place.ok(&[&["predict", "run"], &images[..]].concat());
        place.ok(&["eval", "run", "table.csv", "--task", task.name(), "--device", "cpu"]);
    }
}

#[test]
fn labels_and_numbers_have_reports() {
    let place = place();
    let mut labels = String::from("image,labels\n");
    let mut numbers = String::from("image,size\n");
    for (i, class) in ["boat", "cup", "fish"].iter().cycle().take(24).enumerate() {
        let file = format!(
            "things/{}/{class}/{:04}.png",
            if i < 12 { "train" } else { "val" },
            i / 3 % 4 + if i < 12 { 6 } else { 2 }
        );
        labels += &format!("{file},{class}{}\n", if i % 2 == 0 { ";even" } else { "" });
        numbers += &format!("{file},{}\n", i % 5);
    }
    fs::write(place.path("labels.csv"), labels).unwrap();
    fs::write(place.path("numbers.csv"), numbers).unwrap();
    let more = ["--strategy", "features", "--epochs", "2"];
    train(&place, "labels.csv", &[&["--task", "multi-label"], &more[..]].concat());
    assert!(page(&place).contains("average precision") && page(&place).contains("<h1>mAP "));
    fs::remove_dir_all(place.path("run")).unwrap();
    train(&place, "numbers.csv", &[&["--task", "regression"], &more[..]].concat());
    assert!(page(&place).contains("mean absolute error") && page(&place).contains("<h1>R2 "));
}
