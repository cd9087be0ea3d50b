//! Rewrites of a tape before it is scheduled: removes unused nodes, folds constant norms into constant weights, and
//! moves pointwise successors into their producer's epilogue.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::Result;
use crate::gpu::Caps;
use crate::ops::{
    Activate, ActivateGrad, Activation, Affine, AffineGrad, BatchNorm, Concat, Conv, Depthwise, Epilogue,
    Matmul, Reshape, Slice, through_activation, winograd_instead,
};
use crate::tape::{Node, Op, Phase, Tape, ValueId};

/// Removes nodes that neither lead to a root nor change a value in place.
pub(super) fn prune(tape: &mut Tape, roots: &[ValueId]) {
    let mut needed: HashSet<ValueId> = roots.iter().copied().collect();
    let mut keep: Vec<Node> = Vec::new();
    for node in std::mem::take(&mut tape.nodes).into_iter().rev() {
        if node.op.updates() > 0 || node.outputs.iter().any(|v| needed.contains(v)) {
            needed.extend(node.inputs.iter().copied());
            keep.push(node);
        }
    }
    keep.reverse();
    tape.nodes = keep;
}

/// The readers of each value: (node, operand).
fn consumers(tape: &Tape) -> BTreeMap<ValueId, Vec<(usize, usize)>> {
    let mut map: BTreeMap<ValueId, Vec<(usize, usize)>> = BTreeMap::new();
    for (n, node) in tape.nodes.iter().enumerate() {
        for (operand, &v) in node.inputs.iter().enumerate() {
            map.entry(v).or_default().push((n, operand));
        }
    }
    map
}

/// Where an activation follows a batch norm, the norm's gradients include its derivative. They read x anyway and
/// recompute the activation's input from it, so the activation's own gradient needs no pass, and its input need not
/// be saved. (Except where the derivative needs an exponential: computing it twice costs more on the CPU than a
/// pass.) Runs before [`fuse`], which could not see that no other node reads that input.
pub(super) fn recompute(tape: &mut Tape, roots: &[ValueId]) {
    let uses = consumers(tape);
    let producers: BTreeMap<ValueId, usize> = tape
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(n, node)| node.outputs.iter().map(move |&v| (v, n)))
        .collect();
    let producer = |tape: &Tape, v: ValueId| producers.get(&v).map(|&n| tape.nodes[n].clone());
    let mut gone = HashSet::new();
    for n in 0..tape.nodes.len() {
        let node = &tape.nodes[n];
        let Some(&ActivateGrad { activation, sum: false }) = node.op.as_any().downcast_ref() else {
            continue;
        };
        if matches!(activation, Activation::Silu | Activation::Sigmoid) {
            continue;
        }
        let (grad_y, saved, g) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let input = if activation.derivative_from_output() {
            let activate = producer(tape, saved);
            activate.filter(|a| a.op.as_any().is::<Activate>()).map(|a| a.inputs[0])
        } else {
            Some(saved)
        };
        let Some(norm) = input.and_then(|v| producer(tape, v)) else { continue };
        let plain = |norm: &BatchNorm| norm.epilogue.is_plain();
        let users = uses.get(&g).map_or(&[][..], Vec::as_slice);
        if roots.contains(&g) || users.is_empty() || !norm.op.as_any().downcast_ref().is_some_and(plain) {
            continue;
        }
        let rewritten: Option<Vec<(usize, Node)>> = users
            .iter()
            .map(|&(user, _)| {
                Some((user, through_activation(&norm, activation, &tape.nodes[user], [g, grad_y])?))
            })
            .collect();
        for (user, node) in rewritten.into_iter().flatten() {
            tape.nodes[user] = node;
            gone.insert(n);
        }
    }
    let mut number = 0..;
    tape.nodes.retain(|_| number.next().is_none_or(|n| !gone.contains(&n)));
}

/// Fuses producers with their only consumer where the producer can (`Op::absorb`). The fused node takes the position
/// of the consumer, so that its other operands exist. Returns the number of fused nodes.
pub(super) fn fuse(tape: &mut Tape, roots: &[ValueId]) -> usize {
    let mut uses = consumers(tape);
    let mut gone = vec![false; tape.nodes.len()];
    for n in 0..tape.nodes.len() {
        let node = &tape.nodes[n];
        let [output] = node.outputs[..] else { continue };
        if node.phase == Phase::Update || roots.contains(&output) || !tape.values[output.0].live {
            continue;
        }
        let Some([(consumer, operand)]) = uses.get(&output).map(Vec::as_slice) else { continue };
        let (consumer, operand) = (*consumer, *operand);
        let next = &tape.nodes[consumer];
        if next.phase != node.phase {
            continue;
        }
        let Some(op) = node.op.absorb(next.op.as_ref(), operand) else { continue };
        let others = next.inputs.iter().enumerate().filter(|(i, _)| *i != operand).map(|(_, &v)| v);
        let inputs: Vec<ValueId> = node.inputs.iter().copied().chain(others).collect();
        for list in uses.values_mut() {
            list.retain(|&(user, _)| user != n && user != consumer);
        }
        for (operand, &v) in inputs.iter().enumerate() {
            uses.entry(v).or_default().push((consumer, operand));
        }
        let layer = node.layer.clone();
        let next = &mut tape.nodes[consumer];
        *next = Node { op: Arc::from(op), inputs, layer, outputs: next.outputs.clone(), phase: next.phase };
        gone[n] = true;
    }
    let mut flags = gone.iter();
    tape.nodes.retain(|_| !flags.next().copied().unwrap_or(false));
    gone.iter().filter(|&&g| g).count()
}

/// The op's epilogue, and a function that replaces it.
fn epilogue_of(op: &dyn Op) -> Option<(Epilogue, Arc<dyn Op>)> {
    let any = op.as_any();
    let folded = |epilogue: Epilogue| Epilogue { bias: true, affine: false, ..epilogue };
    if let Some(conv) = any.downcast_ref::<Conv>() {
        let epilogue = folded(conv.epilogue);
        return Some((conv.epilogue, Arc::new(Conv { epilogue, ..*conv })));
    }
    if let Some(conv) = any.downcast_ref::<Depthwise>() {
        let epilogue = folded(conv.epilogue);
        return Some((conv.epilogue, Arc::new(Depthwise { epilogue, ..*conv })));
    }
    let matmul = any.downcast_ref::<Matmul>()?;
    Some((matmul.epilogue, Arc::new(Matmul { epilogue: folded(matmul.epilogue) })))
}

/// Records nodes before node `n`, with its layer and phase. Returns the result of `record`, and the new position of
/// node `n`.
pub(super) fn before<R>(
    tape: &mut Tape,
    n: usize,
    record: impl FnOnce(&mut Tape) -> Result<R>,
) -> Result<(R, usize)> {
    let Node { layer, phase, .. } = tape.nodes[n].clone();
    let end = tape.nodes.len();
    let outer = tape.set_layer(layer);
    let given = record(tape)?;
    tape.set_layer(outer);
    let recorded: Vec<Node> = tape.nodes.drain(end..).map(|node| Node { phase, ..node }).collect();
    let at = n + recorded.len();
    tape.nodes.splice(n..n, recorded);
    Ok((given, at))
}

/// Folds a constant affine (a frozen batch norm) into constant weights: `w' = w scale`,
/// `bias' = bias scale + shift`, both computed once.
///
/// # Errors
/// As for [`Tape::record`]; only where an op's shapes are inconsistent.
pub(super) fn fold(tape: &mut Tape) -> Result<()> {
    let mut next = 0;
    while next < tape.nodes.len() {
        let n = next;
        next += 1;
        let node = tape.nodes[n].clone();
        let Some((epilogue, folded)) = epilogue_of(node.op.as_ref()) else { continue };
        let [bias, affine, residual] = epilogue.slots(2).map(|slot| slot.map(|i| node.inputs[i]));
        let Some(affine) = affine else { continue };
        let constant = |v: ValueId| !tape.values[v.0].live;
        if !constant(node.inputs[1]) || !constant(affine) || !bias.is_none_or(constant) {
            continue;
        }
        let channels = tape.shape(affine)[1];
        let ([weight, bias], at) = before(tape, n, |tape| {
            let weight = tape.apply(AffineGrad, &[node.inputs[1], affine])?;
            let row = match bias {
                Some(bias) => tape.apply(Reshape { shape: vec![1, channels] }, &[bias])?,
                None => tape.fill(&[1, channels], 0.0),
            };
            let row = tape.apply(Affine::default(), &[row, affine])?;
            Ok([weight, tape.apply(Reshape { shape: vec![channels] }, &[row])?])
        })?;
        let mut inputs = vec![node.inputs[0], weight, bias];
        inputs.extend(residual);
        tape.nodes[at] = Node { op: folded, inputs, ..node };
        next = at + 1;
    }
    Ok(())
}

/// Replaces convolutions by Winograd's form where it is faster on a device with `caps`.
///
/// # Errors
/// As for [`Tape::record`]; only where an op's shapes are inconsistent.
pub(super) fn winograd(tape: &mut Tape, caps: &Caps) -> Result<()> {
    let mut next = 0;
    while next < tape.nodes.len() {
        let n = next;
        next += 1;
        let node = &tape.nodes[n];
        let ([x, w, ..], [y]) = (&node.inputs[..], &node.outputs[..]) else { continue };
        let (w, constant) = (*w, !tape.values[w.0].live);
        let both = winograd_instead(node.op.as_ref(), tape.shape(*x), tape.shape(*y), constant, caps);
        let Some((weight, op)) = both else { continue };
        let (u, at) = before(tape, n, |tape| tape.apply(weight, &[w]))?;
        tape.nodes[at].op = Arc::new(op);
        tape.nodes[at].inputs[1] = u;
        next = at + 1;
    }
    Ok(())
}

/// Deduplicates concatenations. Each layer of a DenseNet concatenates all earlier channels with a few new ones, so
/// every concatenation begins with the one before. The backward pass reads the shorter ones as slices of the last
/// one, and computes again the norm of a slice that each layer begins with. So only the last concatenation of a block
/// is saved, and memory grows with the number of layers, not with its square.
///
/// # Errors
/// As for [`Tape::record`]; only where an op's shapes are inconsistent.
pub(super) fn deduplicate_concatenations(tape: &mut Tape) -> Result<()> {
    // Value -> the concatenation that begins with it.
    let mut longer: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for node in &tape.nodes {
        if node.op.as_any().is::<Concat>() && node.phase == Phase::Forward {
            longer.entry(node.inputs[0]).or_insert(node.outputs[0]);
        }
    }
    for (&v, &next) in &longer {
        // A single concatenation is no chain.
        if !longer.contains_key(&next) && !longer.values().any(|joined| *joined == v) {
            continue;
        }
        let mut last = next;
        while let Some(&next) = longer.get(&last) {
            last = next;
        }
        let normed = |node: &&Node| {
            node.phase == Phase::Forward && node.op.as_any().is::<BatchNorm>() && node.inputs[0] == v
        };
        let norms: Vec<Node> = tape.nodes.iter().filter(normed).cloned().collect();
        let again: Vec<ValueId> = norms.iter().map(|norm| norm.outputs[0]).chain([v]).collect();
        let reads = |node: &Node| {
            node.phase == Phase::Backward && node.inputs.iter().any(|input| again.contains(input))
        };
        let Some(first) = tape.nodes.iter().position(reads) else { continue };
        let channels = tape.shape(v).channels();
        let (copies, at) = before(tape, first, |tape| {
            let copy = tape.apply(Slice { offset: 0, channels }, &[last])?;
            let mut copies = Vec::new();
            for norm in &norms {
                let operands: Vec<ValueId> = [copy].iter().chain(&norm.inputs[1..]).copied().collect();
                copies.push(tape.record_arc(norm.op.clone(), &operands)?[0]);
            }
            copies.push(copy);
            Ok(copies)
        })?;
        for node in tape.nodes[at..].iter_mut().filter(|node| node.phase == Phase::Backward) {
            for input in &mut node.inputs {
                if let Some(i) = again.iter().position(|value| value == input) {
                    *input = copies[i];
                }
            }
        }
    }
    Ok(())
}
