//! Calling cargo, for all that builds with it: the tests, the benchmark of the C library and its installation.

use std::env;
use std::process::Command;

/// Cargo as it was called by hand: told of a package, as this program is, build scripts would take that for a change, and
/// all that stands on them would be built again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    for (name, _) in env::vars_os() {
        let told =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "OUT_DIR"];
        if name.to_str().is_some_and(|name| told.iter().any(|start| name.starts_with(start))) {
            cargo.env_remove(name);
        }
    }
    cargo
}
