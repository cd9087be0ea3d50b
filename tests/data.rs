//! The data floor: pictures against Pillow, transforms against torchvision (`tools/data_fixtures.py` wrote
//! what those say), folders as users leave them, batches on threads.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use defrost::data::resize::resize_window;
use defrost::data::transform::random_part;
use defrost::data::{
    Augment, Dataset, Loader, Manifest, OpenOptions, Part, Picture, Rect, Sample, Skipped, Source, Splits,
    View, batches, by_name, content_key, decode, epoch_order, eval, list_pictures, load, open, open_labelled,
    resize, train,
};
use defrost::models::preprocess::{Filter, Preprocess};
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
fn formula((width, height): (usize, usize)) -> Picture {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            rgb.extend(
                [0, 1, 2].map(|c| ((x * x * 3 + y * y * 5 + x * y * 7 * (c + 1) + c * 160) / 4) as u8),
            );
        }
    }
    Picture { width, height, rgb }
}

/// A picture of one colour, as PNG.
fn write_picture(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(6, 4, image::Rgb(colour))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

/// A folder with `count` pictures `0.png`.. for each of `classes`, all of different colours.
fn write_classes(root: &Path, classes: &[(&str, usize)]) {
    for (c, (class, count)) in classes.iter().enumerate() {
        fs::create_dir_all(root.join(class)).unwrap();
        for i in 0..*count {
            write_picture(&root.join(class).join(format!("{i}.png")), [c as u8, i as u8, (i >> 8) as u8]);
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

fn of_material(folder: &str) -> Option<PathBuf> {
    match std::env::var_os("DEFROST_MATERIAL") {
        Some(root) => Some(Path::new(&root).join("data").join(folder)),
        None => {
            println!("skipped: DEFROST_MATERIAL is not set");
            None
        }
    }
}

// ---------------------------------------------------------------------------------------------- pictures

#[test]
fn pictures_decode_as_in_pillow() {
    let mut wrong = Vec::new();
    for case in expected("pictures") {
        let file = case["file"].as_str().unwrap();
        let picture = load(&fixtures().join(file)).unwrap();
        assert_eq!((picture.width, picture.height), pair(&case["size"]), "{file}");
        assert_eq!(picture.rgb.len(), picture.width * picture.height * 3, "{file}");
        if let Some(sum) = case["sha256"].as_str() {
            if sha(&picture.rgb) != sum {
                wrong.push(format!("{file} differs"));
            }
            continue;
        }
        let hex = case["rgb"].as_str().unwrap();
        assert_eq!(hex.len(), picture.rgb.len() * 2, "{file}");
        let worst = (0..picture.rgb.len())
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap().abs_diff(picture.rgb[i]))
            .max()
            .unwrap();
        if usize::from(worst) > number(&case["tolerance"]) {
            wrong.push(format!("{file} is {worst} levels off"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_content_decides_not_the_extension() {
    let bytes = fs::read(fixtures().join("rgb.png")).unwrap();
    let picture = decode(&bytes, Path::new("called.jpg")).unwrap();
    assert_eq!(picture, load(&fixtures().join("rgb.png")).unwrap());
}

#[test]
fn what_is_no_picture_is_an_error_that_names_file_and_reason() {
    let file = Path::new("holiday/cat.jpg");
    let refused = |bytes: &[u8], reason: &str| {
        let error = decode(bytes, file).unwrap_err();
        assert!(matches!(error, Error::Data(_)));
        let text = error.to_string();
        assert!(text.starts_with("holiday/cat.jpg: ") && text.contains(reason), "{text}");
    };
    refused(b"", "empty");
    refused(b"Dear diary, today I saw a cat.", "not a picture");
    refused(b"GIF89a\x01\0\x01\0\0\0\0;", "GIF");
    refused(b"\xFF\xD8\xFF", "cut off");
    // A BMP and a PNM that claim to be larger than any memory.
    refused(b"P6\n60000 60000\n255\n", "60000 x 60000");
    refused(b"P5 0 7 255\n", "");
    let mut bomb = fs::read(fixtures().join("rgb.bmp")).unwrap();
    bomb[18..22].copy_from_slice(&50_000u32.to_le_bytes());
    bomb[22..26].copy_from_slice(&50_000u32.to_le_bytes());
    refused(&bomb, "50000 x 50000");

    let missing = load(Path::new("no/such/file.png")).unwrap_err();
    assert!(matches!(missing, Error::Io { .. }) && missing.to_string().starts_with("no/such/file.png: "));
}

/// Cut every fixture after every byte: an error each time, or, where the missing bytes hold no pixels, the
/// very same picture.
#[test]
fn a_file_that_is_cut_off_is_an_error() {
    let mut wrong = Vec::new();
    for case in expected("pictures") {
        let file = case["file"].as_str().unwrap();
        let bytes = fs::read(fixtures().join(file)).unwrap();
        let whole = decode(&bytes, Path::new(file)).unwrap();
        for length in 0..bytes.len() {
            if decode(&bytes[..length], Path::new(file)).is_ok_and(|picture| picture != whole) {
                wrong.push(format!("{file} cut to {length} of {} bytes gives another picture", bytes.len()));
            }
        }
        if file.ends_with(".jpg") {
            for length in 0..bytes.len() {
                let text = error_of(decode(&bytes[..length], Path::new(file)));
                assert!(text.starts_with(file), "{text}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Flipped bits may give another picture or an error; never a panic, never a wrong length.
#[test]
fn damaged_files_do_no_harm() {
    let mut stream = Stream::new(&[1]);
    for case in expected("pictures") {
        let file = case["file"].as_str().unwrap();
        let bytes = fs::read(fixtures().join(file)).unwrap();
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            for _ in 0..=stream.below(4) {
                let at = stream.below(damaged.len());
                damaged[at] = stream.next_u64() as u8;
            }
            match decode(&damaged, Path::new(file)) {
                Ok(picture) => assert_eq!(picture.rgb.len(), picture.width * picture.height * 3),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with(file), "{text}");
                    assert!(
                        !text.contains("the decoder failed"),
                        "a panic was caught in {file}: {damaged:02x?}"
                    );
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- resize

#[test]
fn resize_is_pillows_byte_for_byte() {
    for case in expected("resize") {
        let (width, height) = pair(&case["to"]);
        let ours = resize(&formula(pair(&case["from"])), width, height, filter(&case));
        assert_eq!((ours.width, ours.height, ours.rgb.len()), (width, height, width * height * 3));
        assert_eq!(sha(&ours.rgb), case["sha256"], "{case}");
    }
}

#[test]
fn a_part_resizes_as_if_it_were_cut_out_first() {
    for case in expected("part") {
        let (picture, to) = (formula(pair(&case["from"])), number(&case["to"]));
        let whole = Rect { x: 0, y: 0, width: to, height: to };
        let ours = resize_window(&picture, rect(&case["part"]), (to, to), whole, filter(&case));
        assert_eq!(sha(&ours.rgb), case["sha256"], "{case}");
    }
}

#[test]
fn a_window_is_what_a_crop_of_the_whole_would_be() {
    let picture = formula((90, 70));
    for size in [(45, 35), (120, 100), (90, 35), (45, 70), (90, 70)] {
        let whole = resize(&picture, size.0, size.1, Filter::Bicubic);
        let keep = Rect { x: 11, y: 5, width: 20, height: 29 };
        let source = Rect { x: 0, y: 0, width: 90, height: 70 };
        let window = resize_window(&picture, source, size, keep, Filter::Bicubic);
        let rows = whole.rgb.chunks_exact(size.0 * 3).skip(keep.y).take(keep.height);
        let cropped: Vec<u8> = rows.flat_map(|row| row[keep.x * 3..][..keep.width * 3].to_vec()).collect();
        assert!(window.rgb == cropped, "{size:?}");
    }
}

// ---------------------------------------------------------------------------------------------- transforms

#[test]
fn evaluation_sees_what_torchvision_sees() {
    for case in expected("eval") {
        let (resize, crop) = (number(&case["resize"]), number(&case["crop"]));
        let preprocess = Preprocess { resize, crop, filter: filter(&case), ..Preprocess::default() };
        let ours = eval(&formula(pair(&case["from"])), &preprocess);
        assert_eq!(ours.len(), crop * crop * 3);
        assert_eq!(sha(&ours), case["sha256"], "{case}");
    }
}

#[test]
fn training_falls_back_to_torchvisions_centre_crop() {
    for case in expected("fallback") {
        let (width, height) = pair(&case["from"]);
        let part = random_part(width, height, &Augment::default(), &mut Stream::new(&[3]));
        assert_eq!(part, rect(&case["part"]), "{case}");
    }
}

#[test]
fn training_parts_keep_to_scale_and_ratio() {
    let augment = Augment { scale: (0.2, 0.7), ratio: (0.5, 2.0), flip: 0.5 };
    let (width, height) = (640, 480);
    let (mut areas, mut wide, mut lefts) = (Vec::new(), 0, BTreeSet::new());
    for seed in 0..4000 {
        let part = random_part(width, height, &augment, &mut Stream::new(&[seed]));
        assert!(part.x + part.width <= width && part.y + part.height <= height);
        let (w, h) = (part.width as f64, part.height as f64);
        let share = w * h / (width * height) as f64;
        assert!((0.198..0.702).contains(&share) && (0.49..2.04).contains(&(w / h)), "{part:?}");
        areas.push(share);
        wide += usize::from(w > h);
        lefts.insert(part.x);
    }
    // Nearly uniform in area (parts that do not fit are drawn again, which favours smaller ones), and
    // log-uniform in ratio: about as many are wide as tall, leaning to wide as the picture is.
    let mean = areas.iter().sum::<f64>() / 4000.0;
    assert!((0.38..0.46).contains(&mean), "{mean}");
    assert!((2000..2600).contains(&wide), "{wide}");
    assert!(lefts.len() > 200 && lefts.contains(&0));
}

#[test]
fn training_is_a_part_resized_and_perhaps_mirrored() {
    let picture = formula((120, 90));
    let preprocess = Preprocess { resize: 40, crop: 32, ..Preprocess::default() };
    let whole = Rect { x: 0, y: 0, width: 32, height: 32 };
    let mut mirrored = 0;
    for seed in 0..400 {
        let mut stream = Stream::new(&[seed]);
        let part = random_part(120, 90, &Augment::default(), &mut stream);
        let flip = stream.unit() < 0.5;
        let mut want = resize_window(&picture, part, (32, 32), whole, Filter::Bilinear).rgb;
        if flip {
            mirrored += 1;
            for row in want.chunks_exact_mut(96) {
                let pixels: Vec<[u8; 3]> = row.chunks_exact(3).rev().map(|p| [p[0], p[1], p[2]]).collect();
                row.copy_from_slice(pixels.as_flattened());
            }
        }
        let ours = train(&picture, &preprocess, &Augment::default(), &mut Stream::new(&[seed]));
        assert!(ours == want, "seed {seed}");
    }
    assert!((150..250).contains(&mirrored), "{mirrored}");
}

#[test]
fn augmentation_out_of_range_is_refused() {
    let good = Augment::default();
    assert!(good.check().is_ok());
    for bad in [
        Augment { scale: (0.0, 1.0), ..good },
        Augment { scale: (0.5, 1.5), ..good },
        Augment { scale: (0.9, 0.5), ..good },
        Augment { ratio: (-1.0, 1.0), ..good },
        Augment { ratio: (1.0, f64::INFINITY), ..good },
        Augment { flip: 1.1, ..good },
        Augment { flip: f64::NAN, ..good },
    ] {
        assert!(matches!(bad.check(), Err(Error::Usage(_))), "{bad:?}");
    }
    assert_eq!(serde_json::from_str::<Augment>(r#"{"flip": 0.0}"#).unwrap(), Augment { flip: 0.0, ..good });
    assert!(serde_json::from_str::<Augment>(r#"{"flop": 0.0}"#).is_err());
}

// ---------------------------------------------------------------------------------------------- folders

#[test]
fn train_val_and_test_folders_are_used_as_they_are() {
    for val in ["val", "valid", "validation", "Val"] {
        let dir = TempDir::new().unwrap();
        write_classes(&dir.path().join("train"), &[("10", 3), ("2", 4), ("Z", 1), ("a", 2)]);
        write_classes(&dir.path().join(val), &[("2", 2), ("10", 1), ("a", 1)]);
        write_classes(&dir.path().join("test"), &[("a", 5)]);
        write_classes(dir.path(), &[("extra", 1)]);
        let Splits { train, val, test, manifest, warnings } =
            open(dir.path(), &OpenOptions::default()).unwrap();
        // Python's sorted(): by code point.
        assert_eq!(train.classes, ["10", "2", "Z", "a"]);
        assert_eq!(train.counts(), [3, 4, 1, 2]);
        assert_eq!((&val.classes, val.counts()), (&train.classes, vec![1, 2, 0, 1]));
        let test = test.unwrap();
        assert_eq!((&test.classes, test.counts()), (&train.classes, vec![0, 0, 0, 5]));
        assert_eq!(manifest, None);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().any(|w| w.contains("extra: not used")), "{warnings:?}");
        assert!(warnings.iter().any(|w| w.ends_with("no pictures of Z")), "{warnings:?}");
        assert!(warnings.iter().any(|w| w.ends_with("no pictures of 10, 2, Z")), "{warnings:?}");
        assert!(names(&train).is_sorted());
    }
}

#[test]
fn test_never_stands_in_for_a_missing_validation_set() {
    let dir = TempDir::new().unwrap();
    write_classes(&dir.path().join("train"), &[("a", 10), ("b", 10)]);
    write_classes(&dir.path().join("test"), &[("a", 3), ("b", 3)]);
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!((splits.train.len(), splits.val.len(), splits.test.unwrap().len()), (16, 4, 6));
    assert!(names(&splits.val).iter().all(|p| p.starts_with(dir.path().join("train"))));
    assert!(splits.manifest.unwrap().files.contains_key("train/a/0.png"));
}

#[test]
fn flat_folders_are_split_by_class_and_seed() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("cat", 50), ("dog", 21), ("eel", 2)]);
    let with =
        |seed, val_fraction| open(dir.path(), &OpenOptions { seed, val_fraction, manifest: None }).unwrap();
    let first = with(7, 0.2);
    assert_eq!(first.train.counts(), [40, 17, 1]);
    assert_eq!(first.val.counts(), [10, 4, 1]);
    assert!(first.test.is_none());
    let both: BTreeSet<PathBuf> = names(&first.train).into_iter().chain(names(&first.val)).collect();
    assert_eq!(both.len(), 73, "no picture is in both");

    let (again, other) = (with(7, 0.2), with(8, 0.2));
    assert_eq!((names(&first.train), names(&first.val)), (names(&again.train), names(&again.val)));
    assert_eq!(first.manifest, again.manifest);
    assert_ne!(names(&first.val), names(&other.val));
    assert_eq!(with(7, 0.5).val.counts(), [25, 11, 1]);
    assert_eq!(with(7, 0.999).train.counts(), [1, 1, 1]);

    // The place does not matter, nor do pictures that come later, but for the one they may displace.
    let elsewhere = TempDir::new().unwrap();
    write_classes(elsewhere.path(), &[("cat", 51), ("dog", 21), ("eel", 2)]);
    let moved = open(elsewhere.path(), &OpenOptions { seed: 7, ..OpenOptions::default() }).unwrap();
    let (old, new) = (first.manifest.unwrap().files, moved.manifest.unwrap().files);
    assert!(old.iter().filter(|(name, part)| new[*name] != **part).count() <= 1);

    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        let options = OpenOptions { val_fraction: fraction, ..OpenOptions::default() };
        assert!(matches!(open(dir.path(), &options), Err(Error::Usage(_))));
    }
}

#[test]
fn a_manifest_repeats_the_split() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("cat", 20), ("dog", 20)]);
    write_picture(&dir.path().join("dog/deep/er/x.png"), [1, 2, 3]);
    let first = open(dir.path(), &OpenOptions { seed: 5, ..OpenOptions::default() }).unwrap();
    let manifest = first.manifest.unwrap();
    assert_eq!(manifest.files.len(), 41);
    assert!(manifest.files.contains_key("dog/deep/er/x.png"));
    assert_eq!(manifest.files.values().filter(|&&p| p == Part::Val).count(), 8);

    let run = TempDir::new().unwrap();
    let file = run.path().join("split.json");
    manifest.write(&file).unwrap();
    assert_eq!(Manifest::read(&file).unwrap(), manifest);
    fs::write(run.path().join("broken.json"), "{").unwrap();
    assert!(error_of(Manifest::read(&run.path().join("broken.json"))).contains("not a split manifest"));

    // Other options do not matter, nor do new pictures; a lost one does.
    write_picture(&dir.path().join("cat/new.png"), [0, 0, 0]);
    let reuse = OpenOptions { seed: 99, val_fraction: 0.5, manifest: Some(manifest) };
    let second = open(dir.path(), &reuse).unwrap();
    assert_eq!((names(&first.train), names(&first.val)), (names(&second.train), names(&second.val)));
    assert_eq!(second.train.skipped.len(), 1);
    assert!(second.train.skipped[0].path.ends_with("cat/new.png"));
    fs::remove_file(dir.path().join("cat/3.png")).unwrap();
    let text = error_of(open(dir.path(), &reuse));
    assert!(text.contains("1 pictures") && text.contains("cat/3.png"), "{text}");
}

#[test]
fn what_is_not_a_picture_is_listed_or_left_alone() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("ants", 4), ("bees", 4)]);
    for name in ["a.JPG", "b.Jpeg", "c.PPM", "d.bmp", "e.pgm", "f.tif", "g.TIFF", "h.webp"] {
        fs::write(dir.path().join("ants").join(name), "x").unwrap();
    }
    fs::write(dir.path().join("ants/moving.gif"), "GIF89a").unwrap();
    fs::write(dir.path().join("bees/notes"), "buzz").unwrap();
    for hidden in [".DS_Store", "Thumbs.db", "._0.png"] {
        fs::write(dir.path().join("bees").join(hidden), "x").unwrap();
    }
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join("LICENSE"), "free").unwrap();
    write_picture(&dir.path().join("loose.png"), [0; 3]);
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(splits.train.classes, ["ants", "bees"]);
    assert_eq!(splits.train.len() + splits.val.len(), 16);
    let skipped: Vec<(String, &str)> = splits
        .train
        .skipped
        .iter()
        .map(|s| (s.path.file_name().unwrap().to_string_lossy().into_owned(), s.reason.as_str()))
        .collect();
    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert!(skipped.contains(&("loose.png".into(), "lies outside the class folders")));
    assert!(skipped.contains(&("moving.gif".into(), "not a picture format that is read (.gif)")));
    assert!(skipped.contains(&("notes".into(), "no picture's extension")));
}

#[test]
fn folders_that_cannot_teach_are_refused_with_the_way_out() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let at = |name: &str| root.join(name);

    assert_refused(&at("nowhere"), &["nowhere", "no such folder"]);
    fs::write(at("file"), "x").unwrap();
    assert_refused(&at("file"), &["a file", "give the folder"]);
    fs::create_dir(at("empty")).unwrap();
    assert_refused(&at("empty"), &["no class folders"]);
    write_picture(&at("loose").join("a.png"), [0; 3]);
    assert_refused(&at("loose"), &["no class folders", "the 1 pictures"]);
    write_classes(&at("hollow"), &[("a", 2), ("b", 0)]);
    assert_refused(&at("hollow"), &["hollow/b", "holds no picture"]);
    write_classes(&at("lonely"), &[("only", 3)]);
    assert_refused(&at("lonely"), &["single class", "'only'"]);
    write_classes(&at("few"), &[("a", 5), ("b", 1)]);
    assert_refused(&at("few"), &["'b'", "single picture", "b/0.png"]);

    write_classes(&at("stranger/train"), &[("cat", 2), ("dog", 2)]);
    write_classes(&at("stranger/val"), &[("cat", 2), ("dogs", 2)]);
    assert_refused(&at("stranger"), &["'dogs'", "did you mean 'dog'?"]);
    write_classes(&at("twice/train"), &[("a", 2), ("b", 2)]);
    write_classes(&at("twice/val"), &[("a", 1)]);
    write_classes(&at("twice/valid"), &[("a", 1)]);
    assert_refused(&at("twice"), &["both val/ and valid/"]);
    write_classes(&at("headless/val"), &[("a", 2), ("b", 2)]);
    assert_refused(&at("headless"), &["val/", "no train/"]);
    write_classes(&at("bare/train"), &[("a", 2), ("b", 2)]);
    write_classes(&at("bare/val"), &[("a", 0), ("b", 0)]);
    assert_refused(&at("bare"), &["bare/val", "no picture"]);

    // Classes may be called train and test.
    write_classes(&at("vehicles"), &[("car", 3), ("test", 3), ("train", 3)]);
    assert_eq!(
        open(&at("vehicles"), &OpenOptions::default()).unwrap().train.classes,
        ["car", "test", "train"]
    );

    // A folder that has since got its own validation set no longer fits the recorded split.
    write_classes(&at("grown/train"), &[("a", 5), ("b", 5)]);
    let manifest = open(&at("grown"), &OpenOptions::default()).unwrap().manifest;
    write_classes(&at("grown/val"), &[("a", 1), ("b", 1)]);
    let text = error_of(open(&at("grown"), &OpenOptions { manifest, ..OpenOptions::default() }));
    assert!(text.contains("now it has a validation folder"), "{text}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_end() {
    use std::os::unix::fs::symlink;
    let (dir, store) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    write_classes(dir.path(), &[("a", 3), ("b", 3)]);
    write_classes(store.path(), &[("c", 4)]);
    symlink(store.path().join("c"), dir.path().join("c")).unwrap();
    symlink(dir.path().join("a"), dir.path().join("a/self")).unwrap();
    symlink(dir.path(), dir.path().join("a/up")).unwrap();
    symlink(dir.path().join("b/0.png"), dir.path().join("b/same.png")).unwrap();
    symlink("nothing", dir.path().join("b/broken.png")).unwrap();
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    let counts: Vec<usize> =
        splits.train.counts().iter().zip(splits.val.counts()).map(|(t, v)| t + v).collect();
    assert_eq!(counts, [3, 4, 4]);
    let reasons: Vec<&str> = splits.train.skipped.iter().map(|s| s.reason.as_str()).collect();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons.contains(&"a link to nothing"));

    // A class that is a link back to the data set must not swallow the others.
    symlink(dir.path(), dir.path().join("d")).unwrap();
    assert_refused(dir.path(), &["/d", "holds no picture"]);
    assert_eq!(list_pictures(&[dir.path().to_path_buf()]).unwrap().len(), 11);
}

#[test]
fn evaluation_matches_classes_by_name() {
    let dir = TempDir::new().unwrap();
    let known: Vec<String> = ["ant", "bee", "cat"].map(String::from).to_vec();
    write_classes(dir.path(), &[("cat", 2), ("ant", 1)]);
    let dataset = open_labelled(dir.path(), &known, by_name(&known)).unwrap();
    assert_eq!((&dataset.classes, dataset.counts()), (&known, vec![1, 0, 2]));

    // Another table of names, such as wnids.
    let wnids = TempDir::new().unwrap();
    write_classes(wnids.path(), &[("n02", 3)]);
    let dataset = open_labelled(wnids.path(), &known, |n| (n == "n02").then_some(1)).unwrap();
    assert_eq!(dataset.counts(), [0, 3, 0]);

    // The validation set of a training folder, unless the folder itself holds classes.
    let nested = TempDir::new().unwrap();
    write_classes(&nested.path().join("val"), &[("bee", 4)]);
    write_classes(&nested.path().join("train"), &[("bee", 9)]);
    assert_eq!(open_labelled(nested.path(), &known, by_name(&known)).unwrap().counts(), [0, 4, 0]);

    write_classes(dir.path(), &[("beee", 1)]);
    let text = error_of(open_labelled(dir.path(), &known, by_name(&known)));
    assert!(text.contains("'beee'") && text.contains("did you mean 'bee'?"), "{text}");
    let out_of_range = open_labelled(wnids.path(), &known, |_| Some(3));
    assert!(matches!(out_of_range, Err(Error::Data(_))));
    let hollow = TempDir::new().unwrap();
    write_classes(hollow.path(), &[("ant", 0)]);
    assert!(error_of(open_labelled(hollow.path(), &known, by_name(&known))).contains("no picture"));
    assert!(
        error_of(open_labelled(Path::new("nowhere"), &known, by_name(&known))).contains("no such folder")
    );
}

#[test]
fn pictures_for_prediction_are_listed_in_order() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("b", 2), ("a", 1)]);
    let odd = dir.path().join("odd.name");
    fs::write(&odd, "taken as it is").unwrap();
    let found = list_pictures(&[odd.clone(), dir.path().to_path_buf()]).unwrap();
    let want: Vec<PathBuf> = ["a/0.png", "b/0.png", "b/1.png"].iter().map(|p| dir.path().join(p)).collect();
    assert_eq!(found[0], odd);
    assert_eq!(found[1..], want);
    assert!(matches!(list_pictures(&[dir.path().join("gone.png")]), Err(Error::Io { .. })));
    fs::create_dir(dir.path().join("none")).unwrap();
    assert!(error_of(list_pictures(&[dir.path().join("none")])).contains("holds no picture"));
}

#[test]
fn verify_moves_unreadable_pictures_aside() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("a", 10), ("b", 3)]);
    fs::write(dir.path().join("a/3.png"), "no picture at all").unwrap();
    let known = ["a".to_string(), "b".to_string()];
    let dataset = open_labelled(dir.path(), &known, by_name(&known)).unwrap();
    let calls = AtomicUsize::new(0);
    let verified = dataset
        .clone()
        .verify(|done, total| {
            assert!((1..=13).contains(&done) && total == 13);
            calls.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    assert_eq!(calls.into_inner(), 13);
    assert_eq!(verified.counts(), [9, 3]);
    assert!(names(&verified).is_sorted());
    let reason = "not a picture (JPEG, PNG, BMP, PNM, TIFF or WebP)".to_string();
    assert_eq!(verified.skipped, [Skipped { path: dir.path().join("a/3.png"), reason }]);

    for i in 0..3 {
        fs::write(dir.path().join(format!("b/{i}.png")), "").unwrap();
    }
    let text = error_of(dataset.verify(|_, _| ()));
    assert!(
        text.contains("class 'b'") && text.contains("none of its 3") && text.contains("is empty"),
        "{text}"
    );
}

#[test]
fn content_keys_follow_the_content() {
    let dir = TempDir::new().unwrap();
    let sample = |name: &str| Sample { source: Source::File(dir.path().join(name)), label: 0 };
    write_picture(&dir.path().join("a.png"), [1, 2, 3]);
    fs::copy(dir.path().join("a.png"), dir.path().join("b.png")).unwrap();
    write_picture(&dir.path().join("c.png"), [1, 2, 4]);
    let key = |name: &str| content_key(&sample(name)).unwrap();
    assert_eq!(key("a.png"), key("b.png"));
    assert_ne!(key("a.png"), key("c.png"));
    let (picture, both) = sample("a.png").picture_and_key().unwrap();
    assert_eq!((picture, both), (sample("a.png").picture().unwrap(), key("a.png")));
    assert!(matches!(content_key(&sample("gone.png")), Err(Error::Io { .. })));
}

// ---------------------------------------------------------------------------------------------- IDX

/// Writes `count` pictures of 3 x 2 pixels, the grey levels counting on, labelled 0, 1, 2, 0, ...
fn write_idx(folder: &Path, prefix: &str, count: u32, gz: bool) {
    let write = |name: String, bytes: Vec<u8>| {
        if gz {
            let file = fs::File::create(folder.join(name + ".gz")).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap();
        } else {
            fs::write(folder.join(name), bytes).unwrap();
        }
    };
    let head = |sizes: &[u32]| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        bytes
    };
    let mut images = head(&[count, 2, 3]);
    images.extend((0..count * 6).map(|i| i as u8));
    let mut labels = head(&[count]);
    labels.extend((0..count).map(|i| (i % 3) as u8));
    write(format!("{prefix}-images-idx3-ubyte"), images);
    write(format!("{prefix}-labels-idx1-ubyte"), labels);
}

#[test]
fn idx_files_give_train_val_and_test() {
    for gz in [false, true] {
        let dir = TempDir::new().unwrap();
        write_idx(dir.path(), "train", 30, gz);
        write_idx(dir.path(), "t10k", 9, !gz);
        let splits = open(dir.path(), &OpenOptions::default()).unwrap();
        assert_eq!(splits.train.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(splits.train.counts()[..4], [8, 8, 8, 0]);
        assert_eq!(splits.val.counts()[..4], [2, 2, 2, 0]);
        let test = splits.test.unwrap();
        assert_eq!(test.counts()[..4], [3, 3, 3, 0]);
        let second = &test.samples[1];
        assert_eq!(second.label, 1);
        assert_eq!(
            second.picture().unwrap(),
            Picture { width: 3, height: 2, rgb: (6..12).flat_map(|v| [v; 3]).collect() }
        );
        assert!(second.name().to_string_lossy().ends_with("#1"), "{:?}", second.name());
        assert_ne!(content_key(second).unwrap(), content_key(&test.samples[2]).unwrap());
        let again = OpenOptions { manifest: splits.manifest, ..OpenOptions::default() };
        assert_eq!(names(&open(dir.path(), &again).unwrap().val), names(&splits.val));

        let known = splits.train.classes;
        assert_eq!(open_labelled(dir.path(), &known, by_name(&known)).unwrap().len(), 9);
    }
}

#[test]
fn damaged_idx_files_are_refused() {
    let dir = TempDir::new().unwrap();
    let (images, labels) = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    write_idx(dir.path(), "t10k", 12, false);
    let good = fs::read(dir.path().join(images)).unwrap();
    let with = |bytes: &[u8], parts: &[&str]| {
        fs::write(dir.path().join(images), bytes).unwrap();
        assert_refused(dir.path(), parts);
    };
    with(b"", &[images, "too short"]);
    with(&good[..10], &["too short"]);
    with(&good[..good.len() - 1], &["announce 72 bytes", "holds 71"]);
    with(&[good.as_slice(), &[0]].concat(), &["announce 72 bytes", "holds more"]);
    with(&[b"\0\0\x0D\x03".as_slice(), &good[4..]].concat(), &["not an IDX file"]);
    with(&[&good[..4], [0xFF; 12].as_slice()].concat(), &["more than"]);
    with(
        &[&good[..4], [0, 0, 0, 11].as_slice(), &good[8..good.len() - 6]].concat(),
        &["11 pictures", "12 labels"],
    );
    with(b"\x1f\x8b\x08\0garbage", &[images]);
    fs::remove_file(dir.path().join(labels)).unwrap();
    with(&good, &[labels, "missing"]);
}

// ---------------------------------------------------------------------------------------------- loading

/// `count` pictures of different colours in one class of two.
fn colours(dir: &Path, count: usize) -> Arc<Dataset> {
    write_classes(dir, &[("a", count), ("b", 1)]);
    let known = ["a".to_string(), "b".to_string()];
    Arc::new(open_labelled(dir, &known, by_name(&known)).unwrap())
}

fn small() -> Preprocess {
    Preprocess { resize: 8, crop: 8, ..Preprocess::default() }
}

fn training(seed: u64, epoch: u64) -> View {
    View::Train { preprocess: small(), augment: Augment::default(), seed, epoch }
}

#[test]
fn the_loader_keeps_the_order() {
    let dir = TempDir::new().unwrap();
    let dataset = colours(dir.path(), 30);
    let order = epoch_order(dataset.len(), 1, 0);
    let wanted = batches(&order, 4, 1);
    let loader = Loader::new(Arc::clone(&dataset), wanted.clone(), View::Eval(small()), 2).unwrap();
    assert_eq!(loader.size_hint(), (8, Some(8)));
    let got: Vec<_> = loader.collect();
    assert_eq!(got.len(), wanted.len());
    for (batch, indices) in got.iter().zip(wanted) {
        assert_eq!(batch.indices, indices);
        assert!(batch.failed.is_empty());
        for ((index, label), pixels) in
            indices.iter().zip(&batch.labels).zip(batch.pixels.chunks_exact(8 * 8 * 3))
        {
            let sample = &dataset.samples[*index];
            assert_eq!(*label, sample.label);
            // A picture of one colour stays so through resize and crop.
            let colour = &sample.picture().unwrap().rgb[..3];
            assert!(pixels.chunks_exact(3).all(|pixel| pixel == colour));
        }
        assert_eq!(batch.pixels.len(), batch.indices.len() * 8 * 8 * 3);
    }
}

#[test]
fn augmentation_depends_on_seed_epoch_and_picture_alone() {
    let dir = TempDir::new().unwrap();
    for i in 0..12usize {
        let picture = formula((40 + i, 30));
        let path = dir.path().join(format!("a/{i}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &picture.rgb, 40 + i as u32, 30, image::ColorType::Rgb8).unwrap();
    }
    let known = ["a".to_string()];
    let dataset = Arc::new(open_labelled(dir.path(), &known, by_name(&known)).unwrap());
    let run = |order: &[usize], size, view: View, ahead| {
        let loader = Loader::new(Arc::clone(&dataset), batches(order, size, 1), view, ahead).unwrap();
        let mut all = vec![Vec::new(); 12];
        for batch in loader {
            for (&index, pixels) in batch.indices.iter().zip(batch.pixels.chunks_exact(192)) {
                all[index] = pixels.to_vec();
            }
        }
        all
    };
    let forward: Vec<usize> = (0..12).collect();
    let first = run(&forward, 4, training(7, 2), 1);
    let single = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let alone: Vec<Vec<u8>> =
        single.install(|| forward.iter().map(|&i| training(7, 2).picture(&dataset, i).unwrap()).collect());
    assert!(first == alone && first == run(&epoch_order(12, 3, 3), 5, training(7, 2), 3));
    let differs = |other: Vec<Vec<u8>>| first.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert_eq!(differs(run(&forward, 4, training(7, 3), 1)), 12);
    assert_eq!(differs(run(&forward, 4, training(8, 2), 1)), 12);

    // The same picture in two places is varied in two ways.
    let twin = Dataset { samples: vec![dataset.samples[0].clone(); 2], ..Dataset::default() };
    assert_ne!(training(7, 2).picture(&twin, 0).unwrap(), training(7, 2).picture(&twin, 1).unwrap());
}

#[test]
fn a_picture_that_fails_is_reported_and_the_rest_goes_on() {
    let dir = TempDir::new().unwrap();
    let dataset = colours(dir.path(), 5);
    fs::write(dir.path().join("a/1.png"), "gone bad").unwrap();
    fs::remove_file(dir.path().join("b/0.png")).unwrap();
    let loader = Loader::new(dataset, vec![vec![0, 1, 2], vec![5], vec![4]], View::Eval(small()), 1).unwrap();
    let got: Vec<_> = loader.collect();
    assert_eq!(got[0].indices, [0, 2]);
    assert_eq!((got[0].labels.len(), got[0].pixels.len()), (2, 2 * 192));
    assert_eq!(got[0].failed.len(), 1);
    assert_eq!(got[0].failed[0].path, dir.path().join("a/1.png"));
    assert!(got[0].failed[0].reason.starts_with("not a picture"), "{:?}", got[0].failed);
    assert!(got[1].labels.is_empty() && got[1].failed[0].reason.starts_with("cannot read"), "{:?}", got[1]);
    assert_eq!(got[2].indices, [4]);
}

#[test]
fn dropping_a_loader_early_ends_its_thread() {
    let dir = TempDir::new().unwrap();
    let dataset = colours(dir.path(), 40);
    let many = batches(&(0..40).cycle().take(400_000).collect::<Vec<_>>(), 8, 1);
    // Dropped at once the thread is decoding; dropped later it waits for room in the channel.
    for (taken, ahead, wait) in [(0, 1, 0), (1, 4, 0), (3, 2, 0), (0, 1, 200), (2, 1, 200)] {
        let mut loader = Loader::new(Arc::clone(&dataset), many.clone(), training(0, 0), ahead).unwrap();
        for _ in 0..taken {
            assert_eq!(loader.next().unwrap().indices.len(), 8);
        }
        std::thread::sleep(Duration::from_millis(wait));
        let (done, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(loader);
            done.send(()).unwrap();
        });
        ended.recv_timeout(Duration::from_secs(20)).expect("the drop does not return");
        // The thread held the other reference.
        assert_eq!(Arc::strong_count(&dataset), 1);
    }
}

#[test]
fn the_loader_refuses_what_it_cannot_load() {
    let dir = TempDir::new().unwrap();
    let dataset = colours(dir.path(), 2);
    let beyond = Loader::new(Arc::clone(&dataset), vec![vec![0, 3]], View::Eval(small()), 1);
    assert!(error_of(beyond).contains("picture 3 of a set of 3"));
    let augment = Augment { flip: 2.0, ..Augment::default() };
    let view = View::Train { preprocess: small(), augment, seed: 0, epoch: 0 };
    assert!(matches!(Loader::new(Arc::clone(&dataset), vec![], view, 1), Err(Error::Usage(_))));
    assert_eq!(Loader::new(dataset, vec![], View::Eval(small()), 0).unwrap().count(), 0);
}

#[test]
fn epochs_are_permutations() {
    let order = epoch_order(100, 4, 0);
    assert_eq!(order, epoch_order(100, 4, 0));
    assert_ne!(order, epoch_order(100, 4, 1));
    assert_ne!(order, epoch_order(100, 5, 0));
    assert_ne!(order, (0..100).collect::<Vec<_>>());
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 100);
    assert!(epoch_order(0, 4, 0).is_empty());
}

#[test]
fn no_picture_is_lost_to_a_short_last_batch() {
    let sizes = |n: usize, size, least| {
        let order: Vec<usize> = (0..n).rev().collect();
        let batches = batches(&order, size, least);
        assert_eq!(batches.concat(), order);
        batches.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(64, 32, 2), [32, 32]);
    assert_eq!(sizes(66, 32, 2), [32, 32, 2]);
    assert_eq!(sizes(65, 32, 2), [32, 17, 16]);
    assert_eq!(sizes(65, 32, 1), [32, 32, 1]);
    assert_eq!(sizes(33, 32, 20), [33]);
    assert_eq!(sizes(3, 2, 2), [3]);
    assert_eq!(sizes(5, 2, 2), [2, 3]);
    assert_eq!(sizes(1, 32, 2), [1]);
    assert_eq!(sizes(3, 1, 2), [1, 1, 1]);
    assert_eq!(sizes(3, 0, 0), [1, 1, 1]);
    assert_eq!(sizes(0, 32, 2), [0; 0]);
}

// ---------------------------------------------------------------------------------------------- material

#[test]
fn hymenoptera_is_read_whole_but_for_its_gif() {
    let Some(path) = of_material("hymenoptera") else { return };
    let Splits { train, val, test, manifest, .. } = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((train.len(), val.len(), test.is_none(), manifest.is_none()), (244, 153, true, true));
    assert_eq!(train.classes, ["ants", "bees"]);
    assert_eq!(train.skipped.len(), 1);
    assert!(train.skipped[0].path.extension().is_some_and(|e| e == "gif"));
    let verified = train.verify(|_, _| ()).unwrap();
    assert_eq!((verified.len(), verified.skipped.len()), (244, 1));
}

#[test]
fn clothing10_has_its_three_parts() {
    let Some(path) = of_material("clothing10") else { return };
    let splits = open(&path, &OpenOptions::default()).unwrap();
    let test = splits.test.unwrap();
    assert_eq!((splits.train.len(), splits.val.len(), test.len()), (600, 250, 293));
    assert_eq!(splits.train.classes.len(), 10);
    assert!(splits.train.classes.is_sorted() && splits.manifest.is_none());
}

#[test]
fn mnist_t10k_is_ten_thousand_digits() {
    let Some(path) = of_material("mnist_t10k") else { return };
    let splits = open(&path, &OpenOptions::default()).unwrap();
    assert_eq!((splits.train.len(), splits.val.len()), (8000, 2000));
    let known = splits.train.classes;
    let all = open_labelled(&path, &known, by_name(&known)).unwrap();
    // http://yann.lecun.com/exdb/mnist/: the first test digit is a seven.
    assert_eq!((all.len(), all.samples[0].label), (10_000, 7));
    assert_eq!(all.counts(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
}
