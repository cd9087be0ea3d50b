//! Every shader in every variant that any op asks for: parsed and validated, written for Vulkan, Metal
//! and DX12, and compared with what the host binds. This keeps Metal and DX12 honest on machines that
//! have neither.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use defrost::gpu::{Caps, Kernel, Source, expand};
use defrost::ops::REGISTRY;
use defrost::plan::{measure, probe};
use defrost::tape::{Io, Launch, Op, Type, Variant};
use naga::back::{hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner};

/// Every launch of every variant, of all cases and all their gradients: on a GPU and on a software
/// adapter, with each output unread in turn, and with split operands where the op takes them.
fn launches() -> &'static [Launch] {
    static LAUNCHES: OnceLock<Vec<Launch>> = OnceLock::new();
    LAUNCHES.get_or_init(|| {
        let gpu = Caps::webgpu_defaults();
        let devices = [Caps { software: true, ..gpu.clone() }, gpu];
        let mut all: Vec<Launch> = Vec::new();
        let mut collect = |op: &dyn Op, types: &[&Type]| {
            let outputs = op.infer(types).expect("a case fits its op");
            let outputs: Vec<&Type> = outputs.iter().collect();
            let whole = Io::whole(types, &outputs);
            let mut ios = vec![whole.clone()];
            for i in 0..outputs.len() {
                ios.push(whole.clone());
                ios.last_mut().expect("just pushed").outputs[i].used = false;
            }
            for operand in (0..types.len() + outputs.len()).filter(|&i| op.splittable(i)) {
                let mut io = whole.clone();
                let value = match operand.checked_sub(types.len()) {
                    None => &mut io.inputs[operand],
                    Some(i) => &mut io.outputs[i],
                };
                let rows = value.ty.shape[0];
                let cut = (rows / 2).next_multiple_of(4);
                if cut < rows {
                    value.parts = vec![0..cut, cut..rows];
                    ios.push(io);
                }
            }
            for caps in &devices {
                let variants = ios.iter().flat_map(|io| op.kernels(io, caps));
                all.extend(variants.flat_map(|variant: Variant| variant.launches));
            }
        };
        for case in REGISTRY.iter().flat_map(|family| (family.cases)()) {
            let recorded = probe::record(&case, &case.differentiable).expect("a case can be recorded");
            for node in &recorded.tape.nodes {
                let types: Vec<&Type> = node.inputs.iter().map(|&v| recorded.tape.ty(v)).collect();
                collect(node.op.as_ref(), &types);
            }
        }
        all
    })
}

/// One launch for each kernel.
fn kernels() -> Vec<&'static Launch> {
    let mut seen = HashSet::new();
    launches().iter().filter(|launch| seen.insert(&launch.kernel)).collect()
}

fn validator() -> Validator {
    // What wgpu gives a device without any feature.
    Validator::new(ValidationFlags::all(), Capabilities::empty())
}

/// The parsed and validated module of each distinct text.
fn modules() -> &'static HashMap<String, (Module, ModuleInfo)> {
    static MODULES: OnceLock<HashMap<String, (Module, ModuleInfo)>> = OnceLock::new();
    MODULES.get_or_init(|| {
        let mut all = HashMap::new();
        let mut bad = Vec::new();
        for launch in kernels() {
            let label = launch.kernel.label();
            let text = launch.kernel.wgsl().unwrap_or_else(|e| panic!("{label}: {e}"));
            if all.contains_key(&text) {
                continue;
            }
            let parsed = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text));
            let checked = parsed.and_then(|module| {
                let info = validator().validate(&module).map_err(|e| e.emit_to_string(&text))?;
                Ok((module, info))
            });
            match checked {
                Ok(pair) => drop(all.insert(text, pair)),
                Err(e) => bad.push(format!("{label}: {e}")),
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        all
    })
}

fn module_of(kernel: &Kernel) -> &'static (Module, ModuleInfo) {
    &modules()[&kernel.wgsl().expect("it was expanded before")]
}

fn report(bad: &BTreeSet<String>) {
    assert!(bad.is_empty(), "{} complaints:\n{}", bad.len(), Vec::from_iter(bad.iter().cloned()).join("\n"));
}

#[test]
fn every_kernel_is_written_for_vulkan_metal_and_dx12() {
    let mut bad = BTreeSet::new();
    for launch in kernels() {
        let kernel = &launch.kernel;
        let (module, info) = module_of(kernel);
        let label = kernel.label();
        let constants = kernel.constants.iter().map(|&(name, value)| (name.to_string(), f64::from(value)));
        let entry = (ShaderStage::Compute, kernel.entry);
        let (module, info) = match process_overrides(module, info, Some(entry), &constants.collect()) {
            Ok(pair) => pair,
            Err(e) => {
                bad.insert(format!("{label}: {:?}: {e}", kernel.constants));
                continue;
            }
        };
        let Some(point) = module.entry_points.iter().find(|point| point.name == kernel.entry) else {
            bad.insert(format!("{label}: there is no such entry point"));
            continue;
        };
        if point.workgroup_size.iter().product::<u32>() > 256 {
            bad.insert(format!("{label}: {:?} invocations", point.workgroup_size));
        }
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let shared: u32 = shared.map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
        if shared > 16 << 10 {
            bad.insert(format!("{label}: {shared} bytes of workgroup memory"));
        }
        let options = spv::PipelineOptions { shader_stage: entry.0, entry_point: entry.1.into() };
        if let Err(e) = spv::write_vec(&module, &info, &spv::Options::default(), Some(&options)) {
            bad.insert(format!("{label}: SPIR-V: {e}"));
        }
        let named = Some((entry.0, entry.1.to_string()));
        let options = msl::PipelineOptions { entry_point: named.clone(), ..Default::default() };
        let metal = msl::Options { lang_version: (2, 0), ..Default::default() };
        match msl::write_string(&module, &info, &metal, &options) {
            Ok((_, translated)) => {
                let failed = translated.entry_point_names.iter().filter_map(|name| name.as_ref().err());
                bad.extend(failed.map(|e| format!("{label}: Metal: {e}")));
            }
            Err(e) => drop(bad.insert(format!("{label}: Metal: {e}"))),
        }
        let options = hlsl::PipelineOptions { entry_point: named };
        let mut text = String::new();
        let direct = hlsl::Options::default();
        match hlsl::Writer::new(&mut text, &direct, &options).write(&module, &info, None) {
            Ok(reflected) => {
                let failed = reflected.entry_point_names.iter().filter_map(|name| name.as_ref().err());
                bad.extend(failed.map(|e| format!("{label}: HLSL: {e}")));
            }
            Err(e) => drop(bad.insert(format!("{label}: HLSL: {e}"))),
        }
    }
    report(&bad);
}

/// A struct's members in order: name and type, the types spelled as in WGSL.
type Members = Vec<(String, String)>;

/// The members of a WGSL struct of scalars and vectors of 4-byte scalars, or why it is none.
fn members(module: &Module, inner: &TypeInner) -> Result<Members, String> {
    let TypeInner::Struct { members, .. } = inner else { return Err("params is no struct".into()) };
    let mut expected = 0;
    let mut named = Vec::new();
    for member in members {
        let name = member.name.clone().unwrap_or_default();
        let (scalar, count) = match module.types[member.ty].inner {
            TypeInner::Scalar(scalar) => (scalar, 1),
            TypeInner::Vector { size, scalar } => (scalar, size as u32),
            _ => return Err(format!("params.{name} is neither a scalar nor a vector")),
        };
        let text = match (scalar.kind, scalar.width) {
            (ScalarKind::Uint, 4) => "u32",
            (ScalarKind::Sint, 4) => "i32",
            (ScalarKind::Float, 4) => "f32",
            _ => return Err(format!("params.{name} is not of 4 bytes")),
        };
        // `#[repr(C)]` packs 4-byte fields without gaps; a vector that WGSL aligns would leave one.
        if member.offset != expected {
            return Err(format!("params.{name} lies at {}, in Rust at {expected}", member.offset));
        }
        expected += 4 * count;
        named.push((name, if count == 1 { text.into() } else { format!("[{text}; {count}]") }));
    }
    Ok(named)
}

/// The `#[repr(C)]` structs of all op files: their fields in order.
fn rust_structs() -> HashSet<Members> {
    let mut all = HashSet::new();
    for path in files(&root().join("src/ops"), "rs") {
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        for after in text.split("#[repr(C)]").skip(1) {
            let body = after.split_once("struct ").and_then(|(_, rest)| rest.split_once('{'));
            let Some((body, _)) = body.and_then(|(_, rest)| rest.split_once('}')) else { continue };
            let fields = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            let field = |line: &str| {
                let (name, ty) = line.trim_end_matches(',').split_once(": ")?;
                let name = name.rsplit(' ').next()?;
                Some((name.to_string(), ty.to_string()))
            };
            let mut fields: Members = fields.filter_map(field).collect();
            // What fills a struct up to the 16 bytes that WGSL rounds it to has no name there.
            if fields.last().is_some_and(|(name, _)| name == "padding") {
                fields.pop();
            }
            all.insert(fields);
        }
    }
    all
}

/// What is proven of each launch: the uniform at binding 0 has exactly the bytes that the host writes,
/// all its members are 4-byte scalars (or vectors of them) at the offsets that `#[repr(C)]` gives, and a
/// struct of an op file has the same field names and types in the same order. And the storage buffers
/// that the entry point uses are those that the launch binds, in number and access, at most 8.
#[test]
fn params_and_bindings_are_those_of_the_host() {
    let structs = rust_structs();
    let mut bad = BTreeSet::new();
    for launch in launches() {
        let label = launch.kernel.label();
        let (module, info) = module_of(&launch.kernel);
        let Some(entry) = module.entry_points.iter().position(|point| point.name == launch.kernel.entry)
        else {
            bad.insert(format!("{label}: there is no such entry point"));
            continue;
        };
        let uses = info.get_entry_point(entry);
        let mut found = BTreeMap::new();
        for (handle, global) in module.global_variables.iter() {
            let Some(place) = &global.binding else { continue };
            if uses[handle].is_empty() {
                continue;
            }
            let inner = &module.types[global.ty].inner;
            match global.space {
                AddressSpace::Uniform if (place.group, place.binding) == (0, 0) => {
                    let span = inner.size(module.to_ctx()) as usize;
                    if span != launch.params.len() {
                        let bytes = launch.params.len();
                        bad.insert(format!("{label}: params takes {span} bytes, the host writes {bytes}"));
                    }
                    match members(module, inner) {
                        Ok(fields) if structs.contains(&fields) => {}
                        Ok(fields) => drop(bad.insert(format!("{label}: no Rust struct has {fields:?}"))),
                        Err(e) => drop(bad.insert(format!("{label}: {e}"))),
                    }
                }
                AddressSpace::Storage { access } if place.group == 0 => {
                    // Rows of a struct are those of a Rust struct, too.
                    if let TypeInner::Array { base, .. } = *inner
                        && let row @ TypeInner::Struct { .. } = &module.types[base].inner
                    {
                        match members(module, row) {
                            Ok(fields) if structs.contains(&fields) => {}
                            Ok(fields) => drop(bad.insert(format!("{label}: no Rust struct has {fields:?}"))),
                            Err(e) => drop(bad.insert(format!("{label}: {e}"))),
                        }
                    }
                    found.insert(place.binding, access.contains(StorageAccess::STORE));
                }
                _ => drop(bad.insert(format!("{label}: an unexpected binding {place:?}"))),
            }
        }
        let bound: BTreeMap<u32, bool> =
            (1..).zip(&launch.bindings).map(|(i, binding)| (i, binding.write)).collect();
        if found != bound {
            bad.insert(format!("{label}: uses {found:?}, the host binds {bound:?} (true: written)"));
        }
        if bound.len() > 8 {
            bad.insert(format!("{label}: {} storage buffers, WebGPU allows 8", bound.len()));
        }
        if launch.bindings.is_sorted_by_key(|binding| binding.write) {
            continue;
        }
        bad.insert(format!("{label}: what is written must be bound last"));
    }
    report(&bad);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("its entries can be read").path();
        if path.is_dir() {
            all.extend(files(&path, extension));
        } else if path.extension().is_some_and(|e| e == extension) {
            all.push(path);
        }
    }
    all
}

#[test]
fn the_kernels_that_measure_a_device_are_valid() {
    for kernel in measure::kernels() {
        let text = kernel.wgsl().expect("it expands");
        let module =
            naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        let valid = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16).validate(&module);
        valid.unwrap_or_else(|e| panic!("{}: {}", kernel.label(), e.emit_to_string(&text)));
    }
}

#[test]
fn no_shader_is_dead() {
    let mut used: HashSet<&str> = launches().iter().map(|launch| launch.kernel.source.path).collect();
    used.extend(measure::kernels().iter().map(|kernel| kernel.source.path));
    let imports: HashSet<String> = files(&root().join("shaders"), "wgsl")
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("a shader can be read");
            text.lines()
                .filter_map(|line| line.strip_prefix("// import ").map(String::from))
                .collect::<Vec<_>>()
        })
        .collect();
    let mut bad = BTreeSet::new();
    for path in files(&root().join("shaders"), "wgsl") {
        let name = path.strip_prefix(root().join("shaders")).expect("it lies there");
        let name = name.to_string_lossy().replace('\\', "/");
        if !used.contains(name.as_str()) && !imports.contains(&name) {
            bad.insert(format!("shaders/{name}: no kernel of the registry uses it"));
        }
    }
    report(&bad);
}

#[test]
fn expand_resolves_imports_once_and_refuses_what_does_not_match() {
    static TWICE: Source = Source {
        path: "test.wgsl",
        text: "// import lib/index.wgsl\n// import lib/index.wgsl\nconst TILE: u32 = 4u;\nalias Elem = f32;\n",
    };
    static UNKNOWN: Source = Source { path: "test.wgsl", text: "// import lib/nothing.wgsl\n" };
    static DOUBLE: Source = Source { path: "test.wgsl", text: "const N: u32 = 1u;\n  const N = 2u;\n" };

    let text = expand(&TWICE, &[("TILE", "8u".into()), ("Elem", "vec4<f32>".into())]).expect("both match");
    assert_eq!(text.matches("fn linear_index").count(), 1, "an import is taken in once");
    assert!(text.contains("const TILE: u32 = 8u;") && text.contains("alias Elem = vec4<f32>;"), "{text}");

    let refused = |source, knob: &'static str| {
        expand(source, &[(knob, "1".into())]).expect_err("it must be refused").to_string()
    };
    assert!(refused(&TWICE, "TIL").contains("'TIL' matches 0"));
    assert!(refused(&DOUBLE, "N").contains("'N' matches 2"));
    let unknown = expand(&UNKNOWN, &[]).expect_err("there is no such file").to_string();
    assert!(unknown.contains("lib/nothing.wgsl"), "{unknown}");
}
