//! Tells the tests what is at hand, so that those that lack something are reported as ignored: `cfg(material)` where
//! `DEFROST_MATERIAL` names a folder of real weights and images, `cfg(python)` where `DEFROST_PYTHON` names a Python
//! with torch, torchvision, timm and safetensors.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, cfg) in [("DEFROST_MATERIAL", "material"), ("DEFROST_PYTHON", "python")] {
        println!("cargo::rerun-if-env-changed={variable}");
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if std::env::var_os(variable).is_some_and(|path| Path::new(&path).exists()) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}
