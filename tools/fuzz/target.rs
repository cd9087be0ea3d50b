//! The target that `DEFROST_FUZZ_TARGET` names. With `DEFROST_FUZZ_SEEDS` its seeds are written into that folder first.
#![no_main]

#[path = "../../tests/fuzz/targets.rs"]
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn chosen() -> &'static targets::Target {
    static CHOSEN: OnceLock<&targets::Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("DEFROST_FUZZ_TARGET").expect("DEFROST_FUZZ_TARGET names a target");
        targets::TARGETS.iter().find(|target| target.name == name).expect("a target of tests/fuzz/targets.rs")
    })
}

fuzz_target!(
    init: {
        if let Some(folder) = std::env::var_os("DEFROST_FUZZ_SEEDS") {
            for (i, seed) in (chosen().seeds)().iter().enumerate() {
                std::fs::write(std::path::Path::new(&folder).join(format!("seed-{i:03}")), seed).expect("a seed");
            }
        }
    },
    |bytes: &[u8]| (chosen().run)(bytes)
);
