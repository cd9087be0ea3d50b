//! The rate of every kernel of an op: for `defrost bench`.

use std::collections::HashSet;
use std::sync::Arc;

use super::certify::{Checks, Selection};
use super::measure::{Single, Timing, in_turn};
use super::tune::made_up;
use super::{Device, describe, probe};
use crate::Result;
use crate::ops::layers;
use crate::tape::{Cost, Data, Io, Op, Type, Variant};

/// An op on operands of given types, and its origin.
pub struct Item {
    /// A layer of a network; none for a test case.
    pub layer: Option<&'static str>,
    /// The op.
    pub op: Arc<dyn Op>,
    types: Vec<Type>,
    outputs: Vec<Type>,
    /// The contents of a case; a layer's operands are large and created when it is measured.
    inputs: Option<Vec<Data<f32>>>,
}

/// One kernel of an item.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Its name; `native` on the CPU.
    pub variant: &'static str,
    /// Seconds of a run, with its operands in device memory.
    pub timing: Timing,
}

/// Layers of networks on `batch` images, and then the test cases, which are too small to fill a device. Of these ops
/// and of their gradients, those that `wanted` names, without duplicates.
///
/// # Errors
/// [`crate::Error::Shape`] where a case does not fit together.
pub fn items(wanted: &Selection, batch: usize) -> Result<Vec<Item>> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    let mut add = |item: Item| {
        let fresh = !item.op.is_view() && seen.insert((describe(item.op.as_ref()), item.types.clone()));
        all.extend(fresh.then_some(item));
    };
    for (layer, case) in layers(batch) {
        let recorded = probe::record(&case, &case.differentiable)?;
        for node in &recorded.tape.nodes {
            let op = node.op.clone();
            let family = op.name().split('.').next().unwrap_or_default();
            if wanted.takes(family, op.name()) {
                let types_of = |values: &[_]| values.iter().map(|&v| recorded.tape.ty(v).clone()).collect();
                let (types, outputs): (Vec<Type>, _) = (types_of(&node.inputs), types_of(&node.outputs));
                add(Item { layer: Some(layer), op, types, outputs, inputs: None });
            }
        }
    }
    let mut checks = Checks::default();
    for (family, case) in wanted.cases() {
        for check in checks.of(&case)?.into_iter().filter(|c| wanted.takes(family, c.op.name())) {
            let (op, types, outputs, inputs) =
                (check.op, check.types, check.output_types, Some(check.inputs));
            add(Item { layer: None, op, types, outputs, inputs });
        }
    }
    Ok(all)
}

impl Item {
    /// `[4, 56, 56, 64] [3, 3, 64, 64]`
    pub fn operands(&self) -> String {
        self.types.iter().map(Type::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Work and traffic of a run.
    pub fn cost(&self) -> Cost {
        self.op.cost(&self.io())
    }

    fn io(&self) -> Io<'_> {
        Io::whole(&self.types.iter().collect::<Vec<_>>(), &self.outputs.iter().collect::<Vec<_>>())
    }

    /// Measures in turn every kernel that the op offers the device: the plan's choice first, the plainest last.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] where the device fails.
    pub fn measure(&self, device: &Device) -> Result<Vec<Rate>> {
        let inputs = self.inputs.clone().unwrap_or_else(|| made_up(&self.types));
        let Device::Gpu(gpu) = device else {
            let bytes = |data: &Data<f32>| match data {
                Data::Real(values) => bytemuck::cast_slice(values).to_vec(),
                Data::U32(values) => bytemuck::cast_slice(values).to_vec(),
                Data::U8(values) => values.clone(),
            };
            let operands = self.types.iter().cloned().zip(inputs.iter().map(bytes)).collect();
            let mut single = Single::new(device, &device.caps(), &self.op, operands)?;
            return Ok(vec![Rate { variant: "native", timing: single.timing()? }]);
        };
        let io = self.io();
        let variants = self.op.kernels(&io, gpu.caps());
        let timings = in_turn(gpu, &io, &inputs, &variants.iter().collect::<Vec<&Variant>>())?;
        let rate = |(variant, timing): (&Variant, Timing)| Rate { variant: variant.name, timing };
        Ok(variants.iter().zip(timings).map(rate).collect())
    }
}
