//! `defrost bench`: every figure is there, in text, as JSON, as an image and as a time line.

#![allow(clippy::unwrap_used)]

use crate::command;

use command::{ADAPTER, Place};
use serde_json::Value;

fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == name).collect()
}

const SMALL: [&str; 8] = ["bench", "resnet20", "--batch", "2", "--rounds", "1", "--freeze-through", "layer2"];

#[test]
fn steps_and_kernels_are_measured() {
    let place = Place::new();
    for device in [&ADAPTER[..], &["--device", "cpu"]] {
        let files = ["--roofline", "roof.svg", "--trace", "trace.json", "--json"];
        let all = events(&place.ok(&[&SMALL, device, &files[..]].concat()).stdout);
        let [limits] = of(&all, "device")[..] else { panic!("{all:?}") };
        assert!(
            limits["flops_f32"].as_f64().unwrap() > 1e8 && limits["bytes_per_second"].as_f64().unwrap() > 1e8
        );
        let steps = of(&all, "step");
        let parts: Vec<&str> = steps.iter().map(|s| s["part"].as_str().unwrap()).collect();
        let expected = ["forward", "everything", "half", "frozen through layer2", "head"];
        assert!(parts.iter().zip(expected).all(|(part, what)| part.contains(what)), "{parts:?}");
        for step in &steps {
            let number = |name: &str| step[name].as_f64().unwrap();
            assert!(step["step_seconds"]["median"].as_f64().unwrap() > 0.0, "{step}");
            assert!(number("first_seconds") > 0.0 && number("again_seconds") > 0.0, "{step}");
            assert!(number("flops") > 1e6 && number("planned_bytes") > 1e5 && number("least_seconds") > 0.0);
            if device == ADAPTER {
                let off = number("allocated_bytes") / number("planned_bytes") - 1.0;
                assert!(off.abs() < 0.02, "the plan is {off} off: {step}");
                assert!(number("record_seconds") > 0.0);
            }
        }
        let [saved] = of(&all, "checkpoint")[..] else { panic!("{all:?}") };
        assert!(saved["bytes"].as_f64().unwrap() > 4e6, "parameters four times, and once more: {saved}");
        assert!(saved["waits_seconds"].as_f64().unwrap() <= saved["written_seconds"].as_f64().unwrap());
        let flops = |what: &str| {
            steps.iter().find(|s| s["part"].as_str().unwrap().contains(what)).unwrap()["flops"]
                .as_f64()
                .unwrap()
        };
        assert!(flops("everything") > flops("half") && flops("half") > flops("head"));
        let ops: Vec<&str> = of(&all, "kernel").iter().map(|k| k["op"].as_str().unwrap()).collect();
        for op in
            ["conv.forward", "conv.grad_input", "conv.grad_weight", "batch_norm.grad_x", "optimizer.sgd"]
        {
            assert!(ops.contains(&op), "{op} is missing in {ops:?}");
        }
        let svg = std::fs::read_to_string(place.path("roof.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.matches("<circle").count() > of(&all, "kernel").len() / 2, "a point for each kernel");
        let trace: Value = serde_json::from_slice(&std::fs::read(place.path("trace.json")).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let mut kinds = std::collections::BTreeMap::new();
        for span in events.iter().filter(|e| e["ph"] == "X") {
            let at = |name: &str| span[name].as_f64().unwrap();
            let (end, count) = kinds.entry(span["pid"].as_u64().unwrap()).or_insert((0.0, 0));
            assert!(at("ts") >= *end - 1e-6 && at("dur") >= 0.0, "spans follow one another: {span}");
            *end = at("ts") + at("dur");
            *count += 1;
        }
        let names = events.iter().filter(|e| e["name"] == "process_name").count();
        assert!(
            kinds.len() == steps.len() && names == steps.len(),
            "a line for each kind of step: {kinds:?}"
        );
        assert!(kinds.values().any(|&(end, count)| count >= 100 && end > 0.0), "{kinds:?}");
    }
}

#[test]
fn people_get_tables_and_mistakes_are_told() {
    let place = Place::new();
    let text = place.ok(&[&SMALL, &["--device", "cpu", "--kernels", "3"][..]].concat()).stdout;
    for thing in
        ["GFLOP/s in f32", "step, head learns", "images/s", "share", "kernels more", "geometric mean"]
    {
        assert!(text.contains(thing), "{thing}\n{text}");
    }
    place.run(&["bench", "resnet21"]).failed(2, &["resnet21", "did you mean"]);
    place.run(&["bench", "resnet20", "--freeze-through", "layer9", "--device", "cpu"]).failed(2, &["layer9"]);
}

#[test]
fn every_kernel_of_an_op_is_measured() {
    let place = Place::new();
    let all = events(
        &place
            .ok(&[&["bench", "--ops", "add", "pool.max", "--batch", "1", "--json"], &ADAPTER[..]].concat())
            .stdout,
    );
    let ops = of(&all, "op");
    let names: Vec<&str> = ops.iter().map(|o| o["op"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"add.forward") && names.contains(&"pool.max") && !names.contains(&"pool.max_grad"),
        "{names:?}"
    );
    assert!(ops.iter().any(|o| o["layer"].is_string()) && ops.iter().any(|o| o["layer"].is_null()));
    for op in &ops {
        let [least, median, most] = ["least", "median", "most"].map(|n| op["seconds"][n].as_f64().unwrap());
        assert!(0.0 < least && least <= median && median <= most, "{op}");
        let share = op["share"].as_f64().unwrap();
        assert!(share > 0.0 && op["bytes"].as_f64().unwrap() > 0.0, "{op}");
    }
    // An op on the same operands has all its kernels, one after the other.
    let on = |o: &Value| (o["what"].to_string(), o["operands"].to_string());
    let both =
        ops.windows(2).any(|pair| on(pair[0]) == on(pair[1]) && pair[0]["kernel"] != pair[1]["kernel"]);
    assert!(both, "some have several kernels");
    let text = place.ok(&["bench", "--ops", "add", "--batch", "1", "--device", "cpu"]).stdout;
    assert!(text.contains("native") && text.contains("resnet18 layer1 add"), "{text}");
    place.run(&["bench", "--ops", "conf"]).failed(2, &["conf", "did you mean 'conv'"]);
    place.run(&["bench", "resnet18", "--ops", "conv"]).failed(2, &["--ops"]);
}
