//! Images that belong together stay together.

use super::*;

fn options(by: &str, seed: u64) -> OpenOptions {
    let data = DataOptions::default().with(|c| c.group_by = Some(by.parse().unwrap()));
    OpenOptions::default().with(|c| {
        c.seed = seed;
        c.data = data;
    })
}

/// The groups of both parts, by `group` of an image's path; none may be in both.
fn parts(splits: &Splits, group: impl Fn(&Path) -> String) -> [BTreeSet<String>; 2] {
    let of = |set: &Dataset| names(set).iter().map(|name| group(name)).collect::<BTreeSet<_>>();
    let both = [of(&splits.train), of(&splits.val)];
    assert!(both[0].is_disjoint(&both[1]), "{both:?}");
    assert!(both.iter().all(|part| !part.is_empty()));
    both
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

#[test]
fn no_group_is_on_both_sides() {
    // 30 patients with 1 to 7 images, most of one class, every third of both.
    let dir = TempDir::new().unwrap();
    let mut total = [0.0; 2];
    for patient in 0..30usize {
        for image in 0..1 + patient * 5 % 7 {
            let class = if patient % 3 == 0 { image % 2 } else { patient % 2 };
            let name = format!("{}/p{patient:02}_{image}_x.png", ["ill", "well"][class]);
            write_image(&dir.path().join(name), [patient as u8, image as u8, 0]);
            total[class] += 1.0;
        }
    }
    let mut seen = BTreeSet::new();
    for seed in 0..20 {
        let splits = open(dir.path(), &options("prefix:_", seed)).unwrap();
        let [_, val] = parts(&splits, |path| stem(path).split('_').next().unwrap().to_string());
        // Stratified as well as whole patients allow: within three images of a fifth.
        for (n, total) in splits.val.counts().into_iter().zip(total) {
            assert!((n as f64 - 0.2 * total).abs() <= 3.0, "{n} of {total}, seed {seed}");
        }
        let again = open(dir.path(), &options("prefix:_", seed)).unwrap();
        assert_eq!(again.manifest, splits.manifest);
        seen.insert(val);
    }
    assert!(seen.len() > 15, "the seed decides");
    // Without a separator in a name every image is a group of its own: the split that there is anyway.
    let alone = open(dir.path(), &OpenOptions::default()).unwrap();
    assert_eq!(alone.val.counts(), total.map(|n| (n * 0.2_f64).round() as usize));
}

#[test]
fn folders_within_classes_are_groups() {
    let dir = TempDir::new().unwrap();
    for (class, folders) in [("a", ["one", "two", "three", ""]), ("b", ["one", "four", "five", ""])] {
        for (folder, i) in folders.iter().flat_map(|f| (0..4).map(move |i| (f, i))) {
            write_image(
                &dir.path().join("train").join(class).join(folder).join(format!("{class}{i}.png")),
                [i; 3],
            );
        }
    }
    let by_folder = |path: &Path| {
        let inner = path.strip_prefix(dir.path().join("train")).unwrap();
        let folder = inner.parent().unwrap().iter().nth(1);
        folder.map_or_else(|| stem(path), |folder| folder.to_string_lossy().into_owned())
    };
    for seed in 0..10 {
        parts(&open(dir.path(), &options("parent", seed)).unwrap(), by_folder);
    }
    // A validation folder of one's own is only looked at.
    write_image(&dir.path().join("val/a/one/0.png"), [1; 3]);
    write_image(&dir.path().join("val/b/six/0.png"), [2; 3]);
    let splits = open(dir.path(), &options("parent", 0)).unwrap();
    assert!(splits.warnings.iter().any(|w| w.starts_with("1 of the groups, 'one'")), "{:?}", splits.warnings);
}

#[test]
fn a_column_of_a_table_may_name_the_group() {
    let dir = TempDir::new().unwrap();
    let mut text = String::from("image,label,film,split\n");
    for i in 0..40u8 {
        write_image(&dir.path().join(format!("{i}.png")), [i, 1, 2]);
        text += &format!(
            "{i}.png,{},film {},{}\n",
            ["x", "y"][usize::from(i % 2)],
            i / 5,
            ["train", "test"][usize::from(i == 39)]
        );
    }
    let table = dir.path().join("labels.csv");
    fs::write(&table, &text).unwrap();
    let film = |path: &Path| (stem(path).parse::<u8>().unwrap() / 5).to_string();
    for seed in 0..10 {
        parts(&open(&table, &options("column:Film", seed)).unwrap(), film);
    }
    let numbers = DataOptions::default().with(|c| {
        c.targets = TargetKind::Values;
        c.label_columns = vec!["n".into()];
        c.group_by = Some(GroupBy::Column("film".into()));
    });
    let plain: String = (0..40).map(|i| format!("{i}.png,{i},film {}\n", i / 5)).collect();
    fs::write(&table, format!("image,n,film\n{plain}")).unwrap();
    let splits = open(&table, &OpenOptions::default().with(|c| c.data = numbers)).unwrap();
    parts(&splits, film);
    assert_eq!((splits.train.len(), splits.val.len()), (30, 10));

    fs::write(&table, text.replace("film 3,train", ",train")).unwrap();
    let refused = error_of(open(&table, &options("column:film", 0)));
    assert!(refused.contains("labels.csv:17: column 'film' names no group for 15.png"), "{refused}");
    let refused = error_of(open(&table, &options("column:actor", 0)));
    assert!(refused.contains("group_by column:actor: there is no such column"), "{refused}");
    fs::write(&table, text.replace(",train", ",val").replacen(",val", ",train", 7)).unwrap();
    let splits = open(&table, &options("column:film", 0)).unwrap();
    assert!(
        splits.warnings.iter().any(|w| w.starts_with("1 of the groups, 'film 1'")),
        "{:?}",
        splits.warnings
    );
}

#[test]
fn groups_that_cannot_be_divided_are_refused() {
    let dir = TempDir::new().unwrap();
    for (class, groups) in [("a", ["p1", "p2"]), ("b", ["p3", "p3"])] {
        for (i, group) in groups.iter().enumerate() {
            write_image(&dir.path().join(format!("{class}/{group}_{i}.png")), [i as u8; 3]);
        }
    }
    let refused = error_of(open(dir.path(), &options("prefix:_", 0)));
    let parts = ["class 'b'", "2 images make up one group ('p3')", "`group_by`"];
    assert!(parts.iter().all(|part| refused.contains(part)), "{refused}");
    for rule in ["", "column:", "prefix:", "prefix", "folder", "column"] {
        let refused = rule.parse::<GroupBy>();
        assert!(matches!(refused, Err(Error::Setting { field: "group_by", .. })), "{rule}");
    }
    for rule in ["parent", "column:a b", "prefix:_", "prefix::"] {
        let by: GroupBy = rule.parse().unwrap();
        let json = serde_json::to_string(&by).unwrap();
        assert_eq!(
            (json.clone(), serde_json::from_str::<GroupBy>(&json).unwrap()),
            (format!("\"{rule}\""), by)
        );
    }
    let column = open(dir.path(), &options("column:x", 0));
    assert!(matches!(&column, Err(Error::Setting { field: "group_by", .. })), "{column:?}");
}

#[test]
fn rare_labels_are_divided_too() {
    let dir = TempDir::new().unwrap();
    let mut text = String::from("image,tags\n");
    for i in 0..60u8 {
        write_image(&dir.path().join(format!("{i}.png")), [i, 1, 2]);
        text += &format!(
            "{i},common{}\n",
            if i % 12 == 0 {
                ";rare"
            } else if i == 31 {
                ";once"
            } else {
                ""
            }
        );
    }
    fs::write(dir.path().join("labels.csv"), text).unwrap();
    let data = DataOptions::default().with(|c| c.targets = TargetKind::Labels);
    for seed in 0..5 {
        let options = OpenOptions::default().with(|c| {
            c.seed = seed;
            c.data = data.clone();
        });
        let splits = open(&dir.path().join("labels.csv"), &options).unwrap();
        assert_eq!(splits.val.counts(), [12, 0, 1], "common, once, rare: seed {seed}");
    }
}
