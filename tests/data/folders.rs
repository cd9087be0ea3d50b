//! Folders of classes: what in them is an image, what a class, and what is refused.

use super::*;

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
