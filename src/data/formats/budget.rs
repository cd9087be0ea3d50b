//! Memory budget of all concurrent decoders.
//!
//! A decoder requests the most bytes that it may need: the file, the decoder's own buffers, and the pixels. Where so
//! many bytes are not free, the thread waits until other decoders have finished. So eight threads with images of 900
//! MiB each use 900 MiB, one after the other, while small images never wait.
//!
//! Waiting cannot deadlock. A decoder takes one permit for everything that it needs, and no second permit while it
//! holds the first. A thread with a permit decodes in sequence and never waits for rayon's pool, so it always
//! finishes, even where every other worker of the pool waits here. Permits are granted in the order of the requests,
//! so small images cannot delay large ones forever.
//!
//! The pixels that a decoder returns no longer count against the budget, unless they are used within [`holding`].

use std::cell::RefCell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The most pixels an image may have: 256 MiB of RGB, where Pillow too suspects a decompression bomb. An image of
/// that size needs 256 MiB as a PNG of any kind, up to 983 MiB as a TIFF of 16-bit RGBA; one that would need more than
/// 1 GiB, such as a progressive CMYK JPEG of that size, is refused.
pub const MAX_PIXELS: u64 = (256 << 20) / 3;

/// Bytes that all decoders together may use, and so the most that one image may need.
pub(crate) const MOST_BYTES: u64 = 1 << 30;

struct State {
    free: u64,
    /// Ticket number for the next thread that asks.
    next: u64,
    /// Ticket number whose turn it is.
    turn: u64,
}

static STATE: Mutex<State> = Mutex::new(State { free: MOST_BYTES, next: 0, turn: 0 });
static CHANGED: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// Within [`holding`], the permit of the current image.
    static HELD: RefCell<Option<Option<Permit>>> = const { RefCell::new(None) };
}

/// Runs `work`, which decodes an image and uses its pixels. Their memory counts until `work` ends, so that many
/// threads do not hold large images at once. If `work` decodes another image, that image replaces the first in the
/// budget.
pub(crate) fn holding<T>(work: impl FnOnce() -> T) -> T {
    /// Restores the previous state, also where `work` panics.
    struct Scope(Option<Option<Permit>>);
    impl Drop for Scope {
        fn drop(&mut self) {
            drop(HELD.replace(self.0.take()));
        }
    }
    let _scope = Scope(HELD.replace(Some(None)));
    work()
}

/// Keeps `bytes` of a decoder's permit counted within [`holding`], and releases the rest.
pub(crate) fn keep(mut permit: Permit, bytes: u64) {
    HELD.with_borrow_mut(|held| {
        if let Some(held) = held {
            let unused = permit.bytes.saturating_sub(bytes);
            permit.bytes -= unused;
            lock().free += unused;
            CHANGED.notify_all();
            *held = Some(permit);
        }
    });
}

/// A share of the memory budget, until dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    bytes: u64,
}

/// Waits until `bytes` are free (at most [`MOST_BYTES`] are taken).
pub(crate) fn take(bytes: u64) -> Permit {
    // A thread never waits while it holds a permit.
    drop(HELD.with_borrow_mut(|held| held.as_mut().and_then(Option::take)));
    let bytes = bytes.min(MOST_BYTES);
    let mut state = lock();
    let own = state.next;
    state.next += 1;
    while state.turn != own || state.free < bytes {
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.turn += 1;
    state.free -= bytes;
    drop(state);
    CHANGED.notify_all();
    Permit { bytes }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock().free += self.bytes;
        CHANGED.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn no_more_than_the_budget_is_used_at_once() {
        let (used, most) = (AtomicU64::new(0), AtomicU64::new(0));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        // Small images, large images, and some that need the whole budget.
        let sizes = [MOST_BYTES / 16, MOST_BYTES / 2 + 1, MOST_BYTES, MOST_BYTES / 3, 1];
        pool.install(|| {
            (0..200).into_par_iter().with_max_len(1).for_each(|i| {
                let bytes = sizes[i % sizes.len()];
                let permit = take(bytes);
                most.fetch_max(used.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                std::thread::yield_now();
                used.fetch_sub(bytes, Ordering::SeqCst);
                drop(permit);
            });
        });
        assert_eq!((used.into_inner(), lock().free), (0, MOST_BYTES));
        let most = most.into_inner();
        assert!((MOST_BYTES / 2 + 1..=MOST_BYTES).contains(&most), "{most}");

        // Pixels count while they are used.
        let free = || lock().free;
        holding(|| {
            keep(take(1000), 300);
            assert_eq!(free(), MOST_BYTES - 300);
            holding(|| keep(take(50), 20));
            assert_eq!(free(), MOST_BYTES - 300);
            // The whole budget, without waiting for the thread's own permit.
            keep(take(MOST_BYTES), 7);
            assert_eq!(free(), MOST_BYTES - 7);
        });
        keep(take(1000), 300);
        assert_eq!(free(), MOST_BYTES);
    }
}
