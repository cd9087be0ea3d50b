//! Files as `torch.save` writes them, and as nobody should: values of Python become pickles of protocol 2.

use serde_json::{Map, Value, json};

/// A value of Python's.
#[derive(Debug, Clone)]
pub enum Py {
    None,
    True,
    Int(i64),
    Float(f64),
    Text(String),
    Tuple(Vec<Py>),
    List(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    /// A name within a module.
    Global(&'static str, &'static str),
    /// What a function makes of its arguments.
    Call(&'static str, &'static str, Vec<Py>),
    /// What was made, and the state that it is given.
    Built(Box<Py>, Box<Py>),
    /// What was made, and the list of items that it is given.
    Filled(Box<Py>, Vec<Py>),
    Tensor(Tensor),
    /// Opcodes.
    Raw(Vec<u8>),
}

/// A tensor with a storage of its own.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The storage's type: `FloatStorage`.
    pub kind: &'static str,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    pub offset: i64,
    /// Bytes of the storage.
    pub bytes: Vec<u8>,
    /// Bytes of an element.
    pub size: usize,
}

impl Tensor {
    /// In rows one behind the other.
    pub fn floats(shape: &[usize], numbers: &[f32]) -> Self {
        Tensor::of("FloatStorage", 4, shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// The same of any type.
    pub fn of(kind: &'static str, size: usize, shape: &[usize], bytes: Vec<u8>) -> Self {
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product::<usize>() as i64);
        let shape = shape.iter().map(|&n| n as i64);
        Tensor { kind, shape: shape.collect(), strides: strides.collect(), offset: 0, bytes, size }
    }
}

pub fn text(text: &str) -> Py {
    Py::Text(text.into())
}

pub fn dict(entries: impl IntoIterator<Item = (&'static str, Py)>) -> Py {
    Py::Dict(entries.into_iter().map(|(key, value)| (text(key), value)).collect())
}

/// A pickle, and the bytes of the storages that it refers to.
#[derive(Default)]
struct Pickle {
    bytes: Vec<u8>,
    storages: Vec<(Vec<u8>, usize)>,
}

impl Pickle {
    fn of(value: &Py) -> Self {
        let mut pickle = Pickle { bytes: b"\x80\x02".to_vec(), ..Pickle::default() };
        pickle.put(value);
        pickle.bytes.push(b'.');
        pickle
    }

    fn global(&mut self, module: &str, name: &str) {
        self.bytes.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn tuple(&mut self, items: &[Py]) {
        self.bytes.push(b'(');
        items.iter().for_each(|item| self.put(item));
        self.bytes.push(b't');
    }

    fn put(&mut self, value: &Py) {
        match value {
            Py::None => self.bytes.push(b'N'),
            Py::True => self.bytes.push(0x88),
            Py::Int(n) => self.bytes.extend([&[0x8a, 8][..], &n.to_le_bytes()].concat()),
            Py::Float(x) => self.bytes.extend([&b"G"[..], &x.to_be_bytes()].concat()),
            Py::Text(text) => {
                self.bytes.extend([&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat());
            }
            Py::Tuple(items) => self.tuple(items),
            Py::List(items) => {
                self.bytes.extend(b"](");
                items.iter().for_each(|item| self.put(item));
                self.bytes.push(b'e');
            }
            Py::Dict(entries) => {
                self.bytes.extend(b"}(");
                for (key, value) in entries {
                    self.put(key);
                    self.put(value);
                }
                self.bytes.push(b'u');
            }
            Py::Global(module, name) => self.global(module, name),
            Py::Call(module, name, arguments) => {
                self.global(module, name);
                self.tuple(arguments);
                self.bytes.push(b'R');
            }
            Py::Built(value, state) => {
                self.put(value);
                self.put(state);
                self.bytes.push(b'b');
            }
            Py::Filled(value, items) => {
                self.put(value);
                self.bytes.push(b'(');
                items.iter().for_each(|item| self.put(item));
                self.bytes.push(b'e');
            }
            Py::Tensor(tensor) => {
                let key = self.storages.len().to_string();
                let Tensor { kind, shape, strides, offset, bytes, size } = tensor;
                self.storages.push((bytes.clone(), *size));
                let numbers = |numbers: &[i64]| Py::Tuple(numbers.iter().copied().map(Py::Int).collect());
                let count = Py::Int((bytes.len() / size) as i64);
                self.global("torch._utils", "_rebuild_tensor_v2");
                self.bytes.push(b'(');
                self.tuple(&[text("storage"), Py::Global("torch", kind), text(&key), text("cpu"), count]);
                self.bytes.push(b'Q');
                for part in [Py::Int(*offset), numbers(shape), numbers(strides), Py::None, Py::None] {
                    self.put(&part);
                }
                self.bytes.extend(b"tR");
            }
            Py::Raw(opcodes) => self.bytes.extend(opcodes),
        }
    }
}

/// A zip archive as PyTorch's own writer makes it, saved under the name `stem`: entries begin at multiples of 64, and a
/// ZIP64 record stands at the end that nobody needs.
pub fn zipped(stem: &str, value: &Py) -> Vec<u8> {
    let pickle = Pickle::of(value);
    let entries = [("data.pkl".to_string(), pickle.bytes), ("byteorder".into(), b"little".to_vec())];
    let storages =
        pickle.storages.into_iter().enumerate().map(|(i, (bytes, _))| (format!("data/{i}"), bytes));
    let entries = entries.into_iter().chain(storages).chain([("version".into(), b"3\n".to_vec())]);
    let (mut out, mut directory, mut count) = (Vec::new(), Vec::new(), 0u64);
    for (name, bytes) in entries {
        let (name, at, size) = (format!("{stem}/{name}"), out.len() as u32, bytes.len() as u32);
        let begins = out.len() + 30 + name.len() + 4;
        let padding = (begins.next_multiple_of(64) - begins) as u16;
        let short = u16::to_le_bytes;
        let sizes = [0u32, size, size].map(u32::to_le_bytes).concat();
        out.extend([&b"PK\x03\x04\0\0\0\x08\0\0\0\0\0\0"[..], &sizes, &short(name.len() as u16)].concat());
        out.extend([&short(padding + 4)[..], name.as_bytes(), b"FB", &short(padding)].concat());
        out.extend(vec![b'Z'; padding.into()]);
        out.extend(bytes);
        directory.extend([&b"PK\x01\x02\0\0\0\0\0\x08\0\0\0\0\0\0"[..], &sizes].concat());
        directory
            .extend([&short(name.len() as u16)[..], &[0; 12], &at.to_le_bytes(), name.as_bytes()].concat());
        count += 1;
    }
    let (start, length) = (out.len() as u64, directory.len() as u64);
    out.extend(directory);
    let record = out.len() as u64;
    out.extend(
        [&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[0x1e, 3, 0x2d, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    );
    out.extend([count, count, length, start].map(u64::to_le_bytes).concat());
    out.extend([&b"PK\x06\x07\0\0\0\0"[..], &record.to_le_bytes(), &1u32.to_le_bytes()].concat());
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &[count as u16; 2].map(u16::to_le_bytes).concat()].concat());
    out.extend([&(length as u32).to_le_bytes()[..], &(start as u32).to_le_bytes(), &[0; 2]].concat());
    out
}

/// The form before 1.6.
pub fn legacy(value: &Py) -> Vec<u8> {
    let pickle = Pickle::of(value);
    let magic = Py::Raw([&[0x8a, 10][..], b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"].concat());
    let mut out: Vec<u8> = [magic, Py::Int(1001), dict([("little_endian", Py::True)])]
        .iter()
        .flat_map(|v| Pickle::of(v).bytes)
        .collect();
    out.extend(pickle.bytes);
    let keys = (0..pickle.storages.len()).map(|i| text(&i.to_string())).collect();
    out.extend(Pickle::of(&Py::List(keys)).bytes);
    for (bytes, size) in pickle.storages {
        out.extend(((bytes.len() / size) as u64).to_le_bytes());
        out.extend(bytes);
    }
    out
}

/// A safetensors file.
pub fn safetensors(tensors: &[(String, Tensor)], metadata: Option<Value>) -> Vec<u8> {
    let (mut header, mut body) = (Map::new(), Vec::new());
    header.extend(metadata.map(|metadata| ("__metadata__".to_string(), metadata)));
    for (name, tensor) in tensors {
        let dtype = match tensor.kind {
            "FloatStorage" => "F32",
            "LongStorage" => "I64",
            "BoolStorage" => "BOOL",
            other => panic!("{other}"),
        };
        let end = body.len() + tensor.bytes.len();
        let info = json!({ "dtype": dtype, "shape": tensor.shape, "data_offsets": [body.len(), end] });
        header.insert(name.clone(), info);
        body.extend(&tensor.bytes);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &body].concat()
}
