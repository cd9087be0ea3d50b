//! Records a network on a tape: the whole network, its layers up to the features, or its head alone.

use super::{Channels, Network};
use crate::Result;
use crate::nn::{Graph, Mode, step_of};
use crate::ops::{Add, AugmentInput, Concat, Draws, ImageInput, Slice};
use crate::tape::{Io, Node, Tape, Type, ValueId};

/// Layer name of the image's normalisation and augmentation, before the network.
pub const IMAGE_LAYER: &str = "image";

/// The form of a recorded network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputKind {
    /// Bytes `[batch, height, width, 3]`; the device normalises them.
    #[default]
    Bytes,
    /// The same bytes, and an input `augment`, numbers `[batch, Draws::LEN]`: the device augments each image by its
    /// row of [`Draws`], and normalises it.
    Augmented,
    /// Numbers `[batch, height, width, channels]`, already normalised, in the order of the network's channels
    /// ([`super::Preprocess::normalised`]).
    Normalised,
}

/// Options of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recording {
    /// Training or evaluation.
    pub mode: Mode,
    /// Images per batch.
    pub batch: usize,
    /// Height and width of the input; by default those of the preprocessing.
    pub size: Option<[usize; 2]>,
    /// The form of the images.
    pub input: InputKind,
}

options!(Recording);

impl Recording {
    /// A recording for images as bytes, of the preprocessing's size.
    pub fn new(mode: Mode, batch: usize) -> Self {
        Recording { mode, batch, size: None, input: InputKind::Bytes }
    }
}

/// A recorded network.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The input `image`.
    pub image: ValueId,
    /// Input of the last layer: `[batch, features]`, or a small image.
    pub features: ValueId,
    /// `[batch, classes]`.
    pub logits: ValueId,
    /// Logits of the auxiliary heads that are trained, and the weight of each one's loss.
    pub auxiliary: Vec<(ValueId, f32)>,
    /// The input `step`, `u32[2]`, where dropout draws its random numbers from it.
    pub step: Option<ValueId>,
}

/// A head recorded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The input `features`, shaped like [`Recorded::features`].
    pub features: ValueId,
    /// `[batch, classes]`.
    pub logits: ValueId,
    /// The input `step`, `u32[2]`, where dropout draws its random numbers from it.
    pub step: Option<ValueId>,
}

/// Multiply-adds of a node: of convolutions and linear layers, counted as in torchinfo and fvcore.
pub(crate) fn mult_adds(tape: &Tape, node: &Node) -> f64 {
    let types = |values: &[ValueId]| values.iter().map(|&v| tape.ty(v)).collect::<Vec<_>>();
    match node.op.name() {
        "conv.forward" | "depthwise.forward" | "matmul.forward" => {
            node.op.cost(&Io::whole(&types(&node.inputs), &types(&node.outputs))).flops / 2.0
        }
        _ => 0.0,
    }
}

impl Network {
    /// Records the whole network.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the image is too small.
    pub fn record(&self, tape: &mut Tape, recording: Recording) -> Result<Recorded> {
        let image = self.image(tape, recording);
        let mut g = Graph::new(tape, self.settings(recording.mode));
        let x = self.normalise(&mut g, image, recording.input)?;
        let features = self.architecture.features(&mut g, x)?;
        g.in_head = true;
        let logits = self.architecture.head(&mut g, features, self.outputs())?;
        let heads = std::mem::take(&mut g.auxiliary);
        let learns = |v: ValueId| tape.requires_grad(v);
        let weight = self.architecture.auxiliary().map_or(0.0, |a| a.weight);
        let auxiliary = heads.into_iter().filter(|&v| learns(v)).map(|v| (v, weight)).collect();
        Ok(Recorded { image, features, logits, auxiliary, step: step_of(tape) })
    }

    /// Records the head alone.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn record_head(&self, tape: &mut Tape, mode: Mode, batch: usize) -> Result<Head> {
        let shape: Vec<usize> = [batch].iter().chain(&self.features).copied().collect();
        let features = tape.input("features", Type::f32(&shape));
        let mut g = Graph::new(tape, self.settings(mode));
        g.in_head = true;
        let logits = self.architecture.head(&mut g, features, self.outputs())?;
        Ok(Head { features, logits, step: step_of(tape) })
    }

    /// Multiply-adds of a prediction on one image of the preprocessing's size: those of convolutions and linear
    /// layers.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn mult_adds(&self) -> Result<f64> {
        let mut tape = Tape::new();
        self.record(&mut tape, Recording::new(Mode::Eval, 1))?;
        Ok(tape.nodes.iter().map(|node| mult_adds(&tape, node)).sum())
    }

    fn image(&self, tape: &mut Tape, recording: Recording) -> ValueId {
        let [height, width] = recording.size.unwrap_or(self.config.preprocess.size);
        let channels = self.config.preprocess.channels.count();
        let ty = match recording.input {
            InputKind::Bytes | InputKind::Augmented => Type::u8(&[recording.batch, height, width, 3]),
            InputKind::Normalised => Type::f32(&[recording.batch, height, width, channels]),
        };
        tape.input("image", ty)
    }

    fn normalise(&self, g: &mut Graph<'_>, image: ValueId, input: InputKind) -> Result<ValueId> {
        let (scale, shift) = self.config.preprocess.scale_shift();
        let above = g.tape.set_layer(IMAGE_LAYER);
        let channels = match input {
            // The channels are already in the network's order.
            InputKind::Normalised => Channels::Rgb,
            InputKind::Bytes | InputKind::Augmented => self.config.preprocess.channels,
        };
        let x = match input {
            InputKind::Normalised => Ok(image),
            InputKind::Bytes => g.tape.apply(ImageInput { scale, shift }, &[image]),
            InputKind::Augmented => {
                let [batch, height, width, _] = g.tape.shape(image).nhwc()?;
                let draws = g.tape.input("augment", Type::f32(&[batch, Draws::LEN]));
                g.tape.apply(AugmentInput { scale, shift, size: [height, width] }, &[image, draws])
            }
        };
        let x = x.and_then(|x| ordered(g.tape, x, channels));
        g.tape.set_layer(above);
        x
    }
}

/// The network's channels, from normalised red, green and blue.
fn ordered(tape: &mut Tape, rgb: ValueId, channels: Channels) -> Result<ValueId> {
    let channel = |tape: &mut Tape, offset| tape.apply(Slice { offset, channels: 1 }, &[rgb]);
    match channels {
        Channels::Rgb => Ok(rgb),
        Channels::Bgr => {
            let parts = [2, 1, 0].map(|offset| channel(tape, offset));
            let parts: Vec<ValueId> = parts.into_iter().collect::<Result<_>>()?;
            tape.apply(Concat, &parts)
        }
        Channels::Grey => {
            let (red, green, blue) = (channel(tape, 0)?, channel(tape, 1)?, channel(tape, 2)?);
            let sum = tape.apply(Add::default(), &[red, green])?;
            tape.apply(Add::default(), &[sum, blue])
        }
    }
}
