//! A network onto a tape: whole, up to its features, or its head alone.

use super::{Channels, Network};
use crate::Result;
use crate::nn::{Graph, Mode, step_of};
use crate::ops::{Add, AugmentInput, Concat, Draws, ImageInput, Slice};
use crate::tape::{Io, Node, Tape, Type, ValueId};

/// The layer of what happens to an image before the network.
pub const IMAGE_LAYER: &str = "image";

/// What a recorded network takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputKind {
    /// Bytes `[batch, height, width, 3]`; they are normalised on the device.
    #[default]
    Bytes,
    /// The same bytes and an input `augment`, numbers `[batch, Draws::LEN]`: on the device each image is varied as
    /// its row of [`Draws`] says, and normalised.
    Augmented,
    /// Numbers `[batch, height, width, channels]`, normalised already, in the order of the network's channels
    /// ([`super::Preprocess::normalised`]).
    Normalised,
}

/// What to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recording {
    /// What it is for.
    pub mode: Mode,
    /// Images at a time.
    pub batch: usize,
    /// Height and width; the preprocessing's crop where absent.
    pub size: Option<[usize; 2]>,
    /// What images are given as.
    pub input: InputKind,
}

options!(Recording);

impl Recording {
    /// For images as bytes, of the size that the preprocessing gives.
    pub fn new(mode: Mode, batch: usize) -> Self {
        Recording { mode, batch, size: None, input: InputKind::Bytes }
    }
}

/// A recorded network.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The input `image`.
    pub image: ValueId,
    /// What the last layer sees: `[batch, features]`, or a small image.
    pub features: ValueId,
    /// `[batch, classes]`.
    pub logits: ValueId,
    /// Logits of the auxiliary heads that learn, and the weight of each one's loss.
    pub auxiliary: Vec<(ValueId, f32)>,
    /// The input `step`, `u32[2]`, where dropout draws from it.
    pub step: Option<ValueId>,
}

/// A head recorded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The input `features`, as [`Recorded::features`].
    pub features: ValueId,
    /// `[batch, classes]`.
    pub logits: ValueId,
    /// The input `step`, `u32[2]`, where dropout draws from it.
    pub step: Option<ValueId>,
}

/// Multiply-adds of a node: of convolutions and linear layers, as torchinfo and fvcore count them.
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

    /// Multiply-adds of a prediction on one image of the usual size: those of convolutions and linear layers.
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
            // They are in order already.
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

/// The network's channels from normalised red, green and blue.
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
