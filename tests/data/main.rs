//! The data floor: images against Pillow, transforms against torchvision (`tools/data_fixtures.py` wrote
//! what those say), folders as users leave them, batches on threads.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod copies;
mod folders;
mod forms;
mod groups;
mod images;
mod loading;
mod records;
mod splits;
mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::material;
use defrost::data::resize::resize_window;
use defrost::data::transform::random_part;
use defrost::data::{
    Augment, DataOptions, Dataset, Duplicates, GroupBy, Image, Loader, Manifest, OpenOptions, Part, Rect,
    Sample, Skipped, Source, Splits, Target, TargetKind, View, balanced_order, batches, by_name,
    class_weights, content_key, decode, difference_hash, duplicates, duplicates_with, epoch_order, eval,
    list_images, load, open, open_labelled, open_labelled_with, resize, train,
};
use defrost::models::preprocess::{Filter, Placement, Preprocess};
use defrost::rng::Stream;
use defrost::{Error, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

// ---------------------------------------------------------------------------------------------- helpers

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

fn expected(section: &str) -> Vec<Value> {
    let text = fs::read_to_string(fixtures().join("expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let cases = all[section].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn pair(value: &Value) -> (usize, usize) {
    (number(&value[0]), number(&value[1]))
}

fn rect(value: &Value) -> Rect {
    Rect { x: number(&value[0]), y: number(&value[1]), width: number(&value[2]), height: number(&value[3]) }
}

fn filter(value: &Value) -> Filter {
    serde_json::from_value(value["filter"].clone()).unwrap()
}

fn sha(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// `formula` of `tools/data_fixtures.py`.
fn formula((width, height): (usize, usize)) -> Image {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            rgb.extend(
                [0, 1, 2].map(|c| ((x * x * 3 + y * y * 5 + x * y * 7 * (c + 1) + c * 160) / 4) as u8),
            );
        }
    }
    Image { width, height, rgb }
}

/// An image of one colour, as PNG.
fn write_image(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(6, 4, image::Rgb(colour))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

/// A folder with `count` images `0.png`.. for each of `classes`, all of different colours.
fn write_classes(root: &Path, classes: &[(&str, usize)]) {
    for (c, (class, count)) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..*count {
            write_image(&root.join(class).join(format!("{i}.png")), [c as u8, i as u8, (i >> 8) as u8]);
        }
    }
}

fn error_of<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error.to_string(),
    }
}

/// The refusal of a folder, which must be about the data and contain all `parts`.
fn assert_refused(path: &Path, parts: &[&str]) {
    let error = open(path, &OpenOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Data(_)), "{error:?}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

fn names(dataset: &Dataset) -> Vec<PathBuf> {
    dataset.samples.iter().map(Sample::name).collect()
}

fn of_material(folder: &str) -> PathBuf {
    material().join("data").join(folder)
}

// ---------------------------------------------------------------------------------------------- material

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn hymenoptera_is_read_whole_but_for_its_gif() {
    let path = of_material("hymenoptera");
    let Splits { train, val, test, manifest, .. } = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((train.len(), val.len(), test.is_none(), manifest.is_none()), (244, 153, true, true));
    assert_eq!(train.classes, ["ants", "bees"]);
    assert_eq!(train.skipped.len(), 1);
    assert!(train.skipped[0].path.extension().is_some_and(|e| e == "gif"));
    let verified = train.verify(|_, _| ()).unwrap();
    assert_eq!((verified.len(), verified.skipped.len()), (244, 1));
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn clothing10_has_its_three_parts() {
    let path = of_material("clothing10");
    let splits = open(&path, &OpenOptions::default()).unwrap();
    let test = splits.test.unwrap();
    assert_eq!((splits.train.len(), splits.val.len(), test.len()), (600, 250, 293));
    assert_eq!(splits.train.classes.len(), 10);
    assert!(splits.train.classes.is_sorted() && splits.manifest.is_none());
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn mnist_t10k_is_ten_thousand_digits() {
    let path = of_material("mnist_t10k");
    let splits = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((splits.train.len(), splits.val.len()), (8000, 2000));
    let known = splits.train.classes;
    let all = open_labelled(&path, &known, by_name(&known)).unwrap();
    // http://yann.lecun.com/exdb/mnist/: the first test digit is a seven.
    assert_eq!((all.len(), all.samples[0].target.class()), (10_000, Some(7)));
    assert_eq!(all.counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
}
