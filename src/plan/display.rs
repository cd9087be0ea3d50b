//! The plan as text: one line a step, for people, snapshots and diffs.

use std::fmt;

use super::{Place, Plan, describe};
use crate::tape::{Phase, Role, ValueId};

impl Plan {
    /// The first parameter that a constant is computed from.
    fn origin(&self, v: ValueId) -> &str {
        let producer = self.tape.nodes.iter().find(|n| n.outputs.contains(&v));
        let operands = producer.map_or(&[][..], |n| &n.inputs);
        let names = operands.iter().map(|&i| self.origin(i));
        names.into_iter().find(|name| !name.is_empty()).unwrap_or(&self.tape.values[v.0].name)
    }

    fn show(&self, v: ValueId) -> String {
        let value = &self.tape.values[v.0];
        match (self.places.get(&v), &value.role) {
            (Some(Place::Constant(_)), Role::Computed) => format!("{}'", self.origin(v)),
            (Some(Place::Constant(_)), Role::Fill(number)) => number.to_string(),
            (Some(Place::Slot(_) | Place::View(_)), Role::Computed) | (None, Role::Computed) => {
                format!("%{}", v.0)
            }
            (Some(Place::Store(_)), Role::Computed) => {
                let own = |(name, s): (&String, &Vec<super::Segment>)| {
                    (Some(Place::Store(s.clone())).as_ref() == self.places.get(&v)).then(|| name.clone())
                };
                self.layout.segments.iter().find_map(own).unwrap_or_default()
            }
            _ => value.name.clone(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let saved = self.saved();
        let mut layer = "";
        let mut phase = None;
        for step in &self.steps {
            let node = &step.node;
            if phase != Some(node.phase) {
                phase = Some(node.phase);
                let name = match node.phase {
                    Phase::Forward => "forward",
                    Phase::Backward => "backward",
                    Phase::Update => "update",
                };
                writeln!(f, "== {name}")?;
                layer = "";
            }
            if layer != node.layer {
                layer = &node.layer;
                writeln!(f, "{layer}:")?;
            }
            let inputs: Vec<String> = node.inputs.iter().map(|&v| self.show(v)).collect();
            write!(f, "  {} ({})", describe(node.op.as_ref()), inputs.join(", "))?;
            for (i, &v) in node.outputs.iter().enumerate() {
                let (arrow, place) = (if i == 0 { " -> " } else { ", " }, self.places.get(&v));
                write!(f, "{arrow}{} {}", self.show(v), self.tape.ty(v))?;
                match place {
                    Some(Place::Slot(slot)) => write!(f, " @{slot}")?,
                    Some(Place::View(of)) => write!(f, " = {}", self.show(*of))?,
                    _ => {}
                }
                if saved.contains(&v) {
                    write!(f, " saved")?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
