//! Metrics of a training for TensorBoard: an event file in the run folder.
//!
//! The file is a sequence of records (TFRecord): length, its checksum, message, its checksum. The messages are
//! TensorFlow's `Event` as protobuf, of which five fields are used (tensorflow/core/util/event.proto).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};

use crate::task::{MetricNames, Unit};
use crate::train::events::{EpochMetrics, Event, Observer};
use crate::{Error, Result};

const CASTAGNOLI: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Prefix of event file names.
const PREFIX: &str = "events.out.tfevents.";
/// Suffix of event file names.
const SUFFIX: &str = ".defrost";

/// Writes each epoch's metrics into an event file of the run folder, and passes every event on to another observer.
/// The step is the epoch. A resumed training begins another file, whose first record makes TensorBoard discard the
/// epochs that are repeated. Where the file cannot be written, the observer gets a warning, and the training
/// continues.
pub struct TensorBoard<'a> {
    inner: &'a mut dyn Observer,
    /// Set once the run has a folder.
    folder: PathBuf,
    /// The task's metric names, set once the task is known.
    metric: Option<MetricNames>,
    state: State,
}

enum State {
    /// Before the end of the first epoch.
    Waiting,
    Writing(PathBuf, File),
    Failed,
}

impl<'a> TensorBoard<'a> {
    /// Writes into the folder that the run reports.
    pub fn new(inner: &'a mut dyn Observer) -> Self {
        TensorBoard { inner, folder: PathBuf::new(), metric: None, state: State::Waiting }
    }

    /// Whether a run folder holds an event file.
    pub fn is_in(folder: &Path) -> bool {
        let named = |entry: &std::fs::DirEntry| is_event_file(&entry.file_name().to_string_lossy());
        std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().any(|entry| named(&entry)))
    }

    fn epoch(&mut self, m: &EpochMetrics) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if matches!(self.state, State::Waiting) {
            let (path, mut file) = create(&self.folder, now.as_secs())?;
            let begin =
                [message(now.as_secs_f64(), 0, 3, b"brain.Event:2"), begin(now.as_secs_f64(), m.epoch)];
            append(&path, &mut file, &begin)?;
            self.state = State::Writing(path, file);
        }
        let State::Writing(path, file) = &mut self.state else { return Ok(()) };
        let names = self.metric.unwrap_or(MetricNames::both("metric", Unit::Number));
        let tag = |name: &str, part: &str| format!("{}/{part}", name.replace(' ', "_"));
        let (train, val) = (tag(names.train, "train"), tag(names.val, "val"));
        let scalars = [
            ("loss/train", m.train_loss),
            ("loss/val", m.val_loss),
            (&train[..], m.train_accuracy),
            (&val[..], m.val_accuracy),
            ("learning_rate", m.lr),
        ];
        append(path, file, &[message(now.as_secs_f64(), m.epoch, 5, &summary(&scalars))])
    }
}

impl Observer for TensorBoard<'_> {
    fn event(&mut self, event: &Event) {
        self.inner.event(event);
        match event {
            Event::Folder(folder) => self.folder.clone_from(folder),
            Event::Data { task, .. } => self.metric = Some(task.metric()),
            Event::Epoch(metrics) => {
                if let Err(e) = self.epoch(metrics) {
                    self.state = State::Failed;
                    self.inner.event(&Event::Warning(format!("{e}; TensorBoard will not see this training")));
                }
            }
            _ => {}
        }
    }
}

/// Whether a file name is one of [`TensorBoard`]'s.
pub(crate) fn is_event_file(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Creates a new file. Its name sorts after all others in the folder: TensorBoard reads the files in that order.
fn create(folder: &Path, seconds: u64) -> Result<(PathBuf, File)> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, "read", e))?;
    let begun = entries.flatten().filter_map(|entry| {
        entry.file_name().to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok()
    });
    let seconds = begun.max().map_or(seconds, |last| seconds.max(last.saturating_add(1)));
    let path = folder.join(format!("{PREFIX}{seconds:010}{SUFFIX}"));
    let file = OpenOptions::new().append(true).create_new(true).open(&path);
    file.map(|file| (path.clone(), file)).map_err(|e| Error::io(&path, "create", e))
}

/// Writes messages in their frames in one write: a concurrent reader sees whole records.
fn append(path: &Path, file: &mut File, messages: &[Vec<u8>]) -> Result<()> {
    let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
    file.write_all(&bytes).map_err(|e| Error::io(path, "write", e))
}

/// `length: u64, masked CRC of it: u32, message, masked CRC of it: u32`, little-endian.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &masked(&length).to_le_bytes(), message, &masked(message).to_le_bytes()].concat()
}

/// CRC-32C, rotated by 15 bits plus a constant, so that a checksum over data with embedded checksums stays sound.
fn masked(bytes: &[u8]) -> u32 {
    CASTAGNOLI.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// `Event { wall_time = 1: double, step = 2: int64, field: what }`.
fn message(seconds: f64, step: usize, field: u8, what: &[u8]) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(seconds.to_le_bytes());
    out.push(2 << 3);
    varint(step as u64, &mut out);
    bytes(field, what, &mut out);
    out
}

/// `Event { session_log = 7: SessionLog { status = 1: START } }`: TensorBoard discards the steps from this one on
/// that other files hold.
fn begin(seconds: f64, step: usize) -> Vec<u8> {
    const START: u8 = 1;
    message(seconds, step, 7, &[1 << 3, START])
}

/// `Summary { value = 1: Value { tag = 1: string, simple_value = 2: float } }`.
fn summary(scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (tag, number) in scalars {
        let mut value = Vec::new();
        bytes(1, tag.as_bytes(), &mut value);
        value.push(2 << 3 | 5);
        value.extend((*number as f32).to_le_bytes());
        bytes(1, &value, &mut out);
    }
    out
}

/// A length-delimited field.
fn bytes(field: u8, what: &[u8], out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    varint(what.len() as u64, out);
    out.extend(what);
}

/// Seven bits per byte, the lowest first; the highest bit says that more follow.
fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_lengths_are_those_of_the_specifications() {
        // RFC 3720, B.4: 32 bytes of zeros, 32 bytes of ones.
        assert_eq!(CASTAGNOLI.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CASTAGNOLI.checksum(&[0xff; 32]), 0x62a8_ab43);
        let encoded = |number| {
            let mut out = Vec::new();
            varint(number, &mut out);
            out
        };
        // protobuf's own example, and the limits of one byte.
        assert_eq!([encoded(150), encoded(127), encoded(128)], [vec![0x96, 1], vec![0x7f], vec![0x80, 1]]);
        // TensorFlow's header of a message of 24 bytes, the first in every event file.
        assert_eq!(framed(&[0; 24])[..12], [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22]);
    }
}
