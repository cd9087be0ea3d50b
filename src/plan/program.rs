//! A plan on whichever device was chosen: one interface for the GPU and the CPU.

use std::collections::VecDeque;
use std::sync::Arc;

use super::store::{CpuStore, GpuStore, Params, Store};
use super::{CpuProgram, GpuProgram, Layout, Plan};
use crate::gpu::{Caps, DeviceChoice, Gpu, GpuOptions};
use crate::tape::{DType, Data};
use crate::{Error, Result};

/// What runs plans.
#[derive(Debug, Clone)]
pub enum Device {
    /// A GPU.
    Gpu(Gpu),
    /// The CPU, natively.
    Cpu,
}

impl Device {
    /// Opens the device that `options` names.
    ///
    /// # Errors
    /// As for [`Gpu::with_options`].
    pub fn open(options: &GpuOptions) -> Result<Self> {
        match options.device {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            _ => Ok(Device::Gpu(Gpu::with_options(options)?)),
        }
    }

    /// What plans may count on.
    pub fn caps(&self) -> Caps {
        match self {
            Device::Gpu(gpu) => gpu.caps().clone(),
            Device::Cpu => Caps::host(),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Device::Gpu(gpu) => gpu.describe(),
            Device::Cpu => "CPU (native)".into(),
        }
    }

    /// Allocates a store and fills in the parameters.
    ///
    /// # Errors
    /// As for [`GpuStore::new`].
    pub fn store(&self, layout: &Arc<Layout>, params: &dyn Params) -> Result<Arc<Store>> {
        Ok(Arc::new(match self {
            Device::Gpu(gpu) => Store::Gpu(Arc::new(GpuStore::new(gpu, layout, params)?)),
            Device::Cpu => Store::Cpu(Arc::new(CpuStore::new(layout, params)?)),
        }))
    }
}

/// A plan ready to run.
pub enum Program {
    /// On a GPU.
    Gpu(Box<GpuProgram>),
    /// On the CPU, with the outputs that were not taken yet.
    Cpu(Box<CpuProgram<f32>>, VecDeque<Vec<Vec<f32>>>),
}

impl Program {
    /// Makes `plan` ready on the device of `store`.
    ///
    /// # Errors
    /// As for [`GpuProgram::new`].
    pub fn new(plan: Plan, store: &Store, params: &dyn Params) -> Result<Self> {
        Ok(match store {
            Store::Gpu(store) => Program::Gpu(Box::new(GpuProgram::new(plan, store, params)?)),
            Store::Cpu(store) => {
                Program::Cpu(Box::new(CpuProgram::new(plan, store, params)?), VecDeque::new())
            }
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        match self {
            Program::Gpu(program) => program.plan(),
            Program::Cpu(program, _) => program.plan(),
        }
    }

    /// Steps that were started and not finished.
    pub fn pending(&self) -> usize {
        match self {
            Program::Gpu(program) => program.pending(),
            Program::Cpu(_, done) => done.len(),
        }
    }

    /// Steps that may be under way at once.
    pub fn in_flight(&self) -> usize {
        match self {
            Program::Gpu(_) => super::gpu::IN_FLIGHT,
            Program::Cpu(..) => 1,
        }
    }

    /// Starts one step; inputs are the raw bytes of each value, by name.
    ///
    /// # Errors
    /// As for [`GpuProgram::start`].
    pub fn start(&mut self, inputs: &[(&str, &[u8])]) -> Result<()> {
        match self {
            Program::Gpu(program) => program.start(inputs),
            Program::Cpu(program, done) => {
                let plan = program.plan();
                let mut typed = Vec::new();
                for &(name, bytes) in inputs {
                    let Some(&v) = plan.inputs.get(name) else { continue };
                    let ty = plan.tape.ty(v);
                    if (bytes.len() as u64).next_multiple_of(4) != ty.bytes() {
                        let found = bytes.len();
                        return Err(Error::Shape(format!(
                            "the input '{name}' has {found} bytes, and {ty} is wanted"
                        )));
                    }
                    typed.push((
                        name,
                        match ty.dtype {
                            DType::F32 => Data::Real(bytemuck::pod_collect_to_vec(bytes)),
                            DType::U32 => Data::U32(bytemuck::pod_collect_to_vec(bytes)),
                            DType::U8 => Data::U8(bytes.to_vec()),
                        },
                    ));
                }
                done.push_back(program.run(&typed)?);
                Ok(())
            }
        }
    }

    /// Outputs of the oldest started step, in the plan's order.
    ///
    /// # Errors
    /// As for [`GpuProgram::finish`].
    pub fn finish(&mut self) -> Result<Vec<Vec<f32>>> {
        match self {
            Program::Gpu(program) => program.finish(),
            Program::Cpu(_, done) => done.pop_front().ok_or_else(|| Error::Gpu("no step was started".into())),
        }
    }

    /// One step from inputs to outputs.
    ///
    /// # Errors
    /// As for [`GpuProgram::start`].
    pub fn run(&mut self, inputs: &[(&str, &[u8])]) -> Result<Vec<Vec<f32>>> {
        self.start(inputs)?;
        self.finish()
    }
}
