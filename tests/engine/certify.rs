//! `defrost certify`: what is right passes, and what is broken on purpose is named.

#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;
use crate::toy;

use command::{ADAPTER, Place};
use common::{gpu, options};
use defrost::gpu::{Gpu, Source};
use defrost::ops::{Case, REGISTRY};
use defrost::plan::Device;
use defrost::plan::certify::{Certifier, Selection, Tally};
use defrost::tape::{Io, Op, Variant};
use defrost::train;
use toy::{Double, variant};

/// `y = 2 x`, by kernels of which one is right and each other wrong in its own way.
const DOUBLE: Double = Double(right_and_wrong);

fn right_and_wrong(io: &Io<'_>) -> Vec<Variant> {
    let mut all = vec![
        variant("right", source!("right", "y[i] = 2.0 * x[i];"), io),
        variant("imprecise", source!("imprecise", "y[i] = 2.002 * x[i];"), io),
        variant("too_far", source!("too_far", "y[i] = 2.0 * x[i]; if i == 0u { y[n + 7u] = 1.0; }"), io),
        variant("too_early", source!("too_early", "if i > 0u { y[i] = 2.0 * x[i]; }"), io),
        variant("no_number", source!("no_number", "y[i] = 2.0 * x[i] + sqrt(-1.0 - x[i] * x[i]);"), io),
        variant("no_wgsl", source!("no_wgsl", "y[i] = 2.0 ** x[i];"), io),
        variant("too_many", source!("too_many", "y[i] = 2.0 * x[i];"), io),
    ];
    all[6].launches[0].groups = [70_000, 1, 1];
    all
}

fn tally<'a>(all: &'a [Tally], op: &str, variant: &str) -> &'a Tally {
    all.iter()
        .find(|t| t.op == op && t.variant == variant)
        .unwrap_or_else(|| panic!("{op} {variant}: {all:?}"))
}

#[test]
fn each_broken_kernel_is_named_with_what_is_wrong() {
    // A device of its own: the command that it refuses would be an error of whoever uses it at that time.
    let device = Device::Gpu(Gpu::with_options(&options()).unwrap());
    let mut certifier = Certifier::new(&device);
    let case = Case::new(DOUBLE, &[&[3, 5]]).grads(&[]);
    let stopped = certifier.case(&case, |_| true);
    let all = certifier.finish();
    let right = tally(&all, "double.forward", "right");
    assert!(right.failures.is_empty() && right.runs == 1 && right.error < 1.0, "{right:?}");
    for (variant, sign) in [
        ("imprecise", "output 0["),
        ("too_far", "wrote outside of output 0 part 0"),
        ("too_early", "output 0[0] is NaN"),
        ("no_number", "is NaN"),
        ("no_wgsl", "test/no_wgsl"),
        ("too_many", "70000"),
    ] {
        let broken = tally(&all, "double.forward", variant);
        let [failure] = &broken.failures[..] else { panic!("{broken:?}") };
        assert!(failure.what.contains(sign) && broken.error > 1.0, "{variant}: {failure:?}");
        assert_eq!(failure.case, "double.forward[] [3, 5]", "{variant}");
    }
    assert!(stopped.is_err_and(|e| e.to_string().contains("70000")), "the device refused a command");
}

/// Certifies one op's family with `from` replaced by `to` in one of its shaders.
fn broken(selection: &str, path: &str, from: &str, to: &str) -> Vec<Tally> {
    let source = |source: &'static Source| -> &'static Source {
        assert_eq!(source.text.matches(from).count(), 1, "{path}: {from}");
        Box::leak(Box::new(Source { path: source.path, text: source.text.replace(from, to).leak() }))
    };
    let edit = |_: &dyn Op, variant: &mut Variant| {
        for launch in variant.launches.iter_mut().filter(|launch| launch.kernel.source.path == path) {
            launch.kernel.source = source(launch.kernel.source);
        }
    };
    let device = Device::Gpu(gpu());
    let selection = Selection::new(&[selection.to_string()]).unwrap();
    let mut certifier = Certifier::new(&device).edit(edit);
    for (family, case) in selection.cases() {
        certifier.case(&case, |op| selection.takes(family, op)).unwrap();
    }
    certifier.finish()
}

#[test]
fn a_changed_line_in_a_shader_is_found() {
    let wrong = |all: &[Tally]| -> Vec<(&str, &str)> {
        all.iter().filter(|t| !t.failures.is_empty()).map(|t| (t.op, t.variant)).collect()
    };
    let all = broken("add", "add/pointwise.wgsl", "a[i] + b[i]", "a[i] + b[i]");
    assert!(wrong(&all).is_empty() && all.len() == 1 && all[0].runs > 2, "{all:?}");
    let all = broken("add", "add/pointwise.wgsl", "a[i] + b[i]", "a[i] + 1.001 * b[i]");
    assert_eq!(wrong(&all), [("add.forward", "pointwise")]);

    let guard = "if row >= params.rows || quad >= quads { return; }";
    let all = broken("matmul", "matmul/tile.wgsl", guard, "if quad >= quads { return; }");
    assert_eq!(wrong(&all), [("matmul.forward", "tile")]);
    let what = &tally(&all, "matmul.forward", "tile").failures[0].what;
    assert!(what.contains("wrote outside of output 0"), "{what}");
    assert!(all.len() > 5, "the others passed: {all:?}");

    let loop_over = "for (var k = 0u; k < depth; k++)";
    let all = broken("matmul.forward", "matmul/tile.wgsl", loop_over, "for (var k = 1u; k < depth; k++)");
    assert_eq!(wrong(&all), [("matmul.forward", "tile")]);
    assert!(all.iter().all(|t| t.op == "matmul.forward"), "only what was selected: {all:?}");
}

#[test]
fn the_cpu_is_certified_in_f32() {
    let mut certifier = Certifier::new(&Device::Cpu);
    for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
        certifier.case(&case, |_| true).unwrap();
    }
    let all = certifier.finish();
    assert!(all.len() > 25 && all.iter().all(|t| t.variant == "native" && t.failures.is_empty()), "{all:?}");
}

#[test]
fn networks_agree_with_f64() {
    for device in [Device::Gpu(gpu()), Device::Cpu] {
        let verdict = train::certify(&device, "resnet20").unwrap();
        println!("{verdict:?}");
        assert!(verdict.is_right(), "{verdict:?}");
        // An error of 0 would be no comparison.
        assert!(verdict.figures.iter().all(|f| f.error > 0.0 && f.error.is_finite()), "{verdict:?}");
    }
}

#[test]
fn the_command_lists_kernels_and_passes() {
    let place = Place::new();
    let [device, adapter] = ADAPTER;
    let json = place.ok(&["certify", "--ops", "add,pool", "--models", "none", device, adapter, "--json"]);
    let kernels = json.named("kernel");
    let found = |op: &str| kernels.iter().filter(|k| k["op"] == op).count();
    for op in ["add.forward", "pool.max", "pool.max_grad", "pool.average", "pool.adaptive_grad"] {
        assert!(found(op) > 0, "{op}: {kernels:?}");
    }
    for kernel in &kernels {
        assert_eq!(kernel["passed"], true, "{kernel}");
        assert!(kernel["kernel"].is_string() && kernel["runs"].as_u64() > Some(0), "{kernel}");
        assert!((0.0..1.0).contains(&kernel["error"].as_f64().unwrap()), "{kernel}");
    }
    let about = &json.named("device")[0];
    assert_eq!(about["defrost"], env!("CARGO_PKG_VERSION"));
    assert!(about["driver"].is_string() && about["limits"]["max_binding"].is_u64(), "{about}");
    let done = json.done();
    assert_eq!((&done["passed"], &done["models"]), (&true.into(), &0.into()), "{done}");

    let text = place.ok(&["certify", "--ops", "add", "--models", "resnet20", "--device", "cpu"]);
    for thing in ["CPU, ", "add.forward", "native", "resnet20", "passed: 1 kernel in ", " runs, 1 network; "]
    {
        assert!(text.stdout.contains(thing), "{thing}:\n{}", text.stdout);
    }
}

#[test]
fn unknown_ops_and_networks_are_wrong_usage() {
    let place = Place::new();
    let certify = |args: &[&str]| place.run(&[&["certify", "--device", "cpu"], args].concat());
    certify(&["--ops", "convolution"]).failed(2, &["convolution", "conv, cross_entropy"]);
    certify(&["--ops", "conv.grad_weigth"]).failed(2, &["did you mean 'conv.grad_weight'?"]);
    certify(&["--ops", "reshape", "--models", "none"]).failed(2, &["--ops reshape", "no kernel"]);
    certify(&["--ops", "none", "--models", "none"]).failed(2, &["nothing is left"]);
    certify(&["--models", "resnet2o"]).failed(2, &["did you mean 'resnet20'"]);
}
