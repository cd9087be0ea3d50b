//! Images that are there twice, and classes of unequal size.

use super::*;

/// `image` at another size, saved with this quality.
fn write_jpeg(path: &Path, image: &Image, (width, height): (usize, usize), quality: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let small = resize(image, width, height, Filter::Bicubic);
    let bytes = libjpeg_turbo_rs::compress(
        &small.rgb,
        width,
        height,
        libjpeg_turbo_rs::PixelFormat::Rgb,
        quality,
        libjpeg_turbo_rs::Subsampling::S444,
    );
    fs::write(path, bytes.unwrap()).unwrap();
}

/// Soft blobs, other ones for each seed.
fn blobs(seed: u64) -> Image {
    let mut stream = Stream::new(&[seed, 77]);
    let blobs: Vec<[f64; 6]> = (0..12).map(|_| [1.0; 6].map(|_| stream.unit())).collect();
    let mut rgb = Vec::new();
    for y in 0..120 {
        for x in 0..160 {
            let mut pixel = [40.0; 3];
            for [cx, cy, r, g, b, size] in &blobs {
                let (dx, dy) = (x as f64 / 160.0 - cx, y as f64 / 120.0 - cy);
                let weight = 200.0 * (-(dx * dx + dy * dy) / (0.002 + 0.02 * size)).exp();
                pixel = [pixel[0] + weight * r, pixel[1] + weight * g, pixel[2] + weight * b];
            }
            rgb.extend(pixel.map(|v| v.min(255.0) as u8));
        }
    }
    Image { width: 160, height: 120, rgb }
}

const HASHES: [u64; 4] =
    [0xb654_c89c_16a2_22da, 0xe595_364c_6631_7022, 0x7fff_fffe_fdf6_eddb, 0x9915_6168_544c_7226];

fn set(dir: &Path) -> Dataset {
    let known = ["a".to_string(), "b".to_string()];
    open_labelled(dir, &known, by_name(&known)).unwrap()
}

#[test]
fn difference_hashes_are_pillows() {
    // Image.resize((9, 8), BILINEAR).convert("L"), neighbours compared; from `tools/data_fixtures.py`'s formula.
    for (size, hash) in
        [((90, 70), HASHES[0]), ((33, 40), HASHES[1]), ((9, 8), HASHES[2]), ((640, 32), HASHES[3])]
    {
        assert_eq!(
            difference_hash(&formula(size)),
            hash,
            "{size:?}: {:016x}",
            difference_hash(&formula(size))
        );
    }
}

#[test]
fn copies_and_near_copies_across_the_split_are_found() {
    let dir = TempDir::new().unwrap();
    let (train, val) = (dir.path().join("train"), dir.path().join("val"));
    for i in 0..40u64 {
        let class = if i % 2 == 0 { "a" } else { "b" };
        write_jpeg(&train.join(format!("{class}/{i}.jpg")), &blobs(i), (160, 120), 95);
        write_jpeg(&val.join(format!("{class}/{}.jpg", 100 + i)), &blobs(100 + i), (160, 120), 95);
    }
    assert_eq!(duplicates(&set(&train), &set(&val)).unwrap(), Duplicates::default(), "all are different");

    fs::copy(train.join("a/4.jpg"), val.join("a/copy.jpg")).unwrap();
    fs::copy(train.join("a/4.jpg"), val.join("a/again.jpg")).unwrap();
    write_jpeg(&val.join("b/smaller.jpg"), &blobs(7), (80, 60), 60);
    // Only within a part and a class: no matter.
    fs::copy(train.join("a/6.jpg"), train.join("a/6 again.jpg")).unwrap();
    // The same under two classes.
    fs::copy(train.join("a/8.jpg"), train.join("b/8 too.jpg")).unwrap();
    fs::write(val.join("b/bad.jpg"), "bad").unwrap();
    let calls = AtomicUsize::new(0);
    let count = |_, total| {
        assert_eq!(total, 86);
        calls.fetch_add(1, Ordering::Relaxed);
    };
    let found = duplicates_with(&set(&train), &set(&val), count).unwrap();
    assert_eq!(calls.into_inner(), 86);
    let name = |path: &Path| {
        let from = path.strip_prefix(dir.path()).unwrap();
        from.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    };
    let across: Vec<_> = found.across.iter().map(|p| (name(&p.first), name(&p.second), p.exact)).collect();
    let want = [
        ("train/a/4.jpg", "val/a/again.jpg", true),
        ("train/a/4.jpg", "val/a/copy.jpg", true),
        ("train/b/7.jpg", "val/b/smaller.jpg", false),
    ];
    assert_eq!(across, want.map(|(a, b, exact)| (a.to_string(), b.to_string(), exact)));
    let [pair] = &found.contradictions[..] else { panic!("{:?}", found.contradictions) };
    assert_eq!((name(&pair.first), name(&pair.second)), ("train/a/8.jpg".into(), "train/b/8 too.jpg".into()));
    assert_eq!((&pair.first_class[..], &pair.second_class[..], pair.exact), ("a", "b", true));
    assert_eq!(found.unreadable.len(), 1);
    let warnings = found.warnings();
    assert!(
        warnings[0].starts_with("3 validation images are also among those for training (2 byte for byte)")
    );
    assert!(warnings[1].starts_with("1 image is of another class, too"), "{warnings:?}");

    let other = Dataset { classes: vec!["x".into()], ..Dataset::default() };
    assert!(error_of(duplicates(&set(&train), &other)).contains("different classes"));
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn the_materials_parts_are_apart() {
    for (folder, images) in [("hymenoptera", 397), ("clothing10", 850)] {
        let path = of_material(folder);
        let Splits { train, val, .. } = open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(train.len() + val.len(), images);
        let found = duplicates(&train, &val).unwrap();
        assert_eq!(found, Duplicates::default(), "{folder}");
    }
}

/// A set of so many images of each class.
fn unequal(counts: &[usize]) -> Dataset {
    let labels = counts.iter().enumerate().flat_map(|(label, &n)| vec![label as u32; n]);
    let samples = labels.enumerate().map(|(i, label)| Sample::new(Source::file(format!("{i}")), label));
    let classes = (0..counts.len()).map(|c| c.to_string()).collect();
    Dataset { classes, samples: samples.collect(), ..Dataset::default() }
}

#[test]
fn rare_classes_weigh_more() {
    // sklearn.utils.class_weight.compute_class_weight("balanced", ...)
    let weights = class_weights(&unequal(&[10, 20, 70]));
    for (weight, want) in weights.iter().zip([3.333_333_3, 1.666_666_7, 0.476_190_48]) {
        assert!((weight - want).abs() < 1e-6, "{weights:?}");
    }
    // Without the empty class.
    assert_eq!(class_weights(&unequal(&[5, 0, 5])), [1.0, 0.0, 1.0]);
    let mut several = unequal(&[4]);
    several.classes.push("b".into());
    several.targets = TargetKind::Labels;
    for (i, sample) in several.samples.iter_mut().enumerate() {
        sample.target = Target::Labels([f32::from(i < 3), f32::from(i == 3)].into());
    }
    assert_eq!(class_weights(&several), [4.0 / 6.0, 2.0]);
    assert_eq!(class_weights(&Dataset { targets: TargetKind::Values, ..several }), [1.0, 1.0]);
}

#[test]
fn balanced_epochs_draw_classes_equally_and_images_in_turn() {
    let set = unequal(&[3, 50, 0, 10]);
    let class = |i: usize| set.samples[i].target.class().unwrap();
    let mut drawn = vec![0usize; set.len()];
    for epoch in 0..12 {
        let order = balanced_order(&set, 5, epoch);
        assert_eq!((order.len(), &order), (63, &balanced_order(&set, 5, epoch)));
        assert_ne!(order, balanced_order(&set, 6, epoch));
        let mut counts = [0; 4];
        for &i in &order {
            counts[class(i) as usize] += 1;
            drawn[i] += 1;
        }
        assert_eq!(counts, [21, 21, 0, 21]);
        // Every image of a class before any of them again, over epochs too.
        for class in [0..3, 3..53, 53..63] {
            let (least, most) = (drawn[class.clone()].iter().min(), drawn[class].iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{drawn:?}");
        }
        // Mixed, not class by class.
        let labels: Vec<u32> = order.iter().map(|&i| class(i)).collect();
        assert!(labels.windows(2).filter(|w| w[0] != w[1]).count() > 25);
    }
    // A remainder goes to each class in turn.
    let set = unequal(&[1, 4]);
    let count = |epoch| balanced_order(&set, 0, epoch).iter().filter(|&&i| i == 0).count();
    assert_eq!([0, 1, 2].map(count), [3, 2, 3]);
    assert!(balanced_order(&Dataset::default(), 0, 0).is_empty());
    let numbers = Dataset { targets: TargetKind::Values, ..unequal(&[7]) };
    assert_eq!(balanced_order(&numbers, 3, 1), epoch_order(7, 3, 1));
}
