//! Python's pickles, as far as PyTorch's checkpoints need them, read as data: nothing is ever called.
//!
//! A pickle is a program for a small stack machine, and may name any function of Python. Here the names that
//! checkpoints need are known and stand for values; any other is refused. (The opcodes are those of Python's
//! `pickletools`, protocols 2 to 5.)

use std::collections::HashMap;

/// What a pickle holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes,
    Tuple(Vec<Value>),
    /// The number of a list of the machine.
    List(usize),
    /// The number of a dictionary of the machine.
    Dict(usize),
    /// A known name: `torch.FloatStorage`.
    Global(String),
    /// A storage of numbers: type, key, how many.
    Storage(String, String, usize),
    /// Numbers within a storage.
    Tensor(Tensor),
    /// Something harmless that no tensor depends on.
    Other,
}

/// Numbers within a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    /// `torch.FloatStorage`.
    pub(super) kind: String,
    /// Which storage.
    pub(super) key: String,
    /// Numbers in the storage.
    pub(super) stored: usize,
    /// The first number.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// In numbers.
    pub(super) strides: Vec<usize>,
}

/// Names that make tensors, and what holds them.
const TENSORS: &[&str] = &[
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "torch._tensor._rebuild_from_type_v2",
    "collections.OrderedDict",
    "torch.Size",
];

/// Names that occur in checkpoints beside the tensors: arguments, counters, types. They become [`Value::Other`].
const HARMLESS: &[&str] = &[
    "argparse.Namespace",
    "types.SimpleNamespace",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.dict",
    "builtins.list",
    "builtins.set",
    "builtins.int",
    "builtins.float",
    "__builtin__.set",
    "_codecs.encode",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.Path",
    "pathlib._local.PosixPath",
    "torch.device",
    "torch._C._nn.gelu",
    "torch.serialization._get_layout",
];

/// Whether a name is a storage's type or a type of numbers, such as `torch.FloatStorage`, `torch.float32`.
fn is_type(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("torch.") else { return false };
    let rest = rest.strip_prefix("storage.").or(rest.strip_prefix("cuda.")).unwrap_or(rest);
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    rest.strip_suffix("Storage").is_some_and(plain)
        || ["float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
            .contains(&rest)
}

/// The stack machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    pub(super) lists: Vec<Vec<Value>>,
    pub(super) dicts: Vec<Vec<(Value, Value)>>,
}

/// Bytes of a pickle that are still to be read.
struct Reader<'a>(&'a [u8]);

type Outcome<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("the pickle is truncated")?;
        self.0 = rest;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn number(&mut self, n: usize) -> Outcome<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn count(&mut self, bytes: usize) -> Outcome<usize> {
        usize::try_from(self.number(bytes)?).map_err(|_| "the pickle holds an impossible length".into())
    }

    fn text(&mut self, length: usize) -> Outcome<String> {
        String::from_utf8(self.take(length)?.to_vec())
            .map_err(|_| "the pickle holds text that is no UTF-8".into())
    }

    fn line(&mut self) -> Outcome<String> {
        let end = self.0.iter().position(|&byte| byte == b'\n').ok_or("the pickle is truncated")?;
        let line = self.text(end)?;
        self.take(1)?;
        Ok(line)
    }
}

impl Machine {
    /// Runs one pickle and returns what it holds, and how many bytes it took. Lists and dictionaries are the
    /// machine's.
    ///
    /// # Errors
    /// A sentence saying what is wrong with it.
    pub(super) fn run(&mut self, bytes: &[u8]) -> Outcome<(Value, usize)> {
        let mut reader = Reader(bytes);
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        loop {
            let [op] = *reader.take(1)? else { return Err("the pickle is truncated".into()) };
            if op == b'.' {
                return Ok((self.pop()?, bytes.len() - reader.0.len()));
            }
            self.step(op, &mut reader)?;
        }
    }

    fn pop(&mut self) -> Outcome<Value> {
        self.stack.pop().ok_or_else(|| "the pickle takes more than it holds".into())
    }

    fn top(&self) -> Outcome<&Value> {
        self.stack.last().ok_or_else(|| "the pickle takes more than it holds".into())
    }

    /// What lies above the last mark.
    fn since_mark(&mut self) -> Outcome<Vec<Value>> {
        let mark = self.marks.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("the pickle has a mark too few")?))
    }

    fn tuple(&mut self, n: usize) -> Outcome<()> {
        let from = self.stack.len().checked_sub(n).ok_or("the pickle takes more than it holds")?;
        let items = self.stack.split_off(from);
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn list(&mut self) -> Value {
        self.lists.push(Vec::new());
        Value::List(self.lists.len() - 1)
    }

    fn dict(&mut self) -> Value {
        self.dicts.push(Vec::new());
        Value::Dict(self.dicts.len() - 1)
    }

    fn extend_list(&mut self, items: Vec<Value>) -> Outcome<()> {
        if let Value::List(list) = *self.top()? {
            self.lists[list].extend(items);
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Value>) -> Outcome<()> {
        if let Value::Dict(dict) = *self.top()? {
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                self.dicts[dict].push((key, value));
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Outcome<()> {
        let name = format!("{module}.{name}");
        self.stack.push(if TENSORS.contains(&name.as_str()) || is_type(&name) {
            Value::Global(name)
        } else if HARMLESS.contains(&name.as_str()) {
            Value::Other
        } else {
            return Err(format!(
                "it names '{name}', which is no part of a checkpoint of numbers: a file that calls other functions \
                 of Python is not read; nothing of it was run"
            ));
        });
        Ok(())
    }

    fn step(&mut self, op: u8, r: &mut Reader<'_>) -> Outcome<()> {
        let value = match op {
            0x80 => return r.take(1).map(drop),
            0x95 => return r.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'0' => return self.pop().map(drop),
            b'1' => return self.since_mark().map(drop),
            b'2' => self.top()?.clone(),
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(r.number(4)? as u32 as i32)),
            b'K' => Value::Int(r.number(1)? as i64),
            b'M' => Value::Int(r.number(2)? as i64),
            0x8a => {
                let n = r.count(1)?;
                let bytes = r.take(n)?;
                // Two's complement; what does not fit is no size of a tensor.
                let mut wide = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 8];
                wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                if n <= 8 { Value::Int(i64::from_le_bytes(wide)) } else { Value::Other }
            }
            b'G' => {
                let bytes: [u8; 8] = r.take(8)?.try_into().map_err(|_| "the pickle is truncated")?;
                Value::Float(f64::from_be_bytes(bytes))
            }
            b'X' => {
                let n = r.count(4)?;
                Value::Text(r.text(n)?)
            }
            0x8c => {
                let n = r.count(1)?;
                Value::Text(r.text(n)?)
            }
            0x8d => {
                let n = r.count(8)?;
                Value::Text(r.text(n)?)
            }
            // Python 2's text, which names keys in old files.
            b'U' => {
                let n = r.count(1)?;
                String::from_utf8(r.take(n)?.to_vec()).map_or(Value::Bytes, Value::Text)
            }
            b'T' => {
                let n = r.count(4)?;
                String::from_utf8(r.take(n)?.to_vec()).map_or(Value::Bytes, Value::Text)
            }
            b'C' | b'B' | 0x8e => {
                let n = r.count(match op {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                r.take(n)?;
                Value::Bytes
            }
            b')' => Value::Tuple(Vec::new()),
            b't' => Value::Tuple(self.since_mark()?),
            0x85..=0x87 => return self.tuple(usize::from(op - 0x84)),
            b']' => self.list(),
            b'l' => {
                let items = self.since_mark()?;
                let list = self.list();
                self.stack.push(list);
                return self.extend_list(items);
            }
            b'a' => {
                let item = self.pop()?;
                return self.extend_list(vec![item]);
            }
            b'e' => {
                let items = self.since_mark()?;
                return self.extend_list(items);
            }
            b'}' => self.dict(),
            b'd' => {
                let items = self.since_mark()?;
                let dict = self.dict();
                self.stack.push(dict);
                return self.extend_dict(items);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.extend_dict(vec![key, value]);
            }
            b'u' => {
                let items = self.since_mark()?;
                return self.extend_dict(items);
            }
            0x8f => Value::Other,
            0x90 => return self.since_mark().map(drop),
            0x91 => {
                self.since_mark()?;
                Value::Other
            }
            b'q' | b'r' | 0x94 => {
                let at = match op {
                    b'q' => r.number(1)?,
                    b'r' => r.number(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?.clone();
                self.memo.insert(at, top);
                return Ok(());
            }
            b'h' | b'j' => {
                let at = r.number(if op == b'h' { 1 } else { 4 })?;
                self.memo.get(&at).cloned().ok_or("the pickle recalls what it never kept")?
            }
            b'c' => {
                let (module, name) = (r.line()?, r.line()?);
                return self.global(&module, &name);
            }
            0x93 => {
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err("the pickle names something by no text".into());
                };
                return self.global(&module, &name);
            }
            b'Q' => storage(self.pop()?)?,
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.made(function, arguments)?
            }
            // State for an object: its attributes, which no tensor here depends on.
            b'b' => return self.pop().map(drop),
            other => return Err(format!("it holds the opcode 0x{other:02x}, which no checkpoint needs")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// What a known name makes of its arguments.
    fn made(&mut self, function: Value, arguments: Value) -> Outcome<Value> {
        let Value::Global(name) = function else { return Ok(Value::Other) };
        let Value::Tuple(mut arguments) = arguments else { return Ok(Value::Other) };
        match name.as_str() {
            "collections.OrderedDict" => {
                let dict = self.dict();
                // Python 2 gave the items as a list of pairs.
                if let (Value::Dict(to), Some(&Value::List(from))) = (&dict, arguments.first()) {
                    let pairs = self.lists[from].clone().into_iter().filter_map(|pair| match pair {
                        Value::List(pair) => <[Value; 2]>::try_from(self.lists[pair].clone()).ok(),
                        Value::Tuple(pair) => <[Value; 2]>::try_from(pair).ok(),
                        _ => None,
                    });
                    let pairs: Vec<(Value, Value)> = pairs.map(|[key, value]| (key, value)).collect();
                    self.dicts[*to].extend(pairs);
                }
                Ok(dict)
            }
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => tensor(arguments),
            "torch._utils._rebuild_parameter" | "torch.nn.parameter.Parameter" if !arguments.is_empty() => {
                Ok(arguments.swap_remove(0))
            }
            // Function, type, arguments, state.
            "torch._tensor._rebuild_from_type_v2" if arguments.len() >= 3 => {
                let (inner, function) = (arguments.swap_remove(2), arguments.swap_remove(0));
                self.made(function, inner)
            }
            "torch.Size" if !arguments.is_empty() => Ok(arguments.swap_remove(0)),
            _ => Ok(Value::Other),
        }
    }
}

/// A persistent id: `("storage", type, key, place, count)`.
fn storage(id: Value) -> Outcome<Value> {
    if let Value::Tuple(parts) = id
        && let [Value::Text(what), Value::Global(kind), Value::Text(key), _, Value::Int(count), ..] =
            &parts[..]
        && what == "storage"
    {
        let count = usize::try_from(*count).map_err(|_| "a storage has an impossible size")?;
        return Ok(Value::Storage(kind.clone(), key.clone(), count));
    }
    Err("it refers to something that is no storage".into())
}

/// `(storage, offset, size, stride, ...)`.
fn tensor(arguments: Vec<Value>) -> Outcome<Value> {
    let sizes = |value: &Value| -> Option<Vec<usize>> {
        let Value::Tuple(items) = value else { return None };
        let size = |item: &Value| match item {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        items.iter().map(size).collect()
    };
    if let [Value::Storage(kind, key, stored), Value::Int(offset), shape, strides, ..] = &arguments[..]
        && let (Some(shape), Some(strides), Ok(offset)) =
            (sizes(shape), sizes(strides), usize::try_from(*offset))
        && shape.len() == strides.len()
    {
        let (kind, key) = (kind.clone(), key.clone());
        return Ok(Value::Tensor(Tensor { kind, key, stored: *stored, offset, shape, strides }));
    }
    Err("it holds a tensor whose description cannot be understood".into())
}
