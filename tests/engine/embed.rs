//! As a host application: an own wgpu device, its own encoder and passes, and a network in the middle of
//! its frame. `encode` only records: who submits, when, and who hears of errors is the host's affair.

#![allow(clippy::unwrap_used)]

use crate::common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use defrost::Error;
use defrost::gpu::{DeviceChoice, Gpu, adapters};
use defrost::models::{self, InputKind, Network, Recording};
use defrost::nn::{Freeze, Mode};
use defrost::plan::{Device, GpuProgram, GpuStore, Layout, Plan, Request, compile};
use defrost::tape::Tape;

const BATCH: usize = 2;
const CLASSES: usize = 10;
const PIXELS: usize = BATCH * 32 * 32 * 3;

/// What a renderer has before it meets Defrost.
struct Host {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// What its own handler heard.
    errors: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn new() -> Self {
        let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        let instance = wgpu::Instance::new(descriptor);
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))
            .expect("these tests need a GPU adapter; tools/setup installs a software one");
        // Nothing but what every implementation offers.
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("host"),
            required_limits: wgpu::Limits::defaults(),
            ..Default::default()
        }))
        .expect("a device");
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = errors.clone();
        device.on_uncaptured_error(Arc::new(move |e| heard.lock().unwrap().push(e.to_string())));
        Host { device, queue, errors }
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&Default::default())
    }

    fn submit(&self, encoder: wgpu::CommandEncoder) {
        self.queue.submit([encoder.finish()]);
    }

    fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let label = Some("the host's");
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size: bytes,
            usage,
            mapped_at_creation: false,
        })
    }

    /// The first `count` floats of a buffer, read the host's own way.
    fn read(&self, buffer: &wgpu::Buffer, count: usize) -> Vec<f32> {
        let bytes = count as u64 * 4;
        let staging = self.buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let mut encoder = self.encoder();
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
        self.submit(encoder);
        let (sender, receiver) = mpsc::channel();
        staging.slice(..).map_async(wgpu::MapMode::Read, move |outcome| sender.send(outcome).unwrap());
        self.device.poll(wgpu::PollType::Wait { submission_index: None, timeout: None }).expect("a poll");
        receiver.recv().expect("an answer").expect("mapped");
        let view = staging.slice(..).get_mapped_range().expect("mapped");
        bytemuck::pod_collect_to_vec(&view)
    }

    /// A pass of the host's own with one kernel over two of its buffers.
    fn pass(&self, encoder: &mut wgpu::CommandEncoder, text: &str, buffers: [&wgpu::Buffer; 2], groups: u32) {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let entries = [0, 1]
            .map(|i| wgpu::BindGroupEntry { binding: i as u32, resource: buffers[i].as_entire_binding() });
        let layout = &pipeline.get_bind_group_layout(0);
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
        let group = self.device.create_bind_group(&descriptor);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(groups, 1, 1);
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.errors.lock().unwrap())
    }
}

fn network() -> Network {
    let mut net = models::blank("resnet20", CLASSES).unwrap();
    models::rule_fill(&mut net);
    net.freeze(Freeze::all()).unwrap();
    net
}

fn plan_for(net: &Network, gpu: &Gpu) -> Plan {
    let mut tape = Tape::new();
    let recording = Recording::new(Mode::Eval, BATCH).with(|c| c.input = InputKind::Bytes);
    let logits = net.record(&mut tape, recording).unwrap().logits;
    compile(Request::inference(tape, &[("logits", logits)]), &Arc::default(), gpu.caps()).unwrap()
}

fn program_for(net: &Network, gpu: &Gpu) -> GpuProgram {
    let plan = plan_for(net, gpu);
    let store = Arc::new(GpuStore::new(gpu, &Arc::new(Layout::default()), net).unwrap());
    GpuProgram::new(plan, &store, net).unwrap()
}

/// Images; `frame` gives others.
fn image_of(frame: usize) -> Vec<u8> {
    (0..PIXELS).map(|i| ((i * 31 + i / 96 * 17 + frame * 89) % 256) as u8).collect()
}

#[test]
fn a_host_encodes_the_network_into_its_own_frame() {
    let host = Host::new();
    let net = network();
    let gpu = Gpu::from_wgpu(host.device.clone(), host.queue.clone());
    let program = program_for(&net, &gpu);

    // What Defrost says by itself, on a device of its own.
    let own = Device::Gpu(common::gpu());
    let alone = |frame| common::logits(&own, &net, BATCH, 32, InputKind::Bytes, &image_of(frame));
    let expected: Vec<Vec<f32>> = (0..3).map(alone).collect();
    assert!(common::over_range(&expected[0], &expected[1]) > 1e-3, "the images make no difference");

    let (image, logits) = (program.buffer("image").unwrap(), program.buffer("logits").unwrap());
    assert!(program.buffer("nothing").is_err_and(|e| e.to_string().contains("'nothing'")));

    // Recorded, and never submitted: nothing happens.
    let sentinel = vec![-7.5f32; BATCH * CLASSES];
    host.queue.write_buffer(logits, 0, bytemuck::cast_slice(&sentinel));
    host.queue.write_buffer(image, 0, &image_of(0));
    let mut encoder = host.encoder();
    program.encode(&mut encoder);
    assert_eq!(host.read(logits, BATCH * CLASSES), sentinel, "encode ran something by itself");
    let commands = encoder.finish();
    assert_eq!(host.read(logits, BATCH * CLASSES), sentinel, "a finished encoder ran by itself");

    // Submitted by the host: there it is. Inputs are what lies in their buffers at that time.
    host.queue.submit([commands]);
    let found = host.read(logits, BATCH * CLASSES);
    let off = common::over_range(&found, &expected[0]);
    println!("the host's own submission: off by {off:.1e} of the range");
    assert!(off < 1e-5, "{found:?} for {:?}", expected[0]);

    // In the middle of a frame: the host draws (a pass of its own), copies the image in, lets the network
    // look at it, and goes on with what it saw, all in one encoder. Two frames, one after the other.
    use wgpu::BufferUsages as U;
    let source = host.buffer(PIXELS as u64, U::STORAGE | U::COPY_DST);
    let drawn = host.buffer(PIXELS as u64, U::STORAGE | U::COPY_SRC);
    let seen = host.buffer((BATCH * CLASSES * 4) as u64, U::STORAGE | U::COPY_DST);
    let after = host.buffer((BATCH * CLASSES * 4) as u64, U::STORAGE | U::COPY_SRC);
    // Negatives, so that the pass has something to do: four bytes at a time.
    let draw = "@group(0) @binding(0) var<storage, read> a: array<u32>;
        @group(0) @binding(1) var<storage, read_write> b: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x < arrayLength(&a) { b[id.x] = ~a[id.x]; }
        }";
    let double = "@group(0) @binding(0) var<storage, read> a: array<f32>;
        @group(0) @binding(1) var<storage, read_write> b: array<f32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
            if id.x < arrayLength(&a) { b[id.x] = 2.0 * a[id.x]; }
        }";
    for frame in 1..3 {
        let negative: Vec<u8> = image_of(frame).iter().map(|b| !b).collect();
        host.queue.write_buffer(&source, 0, &negative);
        let mut encoder = host.encoder();
        host.pass(&mut encoder, draw, [&source, &drawn], (PIXELS / 4).div_ceil(64) as u32);
        encoder.copy_buffer_to_buffer(&drawn, 0, image, 0, PIXELS as u64);
        program.encode(&mut encoder);
        encoder.copy_buffer_to_buffer(logits, 0, &seen, 0, (BATCH * CLASSES * 4) as u64);
        host.pass(&mut encoder, double, [&seen, &after], 1);
        host.submit(encoder);
        let found: Vec<f32> = host.read(&after, BATCH * CLASSES).iter().map(|x| x / 2.0).collect();
        let off = common::over_range(&found, &expected[frame]);
        println!("frame {frame}: off by {off:.1e} of the range");
        assert!(off < 1e-5, "frame {frame}: {found:?} for {:?}", expected[frame]);
    }
    assert_eq!(host.heard(), Vec::<String>::new(), "the host's handler heard of errors");
}

#[test]
fn encode_equals_run_bit_for_bit() {
    let host = Host::new();
    let net = network();
    let gpu = Gpu::from_wgpu(host.device.clone(), host.queue.clone());
    let mut program = program_for(&net, &gpu);
    let pixels = image_of(5);
    program.start(&[("image", &pixels)]).unwrap();
    let run = program.finish().unwrap().remove(0);
    // Another image in between, so that nothing is left of the first.
    program.start(&[("image", &image_of(6))]).unwrap();
    let other = program.finish().unwrap().remove(0);
    assert_ne!(run, other);
    host.queue.write_buffer(program.buffer("image").unwrap(), 0, &pixels);
    let mut encoder = host.encoder();
    program.encode(&mut encoder);
    host.submit(encoder);
    assert_eq!(host.read(program.buffer("logits").unwrap(), BATCH * CLASSES), run);
}

#[test]
fn the_host_keeps_its_error_handler() {
    let host = Host::new();
    let gpu = Gpu::from_wgpu(host.device.clone(), host.queue.clone());
    let program = program_for(&network(), &gpu);
    let mut encoder = host.encoder();
    program.encode(&mut encoder);
    host.submit(encoder);
    assert_eq!(host.heard(), Vec::<String>::new());
    // A mistake of the host's: its own handler hears of it, and Defrost does not take it for its own.
    host.buffer(64, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE);
    let heard = host.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(gpu.check().is_ok());
    // What Defrost cannot do ends in its own error, and the host's handler does not hear of it.
    let outcome = gpu.storage("too large", 1 << 40).map(|_| ());
    assert!(outcome.is_err_and(|e| e.to_string().contains("too large")));
    assert_eq!(host.heard(), Vec::<String>::new());
}

/// Who wants to do with less matches a variant: no text need be searched.
#[test]
fn memory_that_does_not_suffice_is_an_error_of_its_own() {
    let options = common::options().with(|c| c.memory_budget = Some(1 << 20));
    let gpu = Gpu::with_options(&options).unwrap();
    let half = gpu.storage("half", 1 << 19).unwrap();
    let outcome = gpu.storage("the other half and more", (1 << 19) + 16).map(drop);
    assert!(matches!(outcome, Err(Error::OutOfMemory(ref text)) if text.contains("more")), "{outcome:?}");
    // What no memory would help with is another error.
    let outcome = gpu.storage("too large", 1 << 40).map(drop);
    assert!(matches!(outcome, Err(Error::Gpu(_))), "{outcome:?}");
    drop(half);
    gpu.storage("the other half and more", (1 << 19) + 16).unwrap();
}

/// Every step of a plan can be timed on the device, where it offers timestamps.
#[test]
fn steps_are_timed() {
    let gpu = common::gpu();
    let net = network();
    let mut program = program_for(&net, &gpu);
    let image = vec![7u8; program.plan().tape.ty(program.plan().inputs["image"]).bytes() as usize];
    let outcome = program.profile(&[("image", &image)]);
    if !gpu.caps().timestamps {
        assert!(outcome.unwrap_err().to_string().contains("timestamps"));
        return;
    }
    let seconds = outcome.unwrap();
    assert_eq!(seconds.len(), program.plan().steps.len());
    let convolutions =
        program.plan().steps.iter().zip(&seconds).filter(|(s, _)| s.node.op.name() == "conv.forward");
    assert!(convolutions.clone().count() > 10 && convolutions.clone().all(|(_, s)| *s > 0.0), "{seconds:?}");
    assert!(seconds.iter().sum::<f64>() < 60.0, "{seconds:?}");
    // A timed run leaves the program as it was.
    assert_eq!(program.pending(), 0);
}

/// Who leaves the choice to Defrost gets no software Vulkan; who asks for a GPU gets whatever there is.
#[test]
fn auto_is_a_real_gpu_or_the_cpu() {
    let options = common::options().with(|c| c.device = DeviceChoice::Auto);
    let real = |info: &wgpu::AdapterInfo| info.device_type != wgpu::DeviceType::Cpu;
    let chosen = Device::choose(&options).unwrap();
    match &chosen.device {
        Device::Gpu(gpu) => assert!(real(gpu.info()), "{chosen:?}"),
        Device::Cpu => assert!(chosen.adapter.is_none() && chosen.why.contains("no real GPU"), "{chosen:?}"),
    }
    let any = adapters(&options).iter().any(|entry| real(&entry.info));
    assert!(any == chosen.adapter.is_some() || !chosen.warnings.is_empty(), "{chosen:?}");
    assert_eq!(real(Gpu::with_options(&options).unwrap().info()), any);
}

/// The CPU runs on the application's rayon pool.
#[test]
fn the_cpu_runs_on_the_callers_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| Device::Cpu.describe()), "CPU, 3 threads");
    assert_eq!(pool.install(|| Device::Cpu.identity()), Device::Cpu.identity());
}

/// Two steps under way: who wants the first one's outputs does not wait for the second.
#[test]
fn a_readback_waits_for_its_own_step() {
    let gpu = common::gpu();
    let mut program = program_for(&network(), &gpu);
    let alone = |frame| {
        let mut program = program_for(&network(), &gpu);
        program.start(&[("image", &image_of(frame))]).unwrap();
        program.finish().unwrap()
    };
    let expected = [alone(0), alone(1)];
    let context = &mut Context::from_waker(Waker::noop());
    assert!(matches!(program.poll(context), Poll::Ready(Err(_))), "nothing was started");
    // The device is polled once for the first step; what the second has done by then is a matter of luck.
    let overlaps = (0..20).any(|_| {
        for frame in 0..2 {
            program.start(&[("image", &image_of(frame))]).unwrap();
        }
        assert_eq!(program.finish().unwrap(), expected[0]);
        let second = program.poll(context);
        let under_way = second.is_pending();
        let outputs = match second {
            Poll::Ready(outputs) => outputs,
            Poll::Pending => program.finish(),
        };
        assert_eq!(outputs.unwrap(), expected[1]);
        under_way
    });
    assert!(overlaps, "the second step was always over with the first");
}

/// A host that polls its device once a frame, and awaits the outputs meanwhile.
#[test]
fn outputs_are_awaited_without_blocking() {
    let host = Host::new();
    let gpu = Gpu::from_wgpu(host.device.clone(), host.queue.clone());
    let mut program = program_for(&network(), &gpu);
    program.start(&[("image", &image_of(3))]).unwrap();
    let expected = program.finish().unwrap();

    let over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                host.device.poll(wgpu::PollType::Poll).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        program.start(&[("image", &image_of(3))]).unwrap();
        let found = pollster::block_on(program.outputs());
        let buffer = program.buffer("logits").unwrap();
        let bytes = pollster::block_on(gpu.bytes(buffer, 0, (BATCH * CLASSES * 4) as u64)).unwrap();
        over.store(true, Ordering::Relaxed);
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes), expected[0]);
        found.unwrap()
    });
    assert_eq!(found, expected);
    assert_eq!(host.heard(), Vec::<String>::new());
}
