//! A plan on the chosen device: one interface for the GPU and the CPU.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::constant::Params;
use super::inputs::{borrowed, typed};
use super::store::{CpuStore, GpuStore, Store};
use super::{CpuProgram, GpuProgram, Layout, Plan};
use crate::Result;
use crate::gpu::{self, Auto, Caps, DeviceChoice, Gpu, GpuOptions};

/// A device that runs plans.
///
/// On [`Device::Cpu`] a plan runs on the threads of the caller's rayon pool, so an application sets their number as
/// for any use of rayon: `ThreadPoolBuilder::build_global` at its start (as the command does), or
/// `ThreadPool::install` around a call. Images are always decoded on the global pool. Results are the same for any
/// number of threads.
#[derive(Debug, Clone)]
pub enum Device {
    /// A GPU.
    Gpu(Gpu),
    /// The CPU, natively.
    Cpu,
}

/// A device, and the reason of its choice.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The device.
    pub device: Device,
    /// Its number in [`crate::gpu::adapters`], where `auto` found a GPU.
    pub adapter: Option<usize>,
    /// Why `auto` chose it; empty where the caller named it.
    pub why: String,
    /// GPUs that `auto` could not open, each with its error.
    pub warnings: Vec<String>,
}

impl Device {
    /// Opens the device that `options` names. [`DeviceChoice::Auto`] is the best real GPU, or the CPU
    /// where none can be opened; a GPU that fails to open is named on stderr ([`Device::choose`] leaves
    /// that to the caller). Software Vulkan must be asked for.
    ///
    /// # Errors
    /// As for [`Gpu::with_options`], but never with [`DeviceChoice::Auto`].
    pub fn open(options: &GpuOptions) -> Result<Self> {
        let chosen = Self::choose(options)?;
        for warning in &chosen.warnings {
            // A closed stderr is no error.
            let _ = writeln!(std::io::stderr(), "defrost: {warning}");
        }
        Ok(chosen.device)
    }

    /// As [`Device::open`], with the reason of the choice.
    ///
    /// # Errors
    /// As for [`Device::open`].
    pub fn choose(options: &GpuOptions) -> Result<Chosen> {
        let named = |device| Chosen { device, adapter: None, why: String::new(), warnings: Vec::new() };
        Ok(match options.device {
            DeviceChoice::Cpu => named(Device::Cpu),
            DeviceChoice::Auto => {
                let Auto { gpu, why, warnings } = gpu::auto(options);
                let (adapter, gpu) = gpu.unzip();
                Chosen { device: gpu.map_or(Device::Cpu, Device::Gpu), adapter, why, warnings }
            }
            _ => named(Device::Gpu(Gpu::with_options(options)?)),
        })
    }

    /// The limits and features that plans may use.
    pub fn caps(&self) -> Caps {
        match self {
            Device::Gpu(gpu) => Caps { choices: gpu.choices(), ..gpu.caps().clone() },
            Device::Cpu => Caps::host(),
        }
    }

    /// Compiles the kernels of a plan before its first use; does nothing on the CPU.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] where a kernel does not compile.
    pub fn warm(&self, plan: &Plan) -> Result<()> {
        match self {
            Device::Gpu(gpu) => super::gpu::compile_kernels(gpu, plan),
            Device::Cpu => Ok(()),
        }
    }

    /// One line for people: adapter, kind, backend and driver, or the CPU with its threads.
    pub fn describe(&self) -> String {
        match self {
            Device::Gpu(gpu) => gpu.describe(),
            Device::Cpu => match rayon::current_num_threads() {
                1 => "CPU, 1 thread".into(),
                threads => format!("CPU, {threads} threads"),
            },
        }
    }

    /// Identifies everything that results depend on: the same name, the same bits. On a GPU this includes the chosen
    /// kernels; on the CPU the vector instructions, but not the threads.
    pub fn identity(&self) -> String {
        match self {
            Device::Gpu(gpu) if gpu.choices().is_empty() => gpu.describe(),
            Device::Gpu(gpu) => format!("{}, tuned {:016x}", gpu.describe(), gpu.choices().fingerprint()),
            Device::Cpu => format!("CPU {} {}", std::env::consts::ARCH, gpu::vector()),
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

/// Memory for the activations of programs that take turns: as much as the largest of them needs, not the sum. A step
/// of one program overwrites the activations of another.
#[derive(Default)]
pub struct Arena {
    cpu: Arc<Mutex<super::cpu::Memory<f32>>>,
    gpu: super::gpu::Slots,
}

/// A plan ready to run.
pub enum Program {
    /// On a GPU.
    Gpu(Box<GpuProgram>),
    /// On the CPU, with the outputs that have not been read yet.
    Cpu(Box<CpuProgram<f32>>, VecDeque<Vec<Vec<f32>>>),
}

impl Program {
    /// Prepares `plan` on the device of `store`.
    ///
    /// # Errors
    /// As for [`GpuProgram::new`].
    pub fn new(plan: Plan, store: &Store, params: &dyn Params) -> Result<Self> {
        Self::sharing(plan, store, params, &Arena::default())
    }

    /// As [`Program::new`], with its activations in `arena`. The arena does not change the results; create the
    /// program that needs most memory first.
    ///
    /// # Errors
    /// As for [`GpuProgram::new`].
    pub fn sharing(plan: Plan, store: &Store, params: &dyn Params, arena: &Arena) -> Result<Self> {
        Ok(match store {
            Store::Gpu(store) => {
                Program::Gpu(Box::new(GpuProgram::sharing(plan, store, params, &arena.gpu)?))
            }
            Store::Cpu(store) => {
                let program = CpuProgram::sharing(plan, store, params, &arena.cpu)?;
                Program::Cpu(Box::new(program), VecDeque::new())
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

    /// Number of steps in flight.
    pub fn pending(&self) -> usize {
        match self {
            Program::Gpu(program) => program.pending(),
            Program::Cpu(_, done) => done.len(),
        }
    }

    /// Greatest number of steps in flight.
    pub fn in_flight(&self) -> usize {
        match self {
            Program::Gpu(_) => super::gpu::IN_FLIGHT,
            Program::Cpu(..) => 1,
        }
    }

    /// Runs one step and returns the seconds of each step of the plan.
    ///
    /// # Errors
    /// As for [`GpuProgram::profile`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, inputs: &[(&str, &[u8])]) -> Result<Vec<f64>> {
        match self {
            Program::Gpu(program) => program.profile(inputs),
            Program::Cpu(program, _) => {
                let mut seconds = vec![0.0; program.plan().steps.len()];
                let typed = typed(program.plan(), inputs)?;
                program.run_timed(&borrowed(&typed), |step, time| seconds[step] = time)?;
                Ok(seconds)
            }
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
                let typed = typed(program.plan(), inputs)?;
                done.push_back(program.run(&borrowed(&typed))?);
                Ok(())
            }
        }
    }

    /// The outputs of the oldest started step in the plan's order, if it is done; else `context` is woken when it is.
    /// [`Plan::named`] gives them by name.
    ///
    /// # Errors
    /// As for [`GpuProgram::poll`].
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<Vec<f32>>>> {
        match self {
            Program::Gpu(program) => program.poll(context),
            Program::Cpu(_, done) => Poll::Ready(done.pop_front().ok_or_else(super::gpu::not_started)),
        }
    }

    /// The same once it is done.
    ///
    /// # Errors
    /// As for [`GpuProgram::poll`].
    pub async fn outputs(&mut self) -> Result<Vec<Vec<f32>>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// The same, waiting for it, and for no step started later.
    ///
    /// # Errors
    /// As for [`GpuProgram::poll`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish(&mut self) -> Result<Vec<Vec<f32>>> {
        match self {
            Program::Gpu(program) => program.finish(),
            Program::Cpu(_, done) => done.pop_front().ok_or_else(super::gpu::not_started),
        }
    }

    /// One step from inputs to outputs.
    ///
    /// # Errors
    /// As for [`GpuProgram::start`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&mut self, inputs: &[(&str, &[u8])]) -> Result<Vec<Vec<f32>>> {
        self.start(inputs)?;
        self.finish()
    }
}
