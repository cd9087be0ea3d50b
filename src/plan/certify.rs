//! Checks that a device computes correct results: every kernel on every op's cases and on their gradients, between
//! guard words and on poisoned outputs, against the CPU in f64. `defrost certify` and `tests/engine/ops.rs` share
//! this module.
//!
//! Gradient ops need no cases: the gradients of all cases are recorded on tapes and interpreted in f64, and each of
//! their nodes is then checked like a case of its own.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::{Device, probe};
use crate::gpu::{Caps, Gpu};
use crate::ops::{Case, Family, REGISTRY};
use crate::tape::{Data, Io, Op, Real, Type, Variant};
use crate::{Error, Result, did_you_mean};

/// Allowed rounding error, relative to the largest element of a value. Sums of a few thousand terms round to 1e-5 of
/// the terms' size.
pub(super) const RELATIVE: f64 = 3e-5;
/// Allowed absolute error, added for values that are all near 0.
pub(super) const ABSOLUTE: f64 = 1e-6;

/// One op on inputs, and the expected outputs.
pub struct Check {
    /// Op, attributes, types; for a gradient, the case that it belongs to.
    pub label: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// Types of the inputs.
    pub types: Vec<Type>,
    /// The inputs.
    pub inputs: Vec<Data<f32>>,
    /// Types of the outputs.
    pub output_types: Vec<Type>,
    outputs: Vec<Data<f64>>,
    updates: Vec<Vec<f64>>,
}

/// The error of a result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// The largest error as a share of the allowed rounding error: correct up to 1. Infinite where a number is
    /// missing or an integer differs.
    pub error: f64,
    /// The first wrong element of each wrong output: `output 0[3] is 2, expected 1 (largest 4)`.
    pub wrong: Vec<String>,
}

fn round<T: Real>(data: &Data<f64>) -> Data<T> {
    match data {
        Data::Real(values) => Data::Real(values.iter().map(|&x| T::of(f64::from(x as f32))).collect()),
        Data::U32(values) => Data::U32(values.clone()),
        Data::U8(values) => Data::U8(values.clone()),
    }
}

impl Check {
    /// The inputs are rounded to f32 first, so that every precision starts from the same numbers.
    fn new(label: String, op: Arc<dyn Op>, types: Vec<Type>, inputs: &[Data<f64>]) -> Result<Self> {
        let exact: Vec<Data<f64>> = inputs.iter().map(round).collect();
        let borrowed: Vec<&Type> = types.iter().collect();
        let output_types = op.infer(&borrowed)?;
        let (outputs, updates) = probe::reference(op.as_ref(), &exact, &borrowed)?;
        let inputs = inputs.iter().map(round).collect();
        Ok(Check { label, op, inputs, output_types, outputs, updates, types })
    }

    /// The operands of the check, whole and all used.
    pub fn io(&self) -> Io<'_> {
        Io::whole(&self.types.iter().collect::<Vec<_>>(), &self.output_types.iter().collect::<Vec<_>>())
    }

    /// Compares a result with the expected one. `ignored` outputs may hold any numbers.
    pub fn judge(&self, outputs: &[Data<f32>], updates: &[Vec<f32>], ignored: &[usize]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut compare = |what: String, got: &Data<f32>, want: &Data<f64>| {
            let (error, wrong) = difference(got, want);
            verdict.error = verdict.error.max(error);
            verdict.wrong.extend(wrong.map(|text| format!("{what}{text}")));
        };
        for (i, (got, want)) in outputs.iter().zip(&self.outputs).enumerate() {
            if !ignored.contains(&i) {
                compare(format!("output {i}"), got, want);
            }
        }
        for (i, (got, want)) in updates.iter().zip(&self.updates).enumerate() {
            compare(format!("update {i}"), &Data::Real(got.clone()), &Data::Real(want.clone()));
        }
        verdict
    }
}

/// The largest error as a share of the bound, and the first element beyond it.
fn difference(got: &Data<f32>, want: &Data<f64>) -> (f64, Option<String>) {
    if got.len() != want.len() {
        let text = format!(" has {} elements, expected {}", got.len(), want.len());
        return (f64::INFINITY, Some(text));
    }
    fn first<T: PartialEq + std::fmt::Display>(got: &[T], want: &[T]) -> (f64, Option<String>) {
        match got.iter().zip(want).position(|(g, w)| g != w) {
            Some(i) => (f64::INFINITY, Some(format!("[{i}] is {}, expected {}", got[i], want[i]))),
            None => (0.0, None),
        }
    }
    match (got, want) {
        (Data::Real(got), Data::Real(want)) => {
            let largest = want.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
            let bound = RELATIVE * largest + ABSOLUTE;
            let error = |(&g, &w): (&f32, &f64)| match (g.is_nan(), w.is_nan()) {
                (true, true) => 0.0,
                (false, false) => (f64::from(g) - w).abs() / bound,
                _ => f64::INFINITY,
            };
            let mut worst = 0.0_f64;
            let mut wrong = None;
            for (i, error) in got.iter().zip(want).map(error).enumerate() {
                worst = worst.max(error);
                if error > 1.0 && wrong.is_none() {
                    let (g, w) = (got[i], want[i]);
                    wrong = Some(format!("[{i}] is {g}, expected {w} (largest {largest:.3e})"));
                }
            }
            (worst, wrong)
        }
        (Data::U32(got), Data::U32(want)) => first(got, want),
        (Data::U8(got), Data::U8(want)) => first(got, want),
        _ => (f64::INFINITY, Some(" has another element type".into())),
    }
}

/// Makes the checks of one case after another, without duplicates.
#[derive(Debug, Default)]
pub struct Checks {
    seen: HashSet<(&'static str, String, Vec<Type>)>,
}

impl Checks {
    /// The checks of a case, and of every node of its gradients that differs from all earlier ones.
    ///
    /// # Errors
    /// [`Error::Shape`] where the case's operands do not fit.
    pub fn of(&mut self, case: &Case) -> Result<Vec<Check>> {
        let types: Vec<Type> = case.inputs.iter().map(|(ty, _)| ty.clone()).collect();
        let inputs: Vec<Data<f64>> = (0..types.len()).map(|i| case.data(i)).collect();
        let mut all = vec![Check::new(case.label(), case.op.clone(), types, &inputs)?];
        if case.differentiable.is_empty() {
            return Ok(all);
        }
        let (recorded, values) = probe::interpreted(case, &case.differentiable)?;
        for node in &recorded.tape.nodes[recorded.forward..] {
            let types: Vec<Type> = node.inputs.iter().map(|&v| recorded.tape.ty(v).clone()).collect();
            if self.seen.insert((node.op.name(), node.op.attributes(), types.clone())) {
                let inputs: Vec<Data<f64>> = node.inputs.iter().map(|v| values[v].clone()).collect();
                let label = format!("{} of {}", super::describe(node.op.as_ref()), case.label());
                all.push(Check::new(label, node.op.clone(), types, &inputs)?);
            }
        }
        Ok(all)
    }
}

/// Number of elements of an input at which its gradient is compared with finite differences.
const PLACES: usize = 40;

/// The floats of a value; empty for another type.
fn real(data: &Data<f64>) -> &[f64] {
    if let Data::Real(values) = data { values } else { &[] }
}

/// Compares the gradient of every differentiable input of a case with central differences in f64, under a random
/// upstream gradient. Returns the number of compared elements, and the errors. Two step sizes must agree, else a kink
/// lies between them and the element does not count; at most half of the elements may be excluded.
///
/// # Errors
/// [`Error::Shape`] where the case's operands do not fit.
pub fn slopes(case: &Case) -> Result<(usize, Vec<String>)> {
    let (mut bad, mut checked) = (Vec::new(), 0);
    let label = case.label();
    let (recorded, values) = probe::interpreted(case, &case.differentiable)?;
    let base = recorded.values::<f64>(case);
    // The sum of the first output times the upstream gradient, with one element of one input moved.
    let moved = |input: usize, at: usize, by: f64| -> Result<f64> {
        let mut values = base.clone();
        if let Some(Data::Real(x)) = values.get_mut(&recorded.inputs[input]) {
            x[at] += by;
        }
        probe::interpret(&recorded.tape, recorded.forward, &mut values)?;
        let upstream = recorded.upstream.and_then(|v| values.get(&v)).map_or(&[][..], real);
        Ok(real(&values[&recorded.outputs[0]]).iter().zip(upstream).map(|(y, g)| y * g).sum())
    };
    for &input in &case.differentiable {
        let Some(grad) = recorded.grads.get(&recorded.inputs[input]) else {
            bad.push(format!("{label}: input {input} has no gradient"));
            continue;
        };
        let grad = real(&values[grad]);
        let largest = grad.iter().fold(1e-3_f64, |m, g| m.max(g.abs()));
        // A step that is coprime to every extent visits all rows, columns and channels.
        let places = grad.len().min(PLACES);
        let stride = if grad.len() <= PLACES { 1 } else { grad.len() / PLACES * 7919 + 1 };
        let mut kinks = 0;
        for at in (0..places).map(|i| i * stride % grad.len()) {
            checked += 1;
            let slope = |step: f64| -> Result<f64> {
                Ok((moved(input, at, step)? - moved(input, at, -step)?) / (2.0 * step))
            };
            let (wide, narrow) = (slope(case.epsilon)?, slope(case.epsilon * 0.6)?);
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
    Ok((checked, bad))
}

/// A selection of ops: all, whole families (`conv`) with their gradients, or single ones (`conv.grad_weight`).
#[derive(Debug, Default)]
pub struct Selection {
    names: Vec<String>,
}

/// Names of a family's ops and of the ops in their gradients.
fn ops_of(family: &Family) -> Result<BTreeSet<&'static str>> {
    let mut names = BTreeSet::new();
    for case in (family.cases)() {
        let recorded = probe::record(&case, &case.differentiable)?;
        names.extend(recorded.tape.nodes.iter().map(|node| node.op.name()));
    }
    Ok(names)
}

impl Selection {
    /// Selects these names; all ops where there are none.
    ///
    /// # Errors
    /// [`Error::Usage`] with the nearest name where a name is unknown.
    pub fn new(names: &[String]) -> Result<Self> {
        for name in names {
            let family = name.split('.').next().unwrap_or_default();
            let unknown = |known: &mut dyn Iterator<Item = &'static str>| {
                let known: Vec<&str> = known.collect();
                let hint = did_you_mean(name, known.iter().copied());
                Error::Usage(format!("there is no op '{name}'{hint}; there are {}", known.join(", ")))
            };
            let Some(found) = REGISTRY.iter().find(|f| f.name == family) else {
                return Err(unknown(&mut REGISTRY.iter().map(|f| f.name)));
            };
            let ops = ops_of(found)?;
            if name != family && !ops.contains(name.as_str()) {
                return Err(unknown(&mut ops.into_iter()));
            }
        }
        Ok(Selection { names: names.to_vec() })
    }

    /// The cases to run, each with its family.
    pub fn cases(&self) -> Vec<(&'static str, Case)> {
        let wanted = |family: &&Family| {
            let mut families = self.names.iter().filter_map(|name| name.split('.').next());
            self.names.is_empty() || families.any(|name| name == family.name)
        };
        let cases = |family: &Family| {
            let name = family.name;
            (family.cases)().into_iter().map(move |case| (name, case))
        };
        REGISTRY.iter().filter(wanted).flat_map(cases).collect()
    }

    /// Whether an op of a family's case is selected.
    pub fn takes(&self, family: &str, op: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| name == family || name == op)
    }
}

/// Every kernel that `op` offers any of these devices, each once.
pub fn variants(op: &dyn Op, io: &Io<'_>, devices: &[Caps]) -> Vec<Variant> {
    let mut all: Vec<Variant> = Vec::new();
    for variant in devices.iter().flat_map(|caps| op.kernels(io, caps)) {
        if !all.contains(&variant) {
            all.push(variant);
        }
    }
    all
}

/// `caps`, and the caps of the other kind of device, software or not: each kind splits sums in its own way.
pub fn both_kinds(caps: &Caps) -> [Caps; 2] {
    [caps.clone(), Caps { software: !caps.software, ..caps.clone() }]
}

/// For each run of a check, the outputs that no later step reads: none, then each of several alone.
pub fn unread(check: &Check) -> impl Iterator<Item = Vec<usize>> {
    let count = check.output_types.len();
    std::iter::once(Vec::new()).chain((0..count).filter(move |_| count > 1).map(|i| vec![i]))
}

/// One wrong result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The check's label.
    pub case: String,
    /// The error in the result.
    pub what: String,
}

/// The results of one kernel of one op, over all cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// `conv.grad_weight`.
    pub op: &'static str,
    /// The kernel: `tile_any`; `native` on the CPU.
    pub variant: &'static str,
    /// How often it ran.
    pub runs: usize,
    /// The largest [`Verdict::error`].
    pub error: f64,
    /// Wrong results.
    pub failures: Vec<Failure>,
}

type Edit<'a> = Box<dyn Fn(&dyn Op, &mut Variant) + 'a>;

/// Runs checks on a device and counts the results.
pub struct Certifier<'a> {
    device: &'a Device,
    edit: Edit<'a>,
    checks: Checks,
    tallies: BTreeMap<(&'static str, &'static str), Tally>,
}

impl<'a> Certifier<'a> {
    /// A certifier of this device: the CPU is certified in f32.
    pub fn new(device: &'a Device) -> Self {
        let checks = Checks::default();
        Certifier { device, edit: Box::new(|_, _| {}), checks, tallies: BTreeMap::new() }
    }

    /// Applies `edit` to each kernel before it runs, so that a test can break one on purpose.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&dyn Op, &mut Variant) + 'a) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// Runs a case and those of its gradients whose op `wanted` accepts, by name.
    ///
    /// # Errors
    /// [`Error::Shape`] where the case's operands do not fit; [`Error::Gpu`] where the device itself failed, after
    /// which no further check runs on it. A kernel that does not compile, writes outside its outputs, or gives wrong
    /// results is no error but a [`Failure`].
    pub fn case(&mut self, case: &Case, wanted: impl Fn(&str) -> bool) -> Result<()> {
        for check in self.checks.of(case)? {
            if !wanted(check.op.name()) || check.op.is_view() {
                continue;
            }
            match self.device {
                Device::Gpu(gpu) => self.on_gpu(gpu, &check)?,
                Device::Cpu => {
                    let types: Vec<&Type> = check.types.iter().collect();
                    let answer = probe::reference::<f32>(check.op.as_ref(), &check.inputs, &types);
                    let verdict = answer.map(|(outputs, updates)| check.judge(&outputs, &updates, &[]));
                    self.note(&check, "native", verdict);
                }
            }
        }
        Ok(())
    }

    fn on_gpu(&mut self, gpu: &Gpu, check: &Check) -> Result<()> {
        let op = check.op.as_ref();
        for ignored in unread(check) {
            let mut io = check.io();
            ignored.iter().for_each(|&i| io.outputs[i].used = false);
            for mut variant in variants(op, &io, &both_kinds(gpu.caps())) {
                (self.edit)(op, &mut variant);
                let answer = probe::run_io(gpu, op, &variant, &io, &check.inputs);
                let verdict = answer.map(|got| check.judge(&got.outputs, &got.updates, &ignored));
                self.note(check, variant.name, verdict);
                gpu.check()?;
            }
        }
        Ok(())
    }

    fn note(&mut self, check: &Check, variant: &'static str, verdict: Result<Verdict>) {
        let op = check.op.name();
        let fresh = || Tally { op, variant, runs: 0, error: 0.0, failures: Vec::new() };
        let tally = self.tallies.entry((op, variant)).or_insert_with(fresh);
        let verdict =
            verdict.unwrap_or_else(|e| Verdict { error: f64::INFINITY, wrong: vec![e.to_string()] });
        tally.runs += 1;
        tally.error = tally.error.max(verdict.error);
        if !verdict.wrong.is_empty() {
            tally.failures.push(Failure { case: check.label.clone(), what: verdict.wrong.join("; ") });
        }
    }

    /// The results of each kernel, by op and name.
    pub fn finish(self) -> Vec<Tally> {
        self.tallies.into_values().collect()
    }
}
