//! Varied images: every change against torchvision (`tools/augment_fixtures.py` wrote what it says), on the CPU and
//! on the GPU; what is drawn; the command.
#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;

use defrost::data::Affine;
use defrost::data::augment::Colour;
use defrost::data::{
    self, Augment, Batch, Dataset, Image, Loader, OpenOptions, Preset, View, draws, equalize, load, mix,
};
use defrost::models::preprocess::Preprocess;
use defrost::models::{self, InputKind, Network, Recording};
use defrost::nn::{Freeze, Mode};
use defrost::ops::{AugmentInput, Draws, ImageInput};
use defrost::plan::{Device, Request};
use defrost::rng::Stream;
use defrost::tape::{Tape, Type};
use serde_json::Value;

use command::Place;
use common::{gpu, run_once};

const SIDE: usize = 9;

// ---------------------------------------------------------------------------------------------- the op

/// `formula` of `tools/augment_fixtures.py`.
fn formula(n: usize) -> Vec<u8> {
    let pixel = move |i: usize| {
        let (y, x, c) = (i / (SIDE * 3), i / 3 % SIDE, i % 3);
        ((x * x * 3 + y * y * 5 + x * y * 7 * (c + 1) + c * 160 + n * 77) / 4 % 256) as u8
    };
    (0..SIDE * SIDE * 3).map(pixel).collect()
}

/// A larger one, dark, of 32 pixels a side: equalizing changes nothing where there are fewer pixels than levels.
fn dark() -> Vec<u8> {
    let pixel = |i: usize| {
        let (y, x, c) = (i / 96, i / 3 % 32, i % 3);
        ((x * x * 3 + y * y * 5 + x * y * (c + 1)) / 23 % (90 + 40 * c)) as u8
    };
    (0..32 * 96).map(pixel).collect()
}

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/augment.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn any_network() -> Network {
    models::blank("resnet20", 2).unwrap()
}

/// The op on images of `size` in a batch, on one device.
fn run(device: &Device, op: AugmentInput, images: &[u8], size: [usize; 2], rows: &[Draws]) -> Vec<f32> {
    let mut tape = Tape::new();
    let image = tape.input("image", Type::u8(&[rows.len(), size[0], size[1], 3]));
    let given = tape.input("augment", Type::f32(&[rows.len(), Draws::LEN]));
    let y = tape.apply(op, &[image, given]).unwrap();
    let request = Request::inference(tape, &[("y", y)]);
    let inputs = [("image", images), ("augment", bytemuck::cast_slice(rows))];
    run_once(device, &any_network(), request, &inputs).remove(0)
}

/// The op on images of the fixture's size, not normalised; CPU and GPU must agree.
fn varied(images: &[u8], rows: &[Draws]) -> Vec<f32> {
    let op = AugmentInput { scale: [1.0; 3], shift: [0.0; 3], size: [SIDE; 2] };
    let [cpu, gpu] = [Device::Cpu, Device::Gpu(gpu())].map(|d| run(&d, op, images, [SIDE; 2], rows));
    close(&cpu, &gpu, 2e-3, "the CPU and the GPU");
    cpu
}

fn close(found: &[f32], expected: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= bound, "{what}: [{i}] is {a}, expected {b}");
    }
}

fn placed(affine: Affine) -> Draws {
    let mut row = Draws { reflect: 0.0, ..Draws::IDENTITY };
    affine.enter(&mut row);
    row
}

fn coloured(colour: Colour) -> Draws {
    let mut row = Draws::IDENTITY;
    colour.enter(&mut row);
    row
}

/// The mean grey of an image.
fn grey(image: &[u8]) -> f64 {
    let sum: f64 =
        image.iter().zip([0.299, 0.587, 0.114].iter().cycle()).map(|(&v, w)| f64::from(v) * w).sum();
    sum / (image.len() / 3) as f64
}

#[test]
fn every_change_is_torchvisions() {
    let image = formula(0);
    let side = SIDE as f64;
    let fixture = fixture();
    let cases = fixture["cases"].as_object().unwrap();
    assert!(cases.len() > 20);
    for (name, expected) in cases {
        if name == "equalize" {
            let mut image = dark();
            equalize(&mut image);
            assert_eq!(image.iter().map(|&v| f32::from(v)).collect::<Vec<_>>(), numbers(expected), "{name}");
            continue;
        }
        let (change, argument) = name.rsplit_once(' ').unwrap_or((name, "0"));
        let x: f64 = argument.parse().unwrap_or_default();
        let row = match change {
            "rotate" => placed(Affine::rotation([side; 2], x)),
            "rotate mirrored" => Draws { reflect: 1.0, ..placed(Affine::rotation([side; 2], x)) },
            "hflip" => placed(Affine::about_centre([side; 2], [[-1.0, 0.0], [0.0, 1.0]])),
            "vflip" => placed(Affine::about_centre([side; 2], [[1.0, 0.0], [0.0, -1.0]])),
            "brightness" => coloured(Colour::brightness(x)),
            "contrast" => coloured(Colour::contrast(x, grey(&image))),
            "saturation" => coloured(Colour::saturation(x)),
            "hue" => Draws { hue: x as f32, ..Draws::IDENTITY },
            "hue and grey" => Draws { hue: x as f32, grey: 1.0, ..Draws::IDENTITY },
            "blur" => Draws { sigma: x as f32, ..Draws::IDENTITY },
            "sharpness" => Draws { sharpness: x as f32 - 1.0, ..Draws::IDENTITY },
            "solarize" => Draws { threshold: x as f32, ..Draws::IDENTITY },
            "posterize" => Draws { step: 2f32.powf(8.0 - x as f32), ..Draws::IDENTITY },
            "autocontrast" => trivial(&image, autocontrasted),
            _ => panic!("{name} is not known"),
        };
        // Two decimals, and torchvision's 0.2989 for 0.299.
        let bound = match change {
            "contrast" | "saturation" | "hue and grey" => 0.05,
            _ => 0.02,
        };
        close(&varied(&image, &[row]), &numbers(expected), bound, name);
    }
}

/// What TrivialAugment draws for an image, the first that is wanted.
fn trivial(image: &[u8], wanted: impl Fn(&Draws) -> bool) -> Draws {
    let augment = Augment::default().with(|c| {
        c.trivial = true;
        c.flip = 0.0;
    });
    (0..4000).map(|index| draws(&augment, 1, 0, index, &mut image.to_vec(), [SIDE; 2])).find(wanted).unwrap()
}

/// Whether each channel is stretched by itself.
fn autocontrasted(row: &Draws) -> bool {
    row.red[1] == 0.0 && (row.red[0], row.red[3]) != (row.blue[2], row.blue[3])
}

#[test]
fn erasing_and_mixing_are_torchvisions() {
    let images: Vec<u8> = (0..3).flat_map(formula).collect();
    let fixture = fixture();
    let row = Draws { erase: [3.0, 1.0, 8.0, 8.0], ..Draws::IDENTITY };
    close(&varied(&formula(0), &[row]), &numbers(&fixture["erase 3 1 8 8"]), 0.01, "erase");
    for (name, rect, own) in
        [("mixup 0.3", [0.0, 0.0, 9.0, 9.0], 0.3), ("cutmix 4 2 7 9", [4.0, 2.0, 7.0, 9.0], 0.0)]
    {
        let mixed = data::Mix { partner: vec![2, 0, 1], lambda: own, rect, own };
        let mut rows = [Draws::IDENTITY; 3];
        mixed.apply(&mut rows);
        let expected: Vec<f32> = fixture[name].as_array().unwrap().iter().flat_map(numbers).collect();
        close(&varied(&images, &rows), &expected, 0.01, name);
    }
}

/// The partner is varied by its own draws, and is not mixed itself.
#[test]
fn a_partner_looks_as_it_does_in_its_own_row() {
    let images: Vec<u8> = (0..3).flat_map(formula).collect();
    let all = Augment::default().with(|c| {
        c.trivial = true;
        c.vertical_flip = 0.5;
        c.rotate = 30.0;
        c.hue = 0.2;
        c.erase = 1.0;
    });
    let mut rows: Vec<Draws> = (0..3).map(|n| draws(&all, 7, 0, n, &mut formula(n), [SIDE; 2])).collect();
    rows[2].sigma = 0.8;
    let alone = varied(&images, &rows);
    let mixed = mix(&all.with(|c| c.mixup = 1.0), 3, 0, 0, 3, [SIDE; 2]).unwrap();
    mixed.apply(&mut rows);
    let len = SIDE * SIDE * 3;
    let expected: Vec<f32> = (0..3 * len)
        .map(|i| alone[i] * mixed.own + alone[mixed.partner[i / len] * len + i % len] * (1.0 - mixed.own))
        .collect();
    close(&varied(&images, &rows), &expected, 1e-3, "mixed");
}

#[test]
fn the_identity_only_normalises() {
    let images: Vec<u8> = (0..3).flat_map(formula).collect();
    let ImageInput { scale, shift } = ImageInput::normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let op = AugmentInput { scale, shift, size: [SIDE; 2] };
    for device in [Device::Cpu, Device::Gpu(gpu())] {
        let mut tape = Tape::new();
        let image = tape.input("image", Type::u8(&[3, SIDE, SIDE, 3]));
        let y = tape.apply(ImageInput { scale, shift }, &[image]).unwrap();
        let request = Request::inference(tape, &[("y", y)]);
        let plain = run_once(&device, &any_network(), request, &[("image", &images)]).remove(0);
        let found = run(&device, op, &images, [SIDE; 2], &[Draws::IDENTITY; 3]);
        close(&found, &plain, 1e-6, &device.describe());
        // Rows that fill a batch up hold zeros, and must not become NaN.
        let zeros = run(&device, op, &images, [SIDE; 2], &[bytemuck::Zeroable::zeroed(); 3]);
        assert!(zeros.iter().all(|v| v.is_finite()));
    }
}

/// A part of a larger image, enlarged twice: the matrix alone does what a crop and a resize do.
#[test]
fn a_matrix_crops_and_resizes() {
    let image = formula(0);
    let op = AugmentInput { scale: [1.0; 3], shift: [0.0; 3], size: [8, 6] };
    let row = placed(Affine([[0.5, 0.0, 3.0], [0.0, 0.5, 2.0]]));
    let at = |x: i64, y: i64, c: usize| f32::from(image[((y * SIDE as i64 + x) * 3) as usize + c]);
    let expected: Vec<f32> = (0..8 * 6 * 3)
        .map(|i| {
            let (row, column, c) = (i / 18, i / 3 % 6, i % 3);
            // Every output pixel lies a quarter of a pixel beside one of the source.
            let taps = |o: usize, from: i64| {
                let near = o as i64 / 2 + from;
                (near, if o.is_multiple_of(2) { near - 1 } else { near + 1 })
            };
            let ((x, x2), (y, y2)) = (taps(column, 3), taps(row, 2));
            0.5625 * at(x, y, c) + 0.1875 * (at(x2, y, c) + at(x, y2, c)) + 0.0625 * at(x2, y2, c)
        })
        .collect();
    for device in [Device::Cpu, Device::Gpu(gpu())] {
        close(&run(&device, op, &image, [SIDE; 2], &[row]), &expected, 1e-3, &device.describe());
    }
}

#[test]
fn a_network_takes_draws() {
    let mut net = any_network();
    models::rule_fill(&mut net);
    net.freeze(Freeze::all()).unwrap();
    let side = net.preprocess().size[0];
    let images: Vec<u8> = (0..2 * side * side * 3).map(|i| (i * 7 % 251) as u8).collect();
    let rows = [Draws::IDENTITY; 2];
    let logits = |input: InputKind, inputs: &[(&str, &[u8])]| {
        let mut tape = Tape::new();
        let recording = Recording::new(Mode::Eval, 2).with(|c| c.input = input);
        let recorded = net.record(&mut tape, recording).unwrap();
        run_once(&Device::Cpu, &net, Request::inference(tape, &[("logits", recorded.logits)]), inputs)
            .remove(0)
    };
    let plain = logits(InputKind::Bytes, &[("image", &images)]);
    let inputs = [("image", &images[..]), ("augment", bytemuck::cast_slice(&rows))];
    close(&logits(InputKind::Augmented, &inputs), &plain, 1e-4, "logits");
}

// ---------------------------------------------------------------------------------------------- what is drawn

fn everything() -> Augment {
    Preset::Strong.augment().with(|c| {
        c.vertical_flip = 0.3;
        c.mixup = 0.2;
        c.cutmix = 1.0;
    })
}

#[test]
fn draws_depend_on_seed_epoch_and_image_alone() {
    let image = formula(0);
    let of = |seed, epoch, index| draws(&everything(), seed, epoch, index, &mut image.clone(), [SIDE; 2]);
    assert_eq!(of(1, 2, 3), of(1, 2, 3));
    for other in [of(2, 2, 3), of(1, 3, 3), of(1, 2, 4)] {
        assert_ne!(of(1, 2, 3), other);
    }
    let none = draws(&Augment::default().with(|c| c.flip = 0.0), 1, 2, 3, &mut image.clone(), [SIDE; 2]);
    assert_eq!(none, Draws::IDENTITY);
}

#[test]
fn draws_keep_to_their_ranges() {
    let (image, side) = (formula(0), 32);
    let augment = Augment::default().with(|c| {
        c.flip = 0.5;
        c.brightness = 0.4;
        c.hue = 0.1;
        c.grey = 0.25;
        c.blur = 0.4;
        c.erase = 0.5;
    });
    let rows: Vec<Draws> =
        (0..4000).map(|index| draws(&augment, 5, 0, index, &mut image.clone(), [side; 2])).collect();
    let share =
        |wanted: &dyn Fn(&Draws) -> bool| rows.iter().filter(|row| wanted(row)).count() as f64 / 4000.0;
    for (name, wanted, found) in [
        ("flip", 0.5, share(&|row| row.source_x[0] < 0.0)),
        ("grey", 0.25, share(&|row| row.grey == 1.0)),
        ("blur", 0.4, share(&|row| row.sigma > 0.0)),
        ("erase", 0.5, share(&|row| row.erase != [0.0; 4])),
    ] {
        assert!((found - wanted).abs() < 0.04, "{name}: {found}");
    }
    let factors: Vec<f32> = rows.iter().map(|row| row.red[0]).collect();
    assert!(factors.iter().all(|factor| (0.6..=1.4).contains(factor)));
    assert!(factors.iter().any(|&f| f < 0.65) && factors.iter().any(|&f| f > 1.35));
    let hues: Vec<f32> = rows.iter().map(|row| row.hue).collect();
    assert!(hues.iter().all(|hue| hue.abs() <= 0.1));
    assert!(hues.iter().any(|&hue| hue < -0.09) && hues.iter().any(|&hue| hue > 0.09));
    for row in &rows {
        assert!(row.sigma == 0.0 || (0.1..=2.0).contains(&row.sigma), "{}", row.sigma);
        let [left, top, right, bottom] = row.erase;
        assert!(0.0 <= left && left <= right && right <= side as f32, "{:?}", row.erase);
        assert!(0.0 <= top && top <= bottom && bottom <= side as f32, "{:?}", row.erase);
        let area = (right - left) * (bottom - top) / (side * side) as f32;
        assert!(area == 0.0 || (0.01..0.36).contains(&area), "{area}");
    }
    let turned = Augment::default().with(|c| {
        c.flip = 0.0;
        c.rotate = 20.0;
    });
    let degrees = |index| {
        let row = draws(&turned, 5, 0, index, &mut image.clone(), [side; 2]);
        f64::from(row.source_y[0]).atan2(row.source_x[0].into()).to_degrees()
    };
    let degrees: Vec<f64> = (0..2000).map(degrees).collect();
    assert!(degrees.iter().all(|d| d.abs() <= 20.0) && degrees.iter().any(|&d| d < -19.0));
    assert!(degrees.iter().sum::<f64>().abs() / 2000.0 < 1.0);
}

#[test]
fn contrast_turns_about_the_mean_grey() {
    let image = formula(0);
    let augment = Augment::default().with(|c| {
        c.brightness = 0.2;
        c.contrast = 0.9;
        c.flip = 0.0;
    });
    for index in 0..20 {
        let row = draws(&augment, 0, 0, index, &mut image.clone(), [SIDE; 2]);
        let mean = |c: usize| image.iter().skip(c).step_by(3).map(|&v| f64::from(v)).sum::<f64>() / 81.0;
        let colour = Colour([row.red, row.green, row.blue].map(|row| row.map(f64::from)));
        // Where the mean grey is, contrast does nothing: what is left is brightness, between 0.8 and 1.2.
        let brightness = colour.grey_of([mean(0), mean(1), mean(2)]) / grey(&image);
        assert!((0.8..=1.2).contains(&brightness), "{brightness}");
    }
}

#[test]
fn trivial_draws_one_operation_out_of_fourteen() {
    let image = dark();
    let augment = Augment::default().with(|c| {
        c.trivial = true;
        c.flip = 0.0;
    });
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    let mut steps = BTreeSet::new();
    for index in 0..6000 {
        let mut seen = image.clone();
        let row = draws(&augment, 0, 0, index, &mut seen, [224; 2]);
        let same = Draws::IDENTITY;
        let (x, y) = (row.source_x, row.source_y);
        let place = (x, y) != (same.source_x, same.source_y);
        let colour = (row.red, row.green, row.blue) != (same.red, same.green, same.blue);
        let others = [row.step != 1.0, row.threshold <= 255.0, row.sharpness != 0.0];
        let changes = others.iter().filter(|&&on| on).count() + usize::from(place) + usize::from(colour);
        let changes = changes + usize::from(seen != image);
        assert!(changes <= 1 && row.sigma == 0.0 && row.erase == [0.0; 4], "{row:?}");
        steps.insert(row.step as u32);
        let kind = match (place, colour, others) {
            (true, ..) if x[1] != 0.0 && y[0] != 0.0 => "rotate",
            (true, ..) if x[1] != 0.0 => "shear x",
            (true, ..) if y[0] != 0.0 => "shear y",
            (true, ..) if x[2] != 0.0 => "translate x",
            (true, ..) => "translate y",
            (_, true, _) if row.red[1] != 0.0 => "saturation",
            (_, true, _) if autocontrasted(&row) => "autocontrast",
            (_, true, _) if row.red[3] == 0.0 => "brightness",
            (_, true, _) => "contrast",
            (.., [true, ..]) => "posterize",
            (.., [_, true, _]) => "solarize",
            (.., [.., true]) => "sharpness",
            _ if seen != image => "equalize",
            _ => "nothing",
        };
        *kinds.entry(kind).or_default() += 1;
        let translated = if kind.starts_with("translate") { x[2].abs().max(y[2].abs()) } else { 0.0 };
        assert!(translated <= 32.0 && row.sharpness.abs() <= 0.99);
    }
    assert_eq!(kinds.len(), 14, "{kinds:?}");
    // Weak ones of some change nothing.
    assert!(kinds.values().all(|&count| count > 300), "{kinds:?}");
    assert_eq!(Vec::from_iter(steps), [1, 2, 4, 8, 16, 32, 64]);
}

#[test]
fn batches_are_mixed_as_in_torchvision_and_timm() {
    let side = 64;
    let both = Augment::default().with(|c| {
        c.mixup = 0.2;
        c.cutmix = 1.0;
    });
    assert_eq!(mix(&both, 1, 2, 3, 8, [side; 2]), mix(&both, 1, 2, 3, 8, [side; 2]));
    assert_ne!(mix(&both, 1, 2, 3, 8, [side; 2]), mix(&both, 1, 2, 4, 8, [side; 2]));
    assert_eq!(mix(&both, 1, 2, 3, 1, [side; 2]), None);
    assert_eq!(mix(&Preset::Strong.augment(), 1, 2, 3, 8, [side; 2]), None);
    let (mut cut, mut own) = (0, 0.0);
    for batch in 0..2000 {
        let mixed = mix(&both, 0, 0, batch, 5, [side; 2]).unwrap();
        assert_eq!(mixed.partner, [4, 0, 1, 2, 3]);
        let [left, top, right, bottom] = mixed.rect;
        if mixed.own == 0.0 && mixed.lambda > 0.0 {
            cut += 1;
            let shown = (right - left) * (bottom - top) / (side * side) as f32;
            assert!((mixed.lambda - (1.0 - shown)).abs() < 1e-6);
            assert!(left >= 0.0 && top >= 0.0 && right <= side as f32 && bottom <= side as f32);
        } else {
            assert_eq!((mixed.own, mixed.rect), (mixed.lambda, [0.0, 0.0, side as f32, side as f32]));
            own += mixed.own;
        }
    }
    assert!((900..1100).contains(&cut), "{cut}");
    // MixUp's share is Beta(0.2, 0.2), whose standard deviation is 0.42.
    let mean = own / (2000 - cut) as f32;
    assert!((mean - 0.5).abs() < 0.04, "{mean}");
}

#[test]
fn beta_has_its_mean_and_variance() {
    for alpha in [0.1, 0.4, 1.0, 5.0] {
        let mut stream = Stream::new(&[9]);
        let draws: Vec<f64> = (0..40_000).map(|_| stream.beta(alpha)).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40_000.0;
        let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!(
            (mean - 0.5).abs() < 0.01 && (variance / expected - 1.0).abs() < 0.03,
            "{alpha}: {mean} {variance}"
        );
    }
    // Nearly all of it lies at 0 and at 1.
    let extreme: Vec<f64> = (1..100).map(|seed| Stream::new(&[seed]).beta(1e-300)).collect();
    assert!(extreme.iter().all(|x| x.min(1.0 - x).abs() < 1e-9), "{extreme:?}");
    assert!(extreme.iter().any(|&x| x < 0.5) && extreme.iter().any(|&x| x > 0.5), "{extreme:?}");
}

// ---------------------------------------------------------------------------------------------- batches

/// Two folders of images; the place keeps them.
fn photos() -> (Place, Arc<Dataset>) {
    let place = Place::new();
    let splits = data::open(&place.photos(), &OpenOptions::default()).unwrap();
    (place, Arc::new(splits.train))
}

fn batch(set: &Arc<Dataset>, augment: Augment, epoch: u64, indices: &[usize]) -> Batch {
    let view = View::Train { preprocess: Preprocess::whole(32), augment, seed: 4, epoch };
    Loader::new(set.clone(), vec![indices.to_vec()], view, 1).unwrap().next().unwrap()
}

#[test]
fn an_image_does_not_depend_on_its_batch() {
    let (_place, set) = photos();
    let strong = Preset::Strong.augment();
    let two = batch(&set, strong, 1, &[5, 2]);
    let three = batch(&set, strong, 1, &[7, 2, 5]);
    assert_eq!((two.draws.len(), &two.mix), (2 * Draws::LEN, &None));
    let of = |batch: &Batch, row: usize| {
        let pixels = batch.pixels[row * 32 * 32 * 3..][..32 * 32 * 3].to_vec();
        (pixels, batch.draws[row * Draws::LEN..][..Draws::LEN].to_vec())
    };
    assert_eq!(of(&two, 0), of(&three, 2));
    assert_eq!(of(&two, 1), of(&three, 1));
    assert_ne!(of(&two, 0), of(&batch(&set, strong, 2, &[5, 2]), 0));
    // Mixing depends on the batch, which its first image names.
    let mixing = strong.with(|c| c.cutmix = 1.0);
    let mixed = batch(&set, mixing, 1, &[5, 2, 3]);
    let (partners, weight) = mixed.mix.clone().unwrap();
    assert_eq!(partners, [2, 0, 1]);
    assert_eq!(mixed, batch(&set, mixing, 1, &[5, 2, 3]));
    let rows: &[Draws] = bytemuck::cast_slice(&mixed.draws);
    assert!(rows.iter().zip([2.0, 0.0, 1.0]).all(|(row, partner)| row.partner == partner && row.own == 0.0));
    // The labels are mixed by the share of the area that each image has.
    let [left, top, right, bottom] = rows[0].mix;
    let shown = (right - left) * (bottom - top) / (32.0 * 32.0);
    assert!((weight - (1.0 - shown)).abs() < 1e-6, "{weight}: {shown} is the partner's");
}

/// What the device does not vary reaches it as before, so that earlier runs can be repeated.
#[test]
fn the_plain_path_draws_nothing() {
    let (_place, set) = photos();
    let plain = batch(&set, Augment::default(), 1, &[0, 1, 2, 3]);
    assert!(plain.draws.is_empty() && plain.mix.is_none());
    for (row, &index) in plain.indices.iter().enumerate() {
        let image = set.samples[index].image().unwrap();
        let mut stream = Stream::new(&[4, 1, index as u64]);
        let expected = data::train(&image, &Preprocess::whole(32), &Augment::default(), &mut stream);
        assert_eq!(plain.pixels[row * expected.len()..][..expected.len()], expected);
    }
    // A change that draws as good as nothing: the same parts, and the mirror is drawn as a matrix.
    let varied = batch(&set, Augment::default().with(|c| c.rotate = 1e-9), 1, &[0, 1, 2, 3]);
    assert_eq!(varied.draws.len(), 4 * Draws::LEN);
    let upright = batch(&set, Augment::default().with(|c| c.flip = 0.0), 1, &[0, 1, 2, 3]);
    assert_eq!(varied.pixels, upright.pixels);
}

// ---------------------------------------------------------------------------------------------- the command

#[test]
fn a_dry_run_shows_what_the_network_would_see_and_trains_nothing() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = ["train", "photos", "--model", "resnet20", "--weights", "resnet20.safetensors", "--dry-run"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let before = place.files("");
    let outcome = place.ok(&with(&["--strategy", "finetune", "--augment", "strong", "--mixup", "0.2"]));
    assert_eq!(outcome.stdout.trim(), "runs/photos-resnet20-augmented.png");
    assert!(outcome.stderr.contains("2 classes"), "{}", outcome.stderr);
    let new = place.files("");
    let written: Vec<&String> = new.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(written, ["runs/photos-resnet20-augmented.png"]);
    let sheet = load(&place.path("runs/photos-resnet20-augmented.png")).unwrap();
    assert_eq!((sheet.width, sheet.height), (8 * 132 + 4, 6 * 132 + 4));

    // The first column is the evaluation's view, whatever the others are; features sees nothing else.
    let cell = |sheet: &Image, column: usize| {
        let line = |y: usize| sheet.rgb[(y * sheet.width + 4 + column * 132) * 3..][..128 * 3].to_vec();
        (4..132).flat_map(line).collect::<Vec<u8>>()
    };
    let outcome = place.ok(&with(&["--out", "own.png", "--json"]));
    assert_eq!(outcome.named("sheet")[0]["path"], "own.png");
    let own = load(&place.path("own.png")).unwrap();
    assert_eq!(cell(&own, 0), cell(&sheet, 0));
    assert_ne!(cell(&own, 1), cell(&sheet, 1));
    // Without variation all that an epoch shows is the same.
    place.ok(&with(&["--strategy", "finetune", "--augment", "none", "--out", "runs/mine"]));
    let none = load(&place.path("runs/mine-augmented.png")).unwrap();
    assert_eq!(cell(&none, 1), cell(&none, 7));
}

#[test]
fn wrong_options_are_named() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = [
        "train",
        "photos",
        "--model",
        "resnet20",
        "--weights",
        "resnet20.safetensors",
        "--strategy",
        "finetune",
    ];
    for (option, value) in [
        ("--crop-scale", "0,1"),
        ("--crop-scale", "0.5"),
        ("--flip", "1.5"),
        ("--rotate", "-3"),
        ("--jitter", "0.1,0.1,0.1,0.7"),
        ("--jitter", "0.1"),
        ("--erase", "NaN"),
        ("--mixup", "-1"),
        ("--cutmix", "inf"),
        ("--augment", "wild"),
    ] {
        let args = [&base[..], &[option, value]].concat();
        place.run(&args).failed(2, &[option, value.rsplit(',').next().unwrap()]);
    }
    let features = [&base[..6], &["--strategy", "features", "--rotate", "5"]].concat();
    place.run(&features).failed(2, &["--strategy features", "--copies", "finetune"]);
    place.run(&["train", "--resume", "runs/x", "--cutmix", "1"]).failed(2, &["--resume", "--cutmix"]);
    assert!(!place.path("runs").exists());
}
