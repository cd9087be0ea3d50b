//! A file of computed rows, each under a key: the cached features of one image.
//!
//! File layout: `DFRSTFT3`, numbers per row and bytes per number (u64 little-endian each), then records. A record is
//! a key (32 bytes), a row, and the CRC-32C of both (u32 little-endian). Records are only appended, so a killed run
//! loses at most the last one; of two records with the same key the later one counts. Rows are read from the file on
//! demand; the system's page cache uses spare memory for them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc::{CRC_32_ISCSI, Crc, Table};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::{Error, Result};

/// Magic bytes of the file; the last digit is the format's version.
const MAGIC: &[u8; 8] = b"DFRSTFT3";
const HEADER: u64 = 24;
const KEY: u64 = 32;
const CHECKSUM: u64 = 4;
const CASTAGNOLI: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
/// Above this many bytes, rows are stored in half precision.
const HALF_ABOVE: u64 = 4 << 30;

/// The key of a row.
pub(crate) type Key = [u8; 32];

/// Where a row is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Index of a record in the file.
    Record(u64),
    /// Index of a row in memory.
    Memory(usize),
}

/// Stored rows by key.
#[derive(Debug)]
pub(crate) struct FeatureStore {
    numbers: usize,
    half: bool,
    file: Option<Arc<File>>,
    path: Option<PathBuf>,
    records: u64,
    /// Whether the disk is full.
    full: bool,
    index: HashMap<Key, Place>,
    memory: Vec<f32>,
}

/// Rows of a complete store.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    store: Arc<FeatureStore>,
    places: Vec<Place>,
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, at) = (&mut bytes[n..], at + n as u64),
        }
    }
    Ok(())
}

impl FeatureStore {
    /// Opens a store for `expected` rows of `numbers` numbers each: in the file at `path`, with the rows it already
    /// holds, or else in a temporary file that is deleted with the process. Problems with the file are reported
    /// through `warn`.
    pub(crate) fn open(
        path: Option<&Path>,
        numbers: usize,
        expected: usize,
        warn: &mut dyn FnMut(String),
    ) -> FeatureStore {
        let half = (expected * numbers) as u64 * 4 > HALF_ABOVE;
        let mut store = FeatureStore {
            numbers,
            half,
            file: None,
            path: None,
            records: 0,
            full: false,
            index: HashMap::new(),
            memory: Vec::new(),
        };
        if let Some(path) = path {
            match store.attach(path, warn) {
                Ok(()) => return store,
                Err(e) => warn(format!("{e}; what is computed is not kept for the next run")),
            }
        }
        store.half = half;
        store.file =
            tempfile::tempfile().and_then(|mut file| store.begin(&mut file).map(|()| Arc::new(file))).ok();
        store
    }

    fn begin(&self, file: &mut File) -> std::io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(MAGIC)?;
        file.write_all(&(self.numbers as u64).to_le_bytes())?;
        file.write_all(&self.number_bytes().to_le_bytes())
    }

    fn attach(&mut self, path: &Path, warn: &mut dyn FnMut(String)) -> Result<()> {
        let failed = |what: &'static str| move |e| Error::io(path, what, e);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed("open"))?;
        if file.try_lock().is_err() {
            return Err(Error::Data(format!("{}: another process is filling it", path.display())));
        }
        let mut header = [0; HEADER as usize];
        let number = |at: usize, header: &[u8]| {
            header[at..at + 8].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b))
        };
        let known = read_at(&file, &mut header, 0).is_ok()
            && header[..8] == *MAGIC
            && number(8, &header) == self.numbers as u64
            && matches!(number(16, &header), 2 | 4);
        if known {
            self.half = number(16, &header) == 2;
            let length = file.metadata().map_err(failed("read"))?.len();
            self.records = (length - HEADER) / self.record();
            for record in 0..self.records {
                let mut key = Key::default();
                read_at(&file, &mut key, HEADER + record * self.record()).map_err(failed("read"))?;
                self.index.insert(key, Place::Record(record));
            }
            // Half a record at the end: a run was killed during the write.
            file.set_len(HEADER + self.records * self.record()).map_err(failed("write"))?;
        } else {
            if file.metadata().is_ok_and(|about| about.len() > 0) {
                warn(format!(
                    "{}: damaged, or of another version of Defrost; its features are computed again",
                    path.display()
                ));
            }
            self.begin(&mut file).map_err(failed("write"))?;
        }
        (self.file, self.path) = (Some(Arc::new(file)), Some(path.into()));
        Ok(())
    }

    fn number_bytes(&self) -> u64 {
        if self.half { 2 } else { 4 }
    }

    fn record(&self) -> u64 {
        KEY + self.numbers as u64 * self.number_bytes() + CHECKSUM
    }

    /// Whether the store holds no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Reads those of the `wanted` rows that the file holds, drops the damaged ones, and reports them through `warn`.
    pub(crate) fn check<'a>(&mut self, wanted: impl Iterator<Item = &'a Key>, warn: &mut dyn FnMut(String)) {
        let Some(file) = self.file.clone() else { return };
        let record_of = |key: &'a Key| match self.index.get(key) {
            Some(&Place::Record(record)) => Some((key, record)),
            _ => None,
        };
        let held: Vec<(&Key, u64)> = wanted.filter_map(record_of).collect();
        let (size, count) = (self.record() as usize, held.len());
        let whole = |buffer: &mut Vec<u8>, &(key, record): &(&Key, u64)| {
            buffer.resize(size, 0);
            let (body, sum) = buffer.split_at_mut(size - CHECKSUM as usize);
            let at = HEADER + record * size as u64;
            read_at(&file, body, at).is_ok()
                && read_at(&file, sum, at + body.len() as u64).is_ok()
                && body[..KEY as usize] == key[..]
                && CASTAGNOLI.checksum(body).to_le_bytes() == sum[..]
        };
        let check = |buffer: &mut Vec<u8>, held: (&'a Key, u64)| (!whole(buffer, &held)).then_some(held.0);
        let damaged: Vec<&Key> = held.into_par_iter().map_init(Vec::new, check).flatten().collect();
        if !damaged.is_empty() {
            let path = self.path.as_deref().unwrap_or(Path::new("cached features"));
            warn(format!(
                "{}: {} of {count} rows of features are damaged; they are computed again",
                path.display(),
                damaged.len()
            ));
        }
        for key in damaged {
            self.index.remove(key);
        }
    }

    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.index.contains_key(key)
    }

    pub(crate) fn place(&self, key: &Key) -> Option<Place> {
        self.index.get(key).copied()
    }

    /// Adds a row. Where the disk is full, the row stays in memory, and one warning goes to `warn`.
    pub(crate) fn add(&mut self, key: Key, row: &[f32], warn: &mut dyn FnMut(String)) {
        if self.contains(&key) {
            return;
        }
        if let Some(file) = self.file.clone().filter(|_| !self.full) {
            let mut bytes = key.to_vec();
            match self.half {
                true => {
                    let mut numbers = vec![f16::ZERO; row.len()];
                    numbers.convert_from_f32_slice(row);
                    bytes.extend_from_slice(bytemuck::cast_slice(&numbers));
                }
                false => bytes.extend_from_slice(bytemuck::cast_slice(row)),
            }
            bytes.extend_from_slice(&CASTAGNOLI.checksum(&bytes).to_le_bytes());
            let mut file = &*file;
            let at = SeekFrom::Start(HEADER + self.records * self.record());
            match file.seek(at).and_then(|_| file.write_all(&bytes)) {
                Ok(()) => {
                    self.index.insert(key, Place::Record(self.records));
                    self.records += 1;
                    return;
                }
                Err(e) => {
                    let path = self.path.clone().unwrap_or_else(std::env::temp_dir);
                    warn(format!("{}: cannot write: {e}; rows from here on stay in memory", path.display()));
                    self.full = true;
                }
            }
        }
        self.index.insert(key, Place::Memory(self.memory.len() / self.numbers.max(1)));
        // Rounded as a row read back from a file is, so that a full disk does not change results.
        let rounded = |x: &f32| if self.half { f16::from_f32(*x).to_f32() } else { *x };
        self.memory.extend(row.iter().map(rounded));
    }

    /// The rows at these places, ready to be read.
    pub(crate) fn rows(self: &Arc<Self>, places: Vec<Place>) -> Rows {
        Rows { store: self.clone(), places }
    }

    fn read(&self, place: Place, row: &mut Vec<f32>) -> Result<()> {
        match (place, &self.file) {
            (Place::Memory(i), _) => row.extend_from_slice(&self.memory[i * self.numbers..][..self.numbers]),
            (Place::Record(record), Some(file)) => {
                let at = HEADER + record * self.record() + KEY;
                let name = self.path.as_deref().unwrap_or(Path::new("kept rows"));
                let failed = |e| Error::io(name, "read", e);
                let from = row.len();
                row.resize(from + self.numbers, 0.0);
                if self.half {
                    let mut numbers = vec![f16::ZERO; self.numbers];
                    read_at(file, bytemuck::cast_slice_mut(&mut numbers), at).map_err(failed)?;
                    numbers.convert_to_f32_slice(&mut row[from..]);
                } else {
                    read_at(file, bytemuck::cast_slice_mut(&mut row[from..]), at).map_err(failed)?;
                }
            }
            (Place::Record(_), None) => return Err(Error::Data("a kept row is gone".into())),
        }
        Ok(())
    }
}

impl Rows {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Reads the rows with these indices, concatenated.
    pub(crate) fn read(&self, numbers: impl IntoIterator<Item = usize>) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        numbers.into_iter().try_for_each(|i| self.store.read(self.places[i], &mut rows))?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        [n; 32]
    }

    #[test]
    fn rows_are_found_again_and_a_torn_record_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.bin");
        let mut warnings = Vec::new();
        let mut warn = |text| warnings.push(text);
        let mut store = FeatureStore::open(Some(&path), 3, 2, &mut warn);
        store.add(key(1), &[1.0, 2.0, 3.0], &mut warn);
        store.add(key(2), &[4.0, 5.0, 6.0], &mut warn);
        drop(store);
        let length = std::fs::metadata(&path).expect("a file").len();
        File::options().write(true).open(&path).and_then(|f| f.set_len(length - 1)).expect("cut");
        let mut store = FeatureStore::open(Some(&path), 3, 2, &mut warn);
        assert!(store.contains(&key(1)) && !store.contains(&key(2)));
        store.add(key(3), &[7.0, 8.0, 9.0], &mut warn);
        let places = [3, 1].map(|n| store.place(&key(n)).expect("kept")).to_vec();
        let rows = Arc::new(store).rows(places);
        assert_eq!(rows.read([0, 1]).expect("rows"), [7.0, 8.0, 9.0, 1.0, 2.0, 3.0]);
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    /// Changes every byte of a record in turn: the damaged row is never used.
    #[test]
    fn a_damaged_record_is_forgotten_and_kept_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.bin");
        let mut store = FeatureStore::open(Some(&path), 3, 2, &mut |_| {});
        store.add(key(1), &[1.0, 2.0, 3.0], &mut |_| {});
        store.add(key(2), &[4.0, 5.0, 6.0], &mut |_| {});
        let record = store.record() as usize;
        drop(store);
        let good = std::fs::read(&path).expect("a file");
        for at in HEADER as usize..HEADER as usize + record {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&path, bytes).expect("a file");
            let mut warnings = Vec::new();
            let mut warn = |text| warnings.push(text);
            let mut store = FeatureStore::open(Some(&path), 3, 2, &mut warn);
            store.check([key(1), key(2)].iter(), &mut warn);
            assert!(!store.contains(&key(1)) && store.contains(&key(2)), "byte {at}");
            store.add(key(1), &[1.0, 2.0, 3.0], &mut warn);
            // A row with a damaged key is never looked up.
            let known = at < HEADER as usize + KEY as usize;
            assert!(known || warnings.iter().any(|text| text.contains("1 of 2 rows")), "{at}: {warnings:?}");
            drop(store);
            let mut store = FeatureStore::open(Some(&path), 3, 2, &mut |text| panic!("{text}"));
            store.check([key(1), key(2)].iter(), &mut |text| panic!("{text}"));
            let place = store.place(&key(1)).expect("kept anew");
            assert_eq!(Arc::new(store).rows(vec![place]).read([0]).expect("a row"), [1.0, 2.0, 3.0]);
        }
    }

    #[test]
    fn a_file_of_something_else_is_written_anew_and_a_folder_in_its_place_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.bin");
        std::fs::write(&path, b"something else altogether, and long enough").expect("a file");
        let mut warnings = Vec::new();
        let mut store = FeatureStore::open(Some(&path), 1, 1, &mut |text| warnings.push(text));
        store.add(key(1), &[1.5], &mut |_| {});
        assert_eq!(Arc::new(store).rows(vec![Place::Record(0)]).read([0]).expect("a row"), [1.5]);
        let mut store = FeatureStore::open(Some(folder.path()), 1, 1, &mut |text| warnings.push(text));
        store.add(key(1), &[2.5], &mut |_| {});
        assert_eq!(Arc::new(store).rows(vec![Place::Record(0)]).read([0]).expect("a row"), [2.5]);
        assert!(warnings.len() == 2 && warnings[0].contains("damaged"), "{warnings:?}");
        assert!(warnings[1].contains("not kept"), "{warnings:?}");
    }
}
