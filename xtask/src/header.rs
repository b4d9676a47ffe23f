//! `span.h` from the Rust of `span-ffi`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Writes the header into the source tree.
pub(crate) fn write() -> Result<()> {
    let target = target();
    fs::write(&target, generate()?).with_context(|| format!("writing {}", target.display()))
}

/// Fails if the header in the source tree is not what the Rust gives today.
pub(crate) fn check() -> Result<()> {
    if fs::read(target()).ok().as_deref() != Some(generate()?.as_slice()) {
        bail!("span.h is out of date; run `cargo run -p xtask -- header`");
    }
    Ok(())
}

fn generate() -> Result<Vec<u8>> {
    let crate_dir = crate_dir();
    let Ok(config) = cbindgen::Config::from_file(crate_dir.join("cbindgen.toml")) else {
        bail!("cbindgen.toml cannot be read");
    };
    let bindings = cbindgen::Builder::new().with_crate(&crate_dir).with_config(config).generate();
    let mut header = Vec::new();
    bindings.context("reading the Rust of span-ffi")?.write(&mut header);
    Ok(header)
}

fn target() -> PathBuf {
    crate_dir().join("include/span.h")
}

fn crate_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("span-ffi")
}
