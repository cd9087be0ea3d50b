//! Tables of labels: as others write them, and what is wrong with them.

use super::*;

/// A folder with images of these names, and `labels.csv` of this text.
fn place(images: &[&str], table: &[u8]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (i, name) in images.iter().enumerate() {
        write_image(&dir.path().join(name), [i as u8, 7, 9]);
    }
    fs::write(dir.path().join("labels.csv"), table).unwrap();
    dir
}

fn table(dir: &TempDir) -> PathBuf {
    dir.path().join("labels.csv")
}

fn with(data: DataOptions) -> OpenOptions {
    OpenOptions::default().with(|c| {
        c.val_fraction = 0.5;
        c.data = data;
    })
}

/// What an opened table says, whichever part it went to: name to label or targets.
fn said(splits: &Splits) -> BTreeSet<String> {
    let parts = [Some(&splits.train), Some(&splits.val), splits.test.as_ref()];
    let parts = parts.into_iter().flatten().zip(["train", "val", "test"]);
    let line = |set: &Dataset, sample: &Sample, part: &str| {
        let name = sample.name().file_name().unwrap().to_string_lossy().into_owned();
        let said = match &sample.target {
            Target::Class(class) => format!("{name} {}", set.classes[*class as usize]),
            other => format!("{name} {:?}", other.numbers()),
        };
        if splits.manifest.is_some() && part != "test" { said } else { said + part }
    };
    parts.flat_map(|(set, part)| set.samples.iter().map(move |s| line(set, s, part))).collect()
}

const FOUR: [&str; 4] = ["a.png", "b.png", "deep/c.png", "d.JPG"];

#[test]
fn tables_are_read_as_their_writers_meant_them() {
    let want: BTreeSet<String> =
        ["a.png cat", "b.png big dog", "c.png cat", "d.JPG big dog"].map(String::from).into();
    let tables: [&[u8]; 8] = [
        b"image,label\na.png,cat\nb.png,big dog\ndeep/c.png,cat\nd.JPG,big dog\n",
        // Byte order mark, CRLF, no last line end, blank line.
        b"\xEF\xBB\xBFfname,labels\r\na.png,cat\r\n\r\nb.png,big dog\r\ndeep/c.png,cat\r\nd.JPG,big dog",
        // Quotes, other columns, another order, capitals, blanks around.
        b"\"Class\",x,\"FILE\"\ncat,1,a.png\n\"big dog\",2,\"b.png\"\n cat , 3, deep/c.png\nbig dog,4,d.JPG\n",
        // Semicolons and tabs between columns.
        b"path;category\na.png;cat\nb.png;big dog\ndeep/c.png;cat\nd.JPG;big dog\n",
        b"id\ttarget\na\tcat\nb\tbig dog\ndeep/c\tcat\nd\tbig dog\n",
        // Names that mean nothing: the first column and the second. Windows' folders.
        b"x,y\na.png,cat\nb.png,big dog\ndeep\\c.png,cat\n.\\d.JPG,big dog\n",
        // The label's column is named, the image's is not.
        b"class,photo\ncat,a.png\nbig dog,b.png\ncat,deep/c.png\nbig dog,d.JPG\n",
        b"photo,where,tags\na.png,0,cat\nb.png,0,big dog\ndeep/c.png,1,cat\nd.JPG,1,big dog\n",
    ];
    for (i, text) in tables.into_iter().enumerate() {
        let dir = place(&FOUR, text);
        let image_column = (i == 6).then(|| "photo".to_string());
        let options = with(DataOptions::default().with(|c| c.image_column = image_column));
        let splits = open(&table(&dir), &options).unwrap_or_else(|e| panic!("table {i}: {e}"));
        assert_eq!(splits.train.classes, ["big dog", "cat"]);
        assert_eq!(said(&splits), want, "table {i}");
        assert!(splits.warnings.is_empty(), "{:?}", splits.warnings);
        assert_eq!((splits.train.counts(), splits.val.counts()), (vec![1, 1], vec![1, 1]));
        assert!(splits.manifest.unwrap().files.contains_key("deep/c.png"));
    }
}

/// As spreadsheets write them.
#[test]
fn tables_of_spreadsheets_are_read() {
    let want: BTreeSet<String> =
        ["a.png cat", "b.png big dog", "c.png cat", "d.JPG big dog"].map(String::from).into();
    let tables: [&[u8]; 8] = [
        b"sep=;\r\nimage;label\r\na.png;cat\r\nb.png;big dog\r\ndeep/c.png;cat\r\nd.JPG;big dog\r\n",
        b"\xEF\xBB\xBF\"sep=\t\"\nimage\tlabel\na.png\tcat\nb.png\tbig dog\ndeep/c.png\tcat\nd.JPG\tbig dog\n",
        b"SEP=,\rimage,label\ra.png,cat\rb.png,big dog\rdeep/c.png,cat\rd.JPG,big dog\r",
        // Only carriage returns.
        b"image,label\ra.png,cat\rb.png,big dog\rdeep/c.png,cat\rd.JPG,big dog",
        // Empty rows and columns.
        b"image,label,,\na.png,cat,,\nb.png,big dog,,\n,,,\ndeep/c.png,cat,,\nd.JPG,big dog,,\n,,,\n,,,\n",
        b"image;label\n;\na.png;cat\nb.png;big dog;;\ndeep/c.png;cat;\nd.JPG;big dog\n;\n \n\n",
        b"image,label,\na.png,cat\nb.png,big dog\ndeep/c.png,cat\nd.JPG,big dog\n",
        // A line's end and the delimiter within quotes.
        b"image,note,label\na.png,\"two\nlines, \"\"so\"\"\",cat\nb.png,,big dog\ndeep/c.png,,cat\nd.JPG,,big dog\n",
    ];
    for (i, text) in tables.into_iter().enumerate() {
        let dir = place(&FOUR, text);
        let splits =
            open(&table(&dir), &with(DataOptions::default())).unwrap_or_else(|e| panic!("table {i}: {e}"));
        assert_eq!(said(&splits), want, "table {i}");
        assert!(splits.warnings.is_empty(), "{:?}", splits.warnings);
    }
    // Lines are counted as an editor counts them.
    let dir = place(&FOUR, b"sep=;\nimage;label\na.png;cat\nb.png;\n");
    assert_refused(&table(&dir), &["labels.csv:4", "is empty for b.png"]);
    let dir = place(&FOUR, b"image,label\na.png,cat\nb.png,dog,x\n");
    assert_refused(&table(&dir), &["labels.csv:3", "3 cells", "2 columns"]);

    // Decimal commas where commas divide no columns.
    let numbers = DataOptions::default().with(|c| c.targets = TargetKind::Values);
    let dir = place(&FOUR, b"image;x\na.png;1,5\nb.png;-0,25\ndeep/c.png;3\nd.JPG;4.5\n");
    let splits = open(&table(&dir), &with(numbers.clone())).unwrap();
    let want = ["a.png [1.5]", "b.png [-0.25]", "c.png [3.0]", "d.JPG [4.5]"];
    assert_eq!(said(&splits), want.map(String::from).into());
    fs::write(table(&dir), "image;x\na.png;1.234,5\nb.png;2\n").unwrap();
    assert!(error_of(open(&table(&dir), &with(numbers))).contains("holds '1.234,5'"));
}

/// A column a class: the one with a 1 is the image's.
#[test]
fn columns_of_ones_and_zeros_are_classes() {
    let want: BTreeSet<String> = ["a.png MEL", "b.png NV", "c.png MEL", "d.JPG NV"].map(String::from).into();
    for text in [
        "image,NV,MEL\na,0.0,1.0\nb,1.0,0.0\ndeep/c,0.0,1.0\nd,1.0,0.0\n",
        "image,MEL,NV,split\na,1,0,train\nb,0,1,train\ndeep/c,1,0,val\nd,0,1,val\n",
        "id;NV;MEL;\na;0;1;\nb;1;0;\ndeep/c;0;1;\nd;1;0;\n",
    ] {
        let dir = place(&FOUR, text.as_bytes());
        let splits = open(&table(&dir), &with(DataOptions::default())).unwrap();
        assert_eq!(
            (splits.train.targets, &splits.train.classes[..]),
            (TargetKind::Class, &["MEL".to_string(), "NV".into()][..])
        );
        let told = said(&splits);
        let told = told.iter().map(|line| line.trim_end_matches("train").trim_end_matches("val").to_string());
        assert_eq!(told.collect::<BTreeSet<_>>(), want, "{text}");
        // A network knows its classes in its own order.
        let known = ["NV".to_string(), "MEL".into(), "BCC".into()];
        let labelled = open_labelled(&table(&dir), &known, by_name(&known)).unwrap();
        assert!(
            labelled.samples.iter().all(|s| s.target.class().is_some_and(|class| class < 2))
                && labelled.classes == known
        );
    }
    let dir = place(&FOUR, b"image,cat,dog\na,1,0\nb,0,1\ndeep/c,1,1\nd,0,1\n");
    assert_refused(
        &table(&dir),
        &["labels.csv:4", "several classes", "'cat' and 'dog'", "`targets = labels`"],
    );
    let several = DataOptions::default().with(|c| c.targets = TargetKind::Labels);
    let splits = open(&table(&dir), &with(several)).unwrap();
    assert_eq!(splits.train.classes, ["cat", "dog"]);
    assert!(said(&splits).contains("c.png [1.0, 1.0]"));
    fs::write(table(&dir), "image,cat,dog\na,1,0\nb,0,0\n").unwrap();
    assert_refused(&table(&dir), &["labels.csv:3", "none of the classes cat, dog", "`targets = labels`"]);
    // One column of 0 and 1 holds labels, as does a column of that name.
    for (text, classes) in [
        ("image,ill\na,1\nb,0\ndeep/c,1\nd,0\n", ["0", "1"]),
        ("image,label,flash\na,1,0\nb,0,1\ndeep/c,1,0\nd,0,1\n", ["0", "1"]),
        ("image,kind,in,out\na,x,1,0\nb,y,0,1\ndeep/c,x,1,0\nd,y,0,1\n", ["x", "y"]),
    ] {
        fs::write(table(&dir), text).unwrap();
        let splits = open(&table(&dir), &with(DataOptions::default())).unwrap();
        assert_eq!(splits.train.classes, classes, "{text}");
    }
}

/// macOS writes `é` as two characters; tables and folders need not agree.
#[cfg(not(target_os = "macos"))]
#[test]
fn the_unicode_form_of_names_does_not_matter() {
    let (composed, split) = ("\u{e9}t\u{e9}", "e\u{301}te\u{301}");
    for (on_disk, named) in [(composed, split), (split, composed)] {
        let files = [format!("{on_disk}.png"), format!("{on_disk}/b.png"), "c.png".into(), "d.png".into()];
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let text = format!("image,label\n{named}.png,{named}\n{named}/b,x\nc.png,{on_disk}\nd.png,x\n");
        let dir = place(&files, text.as_bytes());
        let splits = open(&table(&dir), &with(DataOptions::default())).unwrap();
        assert_eq!(splits.train.classes, ["x", composed]);
        assert_eq!((splits.train.len() + splits.val.len(), splits.train.skipped.len()), (4, 0));
        let known = [split.to_string(), "x".into()];
        assert_eq!(open_labelled(&table(&dir), &known, by_name(&known)).unwrap().counts(), [2, 2]);
    }
}

#[test]
fn a_table_may_lie_elsewhere() {
    let dir = place(&FOUR, b"");
    let elsewhere = TempDir::new().unwrap();
    let text = "file,label\na.png,x\nb.png,y\ndeep/c.png,x\nd.JPG,y\n";
    let file = elsewhere.path().join("anything.txt");
    fs::write(&file, text).unwrap();
    let options = with(DataOptions::default().with(|c| c.labels = Some(file.clone())));
    let first = open(dir.path(), &options).unwrap();
    assert_eq!(first.train.len() + first.val.len(), 4);
    // In the data folder it needs no path.
    fs::write(dir.path().join("labels.csv"), text).unwrap();
    let inside = DataOptions::default().with(|c| c.labels = Some("labels.csv".into()));
    assert_eq!(names(&open(dir.path(), &with(inside.clone())).unwrap().val), names(&first.val));
    assert_eq!(inside.absolute(dir.path()).labels, Some(table(&dir)));
    // A run goes on with its split.
    let again = options.with(|c| {
        c.manifest = first.manifest;
        c.seed = 77;
    });
    assert_eq!(names(&open(dir.path(), &again).unwrap().val), names(&first.val));

    let both = open(&table(&dir), &with(inside));
    assert!(
        matches!(&both, Err(Error::Setting { field: "labels", .. })) && error_of(both).contains("two tables")
    );
    for (options, option) in [
        (DataOptions::default().with(|c| c.image_column = Some("x".into())), "image_column x"),
        (DataOptions::default().with(|c| c.label_columns = vec!["x".into()]), "label_columns x"),
        (DataOptions::default().with(|c| c.label_separator = Some(";".into())), "label_separator ';'"),
        (DataOptions::default().with(|c| c.targets = TargetKind::Labels), "targets = labels"),
        (DataOptions::default().with(|c| c.targets = TargetKind::Values), "targets = values"),
    ] {
        let refused = open(dir.path(), &with(options));
        assert!(matches!(&refused, Err(Error::Setting { .. })), "{refused:?}");
        let text = error_of(refused);
        assert!(text.starts_with(&format!("{option}: it needs a table")), "{text}");
    }
    let hint = error_of(open(dir.path().join("deep").as_path(), &OpenOptions::default()));
    assert!(!hint.contains("`labels`"), "{hint}");
    fs::copy(table(&dir), dir.path().join("deep/labels.csv")).unwrap();
    assert_refused(&dir.path().join("deep"), &["no class folders", "`labels`", "deep/labels.csv"]);
}

#[test]
fn a_table_may_say_what_each_image_is_for() {
    let text = b"fname,is_valid,label\na.png,False,x\nb.png,0,y\ndeep/c.png,TRUE,x\nd.JPG,1,y\n";
    let dir = place(&FOUR, text);
    let splits = open(&table(&dir), &OpenOptions::default()).unwrap();
    assert!(splits.manifest.is_none() && splits.test.is_none());
    let want = ["a.png xtrain", "b.png ytrain", "c.png xval", "d.JPG yval"];
    assert_eq!(said(&splits), want.map(String::from).into());
    let known = splits.train.classes;
    let labelled = open_labelled(&table(&dir), &known, by_name(&known)).unwrap();
    assert_eq!(names(&labelled), names(&splits.val));

    // Only training and test: part of the training images validates, none of the test's.
    let six = ["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"];
    let text = b"image,label,split\na,x,train\nb,y,training\nc,x,TRAIN\nd,y,train\ne,x,test\nf,y,test\n";
    let dir = place(&six, text);
    let splits = open(&table(&dir), &with(DataOptions::default())).unwrap();
    assert_eq!((splits.train.counts(), splits.val.counts()), (vec![1, 1], vec![1, 1]));
    let test = splits.test.unwrap();
    assert_eq!(names(&test), ["e.png", "f.png"].map(|name| dir.path().join(name)));
    assert_eq!(splits.manifest.unwrap().files.len(), 4);
    let labelled = open_labelled(&table(&dir), &known, by_name(&known)).unwrap();
    assert_eq!(names(&labelled), names(&test));

    // The manifest of a split that was drawn does not fit a table that now has its own.
    let first = place(&FOUR, b"image,label\na,x\nb,y\ndeep/c,x\nd,y\n");
    let manifest = open(&table(&first), &with(DataOptions::default())).unwrap().manifest;
    fs::write(table(&first), "image,label,is_valid\na,x,0\nb,y,0\ndeep/c,x,1\nd,y,1\n").unwrap();
    let text = error_of(open(&table(&first), &OpenOptions::default().with(|c| c.manifest = manifest)));
    assert!(text.contains("validation part"), "{text}");
}

#[test]
fn several_labels_have_a_separator() {
    let options = |separator: Option<&str>| {
        with(DataOptions::default().with(|c| {
            c.targets = TargetKind::Labels;
            c.label_separator = separator.map(String::from);
        }))
    };
    let want =
        ["a.png [1.0, 0.0, 1.0]", "b.png [0.0, 1.0, 0.0]", "c.png [0.0, 0.0, 0.0]", "d.JPG [1.0, 1.0, 1.0]"];
    let want: BTreeSet<String> = want.map(String::from).into();
    for (text, separator) in [
        ("image,tags\na,haze water\nb,night\ndeep/c,\nd,water  night haze night\n", None),
        ("image,tags\na,haze;water\nb, night\ndeep/c,\nd,water; night;haze;\n", None),
        ("image,tags\na,haze|water\nb,night\ndeep/c,\nd,water|night|haze\n", None),
        ("image,tags\na,\"haze,water\"\nb,night\ndeep/c,\nd,\"water,night, haze\"\n", None),
        ("image,tags\na,haze/water\nb,night\ndeep/c,\nd,water/night/haze\n", Some("/")),
        ("image,tags\na,haze - water\nb,night\ndeep/c,\nd,water - night - haze\n", Some("-")),
    ] {
        let dir = place(&FOUR, text.as_bytes());
        let splits = open(&table(&dir), &options(separator)).unwrap();
        assert_eq!(splits.train.targets, TargetKind::Labels);
        assert_eq!(splits.train.classes, ["haze", "night", "water"], "{text}");
        assert_eq!(said(&splits), want, "{text}");
        let counts = splits.train.counts().into_iter().zip(splits.val.counts());
        assert_eq!(counts.map(|(t, v)| t + v).collect::<Vec<_>>(), [2, 2, 2]);
        assert!(splits.warnings[0].contains("1 of 4 images have no label, the first in line 4"));
    }
    // Blanks belong to the labels where there is another separator.
    let dir = place(&["a.png", "b.png", "c.png"], b"image,tags\na,big dog;cat\nb,cat\nc,big dog\n");
    assert_eq!(open(&table(&dir), &options(None)).unwrap().train.classes, ["big dog", "cat"]);
    let empty = open(&table(&dir), &options(Some("")));
    assert!(matches!(empty, Err(Error::Setting { field: "label_separator", .. })));

    // A column a class.
    let text = b"image,rain,snow\na.png,1,0\nb.png,0,true\ndeep/c.png,0,0\nd.JPG,1,1\n";
    let dir = place(&FOUR, text);
    let mut flags = options(None);
    flags.data.label_columns = ["snow", "rain"].map(String::from).to_vec();
    let splits = open(&table(&dir), &flags).unwrap();
    assert_eq!(splits.train.classes, ["rain", "snow"]);
    let want = ["a.png [1.0, 0.0]", "b.png [0.0, 1.0]", "c.png [0.0, 0.0]", "d.JPG [1.0, 1.0]"];
    assert_eq!(said(&splits), want.map(String::from).into());
    // Known classes keep their places.
    let known = ["snow".to_string(), "rain".into(), "hail".into()];
    let labelled = open_labelled_with(&table(&dir), &flags.data, &known, by_name(&known)).unwrap();
    assert_eq!(labelled.samples[0].target.numbers(), [0.0, 1.0, 0.0]);
    fs::write(table(&dir), "image,rain,snow\na.png,1,2\n").unwrap();
    let text = error_of(open(&table(&dir), &flags));
    assert!(text.contains("labels.csv:2: column 'snow' holds '2' where 0 or 1 belongs"), "{text}");
}

#[test]
fn values_are_numbers() {
    let text = b"image,x,y,note\na.png,1,-2.5e-1,\nb.png,0.5,7,\ndeep/c.png,3,+1,\nd.JPG,4,0,\n";
    let dir = place(&FOUR, text);
    let options = |columns: &[&str]| {
        with(DataOptions::default().with(|c| {
            c.targets = TargetKind::Values;
            c.label_columns = columns.iter().map(|c| c.to_string()).collect();
        }))
    };
    let splits = open(&table(&dir), &options(&["y", "x"])).unwrap();
    assert_eq!(
        (&splits.train.classes[..], splits.train.counts()),
        (&["y".into(), "x".into()][..], vec![2, 2])
    );
    let want = ["a.png [-0.25, 1.0]", "b.png [7.0, 0.5]", "c.png [1.0, 3.0]", "d.JPG [0.0, 4.0]"];
    assert_eq!(said(&splits), want.map(String::from).into());
    assert_eq!(open(&table(&dir), &options(&[])).unwrap().val.classes, ["x"]);
    // A network that was taught y finds it by its name.
    let known = ["y".to_string()];
    let labelled = open_labelled_with(&table(&dir), &options(&[]).data, &known, by_name(&known)).unwrap();
    assert_eq!(labelled.samples[1].target.numbers(), [7.0]);

    for (cell, what) in [("", "is empty"), ("much", "holds 'much'"), ("3,5", "holds '3,5'"), ("nan", "'nan'")]
    {
        fs::write(table(&dir), format!("image,x\na,1\nb,\"{cell}\"\n")).unwrap();
        let text = error_of(open(&table(&dir), &options(&[])));
        let all = ["labels.csv:3", "column 'x'", what, "a number such as 2.5"];
        assert!(all.iter().all(|part| text.contains(part)), "{text}");
    }
}

#[test]
fn mistakes_in_tables_are_named_with_line_and_column() {
    let dir = place(&FOUR, b"");
    let refused = |text: &[u8], data: DataOptions, parts: &[&str]| {
        fs::write(table(&dir), text).unwrap();
        let refused = error_of(open(&table(&dir), &with(data)));
        for part in parts {
            assert!(refused.contains(part), "'{part}' is not in: {refused}");
        }
    };
    let bad = |text: &str, parts: &[&str]| refused(text.as_bytes(), DataOptions::default(), parts);
    bad("", &["labels.csv:1", "no column of labels"]);
    bad("image\na.png\n", &["labels.csv:1", "no column of labels", "image,label"]);
    bad("image,label\n", &["labels.csv", "names no image"]);
    bad("a.png,cat\nb.png,dog\n", &["labels.csv:1", "'a.png' is an image", "image,label"]);
    bad("image,label\na.png,cat\nb.png\n", &["labels.csv:3", "1 cells", "2 columns"]);
    bad("image,label\na.png,cat\nb.png,big, dog\n", &["labels.csv:3", "3 cells", "double quotes"]);
    bad("image,label\na.png,cat\n,dog\n", &["labels.csv:3", "column 'image'", "names no image"]);
    bad("image,label\na.png,cat\nb.png,\n", &["labels.csv:3", "column 'label'", "is empty for b.png"]);
    bad(
        "image,label\na.png,cat\nb.png,dog\n./a.png,dog\n",
        &["labels.csv:4", "column 'image'", "./a.png", "'dog'", "line 2", "'cat'"],
    );
    bad("image,label,split\na,x,train\na,x,val\n", &["labels.csv:3", "'x' (val)", "line 2", "'x' (train)"]);
    bad(
        "image,label,split\na,x,train\nb,x,vel\n",
        &["labels.csv:3", "column 'split'", "'vel'", "train, val"],
    );
    bad("image,label,is_valid\na,x,maybe\n", &["labels.csv:2", "column 'is_valid'", "true or false"]);
    bad("image,label\nnone.png,x\nnix.png,y\n", &["none of its 2 images", "none.png", "`labels`"]);
    bad("image,label\na,x\nb,x\n", &["a single class, 'x'", "images of a second class"]);
    bad("image,label\na,x\nb,y\nd,y\n", &["'x'", "single image", "a.png"]);
    bad("image,label,split\na,x,train\nb,y,val\ndeep/c,x,train\n", &["class 'y'", "no image for training"]);
    bad("image,label,split\na,x,val\nb,y,val\n", &["for training"]);
    refused(b"\xFF\xFEi\0", DataOptions::default(), &["labels.csv", "UTF-16"]);
    refused(b"image,label\na,\xE9t\xE9\n", DataOptions::default(), &["labels.csv:2", "not UTF-8"]);

    let text = b"image,label\na,x\nb,y\n";
    let column = |name: &str| Some(name.to_string());
    let parts = ["image_column imag", "no such column", "did you mean 'image'?", "image, label"];
    refused(text, DataOptions::default().with(|c| c.image_column = column("imag")), &parts);
    let parts = ["`label_columns`", "'image' would serve twice"];
    refused(text, DataOptions::default().with(|c| c.label_columns = vec!["image".into()]), &parts);
    let parts = ["2 label columns", "`targets = values`"];
    let two = vec!["label".into(), "other".into()];
    refused(b"image,label,other\na,x,y\n", DataOptions::default().with(|c| c.label_columns = two), &parts);

    assert_refused(&dir.path().join("none.csv"), &["none.csv", "no such file"]);
    let labels = Some(table(&dir));
    let nowhere =
        open(&dir.path().join("nowhere"), &with(DataOptions::default().with(|c| c.labels = labels)));
    assert!(error_of(nowhere).contains("nowhere: there is no such folder"));
    fs::write(table(&dir), text).unwrap();
    let known = ["x".to_string(), "why".to_string()];
    let text = error_of(open_labelled(&table(&dir), &known, by_name(&known)));
    assert!(text.contains("labels.csv:3: column 'label' holds 'y', none of the 2"), "{text}");
}

#[test]
fn missing_images_and_repeated_lines_are_told() {
    let text = b"image,label\na,x\nb,y\ngone.png,x\ndeep/c,x\nd,y\n./b,y\na,x\ndeep,y\n";
    let dir = place(&FOUR, text);
    let splits = open(&table(&dir), &with(DataOptions::default())).unwrap();
    assert_eq!(splits.train.len() + splits.val.len(), 4);
    let file = table(&dir).display().to_string();
    let reason = |line| format!("no such file (line {line} of {file})");
    let skipped = |name, line| Skipped { path: dir.path().join(name), reason: reason(line) };
    assert_eq!(splits.train.skipped, [skipped("gone.png", 4), skipped("deep", 9)]);
    assert_eq!(splits.warnings, [format!("{file}:7: repeats line 3 and is left out, as 1 more are")]);
}
