//! Every op, every case, every kernel: GPU and CPU against the f64 reference, between guard words, and
//! every gradient against finite differences in the middle of a graph.
//! What is checked, and what counts as right, is `defrost certify`'s: `src/plan/certify.rs`.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::common::options;
use defrost::gpu::{Caps, Gpu, GpuOptions};
use defrost::ops;
use defrost::ops::{Conv, Epilogue, Padding, REGISTRY, Window, Winograd, WinogradWeight};
use defrost::plan::certify::{self, Check, Checks, Verdict};
use defrost::plan::probe::{self, Recorded, Values};
use defrost::tape::{Data, Tape, Type};

/// All cases, and every node of their gradients that is not the same as one before.
fn items() -> &'static [Check] {
    static ITEMS: OnceLock<Vec<Check>> = OnceLock::new();
    ITEMS.get_or_init(|| {
        let mut checks = Checks::default();
        let cases = REGISTRY.iter().flat_map(|family| (family.cases)());
        cases.flat_map(|c| checks.of(&c).unwrap_or_else(|e| panic!("{}: {e}", c.label()))).collect()
    })
}

/// Complaints about one answer. `ignored` outputs may hold anything.
fn judge(
    item: &Check,
    who: &str,
    outputs: &[Data<f32>],
    updates: &[Vec<f32>],
    ignored: &[usize],
) -> Vec<String> {
    let Verdict { error, wrong } = item.judge(outputs, updates, ignored);
    assert_eq!(error > 1.0, !wrong.is_empty(), "{}: a wrong element is an error beyond 1", item.label);
    wrong.into_iter().map(|text| format!("{}, {who}: {text}", item.label)).collect()
}

fn interpreted(case: &ops::Case, trainable: &[usize]) -> (Recorded, Values<f64>) {
    probe::interpreted(case, trainable).unwrap_or_else(|e| panic!("{}: {e}", case.label()))
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
    let both = certify::both_kinds(gpu.caps());
    let devices: &[Caps] = if thorough { &both } else { &both[..1] };
    for item in items() {
        for ignored in certify::unread(item).take(if thorough { usize::MAX } else { 1 }) {
            let mut io = item.io();
            ignored.iter().for_each(|&i| io.outputs[i].used = false);
            let variants = certify::variants(item.op.as_ref(), &io, devices);
            if variants.is_empty() != item.op.is_view() {
                bad.push(format!("{}: only a view has no kernel", item.label));
            }
            for variant in variants {
                checked += 1;
                match probe::run_io(gpu, item.op.as_ref(), &variant, &io, &item.inputs) {
                    Ok(got) => bad.extend(judge(item, variant.name, &got.outputs, &got.updates, &ignored)),
                    Err(e) => bad.push(format!("{}: {e}", item.label)),
                }
            }
        }
    }
    report(&bad, checked);
}

#[test]
fn kernels_match_the_reference() {
    check_kernels(&open(options().with(|c| c.checked = false)), true);
}

#[test]
fn kernels_match_within_webgpu_limits() {
    let options = options().with(|c| {
        c.webgpu_limits = true;
        c.checked = false;
    });
    check_kernels(&open(options), false);
}

/// Bounds checks clamp what would otherwise be read or written outside: an answer that depends on such
/// an access differs from the unchecked one.
#[test]
fn kernels_match_with_bounds_checks() {
    check_kernels(&open(options().with(|c| c.checked = true)), false);
}

#[test]
fn cpu_in_f32_matches_the_reference() {
    let (mut bad, mut checked) = (Vec::new(), 0);
    for item in items() {
        checked += 1;
        let types: Vec<&Type> = item.types.iter().collect();
        match probe::reference::<f32>(item.op.as_ref(), &item.inputs, &types) {
            Ok((outputs, updates)) => bad.extend(judge(item, "cpu", &outputs, &updates, &[])),
            Err(e) => bad.push(format!("{}: {e}", item.label)),
        }
    }
    report(&bad, checked);
}

/// A NaN among the inputs reaches the outputs that depend on it, in every kernel and on the CPU, as in the f64
/// reference: what went wrong stays visible.
#[test]
fn no_kernel_hides_a_nan() {
    let gpu = open(options().with(|c| c.checked = false));
    let (mut bad, mut checked) = (Vec::new(), 0);
    let wide = |data: &Data<f32>| match data {
        Data::Real(values) => Data::Real(values.iter().map(|&x| f64::from(x)).collect()),
        Data::U32(values) => Data::U32(values.clone()),
        Data::U8(values) => Data::U8(values.clone()),
    };
    for item in items() {
        let types: Vec<&Type> = item.types.iter().collect();
        for poisoned in 0..item.inputs.len() {
            let mut inputs = item.inputs.clone();
            let Data::Real(values) = &mut inputs[poisoned] else { continue };
            let at = values.len() / 2;
            values[at] = f32::NAN;
            let wanted: Vec<Data<f64>> = inputs.iter().map(wide).collect();
            let (wanted, updated) = probe::reference::<f64>(item.op.as_ref(), &wanted, &types).unwrap();
            let lost = |outputs: &[Data<f32>], updates: &[Vec<f32>]| {
                let outputs =
                    wanted.iter().zip(outputs).filter_map(|(wanted, found)| match (wanted, found) {
                        (Data::Real(wanted), Data::Real(found)) => Some((wanted, found)),
                        _ => None,
                    });
                let lost = |(wanted, found): (&Vec<f64>, &Vec<f32>)| {
                    wanted.iter().zip(found).filter(|(w, f)| w.is_nan() && f.is_finite()).count()
                };
                outputs.chain(updated.iter().zip(updates)).map(lost).sum::<usize>()
            };
            let all: usize = wanted
                .iter()
                .map(
                    |data| if let Data::Real(x) = data { x.iter().filter(|x| x.is_nan()).count() } else { 0 },
                )
                .sum();
            // A tap of a convolution over the padding alone may be left out, or multiplied by 0.
            let taps = ["conv.", "depthwise."].iter().any(|name| item.label.starts_with(name));
            let allowed = if taps && poisoned == 1 { all.saturating_sub(1) } else { 0 };
            let mut check = |who: &str, lost: usize| {
                checked += 1;
                if lost > allowed {
                    bad.push(format!(
                        "{}, {who}: a NaN in input {poisoned} is lost {lost} times",
                        item.label
                    ));
                }
            };
            let (outputs, updates) = probe::reference::<f32>(item.op.as_ref(), &inputs, &types).unwrap();
            check("cpu", lost(&outputs, &updates));
            for variant in item.op.kernels(&item.io(), gpu.caps()) {
                let got = probe::run_io(&gpu, item.op.as_ref(), &variant, &item.io(), &inputs).unwrap();
                check(variant.name, lost(&got.outputs, &got.updates));
            }
        }
    }
    report(&bad, checked);
}

/// PyTorch's activations of numbers that are none.
#[test]
fn activations_of_nan_and_infinity_are_pytorchs() {
    use ops::Activation as A;
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let cases = [
        (A::Relu, [nan, inf, 0.0]),
        (A::Relu6, [nan, 6.0, 0.0]),
        (A::HardSwish, [nan, inf, nan]),
        (A::HardSigmoid, [nan, 1.0, 0.0]),
        (A::Silu, [nan, inf, nan]),
        (A::Sigmoid, [nan, 1.0, 0.0]),
    ];
    let gpu = open(options());
    for (activation, wanted) in cases {
        // Of four, and of one channel at a time.
        for shape in [[4, 4], [3, 3]] {
            let x: Vec<f32> = [nan, inf, -inf].into_iter().cycle().take(shape[0] * shape[1]).collect();
            let case = ops::Case::new(ops::Activate(activation), &[&shape]);
            let ty = Type::f32(&shape);
            let op = case.op.as_ref();
            let (cpu, _) = probe::reference::<f32>(op, &[Data::Real(x.clone())], &[&ty]).unwrap();
            let mut answers = vec![("cpu", cpu)];
            let io = defrost::tape::Io::whole(std::slice::from_ref(&&ty), std::slice::from_ref(&&ty));
            for variant in op.kernels(&io, gpu.caps()) {
                let got = probe::run_io(&gpu, op, &variant, &io, &[Data::Real(x.clone())]).unwrap();
                answers.push((variant.name, got.outputs));
            }
            for (who, outputs) in answers {
                let Data::Real(y) = &outputs[0] else { panic!("floats") };
                let as_wanted = |(i, y): (usize, &f32)| {
                    let wanted = wanted[i % 3];
                    if wanted.is_nan() { y.is_nan() } else { *y == wanted }
                };
                assert!(y.iter().enumerate().all(as_wanted), "{activation:?} {who}: {y:?}");
            }
        }
    }
}

/// Values that are too large for one binding lie in several, cut along dimension 0.
#[test]
fn split_operands_match_the_reference() {
    let gpu = open(options());
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
                        Ok(got) => bad.extend(judge(item, &who, &got.outputs, &got.updates, &[])),
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

/// The gradient of every differentiable input against central differences in f64, under a random
/// upstream gradient.
#[test]
fn gradients_match_finite_differences() {
    let (mut bad, mut checked) = (Vec::new(), 0);
    for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
        let (places, wrong) = certify::slopes(&case).unwrap_or_else(|e| panic!("{}: {e}", case.label()));
        checked += places;
        bad.extend(wrong);
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

/// Winograd's form of a convolution, and of its gradient, is the same function.
#[test]
fn winograd_is_the_convolution() {
    let uneven = Padding { top: 0, left: 2, bottom: 1, right: 1 };
    for (padding, x, columns) in [
        (Padding::same(1), [2, 5, 8, 12], 20),
        (uneven, [1, 6, 7, 4], 8),
        (Padding::same(0), [3, 3, 4, 8], 16),
    ] {
        let window = Window { padding, ..Window::square(3, 1, 0) };
        let conv = Conv { window, groups: 1, epilogue: Epilogue::default() };
        let case = ops::Case::new(conv, &[&x, &[3, 3, x[3], columns]]);
        let (recorded, values) = interpreted(&case, &[0]);
        let value = |v| real(&values[&v]).to_vec();
        let [input, w] = [0, 1].map(|i| recorded.inputs[i]);
        let upstream = recorded.upstream.expect("it is trainable");
        let turned = Padding {
            top: 2 - padding.top,
            left: 2 - padding.left,
            bottom: 2 - padding.bottom,
            right: 2 - padding.right,
        };
        for (flipped, padding, from, to) in
            [(false, padding, input, recorded.outputs[0]), (true, turned, upstream, recorded.grads[&input])]
        {
            let mut tape = Tape::new();
            let [a, b] =
                [("x", from), ("w", w)].map(|(name, v)| tape.input(name, recorded.tape.ty(v).clone()));
            let u = tape.apply(WinogradWeight { flipped }, &[b]).expect("it fits");
            let columns = recorded.tape.shape(to)[3];
            let op = Winograd { padding, columns, epilogue: Epilogue::default() };
            let y = tape.apply(op, &[a, u]).expect("it fits");
            let mut found = Values::from([(a, Data::Real(value(from))), (b, Data::Real(value(w)))]);
            probe::interpret(&tape, tape.nodes.len(), &mut found).expect("it runs");
            let (found, expected) = (real(&found[&y]), value(to));
            assert_eq!(found.len(), expected.len());
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-12, "flipped {flipped}: off by {off:.1e}");
        }
    }
}

#[test]
fn dropout_by_row_keeps_or_drops_whole_images() {
    let op: std::sync::Arc<dyn defrost::tape::Op> =
        std::sync::Arc::new(ops::Dropout { p: 0.25, salt: 3, by_row: true });
    let x = vec![1.5_f32; 64 * 15];
    let inputs = vec![
        (Type::f32(&[64, 3, 5]), bytemuck::cast_slice(&x).to_vec()),
        (Type::u32(&[2]), bytemuck::cast_slice(&[7_u32, 1]).to_vec()),
    ];
    let single =
        defrost::plan::measure::Single::new(&defrost::plan::Device::Cpu, &Caps::host(), &op, inputs).unwrap();
    let y: Vec<f32> = bytemuck::pod_collect_to_vec(&single.outputs()[0]);
    let rows: Vec<&[f32]> = y.chunks(15).collect();
    assert!(rows.iter().all(|row| row.iter().all(|&v| v == 0.0) || row.iter().all(|&v| v == 2.0)), "{y:?}");
    let dropped = rows.iter().filter(|row| row[0] == 0.0).count();
    assert!((6..=28).contains(&dropped), "{dropped} of 64 images, where 16 are expected");
}
