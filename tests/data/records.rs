//! Files of many images: IDX as MNIST has them, and CIFAR's.

use super::*;

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
