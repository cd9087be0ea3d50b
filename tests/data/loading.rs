//! Batches: order, augmentation, failures, epochs.

use super::*;

/// `count` images of different colours in one class of two.
fn colours(dir: &Path, count: usize) -> Arc<Dataset> {
    write_classes(dir, &[("a", count), ("b", 1)]);
    let known = ["a".to_string(), "b".to_string()];
    Arc::new(open_labelled(dir, &known, by_name(&known)).unwrap())
}

fn small() -> Preprocess {
    Preprocess::whole(8)
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
            indices.iter().zip(&batch.targets).zip(batch.pixels.chunks_exact(8 * 8 * 3))
        {
            let sample = &dataset.samples[*index];
            assert_eq!(*label, sample.target);
            // An image of one colour stays so through resize and crop.
            let colour = &sample.image().unwrap().rgb[..3];
            assert!(pixels.chunks_exact(3).all(|pixel| pixel == colour));
        }
        assert_eq!(batch.pixels.len(), batch.indices.len() * 8 * 8 * 3);
    }
}

#[test]
fn augmentation_depends_on_seed_epoch_and_image_alone() {
    let dir = TempDir::new().unwrap();
    for i in 0..12usize {
        let image = formula((40 + i, 30));
        let path = dir.path().join(format!("a/{i}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &image.rgb, 40 + i as u32, 30, image::ColorType::Rgb8).unwrap();
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
        single.install(|| forward.iter().map(|&i| training(7, 2).image(&dataset, i).unwrap()).collect());
    assert!(first == alone && first == run(&epoch_order(12, 3, 3), 5, training(7, 2), 3));
    let differs = |other: Vec<Vec<u8>>| first.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert_eq!(differs(run(&forward, 4, training(7, 3), 1)), 12);
    assert_eq!(differs(run(&forward, 4, training(8, 2), 1)), 12);

    // The same image in two places is varied in two ways.
    let twin = Dataset { samples: vec![dataset.samples[0].clone(); 2], ..Dataset::default() };
    assert_ne!(training(7, 2).image(&twin, 0).unwrap(), training(7, 2).image(&twin, 1).unwrap());
}

#[test]
fn an_image_that_fails_is_reported_and_the_rest_goes_on() {
    let dir = TempDir::new().unwrap();
    let dataset = colours(dir.path(), 5);
    fs::write(dir.path().join("a/1.png"), "gone bad").unwrap();
    fs::remove_file(dir.path().join("b/0.png")).unwrap();
    let loader = Loader::new(dataset, vec![vec![0, 1, 2], vec![5], vec![4]], View::Eval(small()), 1).unwrap();
    let got: Vec<_> = loader.collect();
    assert_eq!(got[0].indices, [0, 2]);
    assert_eq!((got[0].targets.len(), got[0].pixels.len()), (2, 2 * 192));
    assert_eq!(got[0].failed.len(), 1);
    assert_eq!(got[0].failed[0].1.path, dir.path().join("a/1.png"));
    assert!(got[0].failed[0].1.reason.starts_with("not an image"), "{:?}", got[0].failed);
    assert!(
        got[1].targets.is_empty() && got[1].failed[0].1.reason.starts_with("cannot read"),
        "{:?}",
        got[1]
    );
    assert_eq!(got[2].indices, [4]);
}

#[test]
fn targets_travel_with_their_images() {
    let dir = TempDir::new().unwrap();
    let folders = colours(dir.path(), 5);
    let target = |i: usize| [(i % 2) as f32, f32::from(i.is_multiple_of(3))];
    let samples = folders.samples.iter().enumerate();
    let samples: Vec<_> = samples
        .map(|(i, s)| Sample { source: s.source.clone(), target: Target::Labels(target(i).into()) })
        .collect();
    let dataset = Dataset { targets: TargetKind::Labels, samples, ..(*folders).clone() };
    assert_eq!(dataset.counts(), [3, 2]);
    let values = |sample: &Sample| {
        let target = Target::Values(sample.target.numbers().into());
        Sample { target, ..sample.clone() }
    };
    let values = dataset.samples.iter().map(values).collect();
    assert_eq!(Dataset { targets: TargetKind::Values, samples: values, ..dataset.clone() }.counts(), [6, 6]);
    fs::write(dir.path().join("a/1.png"), "gone bad").unwrap();
    let loader =
        Loader::new(Arc::new(dataset), vec![vec![4, 1, 3], vec![0]], View::Eval(small()), 1).unwrap();
    let got: Vec<_> = loader.map(|batch| (batch.indices, batch.targets)).collect();
    let labels = |numbers: [f32; 2]| Target::Labels(numbers.into());
    assert_eq!(
        got,
        [(vec![4, 3], vec![labels([0.0, 0.0]), labels([1.0, 1.0])]), (vec![0], vec![labels([0.0, 1.0])])]
    );
    let loader = Loader::new(folders, vec![vec![0, 2]], View::Eval(small()), 1).unwrap();
    assert!(loader.into_iter().all(|batch| batch.targets == [Target::Class(0), Target::Class(0)]));
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
    assert!(error_of(beyond).contains("image 3 of a set of 3"));
    let augment = Augment::default().with(|c| c.flip = 2.0);
    let view = View::Train { preprocess: small(), augment, seed: 0, epoch: 0 };
    let loader = Loader::new(Arc::clone(&dataset), vec![], view, 1);
    assert!(matches!(loader, Err(Error::Setting { field: "flip", .. })));
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
fn no_image_is_lost_to_a_short_last_batch() {
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
