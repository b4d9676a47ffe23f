//! The programs under test and their peers, built on first use.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program `span`: `$SPAN_BIN`, or the one cargo builds from this tree.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn span() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Ok(path) = std::env::var("SPAN_BIN") {
            return path;
        }
        let mut build = cargo();
        build.args(["build", "--quiet", "-p", "span-node", "--bins"]).current_dir(root());
        assert!(build.status().is_ok_and(|status| status.success()), "{build:?} failed");
        text(&target().join("debug/span"))
    })
}

/// The program `span-wg`, beside [`span`]: what `wg-quick` calls.
#[must_use]
pub fn span_wg() -> String {
    text(&Path::new(span()).with_file_name("span-wg"))
}

/// A program that `tests/peers.sh` builds: `wireguard-go`, `boringtun-cli`, `discovery-service`, `affiliate`,
/// `kubernetes`, `netstack`, `post`.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn peer(name: &str) -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = root().join("tests/peers.sh");
        assert!(Command::new(&script).status().is_ok_and(|status| status.success()), "{script:?} failed");
    });
    text(&target().join("interop/bin").join(name))
}

/// Cargo, building into [`target`] what was not built before.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = crate::cargo::cargo();
    cargo.env("CARGO_TARGET_DIR", target());
    cargo
}

/// The root of the repository.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

/// Where cargo puts what it builds.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
