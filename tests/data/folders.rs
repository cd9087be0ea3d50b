//! Folders and IDX files: layouts, splits, and what is refused.

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

#[test]
fn what_is_not_an_image_is_listed_or_left_alone() {
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
    write_image(&dir.path().join("loose.png"), [0; 3]);
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
    assert!(skipped.contains(&("moving.gif".into(), "not an image format that is read (.gif)")));
    assert!(skipped.contains(&("notes".into(), "no image's extension")));
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
    write_image(&at("loose").join("a.png"), [0; 3]);
    assert_refused(&at("loose"), &["no class folders", "the 1 images"]);
    write_classes(&at("hollow"), &[("a", 2), ("b", 0)]);
    assert_refused(&at("hollow"), &["hollow/b", "holds no image"]);
    write_classes(&at("lonely"), &[("only", 3)]);
    assert_refused(&at("lonely"), &["single class", "'only'"]);
    write_classes(&at("few"), &[("a", 5), ("b", 1)]);
    assert_refused(&at("few"), &["'b'", "single image", "b/0.png"]);

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
    assert_refused(&at("bare"), &["bare/val", "no image"]);

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
    let text = error_of(open(&at("grown"), &OpenOptions::default().with(|c| c.manifest = manifest)));
    assert!(text.contains("now it has a validation part"), "{text}");
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
    assert!(
        splits.warnings[0].contains("fold1/, fold2/, fold3/ are taken for classes"),
        "{:?}",
        splits.warnings
    );
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

/// Numbers are names like others, sorted by code point.
#[test]
fn classes_may_be_numbers() {
    let dir = TempDir::new().unwrap();
    write_classes(
        &dir.path().join("train"),
        &[("0", 2), ("1", 2), ("2", 2), ("10", 2), ("001.Albatross", 2)],
    );
    write_classes(&dir.path().join("val"), &[("10", 1), ("2", 3)]);
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(splits.train.classes, ["0", "001.Albatross", "1", "10", "2"]);
    assert_eq!(splits.val.counts(), [0, 0, 0, 1, 3]);
    write_classes(&dir.path().join("val"), &[("3", 1)]);
    assert_refused(dir.path(), &["'3'", "none of the 5 known classes"]);
}

/// `é` in one character and in two is the same letter.
#[cfg(not(target_os = "macos"))]
#[test]
fn names_in_two_unicode_forms_are_the_same_class() {
    let (composed, split) = ("caf\u{e9}", "cafe\u{301}");
    let dir = TempDir::new().unwrap();
    write_classes(&dir.path().join("train"), &[(split, 2), ("bar", 2)]);
    write_classes(&dir.path().join("val"), &[(composed, 3), ("bar", 1)]);
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(splits.train.classes, ["bar", composed]);
    assert_eq!(splits.val.counts(), [1, 3]);
    for known in [composed, split] {
        let known = [known.to_string(), "bar".into()];
        let labelled = open_labelled(&dir.path().join("train"), &known, by_name(&known)).unwrap();
        assert_eq!(labelled.counts(), [2, 2]);
    }
    write_classes(&dir.path().join("train"), &[(composed, 1)]);
    assert_refused(dir.path(), &["two folders are called", "Unicode form", "\\u{301}", "join them"]);
}

/// All that Pillow reads of the formats that are read; the content decides what a file is.
#[test]
fn every_extension_of_a_format_is_known() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("a", 1), ("b", 3)]);
    let jpeg = fs::read(fixtures().join("rgb.jpg")).unwrap();
    for name in ["x.jfif", "x.jpe", "X.JFIF", "x.mpo"] {
        fs::write(dir.path().join("a").join(name), &jpeg).unwrap();
    }
    for (name, text) in [("x.pbm", "P1 1 1 0"), ("x.pnm", "P3 1 1 9 1 2 3")] {
        fs::write(dir.path().join("a").join(name), text).unwrap();
    }
    let splits = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(splits.train.counts()[0] + splits.val.counts()[0], 7);
    assert!(splits.train.skipped.is_empty());
    let verified = splits.train.verify(|_, _| ()).unwrap();
    assert!(verified.skipped.is_empty(), "{:?}", verified.skipped);
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
    assert_refused(dir.path(), &["/d", "holds no image"]);
    assert_eq!(list_images(&[dir.path().to_path_buf()]).unwrap().len(), 11);
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
    assert!(error_of(open_labelled(hollow.path(), &known, by_name(&known))).contains("no image"));
    assert!(
        error_of(open_labelled(Path::new("nowhere"), &known, by_name(&known))).contains("no such folder")
    );
}

#[test]
fn images_for_prediction_are_listed_in_order() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("b", 2), ("a", 1)]);
    let odd = dir.path().join("odd.name");
    fs::write(&odd, "taken as it is").unwrap();
    let found = list_images(&[odd.clone(), dir.path().to_path_buf()]).unwrap();
    let want: Vec<PathBuf> = ["a/0.png", "b/0.png", "b/1.png"].iter().map(|p| dir.path().join(p)).collect();
    assert_eq!(found[0], odd);
    assert_eq!(found[1..], want);
    assert!(matches!(list_images(&[dir.path().join("gone.png")]), Err(Error::Io { .. })));
    fs::create_dir(dir.path().join("none")).unwrap();
    assert!(error_of(list_images(&[dir.path().join("none")])).contains("holds no image"));
}

#[test]
fn verify_moves_unreadable_images_aside() {
    let dir = TempDir::new().unwrap();
    write_classes(dir.path(), &[("a", 10), ("b", 3)]);
    fs::write(dir.path().join("a/3.png"), "no image at all").unwrap();
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
    let reason = "not an image (JPEG, PNG, BMP, PNM, TIFF or WebP)".to_string();
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
    let sample = |name: &str| Sample::new(Source::file(dir.path().join(name)), 0);
    write_image(&dir.path().join("a.png"), [1, 2, 3]);
    fs::copy(dir.path().join("a.png"), dir.path().join("b.png")).unwrap();
    write_image(&dir.path().join("c.png"), [1, 2, 4]);
    let key = |name: &str| content_key(&sample(name)).unwrap();
    assert_eq!(key("a.png"), key("b.png"));
    assert_ne!(key("a.png"), key("c.png"));
    let (image, both) = sample("a.png").image_and_key().unwrap();
    assert_eq!((image, both), (sample("a.png").image().unwrap(), key("a.png")));
    assert!(matches!(content_key(&sample("gone.png")), Err(Error::Io { .. })));
}

/// Writes `count` images of 3 x 2 pixels, the grey levels counting on, labelled 0, 1, 2, 0, ...
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
        assert_eq!(second.target, Target::Class(1));
        assert_eq!(
            second.image().unwrap(),
            Image { width: 3, height: 2, rgb: (6..12).flat_map(|v| [v; 3]).collect() }
        );
        assert!(second.name().to_string_lossy().ends_with("#1"), "{:?}", second.name());
        assert_ne!(content_key(second).unwrap(), content_key(&test.samples[2]).unwrap());
        let again = OpenOptions::default().with(|c| c.manifest = splits.manifest);
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
        &["11 images", "12 labels"],
    );
    with(b"\x1f\x8b\x08\0garbage", &[images]);
    fs::remove_file(dir.path().join(labels)).unwrap();
    with(&good, &[labels, "missing"]);
}

/// Writes records of a file of CIFAR's: pixel `i` of plane `c` of image `n` is `n + 50 c + i`, labels 0, 1, 2, 0, ...
fn write_cifar(path: &Path, count: usize, coarse: bool) {
    let mut bytes = Vec::new();
    for n in 0..count {
        bytes.extend(coarse.then_some(99));
        bytes.push((n % 3) as u8);
        bytes.extend((0..3).flat_map(|c| (0..1024).map(move |i| (n + 50 * c + i) as u8)));
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn cifar_files_give_train_val_and_test() {
    let names = |n: usize| (0..n).map(|i| format!("name {i}\n")).collect::<String>();
    for (classes, train, test, meta) in [
        (10, &["data_batch_1.bin", "data_batch_2.bin"][..], "test_batch.bin", "batches.meta.txt"),
        (100, &["train.bin"][..], "test.bin", "fine_label_names.txt"),
    ] {
        let dir = TempDir::new().unwrap();
        let coarse = classes == 100;
        for file in train {
            write_cifar(&dir.path().join(file), 30 / train.len(), coarse);
        }
        write_cifar(&dir.path().join(test), 6, coarse);
        let splits = open(dir.path(), &OpenOptions::default()).unwrap();
        assert_eq!((&splits.train.classes[2][..], splits.train.classes.len()), ("2", classes));
        assert_eq!((splits.train.counts()[..4].to_vec(), splits.val.len()), (vec![8, 8, 8, 0], 6));
        assert_eq!(splits.warnings.len(), usize::from(!coarse), "{:?}", splits.warnings);
        let test_set = splits.test.unwrap();
        assert_eq!(test_set.counts()[..3], [2, 2, 2]);
        let second = &test_set.samples[1];
        let image = second.image().unwrap();
        assert_eq!((image.width, image.height, second.target.class()), (32, 32, Some(1)));
        assert_eq!(image.rgb[..6], [1, 51, 101, 2, 52, 102]);
        assert_eq!(image.rgb[3 * 40..][..3], [41, 91, 141]);
        assert!(second.name().ends_with(format!("{test}#1")));
        assert_ne!(content_key(second).unwrap(), content_key(&test_set.samples[2]).unwrap());
        assert_eq!(second.image_and_key().unwrap(), (image, content_key(second).unwrap()));

        fs::write(dir.path().join(meta), names(classes) + "\n").unwrap();
        let known = open(dir.path(), &OpenOptions::default()).unwrap().train.classes;
        assert_eq!((&known[2][..], known.len()), ("name 2", classes));
        assert_eq!(open_labelled(dir.path(), &known, by_name(&known)).unwrap().len(), 6);
        fs::write(dir.path().join(meta), names(7)).unwrap();
        assert_refused(dir.path(), &[meta, "7 names", &classes.to_string()]);
        fs::remove_file(dir.path().join(meta)).unwrap();

        let record = if coarse { 3074 } else { 3073 };
        let good = fs::read(dir.path().join(test)).unwrap();
        let with = |bytes: &[u8], parts: &[&str]| {
            fs::write(dir.path().join(test), bytes).unwrap();
            assert_refused(dir.path(), &[&[test][..], parts].concat());
        };
        with(b"", &["0 bytes", &record.to_string()]);
        with(&good[..good.len() - 1], &["no multiple of", &record.to_string()]);
        let mut strange = good.clone();
        strange[record + usize::from(coarse)] = 100;
        with(&strange, &["image 1 has label 100", &format!("0 to {}", classes - 1)]);
        fs::write(dir.path().join(test), &good).unwrap();
        let grouped = DataOptions::default().with(|c| c.group_by = Some(GroupBy::Parent));
        let refused = open(dir.path(), &OpenOptions::default().with(|c| c.data = grouped));
        assert!(error_of(refused).contains("no file of its own"));
        write_cifar(&dir.path().join(if coarse { "test_batch.bin" } else { "test.bin" }), 3, !coarse);
        assert_refused(dir.path(), &["CIFAR-10 and CIFAR-100 in one folder"]);
    }
}
