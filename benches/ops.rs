//! Every op on the chosen device, with the kernel that a plan would take: all cases of the tests, and
//! layers of real networks forward and in both gradients. One iteration runs the op once, without
//! upload and readback (on the CPU with them, which is the device where there is no GPU; `DEFROST_DEVICE=software`
//! measures the kernels there).
//! `elem/s` are floating-point operations a second, a multiply-add being two; `B/s` moves each operand once.
//!
//! cargo bench --bench ops -- layers/                    # layers of real networks
//! cargo bench --bench ops -- cases/conv                 # the tests' cases, too small to fill a device
//! cargo bench --bench ops -- --test                     # each once: does it run?

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use defrost::gpu::GpuOptions;
use defrost::ops::{
    Add, BatchNorm, Case, Conv, Depthwise, Epilogue, Fill, Matmul, MaxPool, PoolWindow, REGISTRY, Statistics,
    Window,
};
use defrost::plan::Device;
use defrost::plan::measure::Single;
use defrost::plan::probe::{self, Recorded};
use defrost::tape::{Data, Io, Op, Role, Type, ValueId};
use defrost::{Error, Result};

/// Pictures in a layer's batch.
const BATCH: usize = 4;

/// A case with its gradients, whose nodes are made ready one by one, each when it is first asked for.
struct Graph<'a> {
    device: &'a Device,
    case: Case,
    recorded: Recorded,
    values: BTreeMap<ValueId, Vec<u8>>,
}

impl<'a> Graph<'a> {
    fn new(device: &'a Device, case: Case) -> Result<Self> {
        let recorded = probe::record(&case, &case.differentiable)?;
        Ok(Graph { device, case, recorded, values: BTreeMap::new() })
    }

    fn types(&self, values: &[ValueId]) -> Vec<Type> {
        values.iter().map(|&v| self.recorded.tape.ty(v).clone()).collect()
    }

    /// The bytes of a value: given, or computed on the device.
    fn value(&mut self, v: ValueId) -> Result<Vec<u8>> {
        if self.values.is_empty() {
            let given = self.recorded.values::<f32>(&self.case);
            self.values = given.into_iter().map(|(v, data)| (v, bytes_of(&data))).collect();
        }
        if let Some(bytes) = self.values.get(&v) {
            return Ok(bytes.clone());
        }
        let tape = &self.recorded.tape;
        let bytes = if let Role::Fill(number) = tape.values[v.0].role {
            bytes_of(&Data::Real(vec![number; tape.shape(v).numel()]))
        } else {
            let producer = tape.nodes.iter().position(|n| n.outputs.contains(&v));
            let producer =
                producer.ok_or_else(|| Error::Shape(format!("nothing computes value %{}", v.0)))?;
            let view = tape.nodes[producer].op.is_view().then(|| tape.nodes[producer].inputs[0]);
            match view {
                Some(of) => self.value(of)?,
                None => {
                    let outputs = self.ready(producer)?.outputs().to_vec();
                    let ids = self.recorded.tape.nodes[producer].outputs.clone();
                    self.values.extend(ids.into_iter().zip(outputs));
                    return self.value(v);
                }
            }
        };
        self.values.insert(v, bytes.clone());
        Ok(bytes)
    }

    fn ready(&mut self, node: usize) -> Result<Single> {
        let node = self.recorded.tape.nodes[node].clone();
        let types = self.types(&node.inputs);
        let bytes = node.inputs.iter().map(|&v| self.value(v)).collect::<Result<Vec<_>>>()?;
        Single::new(self.device, &self.device.caps(), &node.op, types.into_iter().zip(bytes).collect())
    }

    /// One benchmark a node; `name` may leave one out.
    fn bench(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: impl Fn(&dyn Op, &[Type]) -> Option<String>,
    ) -> Result<()> {
        for (number, node) in self.recorded.tape.nodes.clone().into_iter().enumerate() {
            let inputs = self.types(&node.inputs);
            // In the order of the nodes, whatever is run: names do not depend on a filter.
            let Some(name) = name(node.op.as_ref(), &inputs).filter(|_| !node.op.is_view()) else { continue };
            let outputs = self.types(&node.outputs);
            let io = Io::whole(&inputs.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>());
            let cost = node.op.cost(&io);
            group.throughput(Throughput::ElementsAndBytes {
                elements: cost.flops as u64,
                bytes: cost.bytes as u64,
            });
            let mut ready = None;
            group.bench_function(&name, |b| {
                let fail = |e: Error| -> ! { panic!("{name}: {e}") };
                let ready = ready.get_or_insert_with(|| self.ready(number).unwrap_or_else(|e| fail(e)));
                b.iter_custom(|count| Duration::from_secs_f64(ready.time(count).unwrap_or_else(|e| fail(e))));
            });
        }
        Ok(())
    }
}

fn bytes_of(data: &Data<f32>) -> Vec<u8> {
    match data {
        Data::Real(values) => bytemuck::cast_slice(values).to_vec(),
        Data::U32(values) => bytemuck::cast_slice(values).to_vec(),
        Data::U8(values) => values.clone(),
    }
}

/// Layers that between them show every kernel at sizes of real networks.
fn layers() -> Vec<(&'static str, Case)> {
    let n = BATCH;
    let square = |kernel, stride, [inputs, outputs]: [usize; 2], side| {
        let window = Window::square(kernel, stride, kernel / 2);
        let op = Conv { window, groups: 1, epilogue: Epilogue::default() };
        Case::new(op, &[&[n, side, side, inputs], &[kernel, kernel, inputs, outputs]])
    };
    let pointwise =
        |pixels, inputs, outputs| Case::new(Matmul::default(), &[&[n * pixels, inputs], &[inputs, outputs]]);
    let depthwise = |stride, channels, side| {
        let op = Depthwise { window: Window::square(3, stride, 1), epilogue: Epilogue::default() };
        Case::new(op, &[&[n, side, side, channels], &[3, 3, channels]])
    };
    let norm = BatchNorm { eps: 1e-5, statistics: Statistics::Batch, epilogue: Epilogue::default() };
    let pool = PoolWindow { kernel: [3, 3], stride: [2, 2], padding: [1, 1], ..PoolWindow::default() };
    let activation: &[usize] = &[n, 56, 56, 64];
    vec![
        ("resnet conv1 7x7 s2 3-64 224", square(7, 2, [3, 64], 224).grads(&[1])),
        ("resnet18 layer1 3x3 64-64 56", square(3, 1, [64, 64], 56)),
        ("resnet18 layer2 3x3 s2 64-128 56", square(3, 2, [64, 128], 56)),
        ("resnet18 layer4 3x3 512-512 7", square(3, 1, [512, 512], 7)),
        ("resnet50 layer1 1x1 256-64 56", pointwise(56 * 56, 256, 64)),
        ("resnet50 layer4 1x1 512-2048 7", pointwise(7 * 7, 512, 2048)),
        ("mobilenet_v2 features.0 3x3 s2 3-32 224", square(3, 2, [3, 32], 224).grads(&[1])),
        ("mobilenet_v2 features.2 1x1 16-96 112", pointwise(112 * 112, 16, 96)),
        ("mobilenet_v2 features.2 depthwise s2 96 112", depthwise(2, 96, 112)),
        ("mobilenet_v2 features.3 depthwise 144 56", depthwise(1, 144, 56)),
        ("mobilenet_v2 features.3 1x1 144-24 56", pointwise(56 * 56, 144, 24)),
        ("mobilenet_v2 features.16 depthwise 960 7", depthwise(1, 960, 7)),
        ("mobilenet_v2 features.18 1x1 320-1280 7", pointwise(7 * 7, 320, 1280)),
        ("vgg16 classifier.3 4096-4096", pointwise(1, 4096, 4096)),
        (
            "resnet18 layer1 batch norm 64 56",
            Case::new(norm, &[activation, &[64], &[64], &[64], &[64]])
                .fill(2, Fill::Range(0.5, 1.5))
                .grads(&[0, 3, 4]),
        ),
        ("resnet maxpool 3x3 s2 64 112", Case::new(MaxPool { window: pool }, &[&[n, 112, 112, 64]])),
        ("resnet18 layer1 add 64 56", Case::new(Add::default(), &[activation, activation])),
    ]
}

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    measurement: Duration,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(measurement / 4).measurement_time(measurement);
    group
}

fn main() -> Result<()> {
    let device = Device::open(&GpuOptions::default())?;
    println!("device: {}", device.describe());
    let mut criterion = Criterion::default().configure_from_args();

    let mut large = group(&mut criterion, "layers", Duration::from_secs(2));
    for (layer, case) in layers() {
        Graph::new(&device, case)?.bench(&mut large, |op, _| Some(format!("{layer}, {}", op.name())))?;
    }
    large.finish();

    let mut small = group(&mut criterion, "cases", Duration::from_millis(200));
    let seen = std::cell::RefCell::new(HashSet::new());
    for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
        Graph::new(&device, case)?.bench(&mut small, |op, types| {
            let types: Vec<String> = types.iter().map(Type::to_string).collect();
            let name = format!("{}[{}] {}", op.name(), op.attributes(), types.join(", "));
            seen.borrow_mut().insert(name.clone()).then_some(name)
        })?;
    }
    small.finish();
    criterion.final_summary();
    Ok(())
}
