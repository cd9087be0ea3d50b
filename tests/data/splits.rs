//! What is learned from and what is validated with: parts under many names, and splits by seed or manifest.

use super::*;

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
        assert!(warnings.iter().any(|w| w.ends_with("no images of Z")), "{warnings:?}");
        assert!(warnings.iter().any(|w| w.ends_with("no images of 10, 2, Z")), "{warnings:?}");
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
    let with = |seed, val_fraction| {
        open(
            dir.path(),
            &OpenOptions::default().with(|c| {
                c.seed = seed;
                c.val_fraction = val_fraction;
            }),
        )
        .unwrap()
    };
    let first = with(7, 0.2);
    assert_eq!(first.train.counts(), [40, 17, 1]);
    assert_eq!(first.val.counts(), [10, 4, 1]);
    assert!(first.test.is_none());
    let both: BTreeSet<PathBuf> = names(&first.train).into_iter().chain(names(&first.val)).collect();
    assert_eq!(both.len(), 73, "no image is in both");

    let (again, other) = (with(7, 0.2), with(8, 0.2));
    assert_eq!((names(&first.train), names(&first.val)), (names(&again.train), names(&again.val)));
    assert_eq!(first.manifest, again.manifest);
    assert_ne!(names(&first.val), names(&other.val));
    assert_eq!(with(7, 0.5).val.counts(), [25, 11, 1]);
    assert_eq!(with(7, 0.999).train.counts(), [1, 1, 1]);

    // The place does not matter, nor do images that come later, but for the one they may displace.
    let elsewhere = TempDir::new().unwrap();
    write_classes(elsewhere.path(), &[("cat", 51), ("dog", 21), ("eel", 2)]);
    let moved = open(elsewhere.path(), &OpenOptions::default().with(|c| c.seed = 7)).unwrap();
    let (old, new) = (first.manifest.unwrap().files, moved.manifest.unwrap().files);
    assert!(old.iter().filter(|(name, part)| new[*name] != **part).count() <= 1);

    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        let options = OpenOptions::default().with(|c| c.val_fraction = fraction);
        assert!(matches!(open(dir.path(), &options), Err(Error::Usage(_))));
    }
}

#[test]
fn a_manifest_repeats_the_split() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("cat", 20), ("dog", 20)]);
    write_image(&dir.path().join("dog/deep/er/x.png"), [1, 2, 3]);
    let first = open(dir.path(), &OpenOptions::default().with(|c| c.seed = 5)).unwrap();
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

    // Other options do not matter, nor do new images; a lost one does.
    write_image(&dir.path().join("cat/new.png"), [0, 0, 0]);
    let reuse = OpenOptions::default().with(|c| {
        c.seed = 99;
        c.val_fraction = 0.5;
        c.manifest = Some(manifest);
    });
    let second = open(dir.path(), &reuse).unwrap();
    assert_eq!((names(&first.train), names(&first.val)), (names(&second.train), names(&second.val)));
    assert_eq!(second.train.skipped.len(), 1);
    assert!(second.train.skipped[0].path.ends_with("cat/new.png"));
    fs::remove_file(dir.path().join("cat/3.png")).unwrap();
    let text = error_of(open(dir.path(), &reuse));
    assert!(text.contains("1 images") && text.contains("cat/3.png"), "{text}");
}

/// Parts have many names; what is in them is the same.
#[test]
fn parts_are_known_by_other_names() {
    let both = [("cat", 4), ("dog", 4)];
    for (train, val, test) in [
        ("Training", None, Some("Testing")),
        ("TRAINING", Some("Validation"), Some("TEST")),
        ("seg_train", None, Some("seg_test")),
        ("train_images", None, Some("test_images")),
        ("Train", Some("Valid"), None),
        ("train_set", Some("val_set"), Some("test_set")),
        ("training_set", None, Some("test_set")),
        ("TrainingSet", Some("ValidationSet"), Some("TestSet")),
        ("trainset", None, Some("testset")),
        ("trn", None, Some("tst")),
        ("train", Some("dev"), Some("test")),
        ("train", Some("eval"), None),
        ("flowers-train", Some("flowers-val"), None),
        ("01 train", Some("02 val"), Some("03 test")),
        ("traindata", None, Some("testdata")),
        ("train.v2", Some("valid.v2"), None),
    ] {
        let dir = TempDir::new().unwrap();
        for part in [Some(train), val, test].into_iter().flatten() {
            write_classes(&dir.path().join(part), &both);
        }
        let splits = open(dir.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{train}: {e}"));
        assert_eq!(splits.train.classes, ["cat", "dog"], "{train}");
        assert_eq!(splits.manifest.is_none(), val.is_some(), "{train}");
        assert_eq!(splits.test.as_ref().map(Dataset::len), test.map(|_| 8), "{train}");
        assert_eq!(splits.train.len() + if val.is_some() { 0 } else { splits.val.len() }, 8, "{train}");
        assert!(splits.warnings.is_empty(), "{train}: {:?}", splits.warnings);
        // For evaluation: validation, else test.
        let known = splits.train.classes.clone();
        let labelled = open_labelled(dir.path(), &known, by_name(&known)).unwrap();
        let want = dir.path().join(val.or(test).unwrap());
        assert!(names(&labelled).iter().all(|name| name.starts_with(&want)), "{train}");
    }

    // Intel's scenes: a folder of the same name within, and one of images without classes.
    let dir = TempDir::new().unwrap();
    write_classes(&dir.path().join("seg_train/seg_train"), &both);
    write_classes(&dir.path().join("seg_test/seg_test"), &both);
    write_image(&dir.path().join("seg_pred/seg_pred/1.png"), [0; 3]);
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(
        (splits.train.classes, splits.test.unwrap().len()),
        (vec!["cat".to_string(), "dog".into()], 8)
    );
    assert!(splits.warnings[0].contains("seg_pred: not used, because it lies beside seg_train/"));

    let dir = TempDir::new().unwrap();
    write_classes(&dir.path().join("train/images"), &both);
    write_classes(&dir.path().join("val/images"), &both);
    assert_eq!(open(dir.path(), &OpenOptions::default()).unwrap().train.classes, ["cat", "dog"]);
}

/// What looks like parts never becomes classes in silence.
#[test]
fn folders_that_look_like_parts_are_named() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let both = [("cat", 2), ("dog", 2)];
    for name in ["train_a", "train_b", "test_a"] {
        write_classes(&at("two").join(name), &both);
    }
    assert_refused(
        &at("two"),
        &["train_a/, train_b/", "look like parts", "cat, dog", "train/, val/ and test/"],
    );
    for name in ["fold1", "fold2", "fold3"] {
        write_classes(&at("folds").join(name), &both);
    }
    let splits = open(&at("folds"), &OpenOptions::default()).unwrap();
    assert_eq!(splits.train.classes, ["fold1", "fold2", "fold3"]);
    assert_eq!(splits.warnings.len(), 1);
    assert!(splits.warnings[0].contains("fold1/, fold2/, fold3/ count as classes"), "{:?}", splits.warnings);
    // Folders within classes are no parts: other names, or images beside them.
    write_classes(&at("nested/cat"), &[("tabby", 2), ("black", 2)]);
    write_classes(&at("nested/dog"), &[("poodle", 2), ("husky", 2)]);
    write_classes(&at("beside/cat"), &[("in", 2), ("out", 2)]);
    write_classes(&at("beside/dog"), &[("in", 2), ("out", 2)]);
    write_image(&at("beside/dog/1.png"), [0; 3]);
    // Classes may speak of training.
    write_classes(&at("rails"), &[("bullet_train", 3), ("crash_test", 3)]);
    write_classes(&at("cars"), &[("Testing", 3), ("Training", 3)]);
    for (name, classes) in [
        ("nested", ["cat", "dog"]),
        ("beside", ["cat", "dog"]),
        ("rails", ["bullet_train", "crash_test"]),
        ("cars", ["Testing", "Training"]),
    ] {
        let splits = open(&at(name), &OpenOptions::default()).unwrap();
        assert_eq!(
            (&splits.train.classes[..], splits.warnings.len()),
            (&classes.map(String::from)[..], 0),
            "{name}"
        );
    }

    write_classes(&at("twice/train"), &both);
    write_classes(&at("twice/Training"), &both);
    assert_refused(&at("twice"), &["both Training/ and train/"]);
    write_classes(&at("headless/Testing"), &both);
    assert_refused(&at("headless"), &["Testing/", "no train/"]);

    // A level that an archive added, or several.
    write_classes(&at("outer/photos"), &both);
    assert_refused(
        &at("outer"),
        &["photos in it holds the folders of the classes", "did you mean", "outer/photos?"],
    );
    write_classes(&at("deep/a/b"), &both);
    assert_refused(&at("deep"), &["did you mean", "deep/a/b?"]);
    write_classes(&at("parts/set/Training"), &both);
    write_classes(&at("parts/set/Testing"), &both);
    assert_refused(&at("parts"), &["did you mean", "parts/set?"]);
    let known = ["cat".to_string(), "dog".into()];
    assert!(error_of(open_labelled(&at("outer"), &known, by_name(&known))).contains("outer/photos?"));
}
