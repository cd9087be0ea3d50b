//! Decoding, resizing, and what becomes of an image.

use super::*;

#[test]
fn images_decode_as_in_pillow() {
    let mut wrong = Vec::new();
    for case in expected("pictures") {
        let file = case["file"].as_str().unwrap();
        let image = load(&fixtures().join(file)).unwrap();
        assert_eq!((image.width, image.height), pair(&case["size"]), "{file}");
        assert_eq!(image.rgb.len(), image.width * image.height * 3, "{file}");
        if let Some(sum) = case["sha256"].as_str() {
            if sha(&image.rgb) != sum {
                wrong.push(format!("{file} differs"));
            }
            continue;
        }
        let hex = case["rgb"].as_str().unwrap();
        assert_eq!(hex.len(), image.rgb.len() * 2, "{file}");
        let worst = (0..image.rgb.len())
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap().abs_diff(image.rgb[i]))
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
    let image = decode(&bytes, Path::new("called.jpg")).unwrap();
    assert_eq!(image, load(&fixtures().join("rgb.png")).unwrap());
}

#[test]
fn what_is_no_image_is_an_error_that_names_file_and_reason() {
    let file = Path::new("holiday/cat.jpg");
    let refused = |bytes: &[u8], reason: &str| {
        let error = decode(bytes, file).unwrap_err();
        assert!(matches!(error, Error::Data(_)));
        let text = error.to_string();
        assert!(text.starts_with("holiday/cat.jpg: ") && text.contains(reason), "{text}");
    };
    refused(b"", "empty");
    refused(b"Dear diary, today I saw a cat.", "not an image");
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
/// very same image.
#[test]
fn a_file_that_is_cut_off_is_an_error() {
    let mut wrong = Vec::new();
    for case in expected("pictures") {
        let file = case["file"].as_str().unwrap();
        let bytes = fs::read(fixtures().join(file)).unwrap();
        let whole = decode(&bytes, Path::new(file)).unwrap();
        for length in 0..bytes.len() {
            if decode(&bytes[..length], Path::new(file)).is_ok_and(|image| image != whole) {
                wrong.push(format!("{file} cut to {length} of {} bytes gives another image", bytes.len()));
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

/// Flipped bits may give another image or an error; never a panic, never a wrong length.
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
                Ok(image) => assert_eq!(image.rgb.len(), image.width * image.height * 3),
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
        let (image, to) = (formula(pair(&case["from"])), number(&case["to"]));
        let whole = Rect { x: 0, y: 0, width: to, height: to };
        let ours = resize_window(&image, rect(&case["part"]), (to, to), whole, filter(&case));
        assert_eq!(sha(&ours.rgb), case["sha256"], "{case}");
    }
}

#[test]
fn a_window_is_what_a_crop_of_the_whole_would_be() {
    let image = formula((90, 70));
    for size in [(45, 35), (120, 100), (90, 35), (45, 70), (90, 70)] {
        let whole = resize(&image, size.0, size.1, Filter::Bicubic);
        let keep = Rect { x: 11, y: 5, width: 20, height: 29 };
        let source = Rect { x: 0, y: 0, width: 90, height: 70 };
        let window = resize_window(&image, source, size, keep, Filter::Bicubic);
        let rows = whole.rgb.chunks_exact(size.0 * 3).skip(keep.y).take(keep.height);
        let cropped: Vec<u8> = rows.flat_map(|row| row[keep.x * 3..][..keep.width * 3].to_vec()).collect();
        assert!(window.rgb == cropped, "{size:?}");
    }
}

#[test]
fn evaluation_sees_what_torchvision_sees() {
    for case in expected("eval") {
        let (resize, crop) = (number(&case["resize"]), number(&case["crop"]));
        let preprocess = Preprocess::cropped(resize, crop, filter(&case));
        let ours = eval(&formula(pair(&case["from"])), &preprocess);
        assert_eq!(ours.len(), crop * crop * 3);
        assert_eq!(sha(&ours), case["sha256"], "{case}");
    }
}

/// Part of an image's rows.
fn cut(image: &Image, part: Rect) -> Vec<u8> {
    let rows = image.rgb.chunks_exact(image.width * 3).skip(part.y).take(part.height);
    rows.flat_map(|row| row[part.x * 3..][..part.width * 3].to_vec()).collect()
}

#[test]
fn images_are_placed_as_the_input_says() {
    let image = formula((120, 90));
    let fill = [10, 20, 30];
    let view = |size, placement| {
        Preprocess::cropped(60, 48, Filter::Bilinear).with(|c| {
            c.size = size;
            c.placement = placement;
            c.fill = fill;
        })
    };
    let scaled = |width, height| resize(&image, width, height, Filter::Bilinear);

    // Neither height nor width is the other's.
    let stretched = view([40, 64], Placement::Stretch);
    assert!(eval(&image, &stretched) == scaled(64, 40).rgb);

    // 120 x 90 fits 64 x 64 as 64 x 48.
    for (placement, top) in [(Placement::Fit, 8), (Placement::FitTopLeft, 0)] {
        let seen = eval(&image, &view([64, 64], placement));
        let seen = Image { width: 64, height: 64, rgb: seen };
        assert!(
            cut(&seen, Rect { x: 0, y: top, width: 64, height: 48 }) == scaled(64, 48).rgb,
            "{placement:?}"
        );
        let outside = cut(&seen, Rect { x: 0, y: 56, width: 64, height: 8 });
        assert!(outside.chunks_exact(3).all(|pixel| pixel == fill), "{placement:?}");
    }
    // And 64 x 30 as 40 x 30, in the middle.
    let seen = Image { width: 64, height: 30, rgb: eval(&image, &view([30, 64], Placement::Fit)) };
    assert!(cut(&seen, Rect { x: 12, y: 0, width: 40, height: 30 }) == scaled(40, 30).rgb);

    // The short side of the canvas is to the image's as 48 to 60: covered by 80 x 60, or by its height.
    let wide = eval(&image, &view([48, 64], Placement::Crop));
    assert!(wide == cut(&scaled(80, 60), Rect { x: 8, y: 6, width: 64, height: 48 }));
    let tall = eval(&image, &view([96, 48], Placement::Crop));
    assert!(tall == cut(&scaled(160, 120), Rect { x: 56, y: 12, width: 48, height: 96 }));
}

#[test]
fn a_view_maps_the_canvas_to_the_image() {
    let near = |a: [f64; 2], b: [f64; 2]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    let fit = Preprocess::whole(64).with(|c| c.placement = Placement::Fit);
    let map = View::Eval(fit.clone()).map([120, 90], 0);
    for (canvas, image) in
        [([0.0, 8.0], [0.0, 0.0]), ([64.0, 56.0], [120.0, 90.0]), ([32.0, 32.0], [60.0, 45.0])]
    {
        assert!(near(map.apply(canvas), image), "{canvas:?}: {:?}", map.apply(canvas));
        assert!(near(map.inverse().unwrap().apply(image), canvas));
    }
    let cropped = View::Eval(Preprocess::cropped(60, 48, Filter::Bilinear)).map([120, 90], 0);
    assert!(near(cropped.apply([0.0, 0.0]), [24.0, 9.0]) && near(cropped.apply([48.0, 48.0]), [96.0, 81.0]));

    // A white dot in a black image is seen where the map says, whatever part is drawn and however it is turned.
    let (width, height, dot) = (96, 80, [52.5, 37.5]);
    let mut rgb = vec![0; width * height * 3];
    for (x, y) in (51..54).flat_map(|x| (36..39).map(move |y| (x, y))) {
        rgb[(y * width + x) * 3..][..3].fill(255);
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("dot.ppm");
    fs::write(&file, [format!("P6\n{width} {height}\n255\n").as_bytes(), &rgb].concat()).unwrap();
    let samples = vec![Sample { source: Source::file(file), target: Target::Class(0) }];
    let set = Dataset { samples, classes: vec!["dot".into()], ..Dataset::default() };
    let mut seen = 0;
    for epoch in 0..40 {
        let augment = Augment::default().with(|c| c.scale = (0.5, 1.0));
        let preprocess = Preprocess::whole(40).with(|c| c.size = [40, 56]);
        let view = View::Train { preprocess, augment, seed: 3, epoch };
        let [x, y] = view.map([width, height], 0).inverse().unwrap().apply(dot);
        if !(3.0..53.0).contains(&x) || !(3.0..37.0).contains(&y) {
            continue;
        }
        let pixels = view.image(&set, 0).unwrap();
        let weights: Vec<f64> = pixels.chunks_exact(3).map(|p| f64::from(p[0])).collect();
        let total: f64 = weights.iter().sum();
        let mean = |of: fn(usize) -> usize| {
            weights.iter().enumerate().map(|(i, w)| w * (of(i) as f64 + 0.5)).sum::<f64>() / total
        };
        let found = [mean(|i| i % 56), mean(|i| i / 56)];
        assert!((found[0] - x).abs() < 0.3 && (found[1] - y).abs() < 0.3, "{found:?}, not {x} {y}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
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
    let augment = Augment::default().with(|c| {
        c.scale = (0.2, 0.7);
        c.ratio = (0.5, 2.0);
    });
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
    // log-uniform in ratio: about as many are wide as tall, leaning to wide as the image is.
    let mean = areas.iter().sum::<f64>() / 4000.0;
    assert!((0.38..0.46).contains(&mean), "{mean}");
    assert!((2000..2600).contains(&wide), "{wide}");
    assert!(lefts.len() > 200 && lefts.contains(&0));
}

#[test]
fn training_is_a_part_resized_and_perhaps_mirrored() {
    let image = formula((120, 90));
    let preprocess = Preprocess::cropped(40, 32, Filter::Bilinear);
    let whole = Rect { x: 0, y: 0, width: 32, height: 32 };
    let mut mirrored = 0;
    for seed in 0..400 {
        let mut stream = Stream::new(&[seed]);
        let part = random_part(120, 90, &Augment::default(), &mut stream);
        let flip = stream.unit() < 0.5;
        let mut want = resize_window(&image, part, (32, 32), whole, Filter::Bilinear).rgb;
        if flip {
            mirrored += 1;
            for row in want.chunks_exact_mut(96) {
                let pixels: Vec<[u8; 3]> = row.chunks_exact(3).rev().map(|p| [p[0], p[1], p[2]]).collect();
                row.copy_from_slice(pixels.as_flattened());
            }
        }
        let ours = train(&image, &preprocess, &Augment::default(), &mut Stream::new(&[seed]));
        assert!(ours == want, "seed {seed}");
    }
    assert!((150..250).contains(&mirrored), "{mirrored}");
}

#[test]
fn augmentation_out_of_range_is_refused() {
    let good = Augment::default();
    assert!(good.check().is_ok());
    for bad in [
        good.with(|c| c.scale = (0.0, 1.0)),
        good.with(|c| c.scale = (0.5, 1.5)),
        good.with(|c| c.scale = (0.9, 0.5)),
        good.with(|c| c.ratio = (-1.0, 1.0)),
        good.with(|c| c.ratio = (1.0, f64::INFINITY)),
        good.with(|c| c.flip = 1.1),
        good.with(|c| c.flip = f64::NAN),
    ] {
        assert!(matches!(bad.check(), Err(Error::Setting { .. })), "{bad:?}");
    }
    assert_eq!(serde_json::from_str::<Augment>(r#"{"flip": 0.0}"#).unwrap(), good.with(|c| c.flip = 0.0));
    assert!(serde_json::from_str::<Augment>(r#"{"flop": 0.0}"#).is_err());
}
