//! WGSL sources, their variants, and the pipeline cache.
//!
//! A variant is made by one of three means, always the simplest that works: `override` constants, typed knobs (one
//! `const NAME: u32 = n;` or `alias NAME = type;` rewritten), or another file.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Gpu, lock};
use crate::{Error, Result};

/// One WGSL file, embedded. Made by [`shader!`](crate::shader).
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Path below `shaders/`.
    pub path: &'static str,
    /// The file's text.
    pub text: &'static str,
}

/// Embeds `shaders/<path>` as a [`Source`](crate::gpu::Source).
#[macro_export]
macro_rules! shader {
    ($path:literal) => {{
        static SOURCE: $crate::gpu::Source = $crate::gpu::Source {
            path: $path,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path)),
        };
        &SOURCE
    }};
}

/// Shared functions, named by `// import lib/NAME.wgsl` lines.
static LIBRARY: &[Source] = &[
    Source { path: "lib/activation.wgsl", text: include_str!("../../shaders/lib/activation.wgsl") },
    Source { path: "lib/block.wgsl", text: include_str!("../../shaders/lib/block.wgsl") },
    Source { path: "lib/derivative.wgsl", text: include_str!("../../shaders/lib/derivative.wgsl") },
    Source { path: "lib/elementwise.wgsl", text: include_str!("../../shaders/lib/elementwise.wgsl") },
    Source { path: "lib/epilogue.wgsl", text: include_str!("../../shaders/lib/epilogue.wgsl") },
    Source { path: "lib/finish1.wgsl", text: include_str!("../../shaders/lib/finish1.wgsl") },
    Source { path: "lib/finish4.wgsl", text: include_str!("../../shaders/lib/finish4.wgsl") },
    Source { path: "lib/index.wgsl", text: include_str!("../../shaders/lib/index.wgsl") },
    Source { path: "lib/lines.wgsl", text: include_str!("../../shaders/lib/lines.wgsl") },
    Source { path: "lib/multiply_add.wgsl", text: include_str!("../../shaders/lib/multiply_add.wgsl") },
    Source { path: "lib/norm.wgsl", text: include_str!("../../shaders/lib/norm.wgsl") },
    Source { path: "lib/phase.wgsl", text: include_str!("../../shaders/lib/phase.wgsl") },
    Source { path: "lib/random.wgsl", text: include_str!("../../shaders/lib/random.wgsl") },
    Source { path: "lib/row.wgsl", text: include_str!("../../shaders/lib/row.wgsl") },
    Source { path: "lib/shift.wgsl", text: include_str!("../../shaders/lib/shift.wgsl") },
    Source { path: "lib/tile.wgsl", text: include_str!("../../shaders/lib/tile.wgsl") },
    Source { path: "lib/window.wgsl", text: include_str!("../../shaders/lib/window.wgsl") },
    Source { path: "lib/winograd.wgsl", text: include_str!("../../shaders/lib/winograd.wgsl") },
];

/// One pipeline: a source, an entry point and its specialisation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The file.
    pub source: &'static Source,
    /// Its entry point.
    pub entry: &'static str,
    /// `override` constants.
    pub constants: Vec<(&'static str, u32)>,
    /// Rewritten `const` and `alias` declarations.
    pub knobs: Vec<(&'static str, String)>,
}

impl Kernel {
    /// The kernel as it lies on disk, with `entry`.
    pub fn new(source: &'static Source, entry: &'static str) -> Self {
        Kernel { source, entry, constants: Vec::new(), knobs: Vec::new() }
    }

    /// Sets `override` constants.
    #[must_use]
    pub fn with(mut self, constants: &[(&'static str, u32)]) -> Self {
        self.constants.extend_from_slice(constants);
        self
    }

    /// Sets one knob.
    #[must_use]
    pub fn knob(mut self, name: &'static str, value: impl ToString) -> Self {
        self.knobs.push((name, value.to_string()));
        self
    }

    /// A name for logs and plans: `conv/tile.forward`.
    pub fn label(&self) -> String {
        format!("{}.{}", self.source.path.trim_end_matches(".wgsl"), self.entry)
    }

    /// The whole WGSL text: imports resolved, knobs set.
    ///
    /// # Errors
    /// [`Error::Shape`] for an unknown import or a knob that does not match exactly one declaration.
    pub fn wgsl(&self) -> Result<String> {
        expand(self.source, &self.knobs)
    }
}

/// Resolves the import lines of `source` (each file once, in order) and rewrites its knobs.
///
/// # Errors
/// As for [`Kernel::wgsl`].
pub fn expand(source: &Source, knobs: &[(&'static str, String)]) -> Result<String> {
    let mut seen = Vec::new();
    let mut text = String::new();
    append(source, &mut seen, &mut text)?;
    for (name, value) in knobs {
        let mut matched = 0;
        let rewritten: Vec<Cow<'_, str>> = text
            .lines()
            .map(|line| {
                let trimmed = line.trim_start();
                for keyword in ["const", "alias"] {
                    let Some(rest) = trimmed.strip_prefix(keyword) else { continue };
                    let declared = rest.trim_start().split([':', '=', ' ']).next();
                    if declared == Some(name) && rest.starts_with(' ') {
                        matched += 1;
                        let head = line.split('=').next().unwrap_or(line).trim_end();
                        return Cow::Owned(format!("{head} = {value};"));
                    }
                }
                Cow::Borrowed(line)
            })
            .collect();
        if matched != 1 {
            return Err(Error::Shape(format!(
                "shader {}: the knob '{name}' matches {matched} declarations; it must match exactly one",
                source.path
            )));
        }
        text = rewritten.join("\n");
    }
    Ok(text)
}

fn append(source: &Source, seen: &mut Vec<&'static str>, text: &mut String) -> Result<()> {
    for line in source.text.lines() {
        let Some(path) = line.strip_prefix("// import ").map(str::trim) else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let library = LIBRARY
            .iter()
            .find(|s| s.path == path)
            .ok_or_else(|| Error::Shape(format!("shader {}: there is no '{path}' to import", source.path)))?;
        if !seen.contains(&library.path) {
            seen.push(library.path);
            append(library, seen, text)?;
        }
    }
    Ok(())
}

/// Bind group layout: one uniform, then `reads` read-only and `writes` read-write storage buffers.
pub(super) struct Layout {
    pub(super) group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

impl Gpu {
    pub(super) fn layout(&self, reads: u32, writes: u32) -> Arc<Layout> {
        let mut layouts = lock(&self.inner.layouts);
        layouts
            .entry((reads, writes))
            .or_insert_with(|| {
                let device = self.device();
                let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
                let kinds = std::iter::once(wgpu::BufferBindingType::Uniform)
                    .chain((0..reads).map(|_| storage(true)))
                    .chain((0..writes).map(|_| storage(false)));
                let entries: Vec<_> = kinds
                    .zip(0..)
                    .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
                        binding,
                        visibility: wgpu::ShaderStages::COMPUTE,
                        ty: wgpu::BindingType::Buffer {
                            ty,
                            has_dynamic_offset: false,
                            min_binding_size: None,
                        },
                        count: None,
                    })
                    .collect();
                let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: None,
                    entries: &entries,
                });
                let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                    label: None,
                    bind_group_layouts: &[Some(&group)],
                    immediate_size: 0,
                });
                Arc::new(Layout { group, pipeline })
            })
            .clone()
    }

    /// The bind group of one dispatch: the uniform at binding 0, then `bindings` in order, of which
    /// the last `writes` are read-write.
    pub fn bind_group(&self, bindings: &[wgpu::BufferBinding<'_>], writes: u32) -> wgpu::BindGroup {
        let layout = self.layout(bindings.len() as u32 - 1 - writes, writes);
        let entries: Vec<_> = bindings
            .iter()
            .zip(0..)
            .map(|(b, binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(b.clone()),
            })
            .collect();
        self.inner.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout.group,
            entries: &entries,
        })
    }

    /// The compiled pipeline of `kernel`, from the cache where it is there already.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the compiler's message, [`Error::Shape`] as for [`Kernel::wgsl`].
    pub fn pipeline(&self, kernel: &Kernel, reads: u32, writes: u32) -> Result<Arc<wgpu::ComputePipeline>> {
        if let Some(found) = lock(&self.inner.pipelines).get(kernel) {
            return Ok(found.clone());
        }
        let label = kernel.label();
        let text = kernel.wgsl()?;
        let layout = self.layout(reads, writes);
        let kept = lock(&self.inner.kept).as_ref().map(|kept| kept.cache.clone());
        let pipeline = self.scoped(&label, || {
            let module = lock(&self.inner.modules)
                .entry(text)
                .or_insert_with_key(|text| self.module(&label, text))
                .clone();
            let constants: Vec<_> = kernel.constants.iter().map(|&(name, v)| (name, f64::from(v))).collect();
            self.device().create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&layout.pipeline),
                module: &module,
                entry_point: Some(kernel.entry),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    zero_initialize_workgroup_memory: self.inner.checked,
                },
                cache: kept.as_ref(),
            })
        })?;
        let pipeline = Arc::new(pipeline);
        lock(&self.inner.pipelines).insert(kernel.clone(), pipeline.clone());
        Ok(pipeline)
    }

    #[allow(unsafe_code)]
    fn module(&self, label: &str, text: &str) -> wgpu::ShaderModule {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(label), source };
        if self.inner.checked {
            return self.device().create_shader_module(descriptor);
        }
        // SAFETY: every kernel is our own. Each guards its global index, indexes only within the
        // shapes its op was given, and has loops bounded by those shapes; the op tests run every
        // kernel with guard words around its outputs, and again with the checks on.
        unsafe {
            self.device().create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        }
    }
}
