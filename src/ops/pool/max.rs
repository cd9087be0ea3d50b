//! Max pooling and its gradient.

use rayon::prelude::*;

use super::{Planes, PoolWindow, floats};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::cpu::sums::{axis, strips};
use crate::ops::cpu::{pieces, simd};
use crate::ops::require;
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant};

/// `y = max` over each window of `x [n, h, w, c]`, padding ignored. Second output, a byte each: the window's tap that
/// has the maximum, as `row * kernel width + column`; the first of equal ones, and a NaN before all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// The window.
    pub window: PoolWindow,
}

/// Inputs: grad_y, argmax. `input` is the shape of x.
#[derive(Debug, Clone)]
struct MaxPoolGrad {
    window: PoolWindow,
    input: Shape,
}

fn dilation(window: &PoolWindow) -> [(&'static str, u32); 2] {
    [("DILATION_HEIGHT", window.dilation[0] as u32), ("DILATION_WIDTH", window.dilation[1] as u32)]
}

impl MaxPool {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.input(0), call.io.output(0));
        // For each window, its taps and the pixels under them.
        let along = |a| -> Vec<Vec<(usize, usize)>> {
            let under = |o| {
                let pixels = self.window.pixels(a, o, planes.input[a]);
                self.window.taps(a, o, planes.input[a]).zip(pixels).collect()
            };
            (0..planes.output[a]).map(under).collect()
        };
        let (rows, columns) = (along(0), along(1));
        let ([height, width], channels) = (planes.input, planes.channels);
        let (x, line) = (call.real(0), columns.len() * channels);
        let (y, argmax) = (call.output(0), call.output_bytes(1));
        // Where argmax is not read, its lines are empty.
        let argmax = argmax.chunks_mut(line).chain(std::iter::repeat_with(Default::default));
        let lines: Vec<(&mut [T], &mut [u8])> = y.chunks_mut(line).zip(argmax).collect();
        lines.into_par_iter().enumerate().for_each(|(at, (y, argmax))| {
            let (n, row) = (at / rows.len(), at % rows.len());
            simd(
                #[inline(always)]
                |_| {
                    for (o, columns) in columns.iter().enumerate() {
                        strips!([16, 8, 1], channels, |c, N| {
                            let mut best = [T::neg_infinity(); N];
                            let tap = |h: usize, w: usize| (h * self.window.kernel[1] + w) as u8;
                            let mut place = [tap(rows[row][0].0, columns[0].0); N];
                            for &(kh, h) in &rows[row] {
                                for &(kw, w) in columns {
                                    let x = &x[((n * height + h) * width + w) * channels + c..][..N];
                                    let here = tap(kh, kw);
                                    for i in 0..N {
                                        let (value, old) = (x[i], best[i]);
                                        let better = (value > old) | value.is_nan();
                                        best[i] = if better { value } else { old };
                                        place[i] = if better { here } else { place[i] };
                                    }
                                }
                            }
                            let at = o * channels + c;
                            y[at..][..N].copy_from_slice(&best);
                            if !argmax.is_empty() {
                                argmax[at..][..N].copy_from_slice(&place);
                            }
                        });
                    }
                },
            );
        });
    }
}

impl Op for MaxPool {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.max"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let y = self.window.infer(inputs[0])?;
        require(self.window.kernel.iter().product::<usize>() <= 256, || {
            format!("a max pool's window has at most 256 taps, not {}", self.window.describe())
        })?;
        Ok(vec![Type::f32(&y), Type::u8(&y)])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        let op = MaxPoolGrad { window: self.window, input: tape.shape(inputs[0]).clone() };
        Ok(vec![Some(tape.apply(op, &[grad_y, outputs[1]])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let used = io.outputs[1].used;
        let kernel = Kernel::new(shader!("pool/max.wgsl"), "forward")
            .with(&self.window.constants())
            .with(&dilation(&self.window))
            .with(&[("STORE_ARGMAX", used.into())]);
        let argmax = if used { Operand::Output(1, 0) } else { Operand::Unused };
        Planes::of(io.input(0), io.output(0)).variants(io.output(0).numel(), caps, &kernel, |launch| {
            launch.inputs([0]).output(0).write(argmax)
        })
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, (io.output(0).numel() * self.window.kernel.iter().product::<usize>()) as f64)
    }
}

impl MaxPoolGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.output(0), call.io.input(0));
        // For each pixel, the windows that cover it, each with its tap over the pixel.
        let along = |a| {
            let windows = (0..planes.output[a]).flat_map(move |o| {
                let pixels = self.window.pixels(a, o, planes.input[a]);
                pixels.zip(self.window.taps(a, o, planes.input[a])).map(move |(i, tap)| (i, o, tap))
            });
            axis(planes.input[a], windows)
        };
        let (rows, columns, channels) = (along(0), along(1), planes.channels);
        let [height, width] = planes.output;
        let (grad_y, argmax) = (call.real(0), call.bytes(1));
        let line = columns.len() * channels;
        pieces(
            call.output(0),
            line,
            #[inline(always)]
            |at, grad_x| {
                let (n, row) = (at / line / rows.len(), at / line % rows.len());
                for (column, grad_x) in grad_x.chunks_exact_mut(channels).enumerate() {
                    strips!([32, 16, 8, 1], channels, |c, N| {
                        let mut sum = [T::zero(); N];
                        for (h, kh) in &rows[row] {
                            for (w, kw) in &columns[column] {
                                let here = (kh * self.window.kernel[1] + kw) as u8;
                                let at = ((n * height + h) * width + w) * channels + c;
                                let (grad_y, argmax) = (&grad_y[at..][..N], &argmax[at..][..N]);
                                for i in 0..N {
                                    let grad = grad_y[i];
                                    sum[i] += if argmax[i] == here { grad } else { T::zero() };
                                }
                            }
                        }
                        grad_x[c..][..N].copy_from_slice(&sum);
                    });
                }
            },
        );
    }
}

impl Op for MaxPoolGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.max_grad"
    }

    fn attributes(&self) -> String {
        format!("{} of {}", self.window.describe(), self.input)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        floats(inputs[0])?;
        require(inputs[1].shape == inputs[0].shape, || format!("argmax is {}", inputs[1]))?;
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("pool/max_grad.wgsl"), "grad")
            .with(&self.window.constants())
            .with(&dilation(&self.window));
        Planes::of(io.output(0), io.input(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0, 1]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.input(0).numel() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::probe::reference;
    use crate::tape::{Arg, Data, Out};

    #[test]
    fn nan_is_largest_and_the_first_of_equals_wins() {
        let op = MaxPool { window: PoolWindow { kernel: [1, 3], stride: [1, 3], ..Default::default() } };
        let row =
            [1.0, 1.0, 0.5, 2.0, f64::NAN, 3.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        let ty = Type::f32(&[1, 1, 9, 1]);
        let (outputs, _) = reference::<f64>(&op, &[Data::Real(row.to_vec())], &[&ty]).expect("it runs");
        assert!(matches!(&outputs[0], Data::Real(y) if y[0] == 1.0 && y[1].is_nan() && y[2] < -1e300));
        assert_eq!(outputs[1], Data::U8(vec![0, 1, 0]));
    }

    #[test]
    fn argmax_may_be_left_out() {
        let op = MaxPool { window: PoolWindow::default() };
        let (x, y) = (Type::f32(&[1, 4, 2, 1]), Type::f32(&[1, 2, 1, 1]));
        let bytes = Type::u8(&[1, 2, 1, 1]);
        let io = Io::whole(&[&x], &[&y, &bytes]);
        let mut found = [0.0_f32; 2];
        let mut call = CpuCall {
            io: &io,
            inputs: vec![Arg::Real(&[1.0, 2.0, 3.0, 4.0, 8.0, 7.0, 6.0, 5.0])],
            updates: Vec::new(),
            outputs: vec![Out::Real(&mut found), Out::Real(&mut [])],
            memory: None,
        };
        op.cpu_f32(&mut call);
        assert_eq!(found, [4.0, 8.0]);
    }
}
