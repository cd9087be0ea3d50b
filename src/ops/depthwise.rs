//! Depthwise convolution: every channel has its own window. `y[.., c] = sum over taps of x[under, c] w[tap, c]`.
//! Memory-bound, so its kernels run along channels and share weights between neighbouring pixels.

use super::conv::{Params, Window, for_each_tap};
use super::matmul::{SumRows, split_rows, with_splits};
use super::{Activation, Case, Epilogue, Padding, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// Inputs x `[N, H, W, C]`, w `[kh, kw, C]`, then the epilogue's. Output `[N, OH, OW, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Depthwise {
    /// Geometry.
    pub window: Window,
    /// Bias, folded norm, residual and activation.
    pub epilogue: Epilogue,
}

/// dx from dy, w.
#[derive(Debug, Clone)]
struct DepthwiseGradInput {
    window: Window,
    input: Shape,
}

/// dw from x, dy.
#[derive(Debug, Clone)]
struct DepthwiseGradWeight {
    window: Window,
}

fn flops(window: &Window, y: &Shape) -> f64 {
    2.0 * (y.numel() * window.kernel[0] * window.kernel[1]) as f64
}

impl Depthwise {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, w) = (call.real(0), call.real(1));
        let channels = call.io.input(0)[3];
        let mut y = call.take(0);
        for_each_tap(&self.window, call.io.input(0), call.io.output(0), |pixel, tap, under| {
            let (x, w) = (&x[under * channels..][..channels], &w[tap * channels..][..channels]);
            for ((y, &x), &w) in y[pixel * channels..][..channels].iter_mut().zip(x).zip(w) {
                *y += x * w;
            }
        });
        self.epilogue.cpu(2, call, &mut y);
        call.set(0, y);
    }
}

impl Op for Depthwise {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.forward"
    }

    fn attributes(&self) -> String {
        self.window.describe() + &self.epilogue.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [n, h, width, c] = inputs[0].shape.nhwc()?;
        let [kh, kw] = self.window.kernel;
        require(inputs[1].shape.0 == [kh, kw, c], || {
            format!("the weight must be [{kh}, {kw}, {c}], found {}", inputs[1].shape)
        })?;
        let [oh, ow] = self.window.output(h, width)?;
        let y = Type::f32(&[n, oh, ow, c]);
        self.epilogue.check(2, inputs, &y.shape)?;
        Ok(vec![y])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        require(self.epilogue.is_plain(), || "a fused convolution has no gradient".into())?;
        let window = self.window;
        let mut rule = vec![None; inputs.len()];
        if needs[0] {
            let input = tape.shape(inputs[0]).clone();
            rule[0] = Some(tape.apply(DepthwiseGradInput { window, input }, &[grad_y, inputs[1]])?);
        }
        if needs[1] {
            rule[1] = Some(tape.apply(DepthwiseGradWeight { window }, &[inputs[0], grad_y])?);
        }
        if self.epilogue.bias && needs[2] {
            rule[2] = Some(tape.apply(SumRows, &[grad_y])?);
        }
        Ok(rule)
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        Some(Box::new(Depthwise { epilogue: self.epilogue.absorb(consumer)?, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let params = Params::new(&self.window, x[3], x, y);
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "forward")
                .with(&self.window.constants())
                .with(&self.epilogue.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps)).inputs([0, 1]);
            Variant::single(name, self.epilogue.bind(2, launch).output(0))
        };
        let mut all = Vec::new();
        if x[3] % 4 == 0 {
            all.push(variant("strip", shader!("depthwise/strip.wgsl"), y.rows().div_ceil(4) * x[3] / 4));
        }
        all.push(variant("plain", shader!("depthwise/plain.wgsl"), y.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.output(0)))
    }
}

impl DepthwiseGradInput {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grad_y, w) = (call.real(0), call.real(1));
        let channels = self.input[3];
        let mut grad_x = call.take(0);
        for_each_tap(&self.window, &self.input, call.io.input(0), |pixel, tap, under| {
            let (dy, w) = (&grad_y[pixel * channels..][..channels], &w[tap * channels..][..channels]);
            for ((dx, &dy), &w) in grad_x[under * channels..][..channels].iter_mut().zip(dy).zip(w) {
                *dx += dy * w;
            }
        });
        call.set(0, grad_x);
    }
}

impl Op for DepthwiseGradInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.grad_input"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, _inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (y, x) = (io.input(0), &self.input);
        let params = Params::new(&self.window, x[3], x, y);
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "grad_input").with(&self.window.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps));
            Variant::single(name, launch.inputs([0, 1]).output(0))
        };
        let mut all = Vec::new();
        if x[3] % 4 == 0 {
            let strips = x.rows().div_ceil(4) * x[3] / 4;
            all.push(variant("strip", shader!("depthwise/strip_grad_input.wgsl"), strips));
        }
        all.push(variant("plain", shader!("depthwise/plain_grad_input.wgsl"), x.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.input(0)))
    }
}

impl DepthwiseGradWeight {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, grad_y) = (call.real(0), call.real(1));
        let channels = call.io.input(0)[3];
        let mut grad_w = call.take(0);
        for_each_tap(&self.window, call.io.input(0), call.io.input(1), |pixel, tap, under| {
            let (x, dy) = (&x[under * channels..][..channels], &grad_y[pixel * channels..][..channels]);
            for ((dw, &x), &dy) in grad_w[tap * channels..][..channels].iter_mut().zip(x).zip(dy) {
                *dw += x * dy;
            }
        });
        call.set(0, grad_w);
    }
}

impl Op for DepthwiseGradWeight {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.grad_weight"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [kh, kw] = self.window.kernel;
        Ok(vec![Type::f32(&[kh, kw, inputs[0].shape.channels()])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.input(1));
        let elements = io.output(0).numel();
        let variant = |name, lanes: usize, elem: &str| {
            let threads = elements / lanes;
            let (splits, rows) = split_rows(y.rows(), threads, elements as u64 * 4, 1, caps);
            let mut params = Params::new(&self.window, x[3], x, y);
            (params.splits, params.split_rows) = (splits as u32, rows as u32);
            let kernel = Kernel::new(shader!("depthwise/grad_weight.wgsl"), "grad_weight")
                .with(&self.window.constants())
                .knob("Elem", elem)
                .knob("LANES", format!("{lanes}u"));
            let first = Launch::new(kernel, &params, groups(threads * splits, caps)).inputs([0, 1]);
            with_splits(name, first, Operand::Output(0, 0), elements, splits, caps)
        };
        let mut all = Vec::new();
        if x[3] % 4 == 0 {
            all.push(variant("quad", 4, "vec4<f32>"));
        }
        all.push(variant("plain", 1, "f32"));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.input(1)))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let plain = |window| Depthwise { window, epilogue: Epilogue::default() };
    let uneven =
        Window { padding: Padding { top: 0, left: 0, bottom: 1, right: 1 }, ..Window::square(3, 2, 0) };
    let full = Epilogue { bias: true, affine: true, residual: true, activation: Activation::Relu6 };
    let dilated = Window { dilation: [2, 1], ..Window::square(3, 1, 1) };
    vec![
        Case::new(plain(Window::square(3, 1, 1)), &[&[1, 5, 6, 8], &[3, 3, 8]]),
        Case::new(plain(Window::square(3, 2, 1)), &[&[3, 7, 6, 12], &[3, 3, 12]]),
        Case::new(plain(uneven), &[&[2, 8, 8, 4], &[3, 3, 4]]),
        Case::new(plain(Window::square(5, 2, 2)), &[&[3, 9, 7, 5], &[5, 5, 5]]),
        Case::new(plain(dilated), &[&[2, 7, 6, 4], &[3, 3, 4]]),
        Case::new(plain(Window::square(3, 1, 1)), &[&[3, 17, 19, 4], &[3, 3, 4]]),
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: Epilogue::bias() },
            &[&[3, 4, 5, 6], &[3, 3, 6], &[6]],
        ),
        Case::new(
            Depthwise { window: Window::square(3, 2, 1), epilogue: full },
            &[&[3, 5, 6, 8], &[3, 3, 8], &[8], &[2, 8], &[3, 3, 3, 8]],
        )
        .grads(&[]),
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: full },
            &[&[1, 4, 5, 7], &[3, 3, 7], &[7], &[2, 7], &[1, 4, 5, 7]],
        )
        .grads(&[]),
    ]
}
