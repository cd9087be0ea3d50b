//! The two plans that compute maps, and how they run.
//!
//! The first plan computes the outputs of the network and the maps of the layer. The second plan computes the
//! gradient of one output with respect to these maps, beginning at the maps. So the class may be the predicted one,
//! and the layers below the maps run only once.

use std::sync::Arc;

use rayon::prelude::*;

use super::cam::{class_map, mean_gradient, plus_plus, saliency};
use super::{Map, Method};
use crate::gpu::Caps;
use crate::models::{IMAGE_LAYER, InputKind, Network, Preprocess, Recording};
use crate::nn::{Freeze, Mode, lies_in};
use crate::ops::backward_from;
use crate::plan::{Device, Plan, Program, Request, compile};
use crate::rng::Stream;
use crate::tape::{DType, Phase, Tape, ValueId, cached_input};
use crate::task::{self, TaskRef};
use crate::train::fitting_batch;
use crate::{Error, Result};

/// A network compiled to explain which part of an image raises the score of a class.
///
/// ```
/// use defrost::data::{Scenes, eval};
/// use defrost::explain::{Explainer, Method};
/// use defrost::{models, plan::Device};
///
/// # fn main() -> defrost::Result<()> {
/// let net = models::create("resnet20", 8)?;
/// let image = eval(&Scenes::Things.draw(0, 2, 0, 32), net.preprocess());
/// let mut explainer = Explainer::new(&Device::Cpu, &net, Method::GradCam, Some("layer2"), 1)?;
/// let map = explainer.maps(&[image], &[Some(2)])?.remove(0);
/// assert_eq!(map.class, 2);
/// # Ok(())
/// # }
/// ```
pub struct Explainer {
    method: Method,
    layer: Option<String>,
    front: Program,
    back: Program,
    batch: usize,
    /// Height, width and channels of the value that the gradient is taken with respect to.
    shape: [usize; 3],
    classes: usize,
    task: TaskRef,
    temperature: Option<f64>,
    preprocess: Preprocess,
    samples: usize,
    noise: f64,
    seed: u64,
}

/// An output to explain, and its value.
struct Asked {
    class: usize,
    logit: f32,
    answer: f32,
}

impl Explainer {
    /// Default number of noisy versions of an image for SmoothGrad.
    pub const SAMPLES: usize = 25;

    /// Compiles `net` for up to `batch` images at a time, fewer where the device has too little memory. `layer` is
    /// any layer or module whose output is a map; where absent, the last one
    /// ([`crate::models::Architecture::last_map`]). SmoothGrad uses no layer. All parameters count as frozen,
    /// whatever the network's mask.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown layer, with the nearest name, and for one whose output is no map; from the
    /// device.
    pub fn new(
        device: &Device,
        net: &Network,
        method: Method,
        layer: Option<&str>,
        batch: usize,
    ) -> Result<Self> {
        let layer = match (method, layer) {
            (Method::SmoothGrad, None) => None,
            (Method::SmoothGrad, Some(layer)) => {
                return Err(Error::Usage(format!(
                    "layer {layer}: {method} looks at the image itself; leave the layer out, or choose {} or {}",
                    Method::GradCam,
                    Method::GradCamPlusPlus
                )));
            }
            (_, layer) => Some(layer.map_or_else(|| net.architecture().last_map(), String::from)),
        };
        let mut net = net.clone();
        net.freeze(Freeze::all())?;
        let caps = device.caps();
        let (batch, (front, back, shape)) =
            fitting_batch(batch, |batch| plans(&net, layer.as_deref(), batch, &caps))?;
        let store = device.store(&Arc::default(), &net)?;
        Ok(Explainer {
            method,
            layer,
            front: Program::new(front, &store, &net)?,
            back: Program::new(back, &store, &net)?,
            batch,
            shape,
            classes: net.classes().len(),
            task: task::of(&net)?,
            temperature: net.config().temperature,
            preprocess: net.preprocess().clone(),
            samples: Self::SAMPLES,
            noise: 0.15,
            seed: 0,
        })
    }

    /// Sets the number of noisy versions of an image for SmoothGrad, at least 1; the default is
    /// [`Explainer::SAMPLES`].
    #[must_use]
    pub fn samples(self, samples: usize) -> Self {
        Explainer { samples: samples.max(1), ..self }
    }

    /// Sets the standard deviation of SmoothGrad's noise, as a share of the range of the normalised image from
    /// darkest to brightest; the default is 0.15.
    #[must_use]
    pub fn noise(self, share: f64) -> Self {
        Explainer { noise: share, ..self }
    }

    /// Sets the seed of the noise. The noise is the same for each image.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Explainer { seed, ..self }
    }

    /// The usual layer ([`crate::models::Architecture::last_map`]) where its map has at least `columns` columns, else
    /// the last layer before it that has; none where there is no such layer.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn last_layer(net: &Network, columns: usize) -> Result<Option<String>> {
        let mut tape = Tape::new();
        net.record(&mut tape, Recording::new(Mode::Eval, 1))?;
        let wide = |layer: &str| {
            let map = map_of(net, &tape, layer).and_then(|map| tape.shape(map).nhwc());
            map.is_ok_and(|[_, _, width, _]| width >= columns)
        };
        let usual = net.architecture().last_map();
        let others = net.structure().layers.iter().rev().map(|layer| layer.path.clone());
        Ok(std::iter::once(usual).chain(others).find(|layer| wide(layer)))
    }

    /// The layer whose maps are used; none with SmoothGrad.
    pub fn layer(&self) -> Option<&str> {
        self.layer.as_deref()
    }

    /// A map for each image, given as the bytes of its crop `[crop, crop, 3]`, and a class: the number of an output,
    /// or none for the predicted class.
    ///
    /// # Errors
    /// [`Error::Shape`] for an image of another size; [`Error::Usage`] for an unknown class, where the numbers of
    /// classes and images differ, and where a network with several values is given no value to explain; from the
    /// device.
    pub fn maps(&mut self, images: &[Vec<u8>], classes: &[Option<usize>]) -> Result<Vec<Map>> {
        let bytes = self.preprocess.bytes();
        if let Some(other) = images.iter().find(|p| p.len() != bytes) {
            return Err(Error::Shape(format!("an image of {} bytes where {bytes} are wanted", other.len())));
        }
        let (found, wanted) = (classes.len(), images.len());
        if found != wanted {
            return Err(Error::Usage(format!("{found} classes for {wanted} images; give one for each")));
        }
        if let Some(class) = classes.iter().flatten().find(|&&class| class >= self.classes) {
            return Err(Error::Usage(format!("class {class}: the network has {}, from 0 on", self.classes)));
        }
        if !self.task.ranks() && self.classes > 1 && classes.contains(&None) {
            return Err(Error::Usage(format!(
                "the network tells {} numbers: name the one to explain",
                self.classes
            )));
        }
        let mut maps = Vec::with_capacity(images.len());
        for (images, classes) in images.chunks(self.batch).zip(classes.chunks(self.batch)) {
            maps.extend(match self.layer {
                Some(_) => self.class_maps(images, classes)?,
                None => self.smooth_maps(images, classes)?,
            });
        }
        Ok(maps)
    }

    /// Grad-CAM and Grad-CAM++ of at most a batch.
    fn class_maps(&mut self, images: &[Vec<u8>], classes: &[Option<usize>]) -> Result<Vec<Map>> {
        let mut image = images.concat();
        image.resize(self.batch * self.preprocess.bytes(), 0);
        let [logits, maps] = &self.front.run(&[("image", &image)])?[..] else { return Err(lost()) };
        let asked = self.asked(logits, classes);
        let [height, width, channels] = self.shape;
        let seed = self.seed_of(asked.iter().map(|a| a.class));
        let kept = cached_input(0);
        let mut inputs: Vec<(&str, &[u8])> = vec![
            ("image", &image),
            (&kept, bytemuck::cast_slice(maps)),
            ("seed", bytemuck::cast_slice(&seed)),
        ];
        // Where no path leads past the layer, no later step reads the images.
        inputs.retain(|(name, _)| self.back.plan().inputs.contains_key(*name));
        let [gradients] = &self.back.run(&inputs)?[..] else { return Err(lost()) };
        let elements = height * width * channels;
        let rows = maps.chunks_exact(elements).zip(gradients.chunks_exact(elements));
        let values = rows.map(|(map, gradient)| {
            let weights = match self.method {
                Method::GradCamPlusPlus => plus_plus(map, gradient, channels),
                _ => mean_gradient(gradient, channels),
            };
            class_map(map, &weights, [height, width], self.preprocess.size)
        });
        Ok(asked.into_iter().zip(values).map(|(asked, values)| self.map(asked, values)).collect())
    }

    /// SmoothGrad of at most a batch.
    fn smooth_maps(&mut self, images: &[Vec<u8>], classes: &[Option<usize>]) -> Result<Vec<Map>> {
        let channels = self.preprocess.channels.count();
        let elements = self.preprocess.bytes() / 3 * channels;
        let mut image: Vec<f32> = images.iter().flat_map(|bytes| self.preprocess.normalised(bytes)).collect();
        image.resize(self.batch * elements, 0.0);
        let [logits] = &self.front.run(&[("image", bytemuck::cast_slice(&image))])?[..] else {
            return Err(lost());
        };
        let asked = self.asked(logits, classes);
        let mut maps = Vec::with_capacity(asked.len());
        for (asked, image) in asked.into_iter().zip(image.chunks_exact(elements)) {
            let gradient = self.mean_over_noise(image, asked.class)?;
            maps.push(self.map(asked, saliency(&gradient, channels)));
        }
        Ok(maps)
    }

    /// The mean gradient of an output with respect to the image, over noisy versions of the image.
    fn mean_over_noise(&mut self, image: &[f32], class: usize) -> Result<Vec<f64>> {
        let (low, high) = image.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
        let (deviation, seed) = (self.noise * f64::from(high - low), self.seed);
        let noisy = |sample: usize| {
            let mut stream = Stream::new(&[seed, sample as u64]);
            let add = |&x: &f32| (f64::from(x) + deviation * stream.normal()) as f32;
            image.iter().map(add).collect::<Vec<f32>>()
        };
        let samples: Vec<usize> = (0..self.samples).collect();
        let mut sum = vec![0.0; image.len()];
        for group in samples.chunks(self.batch) {
            let copies: Vec<Vec<f32>> = group.par_iter().map(|&sample| noisy(sample)).collect();
            let mut noisy = copies.concat();
            noisy.resize(self.batch * image.len(), 0.0);
            let output = self.seed_of(group.iter().map(|_| class));
            let inputs: [(&str, &[u8]); 2] =
                [("image", bytemuck::cast_slice(&noisy)), ("seed", bytemuck::cast_slice(&output))];
            let [gradients] = &self.back.run(&inputs)?[..] else { return Err(lost()) };
            for gradient in gradients.chunks_exact(image.len()).take(group.len()) {
                sum.iter_mut().zip(gradient).for_each(|(sum, &g)| *sum += f64::from(g));
            }
        }
        let share = 1.0 / self.samples as f64;
        sum.iter_mut().for_each(|g| *g *= share);
        Ok(sum)
    }

    /// The output to explain for each image.
    fn asked(&self, logits: &[f32], classes: &[Option<usize>]) -> Vec<Asked> {
        let rows = logits.chunks_exact(self.classes).zip(classes);
        let asked = rows.map(|(row, &class)| {
            let top = || (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a)));
            let class = class.or_else(top).unwrap_or_default();
            Asked { class, logit: row[class], answer: self.task.predict(row, self.temperature)[class] }
        });
        asked.collect()
    }

    /// `[batch, classes]`: 1 at each row's class; the rest of the batch is 0.
    fn seed_of(&self, classes: impl Iterator<Item = usize>) -> Vec<f32> {
        let mut seed = vec![0.0; self.batch * self.classes];
        classes.enumerate().for_each(|(row, class)| seed[row * self.classes + class] = 1.0);
        seed
    }

    fn map(&self, asked: Asked, values: Vec<f32>) -> Map {
        let Asked { class, logit, answer } = asked;
        let [height, width] = self.preprocess.size;
        Map { width, height, values, class, logit, answer }
    }
}

fn lost() -> Error {
    Error::Shape("the plan has other outputs than were asked for".into())
}

/// The plan from images to outputs, and to the maps of `layer` where there is one; the plan of the gradient with
/// respect to these maps, else to the image; height, width and channels of the value that the gradient is taken with
/// respect to.
fn plans(net: &Network, layer: Option<&str>, batch: usize, caps: &Caps) -> Result<(Plan, Plan, [usize; 3])> {
    let input = if layer.is_some() { InputKind::Bytes } else { InputKind::Normalised };
    let mut tape = Tape::new();
    let recorded = net.record(&mut tape, Recording { input, ..Recording::new(Mode::Eval, batch) })?;
    let watched = layer.map_or(Ok(recorded.image), |layer| map_of(net, &tape, layer))?;
    let [_, height, width, channels] = tape.shape(watched).nhwc()?;
    let mut outputs = vec![("logits", recorded.logits)];
    outputs.extend(layer.map(|_| ("map", watched)));
    let front = compile(Request::inference(tape.clone(), &outputs), &Arc::default(), caps)?;

    tape.watch(watched);
    let seed = tape.input("seed", tape.ty(recorded.logits).clone());
    let gradients = backward_from(&mut tape, &[(recorded.logits, seed)])?;
    let Some(&gradient) = gradients.get(&watched) else {
        return Err(Error::Usage(format!(
            "layer {}: the classes do not depend on it; {} is the usual choice",
            layer.unwrap_or(IMAGE_LAYER),
            net.architecture().last_map()
        )));
    };
    let mark = tape.mark(watched);
    let tape = match mark {
        Some(tap) => tape.resumed_from(&[tap]).ok_or_else(lost)?,
        None => tape,
    };
    let back = compile(Request::inference(tape, &[("gradient", gradient)]), &Arc::default(), caps)?;
    Ok((front, back, [height, width, channels]))
}

/// The last map that was recorded in a layer or module: the value that PyTorch's forward hook receives.
fn map_of(net: &Network, tape: &Tape, layer: &str) -> Result<ValueId> {
    if !net.structure().layers.iter().any(|known| lies_in(&known.path, layer)) {
        return Err(net.structure().unknown(layer));
    }
    let is_map = |&v: &ValueId| {
        let ty = tape.ty(v);
        ty.dtype == DType::F32 && ty.shape.nhwc().is_ok_and(|[_, height, width, _]| height * width > 1)
    };
    let inside = tape.nodes.iter().filter(|n| n.phase == Phase::Forward && lies_in(&n.layer, layer));
    let map = inside.rev().find_map(|node| node.outputs.first().copied().filter(|v| is_map(v)));
    map.ok_or_else(|| {
        Error::Usage(format!(
            "layer {layer}: its output is no map of the image; choose one before the mean, such as {}",
            net.architecture().last_map()
        ))
    })
}
