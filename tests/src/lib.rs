//! What the namespace tests are made of: namespaces, wires, processes, captures, and the programs under test.
//!
//! Every [`Namespace`] lives only as long as a process that this one holds by a pipe, and every process started
//! in it dies with its parent. So nothing stays behind, not even after `kill -9`: no names to sweep, no routes
//! to repair. Each namespace also has a `/run` of its own, so that configuration sockets never meet.

pub mod affiliate;
pub mod capture;
mod cargo;
pub mod certificate;
pub mod mesh;
pub mod namespace;
pub mod process;
pub mod programs;
pub mod traffic;
pub mod wg;

use std::time::{Duration, Instant};

pub use namespace::{Namespace, Switch, veth};
pub use process::Process;

/// Runs `attempt` until it yields something, and that something; panics after `bound`, saying `what` did not happen.
pub fn eventually<T>(bound: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(start.elapsed() < bound, "within {bound:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `Some(())` where `condition` holds: the shape [`eventually`] takes.
#[must_use]
pub fn holds(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// Whether programs can be run as other users than the one that runs the tests. Not where an unprivileged user has made
/// itself root of a namespace: there is nobody else in it.
#[must_use]
pub fn several_users() -> bool {
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    users.split_whitespace().nth(2).is_some_and(|count| count != "1")
}

/// Whether namespaces can be made here. Where not, tests return early and say so; with `CI=true` they fail.
#[must_use]
pub fn ready() -> bool {
    let able = std::path::Path::new("/dev/net/tun").exists()
        && std::process::Command::new("unshare")
            .args(["--net", "--mount", "true"])
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if !able {
        let why = "needs root and /dev/net/tun: run it as `./test namespace`";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        eprintln!("skipped: {why}");
    }
    able
}
