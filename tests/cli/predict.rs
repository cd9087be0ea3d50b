//! `defrost predict`: tables, lists of images on standard input, and the same answers as `defrost eval`.

use crate::command;
use crate::taught;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use command::{Outcome, Place};
use serde_json::Value;
use taught::{CPU, table, taught, train};

/// Runs `defrost` with something on its standard input.
fn fed(place: &Place, args: &[&str], input: &[u8]) -> Outcome {
    let mut child = place
        .command(&[args, &CPU].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Outcome::of(child.wait_with_output().unwrap())
}

#[test]
fn predictions_as_a_table() {
    let place = Place::new();
    place.images("photos", &[("blue, deep", [30, 60, 190]), ("\"red\"", [190, 50, 40])], 6);
    place.weights();
    train(&place, &["--epochs", "1", "--out", "run"]);
    let predict = |form: &[&str]| place.ok(&[&["predict", "run", "photos"], &CPU[..], form].concat());
    let (head, rows) = table(&predict(&["--csv"]).stdout);
    assert_eq!(head, ["path", "class", "probability", "class_2", "probability_2"]);
    let json = predict(&["--json"]).named("prediction");
    assert_eq!((rows.len(), json.len()), (12, 12));
    for (row, json) in rows.iter().zip(&json) {
        assert_eq!(json["path"], row[0].as_str());
        for (k, guess) in json["predictions"].as_array().unwrap().iter().enumerate() {
            assert_eq!(guess["class"], row[1 + 2 * k].as_str());
            let probability: f64 = row[2 + 2 * k].parse().unwrap();
            assert!((probability - guess["probability"].as_f64().unwrap()).abs() < 1e-7, "{row:?}");
        }
    }
    assert!(rows.iter().any(|row| row[0].contains("blue, deep") && row[0].ends_with("00.png")));
    assert_eq!(table(&predict(&["--csv", "--top", "1"]).stdout).0, ["path", "class", "probability"]);
    let both = place.run(&["predict", "run", "photos", "--csv", "--json"]);
    both.failed(2, &["--csv", "--json", "leave one away"]);
    // Nothing can be said: not even a head is written.
    let none = place.run(&[&["predict", "run", "gone.png", "--csv"], &CPU[..]].concat());
    none.failed(1, &["gone.png", "none of the images"]);
    assert_eq!(none.stdout, "");

    // Numbers stand under their names.
    fs::create_dir(place.path("many")).unwrap();
    let mut lines = String::from("image,height,\"width, m\"\n");
    for i in 0..6 {
        fs::copy(place.path(&format!("photos/\"red\"/{i:02}.png")), place.path(&format!("many/{i}.png")))
            .unwrap();
        lines += &format!("{i}.png,{},{}\n", 0.5 * f64::from(i), 3 - i);
    }
    fs::write(place.path("many/labels.csv"), lines).unwrap();
    let columns = ["--label-column", "height", "--label-column", "width, m", "--task", "regression"];
    let base = [
        "train",
        "many/labels.csv",
        "--strategy",
        "features",
        "--model",
        "resnet20",
        "--weights",
        "resnet20.safetensors",
    ];
    place.ok(&[&base[..], &CPU, &columns, &["--epochs", "1", "--out", "numbers"]].concat());
    let (head, rows) = table(
        &place.ok(&[&["predict", "numbers", "many", "--csv", "--batch", "4"], &CPU[..]].concat()).stdout,
    );
    assert_eq!(head, ["path", "height", "width, m"]);
    assert!(rows.len() == 6 && rows.iter().all(|row| row[1..].iter().all(|x| x.parse::<f32>().is_ok())));
}

#[test]
fn paths_come_on_standard_input() {
    let place = taught();
    fs::write(place.path("photos/red/bad.png"), "no image").unwrap();
    fs::create_dir(place.path("two\nlines")).unwrap();
    fs::copy(place.path("photos/red/00.png"), place.path("two\nlines/a.png")).unwrap();
    // Files and folders, empty lines, and a line as Windows ends it; behind them a path of the command line.
    let list = b"photos/red/03.png\n\nphotos/blue\r\ngone.png\nphotos/red/bad.png\n";
    let base = ["predict", "run", "-", "photos/red/05.png", "--batch", "4", "--json"];
    let said = fed(&place, &base, list);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let paths: Vec<String> =
        said.named("prediction").iter().map(|p| p["path"].as_str().unwrap().to_string()).collect();
    assert_eq!((paths.len(), &*paths[0], &*paths[1]), (14, "photos/red/03.png", "photos/blue/00.png"));
    assert_eq!(paths[13], "photos/red/05.png");
    let unreadable = said.named("unreadable");
    assert_eq!(unreadable.len(), 2);
    assert_eq!(
        (&unreadable[0]["path"], &unreadable[1]["path"]),
        (&"gone.png".into(), &"photos/red/bad.png".into())
    );
    assert!(unreadable[0]["reason"].as_str().unwrap().starts_with("cannot read"), "{}", unreadable[0]);
    assert!(unreadable[1]["reason"].as_str().unwrap().starts_with("not an image"), "{}", unreadable[1]);
    assert!(said.stderr.contains("warning: skipped gone.png: "), "{}", said.stderr);
    assert_eq!((&said.done()["count"], &said.done()["skipped"]), (&14.into(), &2.into()));

    // The same is a failure where all must be read; what could be is told.
    let strict = fed(&place, &[&base[..], &["--strict"]].concat(), list);
    strict.failed(1, &["2 images could not be read", "--strict"]);
    assert_eq!(strict.named("prediction").len(), 14);
    let fine = fed(&place, &["predict", "run", "-", "--strict"], b"photos/red/03.png");
    assert_eq!((fine.code, fine.stdout.lines().next()), (0, Some("photos/red/03.png")), "{}", fine.stderr);

    // Names with line ends in them.
    let zeros =
        fed(&place, &["predict", "run", "-", "-0", "--json"], b"two\nlines/a.png\0photos/red/01.png\0");
    assert_eq!(zeros.named("prediction")[0]["path"], "two\nlines/a.png");
    assert_eq!(zeros.done()["count"], 2);

    fed(&place, &["predict", "run", "-"], b"").failed(1, &["standard input is empty", "each line"]);
    fed(&place, &["predict", "run", "-"], b"\n\n").failed(1, &["standard input is empty"]);
    fed(&place, &["predict", "run", "-"], b"gone.png\n").failed(1, &["gone.png", "none of the images"]);
    place.run(&["predict", "run", "photos", "--null"]).failed(2, &["--null", "defrost predict RUN - --null"]);
    // A folder instead of a list ends, too.
    #[cfg(unix)]
    {
        let mut command = place.command(&["predict", "run", "-", "--device", "cpu"]);
        command.stdin(fs::File::open(place.path("photos")).unwrap());
        Outcome::of(command.output().unwrap()).failed(1, &["standard input", "cannot read"]);
    }
}

#[test]
fn a_list_is_answered_while_it_comes() {
    let place = taught();
    let mut child = place
        .command(&["predict", "run", "-", "--batch", "2", "--json", "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for i in [0, 2, 4] {
        writeln!(list, "photos/red/{i:02}.png\nphotos/red/{:02}.png", i + 1).unwrap();
        // Both answers come before the list goes on.
        for i in [i, i + 1] {
            let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["path"], format!("photos/red/{i:02}.png"));
        }
    }
    drop(list);
    assert_eq!(answers.count(), 1, "the last line is the event 'done'");
    assert!(child.wait().unwrap().success());
}

#[test]
fn predict_and_eval_agree() {
    let place = taught();
    let predicted = place.ok(&["predict", "run", "photos", "--json", "--device", "cpu", "--batch", "5"]);
    let right = |p: &&Value| {
        let class = p["predictions"][0]["class"].as_str().unwrap();
        p["path"].as_str().unwrap().starts_with(&format!("photos/{class}/"))
    };
    let predicted = predicted.named("prediction");
    let right = predicted.iter().filter(right).count();
    let measured = place.ok(&["eval", "run", "photos", "--json", "--device", "cpu"]).done();
    let confusion = measured["confusion"].as_array().unwrap();
    let diagonal: u64 = (0..confusion.len()).map(|i| confusion[i][i].as_u64().unwrap()).sum();
    assert_eq!((predicted.len(), right as u64), (24, diagonal));
}
