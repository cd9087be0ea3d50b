//! Finds the fastest kernel for an op on given operands, by measurement on the device. A candidate is chosen only if
//! its results are correct and the same every time, and if its gain exceeds the noise of the clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::certify::{ABSOLUTE, RELATIVE};
use super::measure::{Timing, in_turn};
use super::{Plan, choice_key, probe};
use crate::gpu::{Choices, Gpu};
use crate::tape::{DType, Data, Io, Op, Type, Variant};
use crate::{Result, rng};

/// Number of runs of each candidate, whose results must be the same bits.
const ANSWERS: usize = 3;

/// How much faster than the usual kernel the median of a candidate must be.
const WIN: f64 = 0.97;

/// A kernel that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub variant: &'static str,
    /// Seconds of a run; none where it was refused.
    pub timing: Option<Timing>,
    /// Why it must not be used.
    pub refused: Option<String>,
}

/// The results for one op on operands of given types.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The key under which plans look it up.
    pub key: String,
    /// All candidates: first the default, which plans choose without tuning.
    pub candidates: Vec<Candidate>,
    /// The name of the best.
    pub best: &'static str,
}

impl Tuned {
    /// How many times as fast the best kernel is as the default.
    pub fn gain(&self) -> f64 {
        let seconds = |c: &Candidate| c.timing.map(|t| t.median);
        let usual = self.candidates.first().and_then(seconds);
        let best = self.candidates.iter().find(|c| c.variant == self.best).and_then(seconds);
        usual.zip(best).map_or(1.0, |(usual, best)| usual / best.max(1e-12))
    }
}

type Offer<'a> = Box<dyn Fn(&dyn Op, &Io<'_>) -> Vec<Variant> + 'a>;
type Edit<'a> = Box<dyn Fn(&dyn Op, &mut Variant) + 'a>;

/// Tries kernels on a GPU.
pub struct Tuner<'a> {
    gpu: &'a Gpu,
    offer: Offer<'a>,
    edit: Edit<'a>,
}

/// Steps of plans that have a choice of kernels, each kind once, those with the most work first.
pub fn choices_of(plans: &[Plan], gpu: &Gpu) -> Vec<(Arc<dyn Op>, Vec<Type>)> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (plan, step) in plans.iter().flat_map(|plan| plan.steps.iter().map(move |step| (plan, step))) {
        let op = &step.node.op;
        let io = plan.io(&step.node, &BTreeSet::new());
        // Operands must be whole floats: contents of other types cannot be invented.
        let plain = io.inputs.iter().chain(&io.outputs).all(|v| v.parts.len() == 1)
            && io.inputs.iter().all(|v| v.ty.dtype == DType::F32)
            && op.updates() == 0;
        if !plain || op.is_view() || op.kernels(&io, gpu.caps()).len() < 2 {
            continue;
        }
        if seen.insert(choice_key(op.as_ref(), &io)) {
            let types = step.node.inputs.iter().map(|&v| plan.tape.ty(v).clone()).collect();
            let cost = op.cost(&io);
            all.push((cost.flops + cost.bytes, (op.clone(), types)));
        }
    }
    all.sort_by(|a: &(f64, _), b| b.0.total_cmp(&a.0));
    all.into_iter().map(|(_, one)| one).collect()
}

impl<'a> Tuner<'a> {
    /// A tuner for this device, with the kernels that the ops offer it.
    pub fn new(gpu: &'a Gpu) -> Self {
        Tuner { gpu, offer: Box::new(|_, _| Vec::new()), edit: Box::new(|_, _| {}) }
    }

    /// Offers more kernels, so that a test can plant one.
    #[must_use]
    pub fn offer(mut self, offer: impl Fn(&dyn Op, &Io<'_>) -> Vec<Variant> + 'a) -> Self {
        self.offer = Box::new(offer);
        self
    }

    /// Applies `edit` to each kernel before it runs, so that a test can break one.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&dyn Op, &mut Variant) + 'a) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// Tries all kernels for `op` on inputs of these types.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] where the device itself, or the plainest kernel, fails.
    pub fn op(&self, op: &dyn Op, types: &[Type]) -> Result<Tuned> {
        let borrowed: Vec<&Type> = types.iter().collect();
        let outputs = op.infer(&borrowed)?;
        let io = Io::whole(&borrowed, &outputs.iter().collect::<Vec<_>>());
        let mut variants = op.kernels(&io, self.gpu.caps());
        let plainest = variants.len() - 1;
        variants.extend((self.offer)(op, &io));
        let inputs = made_up(types);
        let expected = self.answer(op, &variants[plainest], &io, &inputs)?;
        // A sum of many terms rounds more, and kernels add in different orders.
        let terms = op.cost(&io).flops / io.outputs.iter().map(|o| o.ty.shape.numel() as f64).sum::<f64>();
        let tolerance = RELATIVE * (terms / 1000.0).sqrt().max(1.0);
        let mut candidates = Vec::new();
        for variant in &variants {
            let refused = self.check(op, variant, &io, &inputs, &expected, tolerance);
            self.gpu.check()?;
            candidates.push(Candidate { variant: variant.name, timing: None, refused });
        }
        let trusted: Vec<usize> = (0..variants.len()).filter(|&i| candidates[i].refused.is_none()).collect();
        let timed: Vec<&Variant> = trusted.iter().map(|&i| &variants[i]).collect();
        for (&i, timing) in trusted.iter().zip(in_turn(self.gpu, &io, &inputs, &timed)?) {
            candidates[i].timing = Some(timing);
        }
        Ok(Tuned { key: choice_key(op, &io), best: best(&candidates), candidates })
    }

    fn answer(
        &self,
        op: &dyn Op,
        variant: &Variant,
        io: &Io<'_>,
        inputs: &[Data<f32>],
    ) -> Result<Vec<Data<f32>>> {
        let mut variant = variant.clone();
        (self.edit)(op, &mut variant);
        Ok(probe::run_io(self.gpu, op, &variant, io, inputs)?.outputs)
    }

    /// The reason why a kernel must not be used, if there is one.
    fn check(
        &self,
        op: &dyn Op,
        variant: &Variant,
        io: &Io<'_>,
        inputs: &[Data<f32>],
        expected: &[Data<f32>],
        tolerance: f64,
    ) -> Option<String> {
        let mut first: Option<Vec<Data<f32>>> = None;
        for _ in 0..ANSWERS {
            let found = match self.answer(op, variant, io, inputs) {
                Ok(found) => found,
                Err(e) => return Some(e.to_string()),
            };
            let wrong = found.iter().zip(expected).enumerate().find_map(|(o, (found, expected))| {
                difference(found, expected, tolerance).map(|text| format!("wrong: output {o}{text}"))
            });
            if wrong.is_some() {
                return wrong;
            }
            match &first {
                Some(first) if !same_bits(first, &found) => {
                    return Some("flaky: two runs on the same operands give different answers".into());
                }
                Some(_) => {}
                None => first = Some(found),
            }
        }
        None
    }
}

fn same_bits(a: &[Data<f32>], b: &[Data<f32>]) -> bool {
    let bits = |data: &Data<f32>| -> Vec<u32> {
        match data {
            Data::Real(values) => values.iter().map(|x| x.to_bits()).collect(),
            Data::U32(values) => values.clone(),
            Data::U8(values) => values.iter().map(|&x| x.into()).collect(),
        }
    };
    a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
}

/// The first element whose error exceeds rounding.
fn difference(found: &Data<f32>, expected: &Data<f32>, tolerance: f64) -> Option<String> {
    let (Data::Real(found), Data::Real(expected)) = (found, expected) else {
        return (found != expected).then(|| " has other whole numbers".into());
    };
    let largest = expected.iter().fold(0.0_f64, |m, x| m.max(f64::from(x.abs())));
    let bound = tolerance * largest + ABSOLUTE;
    let pairs = found.iter().zip(expected).enumerate();
    let right = |f: f32, e: f32| match (f.is_nan(), e.is_nan()) {
        (false, false) => (f64::from(f) - f64::from(e)).abs() <= bound,
        (f, e) => f == e,
    };
    pairs
        .into_iter()
        .find(|(_, (f, e))| !right(**f, **e))
        .map(|(i, (f, e))| format!("[{i}] is {f}, the plainest kernel has {e}"))
}

/// Invented operands: one number a channel is positive, since it may be a variance; other floats have both signs;
/// whole numbers are 0.
pub(super) fn made_up(types: &[Type]) -> Vec<Data<f32>> {
    let operand = |(i, ty): (usize, &Type)| {
        let key = rng::key_of(&format!("tune {i}"));
        let value = |n: u64| match ty.shape.len() {
            1 => 0.25 + rng::unit(key, n),
            _ => 2.0 * rng::unit(key, n) - 1.0,
        };
        let count = ty.shape.numel();
        match ty.dtype {
            DType::F32 => Data::Real((0..count as u64).map(value).collect()),
            DType::U32 => Data::U32(vec![0; count]),
            DType::U8 => Data::U8(vec![0; count]),
        }
    };
    types.iter().enumerate().map(operand).collect()
}

/// The first candidate is the default. Another candidate must beat it by more than [`WIN`], with a median below the
/// best time of the default.
fn best(candidates: &[Candidate]) -> &'static str {
    let timed = |c: &Candidate| c.timing.map(|t| (t, c.variant));
    let fastest = candidates.iter().filter_map(timed).min_by(|a, b| a.0.median.total_cmp(&b.0.median));
    let usual = candidates.first().and_then(timed);
    match (fastest, usual) {
        (Some((fast, name)), Some((slow, usual))) => {
            let wins = fast.median < WIN * slow.median && fast.median < slow.least;
            if wins { name } else { usual }
        }
        // The default kernel was refused.
        (Some((_, name)), None) => name,
        (None, _) => candidates.last().map_or("", |c| c.variant),
    }
}

/// Tunes ops, those with the most work first, until `budget` is used up. `watch` receives each op's number, and the
/// number of ops. Returns `before` with the new choices.
///
/// # Errors
/// As for [`Tuner::op`].
pub fn tune(
    tuner: &Tuner<'_>,
    ops: &[(Arc<dyn Op>, Vec<Type>)],
    budget: Duration,
    before: Choices,
    mut watch: impl FnMut(&Tuned, usize),
) -> Result<Choices> {
    let began = Instant::now();
    let mut choices = before;
    for (op, types) in ops {
        if began.elapsed() >= budget {
            break;
        }
        let tuned = tuner.op(op.as_ref(), types)?;
        choices = choices.with(tuned.key.clone(), tuned.best.into());
        watch(&tuned, ops.len());
    }
    Ok(choices)
}
