//! Inputs and outputs of a step by name: every input of the plan exactly once.

use std::collections::BTreeMap;

use super::Plan;
use crate::tape::{Arg, DType, Data, Role, ValueId};
use crate::{Error, Result, did_you_mean};

impl Plan {
    /// The data of each input of the plan.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is missing, unknown, read by no step or given twice; the error names the
    /// plan's inputs.
    pub(super) fn given<'a, D: Copy>(&self, given: &[(&'a str, D)]) -> Result<Vec<(&'a str, ValueId, D)>> {
        let wrong = |what: String| {
            let names: Vec<&str> = self.inputs.keys().map(String::as_str).collect();
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(Error::Shape(format!("{what}; the inputs of this plan: {there}")))
        };
        let mut found = Vec::new();
        for (i, &(name, data)) in given.iter().enumerate() {
            if given[..i].iter().any(|(other, _)| *other == name) {
                return wrong(format!("the input '{name}' is given twice"));
            }
            match self.inputs.get(name) {
                Some(&v) => found.push((name, v, data)),
                None if self.tape.values.iter().any(|v| v.role == Role::Input && v.name == name) => {
                    return wrong(format!("no step reads the input '{name}'"));
                }
                None => {
                    let hint = did_you_mean(name, self.inputs.keys().map(String::as_str));
                    return wrong(format!("there is no input '{name}'{hint}"));
                }
            }
        }
        match self.inputs.keys().find(|name| found.iter().all(|(known, ..)| known != name)) {
            Some(missing) => wrong(format!("the input '{missing}' is missing")),
            None => Ok(found),
        }
    }

    /// The outputs of a step by name, given in the plan's order.
    pub fn named<T>(&self, outputs: Vec<T>) -> BTreeMap<&str, T> {
        self.outputs.iter().map(|(name, _)| name.as_str()).zip(outputs).collect()
    }
}

/// The bytes of each input of `plan`: as many as the input has, up to padding to whole words.
///
/// # Errors
/// As for [`Plan::given`]; [`Error::Shape`] for an input of another size.
pub(super) fn sized<'a>(
    plan: &Plan,
    inputs: &[(&'a str, &'a [u8])],
) -> Result<Vec<(&'a str, ValueId, &'a [u8])>> {
    let given = plan.given(inputs)?;
    for &(name, v, bytes) in &given {
        let (ty, found) = (plan.tape.ty(v), bytes.len());
        if (found as u64).next_multiple_of(4) != ty.bytes() {
            return Err(Error::Shape(format!("the input '{name}' has {found} bytes, and {ty} is wanted")));
        }
    }
    Ok(given)
}

/// Inputs with their names.
pub(super) type Typed<'a> = Vec<(&'a str, Data<f32>)>;

/// The same as typed numbers, since given bytes may not be aligned for words.
///
/// # Errors
/// As for [`sized`].
pub(super) fn typed<'a>(plan: &Plan, inputs: &[(&'a str, &'a [u8])]) -> Result<Typed<'a>> {
    let data = |(name, v, bytes): (&'a str, ValueId, &[u8])| {
        let ty = plan.tape.ty(v);
        let data = match ty.dtype {
            DType::F32 => Data::Real(bytemuck::pod_collect_to_vec(bytes)),
            DType::U32 => Data::U32(bytemuck::pod_collect_to_vec(bytes)),
            DType::U8 => Data::U8(bytes[..ty.shape.numel()].to_vec()),
        };
        (name, data)
    };
    Ok(sized(plan, inputs)?.into_iter().map(data).collect())
}

/// The same inputs, borrowed.
pub(super) fn borrowed<'a>(typed: &'a Typed<'_>) -> Vec<(&'a str, Arg<'a, f32>)> {
    typed.iter().map(|(name, data)| (*name, data.arg(0..data.len()))).collect()
}
