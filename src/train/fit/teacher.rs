//! Knowledge distillation (Hinton, Vinyals, Dean 2015): a trained network, the teacher, whose predictions the student
//! is trained on.

use std::path::Path;
use std::sync::Arc;

use crate::data::Dataset;
use crate::models::{InputKind, Network, Preprocess, Recording};
use crate::nn::{Freeze, Mode};
use crate::plan::{Device, Program, Request, compile};
use crate::tape::Tape;
use crate::task::scores::softmax;
use crate::task::{self, Ability};
use crate::train::Predictor;
use crate::train::events::Silent;
use crate::train::step::session::{DeviceBatch, padded};
use crate::{Error, Result};

/// Images per batch where the teacher predicts all images at once.
const BATCH: usize = 16;

pub(crate) struct Teacher {
    net: Network,
    device: Device,
    augmented: bool,
    /// Column of each of the student's classes among the teacher's classes.
    columns: Vec<usize>,
    program: Option<(usize, Program)>,
    /// Logits of all training images, cached where each image always looks alike.
    cached: Vec<f32>,
}

impl Teacher {
    /// Loads the teacher from a run folder or a checkpoint. The teacher sees the same images as the student, at the
    /// student's size.
    pub(crate) fn open(path: &Path, student: &Network, device: &Device, augmented: bool) -> Result<Self> {
        let file = if path.is_dir() { path.join("model.safetensors") } else { path.to_path_buf() };
        let mut net = Network::open(&file)?;
        task::require(&net, Ability::Teacher)
            .map_err(|e| Error::Usage(format!("{}: {e}", file.display())))?;
        let column = |class: &String| {
            net.classes().iter().position(|known| known == class).ok_or_else(|| {
                Error::Usage(format!(
                    "{}: the teacher does not know the class '{class}', but {}; teach it the same classes first",
                    file.display(),
                    net.classes().join(", ")
                ))
            })
        };
        let columns = student.classes().iter().map(column).collect::<Result<_>>()?;
        let own = student.preprocess();
        // The student's view, with the teacher's channels, mean and standard deviation.
        let Preprocess { channels, mean, std, .. } = *net.preprocess();
        let preprocess = Preprocess { channels, mean, std, ..own.clone() };
        net.set_preprocess(preprocess)?;
        net.freeze(Freeze::all())?;
        Ok(Teacher { net, device: device.clone(), augmented, columns, program: None, cached: Vec::new() })
    }

    /// Predicts all images once and caches the logits: the images always look alike.
    pub(crate) fn look_at(&mut self, set: &Arc<Dataset>) -> Result<()> {
        let mut predictor = Predictor::new(&self.device, &self.net, BATCH)?;
        self.cached = predictor.outputs(set.clone(), &mut Silent)?.logits;
        Ok(())
    }

    /// The teacher's probabilities `[rows, classes]` of the student's classes at a temperature.
    pub(crate) fn answers(&mut self, fed: &DeviceBatch, temperature: f32) -> Result<Vec<f32>> {
        let (classes, rows) = (self.net.classes().len(), fed.rows());
        let logits = match fed.cached.is_empty() {
            false => {
                fed.cached.iter().flat_map(|&i| self.cached[i * classes..][..classes].to_vec()).collect()
            }
            true => self.run(fed, rows)?,
        };
        let answer =
            |row: &[f32]| softmax(&self.columns.iter().map(|&c| row[c] / temperature).collect::<Vec<f32>>());
        Ok(logits.chunks_exact(classes).flat_map(answer).collect())
    }

    fn run(&mut self, fed: &DeviceBatch, rows: usize) -> Result<Vec<f32>> {
        if self.program.as_ref().is_none_or(|(size, _)| *size < rows) {
            let mut tape = Tape::new();
            let input = if self.augmented { InputKind::Augmented } else { InputKind::Bytes };
            let recording = Recording { input, ..Recording::new(Mode::Eval, rows) };
            let logits = self.net.record(&mut tape, recording)?.logits;
            let request = Request::inference(tape, &[("logits", logits)]);
            let plan = compile(request, &Arc::default(), &self.device.caps())?;
            let store = self.device.store(&Arc::default(), &self.net)?;
            self.program = Some((rows, Program::new(plan, &store, &self.net)?));
        }
        let Some((size, program)) = &mut self.program else { return Ok(Vec::new()) };
        let data: Vec<_> =
            fed.inputs.iter().map(|(name, bytes)| (name, padded(bytes, rows, *size))).collect();
        let inputs: Vec<(&str, &[u8])> = data.iter().map(|(name, bytes)| (name.as_str(), &**bytes)).collect();
        let mut logits = program.run(&inputs)?.remove(0);
        logits.truncate(rows * self.net.classes().len());
        Ok(logits)
    }
}
