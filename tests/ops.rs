//! Every op, every case, every kernel: GPU and CPU against the f64 reference, between guard words, and
//! every gradient against finite differences in the middle of a graph.
//!
//! Gradient ops need no cases: the gradients of all cases are recorded on tapes, interpreted in f64,
//! and each of their nodes is then run like a case of its own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use defrost::gpu::{Caps, Gpu, GpuOptions};
use defrost::ops::REGISTRY;
use defrost::plan::probe::{self, Recorded, Values};
use defrost::tape::{Data, Io, Op, Real, Type, Variant};
use defrost::{Result, ops};

/// One op with inputs, and what it must answer.
struct Item {
    label: String,
    op: Arc<dyn Op>,
    types: Vec<Type>,
    inputs: Vec<Data<f32>>,
    output_types: Vec<Type>,
    outputs: Vec<Data<f64>>,
    updates: Vec<Vec<f64>>,
}

fn round<T: Real>(data: &Data<f64>) -> Data<T> {
    match data {
        Data::Real(values) => Data::Real(values.iter().map(|&x| T::of(f64::from(x as f32))).collect()),
        Data::U32(values) => Data::U32(values.clone()),
        Data::U8(values) => Data::U8(values.clone()),
    }
}

impl Item {
    /// The inputs are rounded to f32 first, so that every precision starts from the same numbers.
    fn new(label: String, op: Arc<dyn Op>, types: Vec<Type>, inputs: &[Data<f64>]) -> Result<Self> {
        let exact: Vec<Data<f64>> = inputs.iter().map(round).collect();
        let borrowed: Vec<&Type> = types.iter().collect();
        let output_types = op.infer(&borrowed)?;
        let (outputs, updates) = probe::reference(op.as_ref(), &exact, &borrowed)?;
        let inputs = inputs.iter().map(round).collect();
        Ok(Item { label, op, inputs, output_types, outputs, updates, types })
    }

    fn io(&self) -> Io<'_> {
        Io::whole(&self.types.iter().collect::<Vec<_>>(), &self.output_types.iter().collect::<Vec<_>>())
    }

    /// Complaints about one answer. `ignored` outputs may hold anything.
    fn judge(
        &self,
        who: &str,
        outputs: &[Data<f32>],
        updates: &[Vec<f32>],
        ignored: &[usize],
    ) -> Vec<String> {
        let mut bad = Vec::new();
        for (i, (got, want)) in outputs.iter().zip(&self.outputs).enumerate() {
            if !ignored.contains(&i) {
                bad.extend(difference(got, want).map(|text| format!("output {i}{text}")));
            }
        }
        for (i, (got, want)) in updates.iter().zip(&self.updates).enumerate() {
            let (got, want) = (Data::Real(got.clone()), Data::Real(want.clone()));
            bad.extend(difference(&got, &want).map(|text| format!("update {i}{text}")));
        }
        bad.into_iter().map(|text| format!("{}, {who}: {text}", self.label)).collect()
    }
}

/// The first element that is off by more than rounding. The bound is relative to the largest element:
/// sums of a few thousand terms round to 1e-5 of the terms' size.
fn difference(got: &Data<f32>, want: &Data<f64>) -> Option<String> {
    match (got, want) {
        (Data::Real(got), Data::Real(want)) => {
            let largest = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            let bound = 3e-5 * largest + 1e-6;
            let off = |(&g, &w): (&f32, &f64)| {
                let (g, same) = (f64::from(g), g.is_nan() && w.is_nan());
                !same && (g.is_nan() || (g - w).abs() > bound)
            };
            let i = got.iter().zip(want).position(off)?;
            Some(format!("[{i}] is {}, expected {} (largest {largest:.3e})", got[i], want[i]))
        }
        (Data::U32(got), Data::U32(want)) => {
            let i = got.iter().zip(want).position(|(g, w)| g != w)?;
            Some(format!("[{i}] is {}, expected {}", got[i], want[i]))
        }
        (Data::U8(got), Data::U8(want)) => {
            let i = got.iter().zip(want).position(|(g, w)| g != w)?;
            Some(format!("[{i}] is {}, expected {}", got[i], want[i]))
        }
        _ => Some(" has another element type".into()),
    }
}

/// All cases, and every node of their gradients that is not the same as one before.
fn items() -> &'static [Item] {
    static ITEMS: OnceLock<Vec<Item>> = OnceLock::new();
    ITEMS.get_or_init(|| {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
            let types: Vec<Type> = case.inputs.iter().map(|(ty, _)| ty.clone()).collect();
            let inputs: Vec<Data<f64>> = (0..types.len()).map(|i| case.data(i)).collect();
            let item = Item::new(case.label(), case.op.clone(), types, &inputs);
            all.push(item.unwrap_or_else(|e| panic!("{}: {e}", case.label())));
            if case.differentiable.is_empty() {
                continue;
            }
            let (recorded, values) = interpreted(&case, &case.differentiable);
            for node in &recorded.tape.nodes[recorded.forward..] {
                let types: Vec<Type> = node.inputs.iter().map(|&v| recorded.tape.ty(v).clone()).collect();
                if !seen.insert((node.op.name(), node.op.attributes(), types.clone())) {
                    continue;
                }
                let inputs: Vec<Data<f64>> = node.inputs.iter().map(|v| values[v].clone()).collect();
                let label = format!("{}[{}] of {}", node.op.name(), node.op.attributes(), case.label());
                let item = Item::new(label, node.op.clone(), types, &inputs);
                all.push(item.unwrap_or_else(|e| panic!("{}: {e}", case.label())));
            }
        }
        all
    })
}

fn interpreted(case: &ops::Case, trainable: &[usize]) -> (Recorded, Values<f64>) {
    let run = || -> Result<_> {
        let recorded = probe::record(case, trainable)?;
        let mut values = recorded.values::<f64>(case);
        probe::interpret(&recorded.tape, recorded.tape.nodes.len(), &mut values)?;
        Ok((recorded, values))
    };
    run().unwrap_or_else(|e| panic!("{}: {e}", case.label()))
}

fn open(options: GpuOptions) -> Gpu {
    let gpu = Gpu::with_options(&options);
    gpu.unwrap_or_else(|e| panic!("these tests need a GPU adapter, software Vulkan counts: {e}"))
}

/// Fails with up to five complaints an op.
fn report(bad: &[String], checked: usize) {
    assert!(checked > 0, "nothing was checked");
    let mut shown: HashMap<&str, usize> = HashMap::new();
    let mut lines = String::new();
    for line in bad {
        let count = shown.entry(line.split('[').next().unwrap_or_default()).or_default();
        *count += 1;
        if *count <= 5 {
            lines.push_str("\n  ");
            lines.push_str(line);
        }
    }
    assert!(bad.is_empty(), "{} of {checked} checks failed, among them:{lines}", bad.len());
}

/// Runs every variant of every item on `gpu`. `thorough`: also the variants that another kind of device
/// would get (they split sums otherwise), and each once more with each output of several unread.
fn check_kernels(gpu: &Gpu, thorough: bool) {
    let (mut bad, mut checked) = (Vec::new(), 0);
    let mut devices = vec![gpu.caps().clone()];
    if thorough {
        devices.push(Caps { software: !gpu.caps().software, ..gpu.caps().clone() });
    }
    for item in items() {
        let many = item.outputs.len() > 1;
        let ignored = (0..item.outputs.len()).filter(|_| thorough && many).map(|i| vec![i]);
        for ignored in std::iter::once(Vec::new()).chain(ignored) {
            let mut io = item.io();
            ignored.iter().for_each(|&i| io.outputs[i].used = false);
            let variants: Vec<Variant> = devices.iter().flat_map(|caps| item.op.kernels(&io, caps)).collect();
            if variants.is_empty() != item.op.is_view() {
                bad.push(format!("{}: only a view has no kernel", item.label));
            }
            for variant in variants {
                checked += 1;
                match probe::run_io(gpu, item.op.as_ref(), &variant, &io, &item.inputs) {
                    Ok(got) => bad.extend(item.judge(variant.name, &got.outputs, &got.updates, &ignored)),
                    Err(e) => bad.push(format!("{}: {e}", item.label)),
                }
            }
        }
    }
    report(&bad, checked);
}

#[test]
fn kernels_match_the_reference() {
    check_kernels(&open(GpuOptions { checked: false, ..GpuOptions::default() }), true);
}

#[test]
fn kernels_match_within_webgpu_limits() {
    let options = GpuOptions { webgpu_limits: true, checked: false, ..GpuOptions::default() };
    check_kernels(&open(options), false);
}

/// Bounds checks clamp what would otherwise be read or written outside: an answer that depends on such
/// an access differs from the unchecked one.
#[test]
fn kernels_match_with_bounds_checks() {
    check_kernels(&open(GpuOptions { checked: true, ..GpuOptions::default() }), false);
}

#[test]
fn cpu_in_f32_matches_the_reference() {
    let (mut bad, mut checked) = (Vec::new(), 0);
    for item in items() {
        checked += 1;
        let types: Vec<&Type> = item.types.iter().collect();
        match probe::reference::<f32>(item.op.as_ref(), &item.inputs, &types) {
            Ok((outputs, updates)) => bad.extend(item.judge("cpu", &outputs, &updates, &[])),
            Err(e) => bad.push(format!("{}: {e}", item.label)),
        }
    }
    report(&bad, checked);
}

/// Values that are too large for one binding lie in several, cut along dimension 0.
#[test]
fn split_operands_match_the_reference() {
    let gpu = open(GpuOptions::default());
    let (mut bad, mut checked) = (Vec::new(), 0);
    for item in items() {
        let count = item.types.len();
        for operand in (0..count + item.output_types.len()).filter(|&i| item.op.splittable(i)) {
            let mut io = item.io();
            let rows = if operand < count { io.input(operand)[0] } else { io.output(operand - count)[0] };
            // In halves, in quads of rows as vec4 loads want them, and in three uneven parts.
            let cuts = [vec![rows / 2], vec![(rows / 2).next_multiple_of(4)], vec![rows / 3, rows / 3 * 2]];
            for cut in cuts.into_iter().filter(|cut| cut[0] > 0 && cut[cut.len() - 1] < rows) {
                let ends = cut.iter().copied().chain([rows]);
                let starts = [0].into_iter().chain(cut.iter().copied());
                let parts: Vec<_> = starts.zip(ends).map(|(start, end)| start..end).collect();
                let value =
                    if operand < count { &mut io.inputs[operand] } else { &mut io.outputs[operand - count] };
                value.parts = parts;
                for variant in item.op.kernels(&io, gpu.caps()) {
                    checked += 1;
                    let who = format!("{} with operand {operand} cut at {cut:?}", variant.name);
                    match probe::run_io(&gpu, item.op.as_ref(), &variant, &io, &item.inputs) {
                        Ok(got) => bad.extend(item.judge(&who, &got.outputs, &got.updates, &[])),
                        Err(e) => bad.push(format!("{}, {who}: {e}", item.label)),
                    }
                }
            }
        }
    }
    report(&bad, checked);
}

fn real(data: &Data<f64>) -> &[f64] {
    if let Data::Real(values) = data { values } else { &[] }
}

/// The first output times the upstream gradient, summed, with one element of one input moved.
fn moved(recorded: &Recorded, base: &Values<f64>, input: usize, at: usize, by: f64) -> f64 {
    let mut values = base.clone();
    if let Some(Data::Real(x)) = values.get_mut(&recorded.inputs[input]) {
        x[at] += by;
    }
    probe::interpret(&recorded.tape, recorded.forward, &mut values).expect("it ran before");
    let upstream = recorded.upstream.expect("something is trainable");
    real(&values[&recorded.outputs[0]]).iter().zip(real(&values[&upstream])).map(|(y, g)| y * g).sum()
}

/// The gradient of every differentiable input against central differences in f64, under a random
/// upstream gradient. Two step sizes must agree, else a kink lies between them and the element does
/// not count; at most half of the elements may be lost so.
#[test]
fn gradients_match_finite_differences() {
    const SAMPLES: usize = 40;
    let (mut bad, mut checked) = (Vec::new(), 0);
    for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
        if case.differentiable.is_empty() {
            continue;
        }
        let label = case.label();
        let (recorded, values) = interpreted(&case, &case.differentiable);
        let base = recorded.values::<f64>(&case);
        for &input in &case.differentiable {
            let Some(grad) = recorded.grads.get(&recorded.inputs[input]) else {
                bad.push(format!("{label}: input {input} has no gradient"));
                continue;
            };
            let grad = real(&values[grad]);
            let largest = grad.iter().fold(1e-3_f64, |m, g| m.max(g.abs()));
            // A step that is prime to every extent visits all rows, columns and channels.
            let places = grad.len().min(SAMPLES);
            let stride = if grad.len() <= SAMPLES { 1 } else { grad.len() / SAMPLES * 7919 + 1 };
            let mut kinks = 0;
            for at in (0..places).map(|i| i * stride % grad.len()) {
                checked += 1;
                let slope = |step: f64| {
                    let [high, low] = [step, -step].map(|by| moved(&recorded, &base, input, at, by));
                    (high - low) / (2.0 * step)
                };
                let (wide, narrow) = (slope(case.epsilon), slope(case.epsilon * 0.6));
                if (wide - narrow).abs() > 1e-6 * largest {
                    kinks += 1;
                } else if (wide - grad[at]).abs() > 1e-5 * largest {
                    bad.push(format!("{label}: gradient {input}[{at}] is {}, slope {wide}", grad[at]));
                }
            }
            if kinks * 2 > places {
                bad.push(format!("{label}: gradient {input} meets kinks at {kinks} of {places} places"));
            }
        }
    }
    report(&bad, checked);
}

/// Each gradient is an op of its own: asking for one input alone gives the same numbers.
#[test]
fn gradients_do_not_depend_on_what_else_is_trainable() {
    let (mut bad, mut checked) = (Vec::new(), 0);
    for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
        if case.differentiable.len() < 2 {
            continue;
        }
        let (all, all_values) = interpreted(&case, &case.differentiable);
        for &input in &case.differentiable {
            checked += 1;
            let (alone, values) = interpreted(&case, &[input]);
            let pair = [(&all, &all_values), (&alone, &values)].map(|(recorded, values)| {
                recorded.grads.get(&recorded.inputs[input]).map(|grad| values[grad].clone())
            });
            if pair[0] != pair[1] || alone.grads.len() != 1 {
                bad.push(format!("{}: gradient {input} alone", case.label()));
            }
            if alone.tape.nodes.len() > all.tape.nodes.len() {
                bad.push(format!("{}: gradient {input} alone takes more nodes than all", case.label()));
            }
        }
    }
    report(&bad, checked);
}
