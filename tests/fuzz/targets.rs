//! What is fuzzed: each target takes any bytes for a file that Defrost reads, and must answer with a value or an error.
//! `tests/fuzz` runs some mutations of its seeds, `tools/fuzz` many millions under libFuzzer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use defrost::data::{self, DataOptions, Dataset, DrawnSet, OpenOptions, Scenes};
use defrost::models::{self, Architecture, HeadPolicy, Model, Network, Preprocess};
use defrost::nn::init::LinearInit;
use defrost::nn::{Conv2d, Graph, SavedTensor, TensorFile, save_tensors};
use defrost::plan::Device;
use defrost::tape::ValueId;
use defrost::train::{Context, RunFile, Silent, extract, read_best, read_metrics, resume};

/// A kind of file.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// Takes bytes for such a file.
    pub(crate) run: fn(&[u8]),
    /// Good ones, and a few that are nearly so.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

pub(crate) const TARGETS: [Target; 8] = [
    Target { name: "safetensors", run: weights, seeds: safetensors_seeds },
    Target { name: "pth", run: weights, seeds: pth_seeds },
    Target { name: "descriptions", run: descriptions, seeds: description_seeds },
    Target { name: "images", run: images, seeds: image_seeds },
    Target { name: "tables", run: tables, seeds: table_seeds },
    Target { name: "idx", run: idx, seeds: idx_seeds },
    Target { name: "features", run: features, seeds: feature_seeds },
    Target { name: "runs", run: runs, seeds: run_seeds },
];

/// A folder of this process, in memory where the system has such a place.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        base.join(format!("defrost-fuzz-{}", std::process::id()))
    });
    fs::create_dir_all(folder).expect("a folder");
    folder
}

/// Removes what a target wrote, once it is done with.
#[allow(dead_code, reason = "libFuzzer's process does not end by returning")]
pub(crate) fn clean() {
    let _ = fs::remove_dir_all(folder());
}

fn fixtures(name: &str) -> PathBuf {
    let root =
        std::env::var_os("DEFROST_ROOT").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    root.join("tests/fixtures").join(name)
}

/// All files below a folder of fixtures, of at most 20 kB.
fn small_files(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    let read = |path: PathBuf| match path.is_dir() {
        true => small_files(&path),
        false => fs::read(path).into_iter().filter(|bytes| bytes.len() <= 20_000).collect(),
    };
    paths.into_iter().flat_map(read).collect()
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("room in the folder");
    path
}

/// Weights of any kind: opened, every tensor read, and taken for a network's.
fn weights(bytes: &[u8]) {
    let path = written("weights", bytes);
    if let Ok(file) = TensorFile::open(&path) {
        for name in file.tensors().keys() {
            let _ = file.read_f32(name);
            let _ = file.read_i64(name);
        }
    }
    let _ = models::load_with("resnet20", &path, HeadPolicy::Replace);
}

fn safetensors_seeds() -> Vec<Vec<u8>> {
    let path = folder().join("seed");
    let (a, b) = (vec![0.5; 6], vec![1.0; 2]);
    let save = |tensors: &[(&str, SavedTensor<'_>)], about: &[(&str, &str)]| {
        let tensors = tensors.iter().map(|(name, tensor)| (name.to_string(), *tensor)).collect();
        let about: BTreeMap<String, String> =
            about.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        save_tensors(&path, &tensors, &about).expect("it can be written");
        fs::read(&path).expect("it was written")
    };
    vec![
        save(&[("a.weight", SavedTensor::F32(&[2, 3], &a)), ("a.bias", SavedTensor::F32(&[2], &b))], &[]),
        save(
            &[
                ("module.fc.weight", SavedTensor::F16(&[2, 3], &a)),
                ("module.fc.bias", SavedTensor::F32(&[2], &b)),
                ("n_averaged", SavedTensor::I64(7)),
            ],
            &[("padding", "tf-same"), ("mean", "0.5,0.5,0.5"), ("input", "32"), ("classes", "a, b")],
        ),
        save(&[("empty", SavedTensor::F32(&[0, 4], &[]))], &[]),
    ]
}

fn pth_seeds() -> Vec<Vec<u8>> {
    small_files(&fixtures("pytorch"))
}

/// A checkpoint of Defrost's around a description; timm's description beside it.
fn descriptions(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (zero, one) = ([0.0; 64], [1.0]);
    let tensors = BTreeMap::from([
        ("conv1.weight".to_string(), SavedTensor::F32(&[1], &one)),
        ("fc.weight".to_string(), SavedTensor::F32(&[1, 64], &zero)),
        ("fc.bias".to_string(), SavedTensor::F32(&[1], &one)),
    ]);
    let path = folder().join("described/model.safetensors");
    let _ = fs::create_dir_all(folder().join("described"));
    // One of the places that a description stands in, by the number of its bytes.
    let about = |key: &str| BTreeMap::from([(key.to_string(), text.clone())]);
    let about = match bytes.len() % 8 {
        0 => about("classes"),
        1 => about("mean"),
        2 | 3 => {
            written("described/config.json", bytes);
            BTreeMap::new()
        }
        _ => about("defrost"),
    };
    save_tensors(&path, &tensors, &about).expect("room");
    let _ = Network::open(&path);
    let _ = models::load_with("resnet20", &path, HeadPolicy::Replace);
    let _ = fs::remove_file(folder().join("described/config.json"));
}

fn description_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for name in ["resnet20", "mobilenet_v2_035", "efficientnet_b0", "squeezenet1_1"] {
        let net = models::blank(name, 2).expect("it is known");
        seeds.push(serde_json::to_vec(net.config()).expect("it is JSON"));
        let path = folder().join("timm.json");
        net.save_timm_config(&path).expect("it can be written");
        seeds.push(fs::read(&path).expect("it was written"));
    }
    // With blanks behind them each stands in every place.
    seeds.iter().flat_map(|seed| (0..8).map(|n| [&seed[..], &b" ".repeat(n)].concat())).collect()
}

fn images(bytes: &[u8]) {
    let _ = data::decode(bytes, Path::new("image"));
}

fn image_seeds() -> Vec<Vec<u8>> {
    small_files(&fixtures("data"))
}

/// A table beside a folder with four images.
fn tables(bytes: &[u8]) {
    static IMAGES: OnceLock<()> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let image = fs::read(fixtures("data/rgb.png")).expect("a fixture");
        for name in ["a", "b", "c", "d"] {
            let _ = fs::create_dir_all(folder().join("table"));
            written(&format!("table/{name}.png"), &image);
        }
    });
    let path = written("table/labels.csv", bytes);
    for targets in [data::TargetKind::Class, data::TargetKind::Labels, data::TargetKind::Values] {
        let options =
            OpenOptions::default().with(|c| c.data = DataOptions::default().with(|c| c.targets = targets));
        let _ = data::open(&path, &options);
    }
}

fn table_seeds() -> Vec<Vec<u8>> {
    [
        "image,label\na.png,x\nb.png,x\nc.png,y\nd.png,y\n",
        "sep=;\r\nimage;label;is_valid\r\na;x;0\r\nb;x;1\r\nc;y;0\r\nd;y;1\r\n",
        "fname,tags,split\n\"a.png\",\"x;y\",train\nb.png,x,val\nc.png,y,test\nd.png,,train\n",
        "\u{feff}file\tvalue\tother\na.png\t1.5\t2\nb.png\t-3e2\t0\nc.png\t0\t1\nd.png\t7\t1\n",
        "image,cat,dog\na,1,0\nb,0,1\nc,1.0,0.0\nd,0,1\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Images and labels of MNIST's form: the first half of the bytes the one, the rest the other.
fn idx(bytes: &[u8]) {
    let _ = fs::create_dir_all(folder().join("idx"));
    let (images, labels) = bytes.split_at(bytes.len() - bytes.len() / 3);
    written("idx/train-images-idx3-ubyte", images);
    written("idx/train-labels-idx1-ubyte", labels);
    let _ = data::open(&folder().join("idx"), &OpenOptions::default());
    // And bytes of CIFAR's.
    let _ = fs::create_dir_all(folder().join("cifar"));
    written("cifar/train.bin", bytes);
    let _ = data::open(&folder().join("cifar"), &OpenOptions::default());
}

fn idx_seeds() -> Vec<Vec<u8>> {
    let labels: Vec<u8> = [&[0, 0, 8, 1, 0, 0, 0, 8][..], &[0, 1, 2, 0, 1, 2, 0, 1]].concat();
    let images = [&[0, 0, 8, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 2][..], &[7; 16]].concat();
    vec![[images, labels].concat()]
}

/// A network of one convolution: a program that is instrumented for fuzzing computes slowly.
#[derive(Debug)]
struct Tiny;

impl Architecture for Tiny {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> defrost::Result<ValueId> {
        let x = g.conv2d("conv", x, Conv2d::same(4, 3, 2))?;
        let x = g.batch_norm("norm", x)?;
        let x = g.relu("relu", x)?;
        let x = g.adaptive_avg_pool("pool", x, [1, 1])?;
        g.flatten("flatten", x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> defrost::Result<ValueId> {
        g.linear_head("head", features, classes)
    }

    fn head_path(&self) -> &'static str {
        "head"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "relu".into()
    }

    fn groups(&self) -> Vec<String> {
        ["conv", "head"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}

/// A small network, two images, and what is cached of them.
fn cached() -> &'static (Network, Dataset) {
    static CACHED: OnceLock<(Network, Dataset)> = OnceLock::new();
    CACHED.get_or_init(|| {
        let tiny = Model::new("tiny", "one convolution", Preprocess::whole(8), |_| Arc::new(Tiny));
        models::register(tiny).expect("a new name");
        let net = models::create("tiny", 2).expect("it is known");
        let set = DrawnSet::new(Scenes::Things)
            .with(|c| {
                c.side = 8;
                c.train = 1;
                c.val = 1;
            })
            .splits()
            .train;
        let samples = set.samples[..2].to_vec();
        let classes = set.classes[..2].to_vec();
        (net, Dataset { samples, classes, ..set })
    })
}

fn cache_file() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let (net, set) = cached();
        let cache = folder().join("cache");
        extract(net, &Device::Cpu, &[set], Some(&cache), &mut Silent).expect("features");
        fs::read_dir(cache.join("features")).expect("a cache").next().expect("a file").expect("a file").path()
    })
    .clone()
}

fn features(bytes: &[u8]) {
    static GOOD: OnceLock<Vec<f32>> = OnceLock::new();
    let (net, set) = cached();
    let file = cache_file();
    let rows = |cache| {
        extract(net, &Device::Cpu, &[set], cache, &mut Silent)
            .expect("features")
            .remove(0)
            .vectors()
            .expect("rows")
            .rows
    };
    let good = GOOD.get_or_init(|| rows(None));
    fs::write(&file, bytes).expect("room");
    // Whatever the file holds, features are those of the images.
    let found = rows(Some(&folder().join("cache")));
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-2 * b.abs().max(1.0);
    assert!(found.len() == good.len() && found.iter().zip(good).all(near), "cached features of other images");
}

fn feature_seeds() -> Vec<Vec<u8>> {
    vec![fs::read(cache_file()).expect("a file")]
}

/// Files of a run folder, each a byte that says which, two of its length and its content.
const PARTS: [&str; 7] = [
    "config.json",
    "images.csv",
    "last.safetensors",
    "metrics.csv",
    "metrics.jsonl",
    "split.json",
    "phase1.safetensors",
];

fn run_folder() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let (run, weights) = (folder().join("run"), folder().join("pretrained.safetensors"));
        cached().0.save(&weights).expect("room");
        // The head alone: the files are small, and a run that goes on is soon over.
        let config = defrost::train::Config::default().with(|c| {
            c.data = "drawn:things,side=8,train=1,val=1".into();
            c.model = "tiny".into();
            c.weights = Some(weights);
            c.size = Some(8);
            c.strategy = defrost::train::Strategy::Features;
            c.epochs = Some(2);
            c.stop_after = Some(1);
        });
        let stop = AtomicBool::new(false);
        let context = Context {
            device: &Device::Cpu,
            cache: folder().join("cache"),
            observer: &mut Silent,
            stop: &stop,
        };
        defrost::train::run(&config, &run, context).expect("a run");
        run
    })
}

fn runs(bytes: &[u8]) {
    let good = run_folder();
    let run = folder().join("fuzzed-run");
    let _ = fs::remove_dir_all(&run);
    fs::create_dir_all(&run).expect("a folder");
    let [which, content @ ..] = bytes else { return };
    let which = PARTS[usize::from(*which) % PARTS.len()];
    for part in PARTS {
        match part == which {
            true => fs::write(run.join(part), content).expect("room"),
            false => {
                let _ = fs::hard_link(good.join(part), run.join(part));
            }
        }
    }
    let _ = RunFile::read(&run);
    let _ = read_metrics(&run);
    let _ = read_best(&run);
    // A training that stops at once.
    let stop = AtomicBool::new(true);
    let cache = folder().join("cache");
    let _ = resume(&run, Context { device: &Device::Cpu, cache, observer: &mut Silent, stop: &stop });
}

fn run_seeds() -> Vec<Vec<u8>> {
    let part = |(i, name): (usize, &&str)| {
        let content = fs::read(run_folder().join(name)).ok()?;
        // Of weights the description: numbers are numbers.
        Some([&[i as u8], &content[..content.len().min(30_000)]].concat())
    };
    PARTS.iter().enumerate().filter_map(part).collect()
}
