//! Network steps on random noise: the work of `defrost bench`, `inspect`, `certify` and the benches.

use std::time::Instant;

use crate::models::Network;
use crate::plan::measure::Timing;
use crate::plan::{Device, Plan, Program};
use crate::train::settings::Config;
use crate::train::step::plans::{inference_plan, training_plan};
use crate::{Error, Result, rng};

/// A program and its inputs.
pub struct Workload {
    program: Program,
    inputs: Vec<(String, Vec<u8>)>,
}

/// The bytes of a plan's inputs by name: images of noise, the classes in turn as labels, and a learning rate.
pub fn noise(plan: &Plan, classes: usize, rate: f32) -> Vec<(String, Vec<u8>)> {
    let key = rng::key_of("noise");
    let contents = |(name, &v)| {
        let ty = plan.tape.ty(v);
        let elements = ty.shape.numel();
        let data = match String::as_str(name) {
            "image" => (0..elements as u64).map(|i| rng::mix(key, i) as u8).collect(),
            "labels" => {
                let labels: Vec<u32> = (0..elements).map(|i| (i % classes) as u32).collect();
                bytemuck::cast_slice(&labels).to_vec()
            }
            "weights" => bytemuck::cast_slice(&vec![1.0 / elements as f32; elements]).to_vec(),
            // For each group: learning rate, weight decay, and AdamW's two bias corrections.
            "rates" => bytemuck::cast_slice(&[rate, 0.0, 1.0, 1.0].repeat(elements / 4)).to_vec(),
            _ => vec![0; ty.bytes() as usize],
        };
        (name.clone(), data)
    };
    plan.inputs.iter().map(contents).collect()
}

impl Workload {
    /// A prediction of `batch` images.
    ///
    /// # Errors
    /// As for [`inference_plan`] and [`Workload::new`].
    pub fn inference(device: &Device, net: &Network, batch: usize) -> Result<Self> {
        Self::new(device, net, inference_plan(net, batch, &device.caps())?, 0.0)
    }

    /// A training step on `batch` images, with a learning rate.
    ///
    /// # Errors
    /// As for [`training_plan`] and [`Workload::new`].
    pub fn training(
        device: &Device,
        net: &Network,
        config: &Config,
        batch: usize,
        rate: f32,
    ) -> Result<Self> {
        Self::new(device, net, training_plan(net, config, batch, &device.caps())?, rate)
    }

    /// The program of a plan of `net`, with inputs of noise.
    ///
    /// # Errors
    /// As for [`Program::new`].
    pub fn new(device: &Device, net: &Network, plan: Plan, rate: f32) -> Result<Self> {
        let inputs = noise(&plan, net.classes().len(), rate);
        let store = device.store(&plan.layout, net)?;
        Ok(Workload { program: Program::new(plan, &store, net)?, inputs })
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs the program once, with upload and readback; returns wall time in seconds.
    ///
    /// # Errors
    /// [`Error::Diverged`] where a result is NaN or infinite; from the device.
    pub fn run(&mut self) -> Result<f64> {
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let began = Instant::now();
        let outputs = self.program.run(&inputs)?;
        let seconds = began.elapsed().as_secs_f64();
        if outputs.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::Diverged("a result is no number".into()));
        }
        Ok(seconds)
    }

    /// CPU time to record the program for a GPU without submitting it, in seconds: the median of several recordings.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub fn record(&self) -> Result<Option<f64>> {
        let Program::Gpu(program) = &self.program else { return Ok(None) };
        let seconds = (0..15).map(|_| program.record_alone()).collect::<Result<Vec<f64>>>()?;
        Ok(Some(Timing::of(seconds).median))
    }

    /// Runs the program once; returns the seconds of each step of the plan.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the adapter has no timestamps; from the device.
    pub fn profile(&mut self) -> Result<Vec<f64>> {
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.program.profile(&inputs)
    }
}
