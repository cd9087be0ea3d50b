//! The Python names that checkpoints need. Each stands for a value; none is ever called.

use super::contents::shortened;

/// The effect of a known function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Function {
    /// A tensor of (storage, offset, shape, strides, ...).
    Tensor,
    /// The same, with the type of numbers as the seventh argument.
    TypedTensor,
    /// The result of the first argument, a function, on the third, its arguments: a tensor of a class of its own.
    OfType,
    /// The first argument: a parameter is its tensor.
    First,
    /// A dictionary.
    Dict,
    /// A list of the arguments, and of all items that are added later.
    Object,
}

/// A known name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Name<'a> {
    /// A function.
    Function(Function),
    /// The type of a storage or of numbers: `FloatStorage`, `float32`.
    Type(&'a str),
}

/// The names that checkpoints need. Python 2's `__builtin__`, which protocol 2 writes, is `builtins`, and its
/// `copy_reg` is `copyreg`.
const FUNCTIONS: &[(Function, &str, &[&str])] = &[
    (Function::Tensor, "torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2"]),
    (Function::TypedTensor, "torch._utils", &["_rebuild_tensor_v3"]),
    (Function::OfType, "torch._tensor", &["_rebuild_from_type_v2"]),
    (Function::First, "torch._utils", &["_rebuild_parameter", "_rebuild_parameter_with_state"]),
    (Function::First, "torch.nn.parameter", &["Parameter", "Buffer"]),
    (Function::First, "torch", &["Size", "Tensor"]),
    (Function::First, "torch._tensor", &["Tensor"]),
    (Function::Dict, "collections", &["OrderedDict", "defaultdict", "Counter"]),
    (Function::Dict, "builtins", &["dict"]),
    (Function::Dict, "pytorch_lightning.utilities.parsing", &["AttributeDict"]),
    (Function::Dict, "lightning_fabric.utilities.data", &["AttributeDict"]),
    (Function::Dict, "lightning.fabric.utilities.data", &["AttributeDict"]),
    (
        Function::Object,
        "builtins",
        &[
            "bool",
            "bytearray",
            "bytes",
            "complex",
            "float",
            "frozenset",
            "int",
            "list",
            "long",
            "object",
            "range",
            "set",
            "slice",
            "str",
            "tuple",
            "unicode",
            "xrange",
        ],
    ),
    (Function::Object, "collections", &["deque"]),
    (Function::Object, "copyreg", &["_reconstructor", "__newobj__"]),
    (Function::Object, "argparse", &["Namespace"]),
    (Function::Object, "types", &["SimpleNamespace"]),
    (Function::Object, "datetime", &["date", "datetime", "time", "timedelta", "timezone"]),
    (Function::Object, "decimal", &["Decimal"]),
    (Function::Object, "fractions", &["Fraction"]),
    (Function::Object, "uuid", &["UUID"]),
    (Function::Object, "pathlib", PATHS),
    (Function::Object, "pathlib._local", PATHS),
    (Function::Object, "_codecs", &["encode"]),
    (Function::Object, "numpy", &["dtype", "ndarray"]),
    (Function::Object, "numpy.core.multiarray", &["scalar", "_reconstruct"]),
    (Function::Object, "numpy._core.multiarray", &["scalar", "_reconstruct"]),
    (Function::Object, "numpy._core.numeric", &["_frombuffer"]),
    (Function::Object, "numpy.core.numeric", &["_frombuffer"]),
    (Function::Object, "torch", &["device"]),
    (Function::Object, "torch._C._nn", &["gelu"]),
    (Function::Object, "torch.serialization", &["_get_layout"]),
];

const PATHS: &[&str] = &["Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath"];

/// Types of numbers, `torch.float32`.
const NUMBERS: &[&str] = &[
    "bfloat16",
    "bool",
    "complex128",
    "complex32",
    "complex64",
    "float16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int16",
    "int32",
    "int64",
    "int8",
    "qint32",
    "qint8",
    "quint8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];

/// The meaning of a name.
///
/// # Errors
/// A sentence about a name that no checkpoint of numbers needs.
pub(super) fn known<'a>(module: &'a str, name: &'a str) -> Result<Name<'a>, String> {
    let of = match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        other => other,
    };
    let same = |(_, from, names): &&(Function, &str, &[&str])| *from == of && names.contains(&name);
    if let Some((function, ..)) = FUNCTIONS.iter().find(same) {
        return Ok(Name::Function(*function));
    }
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    let is_type = match module {
        "torch" => NUMBERS.contains(&name) || name.strip_suffix("Storage").is_some_and(plain),
        "torch.storage" | "torch.cuda" => name.strip_suffix("Storage").is_some_and(plain),
        _ => false,
    };
    if is_type {
        return Ok(Name::Type(name));
    }
    Err(format!(
        "it names '{}.{}', which a checkpoint of numbers does not need: Defrost reads no file that calls other functions \
         of Python; nothing of it was run",
        shortened(module),
        shortened(name)
    ))
}
