//! The layout of values that outlast a step: trainable parameters, their gradients and moments in flat pages of equal
//! layout, running statistics in a page of their own.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::gpu::Caps;
use crate::ops::BLOCK;
use crate::tape::{DType, Shape, Type};

/// One buffer of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferSpec {
    /// `params#0`, `grads#0`, `moment1#0`, `sum#0`, `average#0`, `blocks#0`, `state`
    pub name: String,
    /// Elements, all of one type.
    pub ty: Type,
}

/// Contiguous rows of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Number of the buffer.
    pub buffer: usize,
    /// First element there, a multiple of [`BLOCK`].
    pub offset: usize,
    /// Elements.
    pub elements: usize,
    /// Rows (dimension 0) of the value.
    pub rows: Range<usize>,
}

/// A trainable parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trainable {
    /// Parameter path.
    pub path: String,
    /// Device shape.
    pub shape: Shape,
    /// Its group, a row of the table of learning rates.
    pub group: u32,
}

/// Buffers, and the position of each value in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// All buffers.
    pub buffers: Vec<BufferSpec>,
    /// By name: parameter path, `grad:PATH`, `moment1:PATH`, or a buffer's own name.
    pub segments: BTreeMap<String, Vec<Segment>>,
    /// Groups of each page's blocks.
    pub blocks: Vec<Vec<u32>>,
    /// Pages of parameters.
    pub pages: usize,
    /// Number of groups of learning rates.
    pub groups: usize,
}

/// Splits a tensor by rows so that each part fits one binding of at most `limit` bytes; rows in
/// multiples of 64, so that vec4 loads stay possible. One part where it fits whole.
pub fn parts(ty: &Type, limit: u64) -> Vec<Range<usize>> {
    let rows = ty.shape.first().copied().unwrap_or(1);
    let row_bytes = ty.bytes() / rows.max(1) as u64;
    let each = (limit / row_bytes.max(1)) as usize / 64 * 64;
    if ty.bytes() <= limit || each == 0 {
        return vec![0..rows];
    }
    (0..rows).step_by(each).map(|start| start..(start + each).min(rows)).collect()
}

impl Layout {
    /// Pages for `trainable` parameters, their gradients and the optimizer's data ([`super::Update::pages`]), and one
    /// for the running statistics `state`.
    pub fn new(
        trainable: &[Trainable],
        state: &[(String, Shape)],
        kept: &[&'static str],
        caps: &Caps,
    ) -> Self {
        let limit = caps.max_binding.min(caps.max_buffer);
        let page_elements = (limit / 4) as usize / BLOCK * BLOCK;
        let mut layout = Layout::default();
        let mut pages: Vec<(usize, Vec<u32>)> = Vec::new();
        let mut placed: Vec<(&Trainable, usize, usize, Range<usize>)> = Vec::new();
        for t in trainable {
            let ty = Type::f32(&t.shape);
            let row = t.shape.numel() / t.shape.first().copied().unwrap_or(1).max(1);
            for rows in parts(&ty, limit) {
                let elements = (rows.len() * row).next_multiple_of(BLOCK);
                let fits = pages.last().is_some_and(|(used, _)| used + elements <= page_elements);
                if !fits {
                    pages.push((0, Vec::new()));
                }
                let number = pages.len() - 1;
                let (used, blocks) = &mut pages[number];
                placed.push((t, number, *used, rows));
                *used += elements;
                blocks.extend(std::iter::repeat_n(t.group, elements / BLOCK));
            }
        }
        layout.pages = pages.len();
        layout.groups = trainable.iter().map(|t| t.group as usize + 1).max().unwrap_or(0);
        let mut kinds = vec![("params", String::new()), ("grads", "grad:".to_string())];
        kinds.extend(kept.iter().map(|&kind| (kind, format!("{kind}:"))));
        for (kind, prefix) in &kinds {
            let first = layout.buffers.len();
            for (number, (elements, _)) in pages.iter().enumerate() {
                layout.add_buffer(format!("{kind}#{number}"), Type::f32(&[*elements]));
            }
            for (t, page, offset, rows) in &placed {
                let row = t.shape.numel() / t.shape.first().copied().unwrap_or(1).max(1);
                let segment = Segment {
                    buffer: first + page,
                    offset: *offset,
                    elements: rows.len() * row,
                    rows: rows.clone(),
                };
                layout.segments.entry(format!("{prefix}{}", t.path)).or_default().push(segment);
            }
        }
        for (number, (_, blocks)) in pages.into_iter().enumerate() {
            layout.add_buffer(format!("blocks#{number}"), Type::u32(&[blocks.len()]));
            layout.blocks.push(blocks);
        }
        if !state.is_empty() {
            let buffer = layout.buffers.len();
            let mut used = 0;
            for (path, shape) in state {
                let (elements, rows) = (shape.numel(), 0..shape.first().copied().unwrap_or(1));
                let segment = Segment { buffer, offset: used, elements, rows };
                layout.segments.insert(path.clone(), vec![segment]);
                used += elements.next_multiple_of(BLOCK);
            }
            layout.add_buffer("state".into(), Type::f32(&[used]));
        }
        layout
    }

    fn add_buffer(&mut self, name: String, ty: Type) {
        let whole = Segment {
            buffer: self.buffers.len(),
            offset: 0,
            elements: ty.shape.numel(),
            rows: 0..ty.shape.numel(),
        };
        self.segments.insert(name.clone(), vec![whole]);
        self.buffers.push(BufferSpec { name, ty });
    }

    /// Bytes of all buffers whose name begins with `kind`.
    pub fn bytes(&self, kind: &str) -> u64 {
        self.buffers.iter().filter(|b| b.name.starts_with(kind)).map(|b| b.ty.bytes()).sum()
    }

    /// Paths of the trainable parameters and running statistics: the values that change during training.
    pub fn live(&self) -> impl Iterator<Item = &str> {
        let own = |name: &&String| !name.contains('#') && !name.contains(':') && *name != "state";
        self.segments.keys().filter(own).map(String::as_str)
    }

    /// Whether the elements of a buffer are words.
    pub fn is_words(&self, buffer: usize) -> bool {
        self.buffers[buffer].ty.dtype == DType::U32
    }
}
