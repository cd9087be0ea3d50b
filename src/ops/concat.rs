//! Concatenation along channels, and the slices that are its gradient.

use bytemuck::{Pod, Zeroable};

use super::cpu::{PIECE, pieces};
use super::{Case, elem, groups, lanes, mismatch, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, DType, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant,
};

/// Concatenates along the last dimension; the other dimensions of the inputs are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concat;

/// `y = x[.., offset .. offset + channels]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// First channel.
    pub offset: usize,
    /// Number of channels.
    pub channels: usize,
}

/// `Params` of `shaders/concat/copy.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    in_channels: u32,
    out_channels: u32,
    offset: u32,
}

/// One launch that copies `rows` rows; all numbers in elements, `lanes` of them a thread.
fn copy(
    entry: &'static str,
    rows: usize,
    channels: [usize; 2],
    offset: usize,
    lanes: usize,
    caps: &Caps,
) -> Launch {
    let count = rows * channels[0].min(channels[1]) / lanes;
    let params = Params {
        count: count as u32,
        in_channels: (channels[0] / lanes) as u32,
        out_channels: (channels[1] / lanes) as u32,
        offset: (offset / lanes) as u32,
    };
    let kernel = Kernel::new(shader!("concat/copy.wgsl"), entry).knob("Elem", elem(lanes).1);
    Launch::new(kernel, &params, groups(count, caps))
}

impl Concat {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let channels = call.io.output(0).channels();
        let parts: Vec<(&[T], usize)> =
            (0..call.inputs.len()).map(|i| (call.real(i), call.io.input(i).channels())).collect();
        pieces(call.output(0), PIECE.next_multiple_of(channels), |at, y| {
            for (row, mut y) in (at / channels..).zip(y.chunks_exact_mut(channels)) {
                for (part, own) in &parts {
                    let (to, behind) = y.split_at_mut(*own);
                    to.copy_from_slice(&part[row * own..][..*own]);
                    y = behind;
                }
            }
        });
    }
}

impl Op for Concat {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "concat.forward"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [first, ..] = inputs else { return Err(mismatch("nothing to join")) };
        let Some((_, leading)) = first.shape.split_last() else {
            return Err(mismatch("a scalar has no channels"));
        };
        let fits = |ty: &&Type| {
            let same = ty.shape.split_last().is_some_and(|(_, own)| own == leading);
            same && ty.dtype == DType::F32 && ty.shape.numel() > 0
        };
        require(inputs.iter().all(fits), || "all but the last dimension must agree".into())?;
        let mut shape = first.shape.0.clone();
        if let Some(last) = shape.last_mut() {
            *last = inputs.iter().map(|ty| ty.shape.channels()).sum();
        }
        Ok(vec![Type::f32(&shape)])
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
        let mut rule = vec![None; inputs.len()];
        let mut offset = 0;
        for (i, &input) in inputs.iter().enumerate() {
            let channels = tape.shape(input).channels();
            if needs[i] {
                rule[i] = Some(tape.apply(Slice { offset, channels }, &[grad_y])?);
            }
            offset += channels;
        }
        Ok(rule)
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let y = io.output(0);
        let extents: Vec<usize> = io.inputs.iter().map(|v| v.ty.shape.channels()).collect();
        let variant = |&lanes: &usize| {
            let mut offset = 0;
            let launches = extents.iter().enumerate().map(|(i, &channels)| {
                let launch = copy("join", y.rows(), [channels, y.channels()], offset, lanes, caps);
                offset += channels;
                launch.read(Operand::Input(i, 0)).output(0)
            });
            Variant { name: elem(lanes).0, launches: launches.collect(), scratch: Vec::new() }
        };
        lanes(&extents).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 0.0)
    }
}

impl Slice {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, channels) = (call.real(0), call.io.input(0).channels());
        pieces(call.output(0), PIECE.next_multiple_of(self.channels), |at, y| {
            for (row, y) in (at / self.channels..).zip(y.chunks_exact_mut(self.channels)) {
                y.copy_from_slice(&x[row * channels + self.offset..][..self.channels]);
            }
        });
    }
}

impl Op for Slice {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "concat.slice"
    }

    fn attributes(&self) -> String {
        format!("{}..{}", self.offset, self.offset + self.channels)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(inputs.len() == 1 && inputs[0].dtype == DType::F32, || {
            "expected one operand of floats".into()
        })?;
        let channels = inputs[0].shape.channels();
        let fits = self.channels > 0 && self.offset + self.channels <= channels;
        require(fits && !inputs[0].shape.is_empty(), || {
            format!("channels {} do not lie within {}", self.attributes(), inputs[0])
        })?;
        let mut shape = inputs[0].shape.0.clone();
        if let Some(last) = shape.last_mut() {
            *last = self.channels;
        }
        Ok(vec![Type::f32(&shape)])
    }

    /// The gradient of a slice, padded with zeros to the shape of x.
    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        let mut shape = tape.shape(inputs[0]).0.clone();
        let behind = shape[shape.len() - 1] - self.offset - self.channels;
        let mut zeros = |tape: &mut Tape, channels: usize| {
            let last = shape.len() - 1;
            shape[last] = channels;
            (channels > 0).then(|| tape.fill(&shape, 0.0))
        };
        let parts = [zeros(tape, self.offset), Some(grad_y), zeros(tape, behind)];
        let parts: Vec<ValueId> = parts.into_iter().flatten().collect();
        if let [whole] = parts[..] {
            return Ok(vec![Some(whole)]);
        }
        Ok(vec![Some(tape.apply(Concat, &parts)?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let variant = |&lanes: &usize| {
            let launch = copy("slice", y.rows(), [x.channels(), y.channels()], self.offset, lanes, caps);
            Variant::single(elem(lanes).0, launch.inputs([0]).output(0))
        };
        lanes(&[x.channels(), y.channels(), self.offset]).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost { flops: 0.0, bytes: 2.0 * io.output(0).numel() as f64 * 4.0 }
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(Concat, &[&[3, 5, 3, 8], &[3, 5, 3, 4]]),
        Case::new(Concat, &[&[1, 3, 5, 3], &[1, 3, 5, 4], &[1, 3, 5, 1]]),
        Case::new(Concat, &[&[3, 6], &[3, 2]]),
        Case::new(Concat, &[&[2, 7, 4]]),
        Case::new(Concat, &[&[2, 3001, 3], &[2, 3001, 2]]),
        Case::new(Slice { offset: 4, channels: 8 }, &[&[3, 3, 5, 16]]),
        Case::new(Slice { offset: 3, channels: 2 }, &[&[1, 3, 5, 7]]),
        Case::new(Slice { offset: 0, channels: 3 }, &[&[3, 7]]),
    ]
}
