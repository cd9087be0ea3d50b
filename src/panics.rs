//! Catches panics of decoders, without the message that a panic usually prints.
//!
//! A decoder that panics has a bug that one file triggers. The file is then an error like any other; the message and
//! the backtrace of the panic would only alarm the user. [`guarded`] catches the panic and sets a flag on its thread
//! meanwhile. A library must not change the process's panic hook, so the command installs the hook that reads the
//! flag: [`keep_quiet`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic in it is an error with the panic's message.
///
/// # Errors
/// The message of the panic.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    outcome.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Installs a panic hook for the whole process: silent for panics that [`guarded`] catches; the previous hook handles
/// all others.
pub(crate) fn keep_quiet() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // A thread that is ending has no flag left to read.
        if !GUARDED.try_with(Cell::get).unwrap_or(false) {
            before(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(guarded(|| 7), Ok(7));
        assert_eq!(guarded(|| -> u8 { panic!("index {} of 3", 5) }), Err("index 5 of 3".into()));
        assert_eq!(guarded(|| guarded(|| -> u8 { panic!("inner") }).is_err()), Ok(true));
        assert!(!GUARDED.get(), "the mark is taken away again");
    }

    #[test]
    fn caught_panics_print_nothing() {
        thread_local!(static PRINTED: Cell<u32> = const { Cell::new(0) });
        let usual = panic::take_hook();
        // Tests on other threads print as usual.
        panic::set_hook(Box::new(move |info| {
            PRINTED.set(PRINTED.get() + 1);
            if std::thread::current().name().is_none_or(|name| !name.contains("caught_panics")) {
                usual(info);
            }
        }));
        keep_quiet();
        assert!(guarded(|| -> u8 { panic!("not printed") }).is_err());
        assert_eq!(PRINTED.get(), 0);
        assert!(panic::catch_unwind(|| panic!("printed")).is_err());
        assert_eq!(PRINTED.get(), 1);
    }
}
