//! `span demo` as a whole: real namespaces, real TUN devices, real processes.
//!
//! Needs root, or user namespaces for everyone; says so where there is neither.

#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

const SPAN: &str = env!("CARGO_BIN_EXE_span");
/// An account without privileges that every system has.
const NOBODY: u32 = 65534;
/// `span demo` cannot run here.
const CANNOT_RUN: i32 = 2;

#[test]
fn the_mesh_stands_and_nothing_leaks() {
    let Some(found) = demo(Command::new(SPAN).args(["demo", "--json"])) else { return };
    assert_good(&found, 3);
}

#[test]
fn twelve_nodes_find_each_other() {
    let Some(found) = demo(Command::new(SPAN).args(["demo", "--json", "--nodes", "12"])) else { return };
    assert_good(&found, 12);
}

#[test]
fn nobody_needs_privileges() {
    if !geteuid().is_root() {
        return; // Then the other tests have shown it.
    }
    // The build directory may be out of others' reach.
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let program = directory.path().join("span");
    fs::copy(SPAN, &program).unwrap();
    make_accessible(directory.path());
    let Some(found) = demo(Command::new(program).args(["demo", "--json"]).uid(NOBODY).gid(NOBODY)) else {
        return;
    };
    assert_good(&found, 3);
}

#[test]
#[cfg(feature = "netstack")]
fn without_namespaces_the_nodes_are_in_one_process() {
    let mut command = Command::new(SPAN);
    let output = command.args(["demo", "--json", "--in-process", "--nodes", "4"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && found["ok"] == true, "{found}");
    assert_eq!((&found["namespaces"], &found["links_up"]), (&false.into(), &12.into()), "{found}");
    assert_eq!(found["underlay_plaintext_packets"], Value::Null, "nobody looked: {found}");
}

#[test]
fn a_pipe_gets_lines_and_a_table() {
    let output = Command::new(SPAN).arg("demo").output().unwrap();
    if output.status.code() == Some(CANNOT_RUN) {
        return;
    }
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("node-2: all 2 links up after"), "{shown}");
    assert!(shown.contains("node-1 \u{2192} node-2"), "{shown}");
    assert!(shown.ends_with("\nok\n"), "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
}

#[test]
fn an_interrupted_demo_says_so_and_leaves_nothing() {
    for (signal, status) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let Some((demo, nodes)) = running_demo() else { return };
        kill(pid(&demo), signal).unwrap();
        let output = demo.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&found["ok"], &found["error"]), (&false.into(), &"interrupted".into()));
        assert_gone(&nodes);
    }
}

#[test]
fn a_killed_demo_takes_its_nodes_with_it() {
    let Some((mut demo, nodes)) = running_demo() else { return };
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert_gone(&nodes);
}

#[test]
fn a_killed_node_is_noticed() {
    let Some((demo, nodes)) = running_demo() else { return };
    kill(nodes[1], Signal::SIGKILL).unwrap();
    let output = demo.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["error"].as_str().unwrap().starts_with("node-"), "{found}");
    assert_gone(&nodes);
}

/// Runs a demo to its end. Nothing when it cannot run on this machine.
fn demo(command: &mut Command) -> Option<(ExitStatus, Value)> {
    let output = command.output().unwrap();
    if output.status.code() == Some(CANNOT_RUN) {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown.lines().count(), 1, "one object and nothing else: {shown}");
    let found: Value = serde_json::from_str(&shown).unwrap();
    if found["namespaces"] == false && found["ok"] == true {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some((output.status, found))
}

fn assert_good((status, found): &(ExitStatus, Value), nodes: u64) {
    let links = nodes * (nodes - 1);
    assert!(status.success() && found["ok"] == true, "{found}");
    assert_eq!((&found["nodes"], &found["links_total"]), (&nodes.into(), &links.into()), "{found}");
    assert_eq!(found["links_up"], links, "{found}");
    assert_eq!(found["underlay_plaintext_packets"], 0, "{found}");
    for figure in ["connect_ms_p50", "connect_ms_max", "ping_ms_p50", "tcp_gbps"] {
        assert!(found[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure} in {found}");
    }
}

/// A demo all of whose nodes run, and these nodes.
fn running_demo() -> Option<(Child, Vec<Pid>)> {
    let mut command = Command::new(SPAN);
    let mut demo =
        command.args(["demo", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let nodes = children(&demo);
        if nodes.len() == 3 && nodes.iter().all(|node| has_tun(*node)) {
            return Some((demo, nodes));
        }
        if let Some(status) = demo.try_wait().unwrap() {
            // Without namespaces it has come to its end in one process.
            assert!(status.success() || status.code() == Some(CANNOT_RUN), "ended early");
            return None;
        }
        assert!(Instant::now() < deadline, "the nodes did not start");
        thread::sleep(Duration::from_millis(5));
    }
}

fn children(of: &Child) -> Vec<Pid> {
    let parent = format!("PPid:\t{}", of.id());
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.lines().any(|line| line == parent).then_some(Pid::from_raw(number))
    });
    processes.collect()
}

/// Whether the process has an open TUN device.
fn has_tun(process: Pid) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    targets.any(|target: PathBuf| target == Path::new("/dev/net/tun"))
}

fn assert_gone(processes: &[Pid]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while processes.iter().any(|process| runs(*process)) {
        assert!(Instant::now() < deadline, "{processes:?} are still there");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is there and not merely waiting to be buried.
fn runs(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn make_accessible(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

fn pid(of: &Child) -> Pid {
    Pid::from_raw(i32::try_from(of.id()).unwrap())
}
