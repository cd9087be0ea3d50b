//! Heads that are solved for: on every device, in a network, on real images.
#![allow(clippy::unwrap_used)]

use crate::common;

use std::path::Path;
use std::time::Instant;

use common::{gpu, material};
use defrost::data::{self, Dataset, OpenOptions};
use defrost::models::{self, HeadPolicy, Network};
use defrost::plan::Device;
use defrost::rng::Stream;
use defrost::task::SingleLabel;
use defrost::train::{Silent, SolverOptions, Vectors, extract, solve_head};

/// Clouds of features about a centre for each class, drawn.
fn clouds(dims: usize, classes: usize, each: usize) -> Vectors {
    let centre = |class: usize, d: usize| Stream::new(&[1, class as u64, d as u64]).normal();
    let mut stream = Stream::new(&[2]);
    let labels: Vec<u32> = (0..classes * each).map(|i| (i % classes) as u32).collect();
    let row = |&label: &u32| (0..dims).map(|d| centre(label as usize, d) + 3.0 * stream.normal()).collect();
    let rows: Vec<Vec<f64>> = labels.iter().map(row).collect();
    let rows = rows.into_iter().flatten().map(|x| x as f32).collect();
    Vectors { dims, rows, labels }
}

#[test]
fn the_gpu_finds_what_the_cpu_finds() {
    let net = models::create("resnet20", 3).unwrap();
    let features = clouds(64, 3, 20);
    let options = SolverOptions::default().with(|c| c.penalty = Some(0.05));
    let solve = |device: &Device| solve_head(&net, device, &features, &options, &mut Silent).unwrap();
    let (cpu, gpu) = (solve(&Device::Cpu), solve(&Device::Gpu(gpu())));
    assert!((cpu.loss - gpu.loss).abs() < 1e-5, "{} {}", cpu.loss, gpu.loss);
    let off = cpu.weight.iter().zip(&gpu.weight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-4, "{off}");
    assert!(cpu.loss > 0.01 && cpu.loss < 1.0, "{}", cpu.loss);
}

#[test]
fn a_solved_head_is_the_networks() {
    let mut net = models::create("resnet20", 3).unwrap();
    let features = clouds(64, 3, 30);
    let solved = solve_head(&net, &Device::Cpu, &features, &SolverOptions::default(), &mut Silent).unwrap();
    assert!(solved.cv.len() > 2);
    solved.write(&mut net).unwrap();
    assert_eq!(net.tensor("fc.weight").unwrap(), solved.weight);
    assert_eq!(net.tensor("fc.bias").unwrap(), solved.bias);
    assert!(!net.has_fresh_head());
    // By hand: the loss that the solver tells.
    let logit = |row: &[f32], c: usize| {
        let products = row.iter().zip(&solved.weight[c * 64..]).map(|(x, w)| f64::from(*x) * f64::from(*w));
        products.sum::<f64>() + f64::from(solved.bias[c])
    };
    let rows = features.rows.chunks_exact(64).zip(&features.labels);
    let losses = rows.map(|(row, &label)| {
        (0..3).map(|c| logit(row, c).exp()).sum::<f64>().ln() - logit(row, label as usize)
    });
    let loss = losses.sum::<f64>() / 90.0;
    assert!((loss - solved.loss).abs() < 1e-5, "{loss} {}", solved.loss);
}

#[test]
fn heads_that_are_no_linear_layer_are_refused() {
    let refused = |net: &Network, things: &[&str]| {
        let features = clouds(net.features(), 2, 2);
        let outcome = solve_head(net, &Device::Cpu, &features, &SolverOptions::default(), &mut Silent);
        let message = outcome.unwrap_err();
        assert_eq!(message.exit_code(), 2);
        things.iter().for_each(|thing| assert!(message.to_string().contains(thing), "{message}"));
    };
    let mut hidden = models::create("resnet20", 2).unwrap();
    hidden.replace_head_with(vec!["a".into(), "b".into()], Some(8), 0).unwrap();
    refused(&hidden, &["`head_hidden`"]);
    refused(&models::blank("squeezenet1_1", 2).unwrap(), &["squeezenet1_1"]);
    let net = models::blank("resnet20", 3).unwrap();
    let few = clouds(60, 3, 2);
    let outcome = solve_head(&net, &Device::Cpu, &few, &SolverOptions::default(), &mut Silent);
    assert!(outcome.unwrap_err().to_string().contains("60 features"));
}

/// MobileNetV2 with a head for the classes of a data set, and the features of its parts.
fn front(material: &Path, name: &str) -> (Network, Vec<Vectors>) {
    let splits = data::open(&material.join("data").join(name), &OpenOptions::default()).unwrap();
    let weights = material.join("weights/mobilenet_v2.safetensors");
    let (mut net, _) = models::load_with("mobilenet_v2", weights, HeadPolicy::Replace).unwrap();
    net.replace_head_for(splits.train.classes.clone(), 0).unwrap();
    let sets = [Some(&splits.train), Some(&splits.val), splits.test.as_ref()];
    let sets: Vec<&Dataset> = sets.into_iter().flatten().collect();
    let features = extract(&net, &Device::Cpu, &sets, None, &mut Silent).unwrap();
    let vectors = features.iter().map(|f| f.vectors().unwrap()).collect();
    (net, vectors)
}

/// PyTorch with L-BFGS and a penalty by cross-validation: 95.42% of hymenoptera's 153; 78.8% of clothing10's 250 and
/// 81.23% of its 293.
#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn real_images_are_told_apart_as_well_as_by_pytorchs_solver() {
    let material = material();
    for (name, expected) in [("hymenoptera", &[0.94][..]), ("clothing10", &[0.77, 0.81])] {
        let (net, features) = front(&material, name);
        let began = Instant::now();
        let solved =
            solve_head(&net, &Device::Cpu, &features[0], &SolverOptions::default(), &mut Silent).unwrap();
        println!("{name}: {:.2} s, penalty {:.4}", began.elapsed().as_secs_f64(), solved.penalty);
        solved.cv.iter().for_each(|tried| println!("  {tried:?}"));
        for (set, least) in features[1..].iter().zip(expected) {
            let logit = |row: &[f32], c: usize| {
                let products = row.iter().zip(&solved.weight[c * set.dims..]).map(|(x, w)| x * w);
                products.sum::<f32>() + solved.bias[c]
            };
            let classes = net.classes().len();
            let rows = set.rows.chunks_exact(set.dims);
            let logits: Vec<f32> = rows.flat_map(|row| (0..classes).map(move |c| logit(row, c))).collect();
            let found = SingleLabel::new(&logits, &set.labels, classes).unwrap();
            println!("  {:.2}% of {}, loss {:.4}", 100.0 * found.top1, found.count, found.loss);
            assert!(found.top1 >= *least, "{name}: {}", found.top1);
        }
    }
}
