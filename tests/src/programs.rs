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
        run(&mut build);
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
        run(&mut Command::new(&script));
    });
    text(&bin().join(name))
}

/// Installs the C library of this tree, without optimization, and gives the directory it is below.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn c_library() -> PathBuf {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    let install = || {
        let prefix = target().join("c");
        let mut install = cargo();
        install.args(["run", "--quiet", "-p", "xtask", "--", "install-c", "--profile", "dev", "--prefix"]);
        run(install.arg(&prefix).current_dir(root()));
        prefix
    };
    PREFIX.get_or_init(install).clone()
}

/// The example `go/interface`, with the C library in it.
///
/// # Panics
/// If it does not build. Where there is no network, `tests/peers.sh` must have fetched its modules before.
#[must_use]
pub fn go_interface() -> String {
    static PATH: OnceLock<String> = OnceLock::new();
    let build = || {
        let program = bin().join("interface");
        let mut go = Command::new("go");
        go.args(["build", "-tags", "span_static", "-o"]).arg(&program).arg(".");
        go.env("PKG_CONFIG_PATH", c_library().join("lib/pkgconfig"));
        run(go.current_dir(root().join("examples/go/interface")));
        text(&program)
    };
    PATH.get_or_init(build).clone()
}

/// An example in C, with the C library in it.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn c_example(name: &str) -> String {
    let program = bin().join(name);
    let source = root().join("examples/c").join(name).with_extension("c");
    let script = "cc -Wall -Wextra -Werror \"$1\" $(pkg-config --cflags --libs span-static) -o \"$2\"";
    let mut build = Command::new("sh");
    build.args(["-c", script, "sh"]).args([&source, &program]);
    run(build.env("PKG_CONFIG_PATH", c_library().join("lib/pkgconfig")));
    text(&program)
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

/// Where programs are put that cargo does not build.
fn bin() -> PathBuf {
    let bin = target().join("interop/bin");
    std::fs::create_dir_all(&bin).expect("a directory of ours");
    bin
}

fn run(command: &mut Command) {
    assert!(command.status().is_ok_and(|status| status.success()), "{command:?} failed");
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
