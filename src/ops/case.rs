//! The cases of an op: one list for the forward test, the gradient test, the shader test and benches.

use std::sync::Arc;

use crate::rng;
use crate::tape::{DType, Data, Op, Real, Type};

/// How a test fills an input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Uniform in [-1, 1).
    Signed,
    /// Uniform in [low, high).
    Range(f32, f32),
    /// Integers below this.
    Below(u32),
    /// The same number everywhere.
    Const(f32),
    /// These numbers in order, repeated.
    These(&'static [f32]),
}

/// An op with inputs to run it on.
#[derive(Debug, Clone)]
pub struct Case {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Types and contents of its inputs.
    pub inputs: Vec<(Type, Fill)>,
    /// The inputs whose gradient is checked.
    pub differentiable: Vec<usize>,
    /// Step of the finite differences; smaller where the op has kinks.
    pub epsilon: f64,
}

impl Case {
    /// `op` on float inputs of these shapes, all differentiable.
    pub fn new(op: impl Op + 'static, shapes: &[&[usize]]) -> Self {
        Case {
            op: Arc::new(op),
            inputs: shapes.iter().map(|s| (Type::f32(s), Fill::Signed)).collect(),
            differentiable: (0..shapes.len()).collect(),
            epsilon: 1e-5,
        }
    }

    /// Adds an input without gradient.
    #[must_use]
    pub fn with(mut self, ty: Type, fill: Fill) -> Self {
        self.inputs.push((ty, fill));
        self
    }

    /// Sets another fill for input `i`.
    #[must_use]
    pub fn fill(mut self, i: usize, fill: Fill) -> Self {
        self.inputs[i].1 = fill;
        self
    }

    /// Checks the gradient of these inputs only.
    #[must_use]
    pub fn grads(mut self, inputs: &[usize]) -> Self {
        self.differentiable = inputs.to_vec();
        self
    }

    /// `conv.forward[3x3 s2 p1] [2, 5, 7, 3], [3, 3, 3, 4]`
    pub fn label(&self) -> String {
        let shapes: Vec<String> = self.inputs.iter().map(|(t, _)| t.to_string()).collect();
        format!("{}[{}] {}", self.op.name(), self.op.attributes(), shapes.join(", "))
    }

    /// The contents of input `i`: the same in every number type, since every value is exact in f32.
    pub fn data<T: Real>(&self, i: usize) -> Data<T> {
        let (ty, fill) = &self.inputs[i];
        let key = rng::key_of(&self.label()) ^ i as u64;
        let n = ty.shape.numel() as u64;
        let unit = |c| rng::unit(key, c);
        let real = |c| match *fill {
            Fill::Signed => 2.0 * unit(c) - 1.0,
            Fill::Range(low, high) => low + (high - low) * unit(c),
            Fill::Below(limit) => (unit(c) * limit as f32).floor(),
            Fill::Const(x) => x,
            Fill::These(numbers) => numbers[c as usize % numbers.len()],
        };
        match ty.dtype {
            DType::F32 => Data::Real((0..n).map(|c| T::of(real(c).into())).collect()),
            DType::U32 => Data::U32((0..n).map(|c| real(c) as u32).collect()),
            DType::U8 => Data::U8((0..n).map(|c| real(c) as u8).collect()),
        }
    }
}

/// One family of ops: its file's name and its cases.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Stem of `src/ops/NAME.rs` and `shaders/NAME/`.
    pub name: &'static str,
    /// Forward cases; the gradient ops are reached through their gradients.
    pub cases: fn() -> Vec<Case>,
}
