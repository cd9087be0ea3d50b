//! Names that would steer a terminal do not: people see them escaped, programs get them as they are.

use crate::command;
use crate::taught;

use std::fs;

use command::torch::{Py, Tensor, safetensors, text, zipped};
use command::{Outcome, Place};
use defrost::models::Network;
use taught::{CPU, table, taught, train};

/// Names that would set a window's title, clear the screen, change colours, look like other lines, or turn the
/// direction of writing.
const ODD: [&str; 6] = [
    "\x1b]0;owned\x07\x1b[31mred",
    "\x1b[2J\x1b[1;1H",
    "two\nlines 99%",
    "bell\x07 back\x08\x7f\r",
    "c1 \u{9b}31m\u{85}",
    "turned \u{202e}gnp.\u{2066}\u{2028}",
];

/// What of it would steer a terminal; line ends are not counted.
fn steering(text: &str) -> Option<char> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    text.chars().find(|&c| c != '\n' && (c.is_control() || turns(c)))
}

/// Nothing that a command prints for people steers their terminal, and no name has two lines.
#[track_caller]
fn harmless(said: &Outcome, what: &[&str]) {
    for text in [&said.stdout, &said.stderr] {
        let text: String = text
            .lines()
            .filter(|line| !line.contains("XDG_RUNTIME_DIR"))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(steering(&text), None, "{what:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("lines 99%")), "{what:?}: {text}");
    }
}

/// A network that knows classes of odd names, and an odd run folder; images in odd files.
fn odd_place() -> (Place, String) {
    let place = Place::new();
    place.weights();
    let classes: Vec<(&str, [u8; 3])> =
        ODD.iter().enumerate().map(|(i, name)| (*name, [40 * i as u8, 90, 220 - 40 * i as u8])).collect();
    place.images("photos", &classes, 4);
    for (i, name) in ODD.iter().enumerate() {
        let odd = place.path("photos").join(name).join(format!("{name}{i}.png"));
        fs::rename(place.path("photos").join(name).join("00.png"), odd).unwrap();
        fs::write(place.path("photos").join(name).join(format!("{name}.jpg")), "no image").unwrap();
        fs::write(place.path("photos").join(name).join(format!("{name}.txt")), "no image").unwrap();
    }
    let run = format!("run {}", ODD.concat());
    let said = train(&place, &["--epochs", "1", "--out", &run]);
    harmless(&said, &["train"]);
    for name in ["\\x1b]0;owned\\x07", "two\\nlines", "\\x7f\\r", "\\u{9b}31m", "\\u{202e}"] {
        assert!(said.stderr.contains(name), "{name}: {}", said.stderr);
        assert!(said.stdout.contains(name), "{name}: {}", said.stdout);
    }
    (place, run)
}

#[test]
fn names_do_not_steer_the_terminal() {
    let (place, run) = odd_place();
    let model = format!("{run}/model.safetensors");
    let page = format!("{run}/page.svg");
    let gone = format!("gone {}", ODD.concat());
    let odd_class = ODD[0];
    let fit = ["--model", "resnet20", "--weights", "resnet20.safetensors"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["predict", &run, "photos"],
        vec!["predict", &run, "photos", "--flips", "--top", "2", "-v"],
        vec!["eval", &run, "photos", "-v"],
        vec!["explain", &run, "photos", "-o", "why"],
        vec!["explain", &run, "photos", "-o", &gone, "--class", odd_class],
        vec!["data", "photos", "--verify", "--duplicates", "-v"],
        [&["fewshot", "photos", "--shots", "1", "--trials", "1"][..], &fit].concat(),
        vec!["calibrate", &run],
        vec!["report", &run],
        vec!["inspect", &run],
        vec!["export", &run, &gone],
        [&["lr-find", "photos", "--steps", "12", "--strategy", "features", "--svg", &page][..], &fit]
            .concat(),
        [&["train", "photos", "--dry-run", "--out", &gone][..], &fit].concat(),
        vec!["train", "--resume", &run],
        vec!["convert", &model, "out/\x1b[2J.safetensors"],
        // Errors.
        vec!["predict", &gone, "photos"],
        vec!["predict", &run, "missing\x1b[2J.png", "missing\nlines 99%.png"],
        vec!["explain", &run, "photos", "--class", &gone],
        vec!["train", &gone, "--model", "resnet20", "--weights", "resnet20.safetensors"],
        vec!["train", "photos", "--model", &gone],
        vec!["train", "photos", "--model", "resnet20", "--weights", &gone],
        vec![
            "train",
            "photos",
            "--freeze",
            &gone,
            "--model",
            "resnet20",
            "--weights",
            "resnet20.safetensors",
        ],
        vec!["train", "--resume", &gone],
        vec!["inspect", &gone],
        vec!["inspect", "resnet20", "--device", &gone],
        vec!["convert", &gone, "out.safetensors"],
        vec!["weights", "path", &gone],
        vec!["models", &gone],
        // clap's own words.
        vec!["--\x1b[2J"],
        vec!["predict", "--\x1b]0;owned\x07"],
        vec!["predict", "--top=\x1b[2J", "x"],
        vec!["predict", "--top", "two\nlines 99%", "x"],
        vec!["eval", "--color", "\x1b[31m", "x", "y"],
    ];
    for command in commands {
        let on_the_cpu = if command.contains(&"--device") { &[][..] } else { &CPU };
        harmless(&place.run(&[&command[..], on_the_cpu].concat()), &command);
    }
    // Our own colours stay; theirs do not.
    let coloured = place.ok(&[&["predict", &run, "photos", "--color", "always"][..], &CPU].concat());
    assert!(
        coloured.stdout.contains("\x1b[1mphotos/") && coloured.stderr.contains("\x1b[33mwarning:\x1b[0m")
    );
    let text = [&*coloured.stdout, &*coloured.stderr].concat();
    let own =
        ["\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
    assert_eq!(steering(&own), None, "{own:?}");
}

/// Programs get names as they are.
#[test]
fn programs_get_names_as_they_are() {
    let (place, run) = odd_place();
    let json = place.ok(&[&["predict", &run, "photos", "--json"][..], &CPU].concat());
    let paths: Vec<String> =
        json.named("prediction").iter().map(|p| p["path"].as_str().unwrap().to_string()).collect();
    let unreadable = json.named("unreadable");
    let (head, rows) =
        table(&place.ok(&[&["predict", &run, "photos", "--csv", "--top", "6"][..], &CPU].concat()).stdout);
    assert_eq!((head[0].as_str(), rows.len()), ("path", paths.len()));
    for (i, name) in ODD.iter().enumerate() {
        let path = format!("photos/{name}/{name}{i}.png");
        assert!(paths.contains(&path) && rows.iter().any(|row| row[0] == path), "{path:?}");
        assert!(rows.iter().any(|row| row[1..].contains(&name.to_string())), "{name:?}");
        assert!(
            unreadable.iter().any(|u| u["path"] == format!("photos/{name}/{name}.jpg").as_str()),
            "{name:?}"
        );
    }
    let lines: Vec<&str> = json.stdout.lines().collect();
    assert!(lines.iter().all(|line| !line.contains(['\x1b', '\x07', '\r'])), "JSON escapes them itself");
}

/// Names that stand in files: columns and labels of tables, tensors, classes of weights, keys of checkpoints.
#[test]
fn names_in_files_do_not_steer_the_terminal() {
    let place = taught();
    let weights = ["--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];
    for name in ODD {
        let mut rows = csv::Writer::from_path(place.path("photos/labels.csv")).unwrap();
        rows.write_record(["image", name]).unwrap();
        for (i, class) in [name, "b", name, "b", name, "b"].iter().enumerate() {
            rows.write_record([&format!("red/{i:02}.png"), *class]).unwrap();
        }
        rows.write_record([name, "b"]).unwrap();
        drop(rows);
        harmless(&place.run(&["data", "photos/labels.csv", "-v"]), &["data", name]);
        let columns = ["data", "photos/labels.csv", "--label-column", "none", "-v"];
        harmless(&place.run(&columns), &columns);
        let strategy = ["--strategy", "features", "--epochs", "1", "--out", "r"];
        harmless(
            &place.run(&[&["train", "photos/labels.csv"][..], &weights, &strategy].concat()),
            &["train", name],
        );
        let _ = fs::remove_dir_all(place.path("r"));

        // A tensor that has no place, one of no floats, keys of a checkpoint.
        let net = Network::open(place.path("resnet20.safetensors")).unwrap();
        let tensors = net.tensors().map(|(s, x)| (s.path.clone(), Tensor::floats(&s.shape, x)));
        let odd = (format!("odd.{name}"), Tensor::of("BoolStorage", 1, &[2], vec![0; 2]));
        let tensors: Vec<(String, Tensor)> = tensors.chain([odd.clone()]).collect();
        fs::write(place.path("odd.safetensors"), safetensors(&tensors, None)).unwrap();
        let entries = tensors.iter().map(|(name, tensor)| (text(name), Py::Tensor(tensor.clone())));
        let beside = [(text("state_dict"), Py::Dict(entries.collect())), (text(name), Py::Tensor(odd.1))];
        fs::write(place.path("odd.pth"), zipped("odd", &Py::Dict(beside.to_vec()))).unwrap();
        let nothing = Py::Dict(vec![(text(name), Py::Int(1))]);
        fs::write(place.path("none.pth"), zipped("none", &nothing)).unwrap();
        for file in ["odd.safetensors", "odd.pth", "none.pth"] {
            let plain = ["convert", file, "out.safetensors"];
            harmless(&place.run(&plain), &plain);
            harmless(&place.run(&[&plain[..], &["--model", "resnet20"]].concat()), &plain);
        }
        // timm's config.json and metadata of safetensors.
        fs::create_dir_all(place.path("w")).unwrap();
        fs::copy(place.path("odd.safetensors"), place.path("w/model.safetensors")).unwrap();
        let about = serde_json::json!({ "architecture": name, "pretrained_cfg": { "interpolation": name } });
        fs::write(place.path("w/config.json"), about.to_string()).unwrap();
        harmless(&place.run(&["inspect", "resnet20", "--weights", "w/model.safetensors"]), &["config", name]);
        for key in ["padding", "mean", "filter", "bn_eps", "defrost"] {
            let metadata = serde_json::json!({ key: name });
            fs::write(place.path("odd.safetensors"), safetensors(&tensors, Some(metadata))).unwrap();
            harmless(&place.run(&["inspect", "resnet20", "--weights", "odd.safetensors"]), &[key, name]);
        }
    }
}
