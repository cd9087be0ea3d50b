//! Mutations of good files: each is read or refused, without a panic, in bounded memory and time. A short run of what
//! `tools/fuzz` does for hours; `DEFROST_FUZZ=N` makes it longer.
#![allow(clippy::unwrap_used, unsafe_code)]

mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use defrost::rng::Stream;
use targets::TARGETS;

/// The system's memory, counted.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(used, Ordering::Relaxed);
        // SAFETY: as promised to this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as promised to this function.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static MEMORY: Counting = Counting;

/// One target at a time: what it allocates is measured.
static ALONE: Mutex<()> = Mutex::new(());

/// A file that is nearly one of the seeds.
fn mutated(seeds: &[Vec<u8>], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = seeds[stream.below(seeds.len())].clone();
    const ODD: [u8; 9] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'9', b'-', b'\n'];
    for _ in 0..=stream.below(4) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = stream.below(bytes.len());
        match stream.below(9) {
            0 => bytes[at] ^= 1 << stream.below(8),
            1 => bytes[at] = stream.next_u64() as u8,
            2 => bytes[at] = ODD[stream.below(ODD.len())],
            // A number of four bytes: none, all, nearly too much.
            3 => {
                let number =
                    [0u32, u32::MAX, 0x7fff_ffff, 1 << 20, stream.next_u64() as u32][stream.below(5)];
                let number = if stream.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
                bytes[at..].iter_mut().zip(number).for_each(|(to, from)| *to = from);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = (at + 1 + stream.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            // A piece twice, or many times.
            6 => {
                let end = (at + 1 + stream.below(32)).min(bytes.len());
                let piece = bytes[at..end].repeat(1 + stream.below(8));
                bytes.splice(at..at, piece);
            }
            // Digits more: 10 becomes 10000000000.
            7 => {
                let digits = "0".repeat(1 + stream.below(20));
                bytes.splice(at..at, digits.into_bytes());
            }
            // The rest of another one.
            _ => {
                let other = &seeds[stream.below(seeds.len())];
                let from = stream.below(other.len().max(1)).min(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
    bytes
}

fn fuzz(name: &str, usual: usize) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let count = std::env::var("DEFROST_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut stream = Stream::new(&[defrost::rng::key_of(name)]);
    let (mut slowest, mut most) = (Duration::ZERO, 0);
    for n in 0..count {
        let bytes = mutated(&seeds, &mut stream);
        let before = USED.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
        let (took, used) = (began.elapsed(), MOST.load(Ordering::Relaxed).saturating_sub(before));
        if outcome.is_err() || used > 1 << 30 || took > Duration::from_secs(10) {
            let file = std::env::temp_dir().join(format!("defrost-fuzz-{name}-{n}"));
            std::fs::write(&file, &bytes).unwrap();
            panic!("{name}: {} in {took:?} and {} MiB", file.display(), used >> 20);
        }
        (slowest, most) = (slowest.max(took), most.max(used));
    }
    targets::clean();
    println!("{name}: {count} executions, at most {} MiB and {slowest:?}", most >> 20);
}

#[test]
fn safetensors() {
    fuzz("safetensors", 3000);
}

#[test]
fn pth() {
    fuzz("pth", 3000);
}

#[test]
fn descriptions() {
    fuzz("descriptions", 1500);
}

#[test]
fn images() {
    fuzz("images", 3000);
}

#[test]
fn tables() {
    fuzz("tables", 1500);
}

#[test]
fn idx() {
    fuzz("idx", 1500);
}

#[test]
fn features() {
    fuzz("features", 600);
}

#[test]
fn runs() {
    fuzz("runs", 300);
}
