//! Reads Python's pickles, as far as PyTorch's checkpoints need them, as data: no function is ever called.
//!
//! A pickle is a program for a small stack machine, and may name any function of Python. Defrost knows the names that
//! checkpoints need, and each stands for a value; any other name is refused. (The opcodes are those of Python's
//! `pickletools`, protocols 2 to 5.)
//!
//! A value has 24 bytes and is `Copy`. The machine stores the contents of lists, dictionaries, storages and tensors
//! in arenas, and their values are indices into these arenas. So a copy costs the same whatever its contents, no drop
//! recurses, and a pickle costs time and memory in proportion to its opcodes, of which the machine accepts at most
//! [`MOST_STEPS`].

use std::collections::HashMap;

use super::contents::MOST_AXES;
use super::python::{Function, Name, known};

/// A value of a pickle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// A value that no tensor depends on: None, floating-point numbers, bytes.
    Other,
    Int(i64),
    Text(&'a str),
    /// A list, a tuple, a set, or an object with its constructor's arguments: its index in [`Machine::lists`].
    List(usize),
    /// Its index in [`Machine::dicts`].
    Dict(usize),
    /// A known name of Python's.
    Function(Function),
    /// The type of a storage or of numbers: `FloatStorage`, `float32`.
    Type(&'a str),
    /// Its index in [`Machine::storages`].
    Storage(usize),
    /// Its index in [`Machine::tensors`].
    Tensor(usize),
}

/// Opcodes that a pickle may have: a checkpoint of 2000 tensors with the state of its optimizer has some 400,000. Each
/// makes one value at most, so that this bounds the memory, too.
const MOST_STEPS: usize = 1 << 22;

/// A storage of numbers, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// `FloatStorage`.
    pub(super) kind: &'a str,
    /// Its key.
    pub(super) key: &'a str,
    /// Where the part begins, in numbers.
    offset: usize,
}

/// Numbers within a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor<'a> {
    /// The type of its numbers: `FloatStorage`, `float8_e5m2`.
    pub(super) kind: &'a str,
    /// Which storage.
    pub(super) key: &'a str,
    /// The first number.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Strides, in numbers.
    pub(super) strides: Vec<usize>,
}

/// The stack machine.
#[derive(Debug, Default)]
pub(super) struct Machine<'a> {
    stack: Vec<Value<'a>>,
    taps: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    steps: usize,
    pub(super) lists: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Outcome<Tensor<'a>>>,
}

/// The remaining bytes of a pickle.
struct Reader<'a>(&'a [u8]);

type Outcome<T> = Result<T, String>;

const TAKES_MORE: &str = "the pickle takes more than it holds";

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

    /// The bytes after a length of `n` bytes.
    fn counted(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let length = self.number(n)?;
        self.take(usize::try_from(length).map_err(|_| "the pickle holds an impossible length")?)
    }

    fn text(&mut self, n: usize) -> Outcome<Value<'a>> {
        let text = str::from_utf8(self.counted(n)?).map_err(|_| "the pickle holds text that is not UTF-8")?;
        Ok(Value::Text(text))
    }

    fn line(&mut self) -> Outcome<&'a str> {
        let end = self.0.iter().position(|&byte| byte == b'\n').ok_or("the pickle is truncated")?;
        let line = self.take(end + 1)?;
        str::from_utf8(&line[..end]).map_err(|_| "the pickle holds text that is not UTF-8".into())
    }
}

impl<'a> Machine<'a> {
    /// Runs one pickle and returns its value and its length in bytes. Lists, dictionaries and tensors remain in the
    /// machine.
    ///
    /// # Errors
    /// A sentence naming the problem.
    pub(super) fn run(&mut self, bytes: &'a [u8]) -> Outcome<(Value<'a>, usize)> {
        let mut reader = Reader(bytes);
        self.stack.clear();
        self.taps.clear();
        self.memo.clear();
        loop {
            self.spend(1)?;
            let [op] = *reader.take(1)? else { return Err("the pickle is truncated".into()) };
            if op == b'.' {
                return Ok((self.pop()?, bytes.len() - reader.0.len()));
            }
            self.step(op, &mut reader)?;
        }
    }

    /// Counts created values.
    fn spend(&mut self, count: usize) -> Outcome<()> {
        self.steps = self.steps.saturating_add(count);
        if self.steps > MOST_STEPS {
            return Err(format!(
                "its pickle has more than {MOST_STEPS} steps, and a checkpoint of numbers needs far fewer; save \
                 model.state_dict() alone"
            ));
        }
        Ok(())
    }

    fn pop(&mut self) -> Outcome<Value<'a>> {
        self.stack.pop().ok_or_else(|| TAKES_MORE.into())
    }

    fn top(&self) -> Outcome<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| TAKES_MORE.into())
    }

    /// The values above the last mark.
    fn since_mark(&mut self) -> Outcome<Vec<Value<'a>>> {
        let mark = self.taps.pop().filter(|&mark| mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("the pickle has a mark too few")?))
    }

    fn list(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.lists.push(items);
        Value::List(self.lists.len() - 1)
    }

    fn dict(&mut self, items: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.dicts.push(items);
        Value::Dict(self.dicts.len() - 1)
    }

    /// The items of a list; none for any other value.
    pub(super) fn items(&self, value: Value<'a>) -> &[Value<'a>] {
        if let Value::List(list) = value { &self.lists[list] } else { &[] }
    }

    /// Puts items into the list or, as keys and values, into the dictionary on top.
    fn put(&mut self, items: &[Value<'a>]) -> Outcome<()> {
        match self.top()? {
            Value::List(list) => self.lists[list].extend(items),
            Value::Dict(dict) => self.dicts[dict].extend(items.as_chunks().0.iter().map(|&[k, v]| (k, v))),
            _ => {}
        }
        Ok(())
    }

    fn step(&mut self, op: u8, r: &mut Reader<'a>) -> Outcome<()> {
        let value = match op {
            0x80 => return r.take(1).map(drop),
            0x95 => return r.take(8).map(drop),
            b'(' => {
                self.taps.push(self.stack.len());
                return Ok(());
            }
            b'0' => return self.pop().map(drop),
            b'1' => return self.since_mark().map(drop),
            b'2' => self.top()?,
            // None, True, False.
            b'N' | 0x88 | 0x89 => Value::Other,
            b'J' => Value::Int(i64::from(r.number(4)? as u32 as i32)),
            b'K' => Value::Int(r.number(1)? as i64),
            b'M' => Value::Int(r.number(2)? as i64),
            0x8a => integer(r.counted(1)?),
            0x8b => integer(r.counted(4)?),
            b'G' => {
                r.take(8)?;
                Value::Other
            }
            b'X' => r.text(4)?,
            0x8c => r.text(1)?,
            0x8d => r.text(8)?,
            // Python 2's text, the type of keys in old files.
            b'U' => str::from_utf8(r.counted(1)?).map_or(Value::Other, Value::Text),
            b'T' => str::from_utf8(r.counted(4)?).map_or(Value::Other, Value::Text),
            b'C' | b'B' | 0x8e | 0x96 => {
                r.counted(match op {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                Value::Other
            }
            // Empty tuple, list, set.
            b')' | b']' | 0x8f => self.list(Vec::new()),
            // Tuple, list, frozen set.
            b't' | b'l' | 0x91 => {
                let items = self.since_mark()?;
                self.list(items)
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(usize::from(op - 0x84)).ok_or(TAKES_MORE)?;
                let items = self.stack.split_off(from);
                self.list(items)
            }
            b'}' => self.dict(Vec::new()),
            b'd' => {
                let items = self.since_mark()?;
                let dict = self.dict(Vec::new());
                self.stack.push(dict);
                return self.put(&items);
            }
            b'a' => {
                let item = self.pop()?;
                return self.put(&[item]);
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                return self.put(&[key, value]);
            }
            b'e' | b'u' | 0x90 => {
                let items = self.since_mark()?;
                return self.put(&items);
            }
            b'q' | b'r' | 0x94 => {
                let at = match op {
                    b'q' => r.number(1)?,
                    b'r' => r.number(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = self.top()?;
                self.memo.insert(at, top);
                return Ok(());
            }
            b'h' | b'j' => {
                let at = r.number(if op == b'h' { 1 } else { 4 })?;
                *self.memo.get(&at).ok_or("the pickle recalls what it never kept")?
            }
            b'c' => {
                let (module, name) = (r.line()?, r.line()?);
                named(module, name)?
            }
            0x93 => {
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err("the pickle names something by no text".into());
                };
                named(module, name)?
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                self.made(function, arguments)?
            }
            0x92 => {
                let (named, arguments, function) = (self.pop()?, self.pop()?, self.pop()?);
                let all = self.list(vec![arguments, named]);
                self.made(function, all)?
            }
            // State of an object: its attributes. Attributes of a dictionary are no entries of it.
            b'b' => {
                let state = self.pop()?;
                return if let Value::List(_) = self.top()? { self.put(&[state]) } else { Ok(()) };
            }
            other => return Err(format!("it holds the opcode 0x{other:02x}, which no checkpoint needs")),
        };
        self.stack.push(value);
        Ok(())
    }

    /// The value that a known function gives for its arguments.
    fn made(&mut self, mut function: Value<'a>, mut arguments: Value<'a>) -> Outcome<Value<'a>> {
        // A function among the arguments creates a tensor of a class of its own; it must not be another function of
        // this kind.
        if function == Value::Function(Function::OfType)
            && let [inner, _, given, ..] = *self.items(arguments)
        {
            (function, arguments) = (inner, given);
        }
        let Value::Function(function) = function else { return Ok(self.list(vec![arguments])) };
        match (function, self.items(arguments).first().copied()) {
            (Function::Tensor, _) => Ok(self.tensor(arguments, None)),
            (Function::TypedTensor, _) => match self.items(arguments).get(6) {
                Some(&Value::Type(kind)) => Ok(self.tensor(arguments, Some(kind))),
                _ => Err("it holds a tensor whose type of numbers is not known".into()),
            },
            (Function::First, Some(first)) => Ok(first),
            // A copy shares the entries: neither is changed any more.
            (Function::Dict, Some(Value::Dict(dict))) => Ok(Value::Dict(dict)),
            // Python 2 gave the items as a list of pairs.
            (Function::Dict, Some(Value::List(pairs))) => {
                self.spend(self.lists[pairs].len())?;
                let pair = |pair: &Value<'a>| <[Value<'a>; 2]>::try_from(self.items(*pair)).ok();
                let pairs = self.lists[pairs].iter().filter_map(pair).map(|[key, value]| (key, value));
                let pairs = pairs.collect();
                Ok(self.dict(pairs))
            }
            (Function::Dict, _) => Ok(self.dict(Vec::new())),
            _ => Ok(self.list(vec![arguments])),
        }
    }

    /// A persistent id: `("storage", type, key, place, count)`, and before 1.6 perhaps `(key, offset, count)` of a part.
    fn storage(&mut self, id: Value<'a>) -> Outcome<Value<'a>> {
        let [Value::Text("storage"), Value::Type(kind), Value::Text(key), _, Value::Int(_), part @ ..] =
            self.items(id)
        else {
            return Err("it refers to something that is not a storage".into());
        };
        let offset = match part.first().map(|&part| self.items(part)) {
            Some(&[_, Value::Int(offset), _]) => {
                usize::try_from(offset).map_err(|_| "a storage begins at an impossible place")?
            }
            _ => 0,
        };
        let storage = Storage { kind, key, offset };
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() - 1))
    }

    /// `(storage, offset, shape, strides, ...)`; `kind` where it differs from the storage's. The tensor's name is not
    /// known here, so the reader of the tensor reports errors in it.
    fn tensor(&mut self, arguments: Value<'a>, kind: Option<&'a str>) -> Value<'a> {
        self.tensors.push(self.described(arguments, kind));
        Value::Tensor(self.tensors.len() - 1)
    }

    fn described(&self, arguments: Value<'a>, kind: Option<&'a str>) -> Outcome<Tensor<'a>> {
        let unclear = || "its description cannot be understood; the file is damaged".to_string();
        let &[Value::Storage(storage), Value::Int(offset), shape, strides, ..] = self.items(arguments) else {
            return Err(unclear());
        };
        let numbers = |value: Value<'a>| -> Option<Vec<i64>> {
            let Value::List(list) = value else { return None };
            let number = |item: &Value<'_>| if let Value::Int(n) = item { Some(*n) } else { None };
            self.lists[list].iter().take(MOST_AXES + 1).map(number).collect()
        };
        let (Some(shape), Some(strides)) = (numbers(shape), numbers(strides)) else { return Err(unclear()) };
        if shape.len() != strides.len() || shape.len() > MOST_AXES {
            return Err(format!(
                "it has {} extents and {} strides; as many of both are expected, and at most {MOST_AXES}",
                shape.len(),
                strides.len()
            ));
        }
        let sizes = |numbers: &[i64]| numbers.iter().map(|&n| usize::try_from(n).ok()).collect();
        let Storage { kind: stored, key, offset: begins } = self.storages[storage];
        let first = usize::try_from(offset).ok().and_then(|offset| offset.checked_add(begins));
        match (sizes(&shape), sizes(&strides), first) {
            (Some(shape), Some(strides), Some(offset)) => {
                Ok(Tensor { kind: kind.unwrap_or(stored), key, offset, shape, strides })
            }
            _ => Err(format!(
                "its shape {shape:?}, strides {strides:?} and offset {offset} are not all 0 or more; the file is damaged"
            )),
        }
    }
}

/// A whole number in two's complement; a number that does not fit is no size of a tensor.
fn integer<'a>(bytes: &[u8]) -> Value<'a> {
    let mut wide = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 8];
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    if bytes.len() <= 8 { Value::Int(i64::from_le_bytes(wide)) } else { Value::Other }
}

/// The value of a Python name.
fn named<'a>(module: &'a str, name: &'a str) -> Outcome<Value<'a>> {
    Ok(match known(module, name)? {
        Name::Function(function) => Value::Function(function),
        Name::Type(name) => Value::Type(name),
    })
}
