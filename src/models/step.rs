//! Training steps for programs with their own loop: a network, a loss and an optimizer, compiled once.

use std::sync::Arc;

use super::{Network, Recorded, Recording};
use crate::gpu::Caps;
use crate::nn::{Kind, ParamSpec};
use crate::ops::{self, Optimizer};
use crate::plan::{Device, Layout, Program, Request, Store, Trainable, Update, compile};
use crate::tape::{Shape, Tape, ValueId};
use crate::{Error, Result};

impl Network {
    /// The trainable parameters, each with its rate group: twice its layer group, plus one where weight decay does
    /// not apply (norms and biases).
    pub fn trainable(&self) -> Vec<Trainable> {
        let ranges = self.structure().group_ranges();
        let specs = self.specs().iter().enumerate().filter(|(_, s)| self.mask().learns(&s.path, s.kind));
        let trainable = |(i, s): (usize, &ParamSpec)| {
            let group = ranges.iter().position(|range| range.contains(&i)).unwrap_or(0);
            let group = 2 * group + usize::from(s.kind != Kind::Weight);
            Trainable { path: s.path.clone(), shape: Shape(s.device_shape()), group: group as u32 }
        };
        specs.map(trainable).collect()
    }

    /// Pages of a store for everything that a training changes.
    pub fn layout(&self, update: &Update, caps: &Caps) -> Arc<Layout> {
        let is_state = |s: &&ParamSpec| !s.kind.is_learnable() && self.mask().changes(s);
        let state: Vec<(String, Shape)> = (self.specs().iter().filter(is_state))
            .map(|s| (s.path.clone(), Shape(s.device_shape())))
            .collect();
        Arc::new(Layout::new(&self.trainable(), &state, &update.pages(), caps))
    }

    /// Compiles a training step. `loss` receives the recorded network and records the value to minimise; it may
    /// declare any inputs.
    ///
    /// ```
    /// use defrost::models::{Network, Recording};
    /// use defrost::nn::Mode;
    /// use defrost::ops::{AdamW, CrossEntropy};
    /// use defrost::plan::Device;
    /// use defrost::tape::Type;
    ///
    /// # fn step(net: &Network, images: &[u8], labels: &[u32]) -> defrost::Result<()> {
    /// let recording = Recording::new(Mode::Train, 8);
    /// let mut step = net.training_step(&Device::Cpu, recording, AdamW::default(), |tape, recorded| {
    ///     let labels = tape.input("labels", Type::u32(&[8]));
    ///     let weights = tape.fill(&[8], 1.0 / 8.0);
    ///     tape.apply(CrossEntropy { smoothing: 0.0 }, &[recorded.logits, labels, weights])
    /// })?;
    /// let inputs = [("image", images), ("labels", bytemuck::cast_slice(labels))];
    /// let loss = step.run(&inputs, 1e-3, 0.01)?;
    /// # let _ = loss;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] where everything is frozen; [`Error::Shape`] from `loss` and where a value fits no binding;
    /// from the device.
    pub fn training_step(
        &self,
        device: &Device,
        recording: Recording,
        optimizer: impl Into<Optimizer>,
        loss: impl FnOnce(&mut Tape, &Recorded) -> Result<ValueId>,
    ) -> Result<TrainingStep> {
        let update = Update::plain(optimizer.into());
        let mut tape = Tape::new();
        let recorded = self.record(&mut tape, recording)?;
        tape.set_layer("loss");
        let loss = loss(&mut tape, &recorded)?;
        let gradients = ops::backward(&mut tape, loss)?;
        if gradients.is_empty() {
            return Err(Error::Usage("everything is frozen: nothing would learn; freeze less".into()));
        }
        let outputs = vec![("loss".into(), loss)];
        let request = Request { tape, outputs, gradients, update: Some(update), checkpointing: false };
        let layout = self.layout(&update, &device.caps());
        let plan = compile(request, &layout, &device.caps())?;
        let store = device.store(&layout, self)?;
        let program = Program::new(plan, &store, self)?;
        Ok(TrainingStep { program, store, optimizer: update.optimizer, updates: 0 })
    }
}

/// A compiled training step, with the weights that it changes.
pub struct TrainingStep {
    program: Program,
    store: Arc<Store>,
    optimizer: Optimizer,
    updates: u64,
}

impl TrainingStep {
    /// Runs one update with a learning rate and a weight decay; returns the loss.
    ///
    /// # Errors
    /// [`Error::Shape`] for inputs that are missing, unknown or of another size; [`Error::Diverged`] where the loss
    /// is NaN or infinite; from the device.
    pub fn run(&mut self, inputs: &[(&str, &[u8])], lr: f64, weight_decay: f64) -> Result<f32> {
        let rates = self.rates(lr, weight_decay);
        let step = [0, self.updates as u32];
        let mut all: Vec<(&str, &[u8])> = inputs.to_vec();
        all.push(("rates", bytemuck::cast_slice(&rates)));
        // Dropout draws its random numbers from this input.
        if self.program.plan().inputs.contains_key("step") {
            all.push(("step", bytemuck::cast_slice(&step)));
        }
        let outputs = self.program.run(&all)?;
        self.updates += 1;
        match outputs[0][0] {
            loss if loss.is_finite() => Ok(loss),
            loss => Err(Error::Diverged(format!("the loss became {loss}: choose a smaller learning rate"))),
        }
    }

    /// The input `rates` of the next update, for programs that record the step into their own encoder: one row per
    /// rate group ([`Network::trainable`]).
    pub fn rates(&self, lr: f64, weight_decay: f64) -> Vec<f32> {
        let groups = self.program.plan().layout.groups.max(1);
        let decay = |group: usize| if group.is_multiple_of(2) { weight_decay } else { 0.0 };
        (0..groups).flat_map(|group| self.optimizer.row(lr, decay(group), self.updates + 1)).collect()
    }

    /// The program.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Copies the trained weights into the network.
    ///
    /// # Errors
    /// From the device; [`Error::Usage`] where the network is another one.
    pub fn write_back(&self, net: &mut Network) -> Result<()> {
        let layout = &self.program.plan().layout;
        let names: Vec<&String> =
            layout.segments.keys().filter(|name| !name.contains([':', '#']) && *name != "state").collect();
        names.into_iter().try_for_each(|name| net.set_packed(name, &self.store.read(name)?))?;
        net.count_batches(self.updates as i64);
        Ok(())
    }
}
