//! `--tensorboard`: what TensorBoard reads of a run folder.

use crate::command;
use crate::taught;

use std::collections::BTreeMap;
use std::fs;

use command::{FEATURES, Place};
use taught::{CPU, table, train};

/// CRC-32C of the definition, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The messages of an event file, whose frames must be sound.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(number(&bytes[8..12]), masked(&bytes[..8]));
        let message = &bytes[12..12 + length];
        assert_eq!(number(&bytes[12 + length..16 + length]), masked(message));
        found.push(message.to_vec());
        bytes = &bytes[16 + length..];
    }
    found
}

/// Fields of a protobuf message: number, and the bytes of what it holds (of a varint, its number).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

/// What lies under a number.
fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find(|(n, _)| *n == number).map(|(_, bytes)| bytes)
}

/// What TensorBoard would show of a run folder: numbers by tag and step, after what its files say is void.
fn board(place: &Place, run: &str) -> BTreeMap<String, BTreeMap<u64, f32>> {
    let mut shown: BTreeMap<String, BTreeMap<u64, f32>> = BTreeMap::new();
    for (name, bytes) in place.files(run).iter().filter(|(name, _)| name.starts_with("events.out.tfevents."))
    {
        let messages = messages(bytes);
        assert_eq!(field(&messages[0], 3).unwrap(), b"brain.Event:2", "{name}");
        for message in &messages[1..] {
            let time = f64::from_le_bytes(field(message, 1).unwrap().try_into().unwrap());
            assert!((1.7e9..5e9).contains(&time), "{time}");
            let step = u64::from_le_bytes(field(message, 2).unwrap().try_into().unwrap());
            if let Some(log) = field(message, 7) {
                assert_eq!(field(&log, 1).unwrap()[0], 1, "START");
                shown.values_mut().for_each(|points| points.retain(|before, _| *before < step));
            }
            for (_, value) in fields(&field(message, 5).unwrap_or_default()) {
                let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                let number = f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap());
                let before = shown.entry(tag).or_default().insert(step, number);
                assert!(before.is_none(), "step {step} twice");
            }
        }
    }
    shown
}

#[test]
fn tensorboard_reads_each_epoch_once() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    let place = Place::new();
    place.photos();
    place.weights();
    train(&place, &["--epochs", "2", "--out", "plain"]);
    assert!(board(&place, "plain").is_empty(), "nobody asked");
    train(&place, &["--epochs", "5", "--stop-after", "2", "--out", "run", "--tensorboard"]);
    let early = place.files("run");
    let resume = || place.ok(&[&["train", "--resume", "run"], &CPU[..]].concat());
    resume();
    // A run that died behind its last checkpoint goes through epochs again.
    for file in ["last.safetensors", "model.safetensors", "phase1.safetensors"] {
        fs::write(place.path("run").join(file), &early[file]).unwrap();
    }
    resume();
    let shown = board(&place, "run");
    let (head, rows) = table(&fs::read_to_string(place.path("run/metrics.csv")).unwrap());
    assert_eq!(rows.len(), 5);
    let names = [
        ("loss/train", "train_loss"),
        ("loss/val", "val_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/val", "val_accuracy"),
        ("learning_rate", "lr"),
    ];
    assert!(shown.keys().eq(BTreeMap::from(names).keys()), "{:?}", shown.keys());
    for (tag, column) in names {
        let column = head.iter().position(|name| name == column).unwrap();
        assert_eq!(shown[tag].len(), 5, "{tag}");
        for row in &rows {
            let (written, told): (f32, f32) =
                (row[column].parse().unwrap(), shown[tag][&row[0].parse().unwrap()]);
            assert!((written - told).abs() <= 1e-6, "{tag}: {written} {told}");
        }
    }
    place
        .run(&[&FEATURES[..], &["--tensorboard", "--dry-run"]].concat())
        .failed(2, &["--tensorboard", "--dry-run"]);
}
