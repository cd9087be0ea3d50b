//! Every op on the chosen device, with the kernel that a plan would take: all cases of the tests, and
//! layers of real networks forward and in both gradients. One iteration runs the op once, without
//! upload and readback (on the CPU with them, which is the device where there is no GPU; `DEFROST_DEVICE=software`
//! measures the kernels there).
//! `elem/s` are floating-point operations a second, a multiply-add being two; `B/s` moves each operand once.
//!
//! cargo bench --bench ops -- layers/                    # layers of real networks
//! cargo bench --bench ops -- cases/conv                 # the tests' cases, too small to fill a device
//! cargo bench --bench ops -- --test                     # each once: does it run?

#[path = "../tests/common/device.rs"]
mod device;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use defrost::ops::{Case, REGISTRY, layers};
use defrost::plan::Device;
use defrost::plan::measure::Single;
use defrost::plan::probe::{self, Recorded};
use defrost::tape::{Data, Io, Op, Role, Type, ValueId};
use defrost::{Error, Result};

/// Images in a layer's batch.
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
    let device = Device::open(&device::options())?;
    println!("device: {}", device.describe());
    let mut criterion = Criterion::default().configure_from_args();

    let mut large = group(&mut criterion, "layers", Duration::from_secs(2));
    for (layer, case) in layers(BATCH) {
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
