//! Rust from `.proto` files, without protoc.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The sources, below `span-discovery/proto`.
const SOURCES: [&str; 4] = ["client.proto", "server.proto", "storage.proto", "cache.proto"];

/// What is written, below `span-discovery/src/wire/generated`.
const OUTPUTS: [&str; 4] = [
    "sidero.discovery.client.rs",
    "sidero.discovery.server.rs",
    "sidero.discovery.storage.rs",
    "span.cache.rs",
];

/// Writes the generated files into the source tree.
pub(crate) fn write() -> Result<()> {
    let fresh = generate()?;
    let target = target();
    fs::create_dir_all(&target)?;
    for name in OUTPUTS {
        fs::copy(fresh.path().join(name), target.join(name)).with_context(|| format!("writing {name}"))?;
    }
    Ok(())
}

/// Fails if a generated file in the source tree is not what its `.proto` file gives today.
pub(crate) fn check() -> Result<()> {
    let fresh = generate()?;
    let stale: Vec<&str> = OUTPUTS
        .into_iter()
        .filter(|name| fs::read(fresh.path().join(name)).ok() != fs::read(target().join(name)).ok())
        .collect();
    if !stale.is_empty() {
        bail!("out of date: {}; run `cargo run -p xtask -- codegen`", stale.join(", "));
    }
    Ok(())
}

fn generate() -> Result<tempfile::TempDir> {
    let proto = crate_dir().join("proto");
    let descriptors = protox::compile(SOURCES, [&proto]).context("compiling .proto files")?;
    let out = tempfile::tempdir()?;
    // Ciphertexts are shared by the store and every watcher: `Bytes` makes that a count, not a copy.
    tonic_prost_build::configure()
        .bytes(".sidero.discovery.server")
        .bytes(".sidero.discovery.storage")
        .out_dir(out.path())
        .compile_fds(descriptors)
        .context("generating Rust")?;
    for name in OUTPUTS {
        if !out.path().join(name).exists() {
            bail!("{name} was not generated");
        }
    }
    Ok(out)
}

fn target() -> PathBuf {
    crate_dir().join("src/wire/generated")
}

fn crate_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("span-discovery")
}
