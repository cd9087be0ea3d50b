//! Loss and gradient of multinomial logistic regression on features in device memory.

use std::ops::Range;
use std::sync::Arc;

use crate::ops::{self, CrossEntropy, Epilogue, Matmul};
use crate::plan::{Device, Layout, Params, Program, Request, Store, Trainable, compile};
use crate::tape::{Shape, Tape, Type, Use};
use crate::{Error, Result};

/// Most bytes of features in one chunk.
pub(crate) const CHUNK_BYTES: usize = 64 << 20;

/// A range of rows on the device.
struct Chunk {
    rows: Range<usize>,
    gradient: Program,
    logits: Program,
}

/// Features and labels on a device; evaluates loss and gradient for any weight and bias.
pub(crate) struct Problem {
    store: Arc<Store>,
    chunks: Vec<Chunk>,
    pub(crate) labels: Vec<u32>,
    pub(crate) dims: usize,
    pub(crate) classes: usize,
}

/// Inputs of the plans from the host: constant rows of features, and an initial weight and bias.
struct Given<'a> {
    rows: &'a [f32],
    dims: usize,
    classes: usize,
}

impl Given<'_> {
    fn name(rows: &Range<usize>) -> String {
        format!("features.{}.{}", rows.start, rows.end)
    }
}

impl Params for Given<'_> {
    fn packed(&self, path: &str) -> Result<Vec<f32>> {
        let mut numbers = path.split('.').skip(1).map(str::parse::<usize>);
        match (path, numbers.next(), numbers.next()) {
            ("weight", ..) => Ok(vec![0.0; self.dims * self.classes]),
            ("bias", ..) => Ok(vec![0.0; self.classes]),
            (_, Some(Ok(begin)), Some(Ok(end))) => Ok(self.rows[begin * self.dims..end * self.dims].to_vec()),
            _ => Err(Error::Shape(format!("there is no '{path}'"))),
        }
    }
}

impl Problem {
    /// Uploads the features; features of more than `most` bytes are divided into chunks.
    pub(crate) fn new(
        device: &Device,
        rows: &[f32],
        labels: &[u32],
        [dims, classes]: [usize; 2],
        most: usize,
    ) -> Result<Self> {
        let caps = device.caps();
        let trainable = |path: &str, shape: &[usize]| Trainable {
            path: path.into(),
            shape: Shape(shape.to_vec()),
            group: 0,
        };
        let parameters = [trainable("weight", &[dims, classes]), trainable("bias", &[classes])];
        let layout = Arc::new(Layout::new(&parameters, &[], &[], &caps));
        let given = Given { rows, dims, classes };
        let store = device.store(&layout, &given)?;
        let limit = caps.max_binding.min(caps.max_buffer).min(most as u64) as usize;
        let each = (limit / (4 * dims.max(classes))).clamp(1, labels.len());
        let chunk = |start: usize| -> Result<Chunk> {
            let rows = start..(start + each).min(labels.len());
            let program = |request| Program::new(compile(request, &layout, &caps)?, &store, &given);
            let [gradient, logits] = record(&rows, dims, classes)?;
            Ok(Chunk { rows, gradient: program(gradient)?, logits: program(logits)? })
        };
        let chunks = (0..labels.len()).step_by(each).map(chunk).collect::<Result<_>>()?;
        Ok(Problem { store, chunks, labels: labels.to_vec(), dims, classes })
    }

    /// Writes weight and bias to the device.
    fn write(&self, parameters: &[f64]) -> Result<()> {
        let numbers: Vec<f32> = parameters.iter().map(|&x| x as f32).collect();
        let (weight, bias) = numbers.split_at(self.dims * self.classes);
        self.store.write("weight", weight)?;
        self.store.write("bias", bias)
    }

    /// Loss without the penalty, and its gradient. Each image has its own weight.
    pub(crate) fn loss_and_gradient(
        &mut self,
        parameters: &[f64],
        weights: &[f32],
    ) -> Result<(f64, Vec<f64>)> {
        self.write(parameters)?;
        let (mut loss, mut gradient) = (0.0, vec![0.0; parameters.len()]);
        for chunk in &mut self.chunks {
            let labels = bytemuck::cast_slice(&self.labels[chunk.rows.clone()]);
            let weights = bytemuck::cast_slice(&weights[chunk.rows.clone()]);
            let outputs = chunk.gradient.run(&[("labels", labels), ("weights", weights)])?;
            loss += outputs[0].iter().map(|&x| f64::from(x)).sum::<f64>();
            let parts = outputs[1..].iter().flatten();
            gradient.iter_mut().zip(parts).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        Ok((loss, gradient))
    }

    pub(crate) fn logits(&mut self, parameters: &[f64]) -> Result<Vec<f32>> {
        self.write(parameters)?;
        let mut all = Vec::new();
        for chunk in &mut self.chunks {
            all.extend(chunk.logits.run(&[])?.swap_remove(0));
        }
        Ok(all)
    }
}

/// Records two programs for a range of rows: loss and gradients, and logits.
fn record(rows: &Range<usize>, dims: usize, classes: usize) -> Result<[Request; 2]> {
    let mut tape = Tape::new();
    let count = rows.len();
    let x = tape.param(&Given::name(rows), &[count, dims], Use::Frozen)?;
    let weight = tape.param("weight", &[dims, classes], Use::Trainable)?;
    let bias = tape.param("bias", &[classes], Use::Trainable)?;
    let logits = tape.apply(Matmul { epilogue: Epilogue::bias() }, &[x, weight, bias])?;
    let inference = Request::inference(tape.clone(), &[("logits", logits)]);
    let labels = tape.input("labels", Type::u32(&[count]));
    let weights = tape.input("weights", Type::f32(&[count]));
    let loss = tape.apply(CrossEntropy { smoothing: 0.0 }, &[logits, labels, weights])?;
    let gradients = ops::backward(&mut tape, loss)?;
    let outputs = [("loss", loss), ("weight", gradients[&weight]), ("bias", gradients[&bias])];
    Ok([Request::inference(tape, &outputs), inference])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::scores::tests::waves;

    #[test]
    fn pieces_add_up() -> Result<()> {
        let rows = waves(50, 6);
        let labels: Vec<u32> = (0..50).map(|i| i / 3 % 4).collect();
        let parameters: Vec<f64> = (0..28).map(|i| f64::from(((i as f32) * 0.7).sin() * 0.1)).collect();
        let weights: Vec<f32> = (0..50).map(|i| (i % 4) as f32 / 75.0).collect();
        let mut outcomes = Vec::new();
        for most in [CHUNK_BYTES, 7 * 24] {
            let mut problem = Problem::new(&Device::Cpu, &rows, &labels, [6, 4], most)?;
            let (loss, gradient) = problem.loss_and_gradient(&parameters, &weights)?;
            outcomes.push((problem.chunks.len(), loss, gradient, problem.logits(&parameters)?));
        }
        let [(one, loss, gradient, logits), (eight, other_loss, other_gradient, other_logits)] =
            &outcomes[..]
        else {
            return Err(Error::Shape("two outcomes".into()));
        };
        assert_eq!((*one, *eight), (1, 8));
        assert_eq!(logits, other_logits);
        assert!((loss - other_loss).abs() < 1e-6);
        gradient.iter().zip(other_gradient).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
        Ok(())
    }
}
