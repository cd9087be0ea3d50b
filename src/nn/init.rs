//! Initial weights. Every draw is a pure function of seed, parameter name and position.

use rayon::prelude::*;

use super::{Kind, ParamSpec};
use crate::rng;

/// How a family initialises its linear layers for training from scratch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LinearInit {
    /// PyTorch's default: weights and biases uniform within `1 / sqrt(inputs)`.
    Uniform,
    /// Normal with this standard deviation; biases zero.
    Normal(f32),
}

/// `count` numbers, each a function of its position.
fn fill(count: usize, number: impl Fn(u64) -> f32 + Sync) -> Vec<f32> {
    (0..count).into_par_iter().with_min_len(1 << 14).map(|i| number(i as u64)).collect()
}

fn key(seed: u64, path: &str) -> u64 {
    rng::mix(rng::key_of(path), seed)
}

/// Uniform within `+-bound`.
fn uniform(count: usize, key: u64, bound: f64) -> Vec<f32> {
    fill(count, |i| ((2.0 * f64::from(rng::unit(key, i)) - 1.0) * bound) as f32)
}

/// Normal (Box-Muller).
fn normal(count: usize, key: u64, deviation: f64) -> Vec<f32> {
    fill(count, |i| {
        let radius = (-2.0 * (1.0 - f64::from(rng::unit(key, 2 * i))).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(rng::unit(key, 2 * i + 1));
        (deviation * radius * angle.cos()) as f32
    })
}

/// The initial values of a tensor as in torchvision: convolutions normal with variance `2 / fan_out` (He et al.
/// 2015), norms one and zero, linear layers by family. For a tensor of a linear layer, `linear` has the
/// initialisation and the number of inputs.
pub fn from_scratch(spec: &ParamSpec, linear: Option<(LinearInit, usize)>, seed: u64) -> Vec<f32> {
    let (count, key) = (spec.numel(), key(seed, &spec.path));
    match (spec.kind, linear) {
        (Kind::NormWeight | Kind::RunningVar, _) => vec![1.0; count],
        (_, Some((LinearInit::Uniform, inputs))) => linear_default(spec, inputs, seed),
        (Kind::Weight, Some((LinearInit::Normal(deviation), _))) => normal(count, key, deviation.into()),
        (Kind::Weight, None) => {
            let fan_out = count / spec.shape[1];
            normal(count, key, (2.0 / fan_out as f64).sqrt())
        }
        _ => vec![0.0; count],
    }
}

/// The initial values of a tensor of a linear layer with `inputs` inputs, as in PyTorch:
/// `kaiming_uniform(a = sqrt 5)`, which is uniform within `1 / sqrt(inputs)`, and the bias the same.
pub fn linear_default(spec: &ParamSpec, inputs: usize, seed: u64) -> Vec<f32> {
    uniform(spec.numel(), key(seed, &spec.path), 1.0 / (inputs as f64).sqrt())
}

/// A tensor of the fixtures in `tests/fixtures/models`, bit for bit the same as `by_rule` of `tools/fixtures.py`.
/// Biases around 0.7 keep most values off the kink of the ReLU.
pub fn by_rule(spec: &ParamSpec) -> Vec<f32> {
    let key = rng::key_of(&spec.path);
    let bound = |variance: f64| {
        let fan_in: usize = spec.shape[1..].iter().product();
        (variance / fan_in as f64).sqrt() as f32
    };
    let (centre, reach) = match (spec.kind, spec.shape.len()) {
        (Kind::Weight, 4) => (0.0, bound(6.0)),
        (Kind::Weight, _) => (0.0, bound(3.0)),
        (Kind::NormWeight | Kind::NormBias | Kind::Bias, _) => (0.7, 0.1),
        (Kind::RunningMean, _) => (0.0, 0.1),
        (Kind::RunningVar, _) => (1.0, 0.2),
    };
    let count = spec.numel();
    fill(count, |i| {
        let part = reach * (2.0 * rng::unit(key, i) - 1.0);
        if centre == 0.0 { part } else { centre + part }
    })
}
