//! The examples in Rust. `join` is run from outside of the repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use span_tests::mesh::{Cluster, DISCOVERY, Mesh, listens};
use span_tests::programs::{self, cargo, root, target};
use span_tests::traffic::{assert_ping, first_ping};
use span_tests::{Namespace, eventually, holds, ready};

/// For a few packets on a machine that does much else.
const BOUND: Duration = Duration::from_secs(20);

/// Builds an example and gives the program.
fn example(name: &str) -> PathBuf {
    let mut build = cargo();
    build.args(["build", "--quiet", "-p", "span-examples", "--bin", name]).current_dir(root());
    assert!(build.status().is_ok_and(|status| status.success()), "{build:?} failed");
    target().join("debug").join(name)
}

#[test]
fn two_nodes_meet_over_a_transport_of_their_own() {
    let output = Command::new("timeout").arg("60").arg(example("own-transport")).output().expect("timeout");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("over a transport of one's own\n"), "{said}");
}

/// A host that has the loopback interface alone, as a machine without a network does.
#[test]
fn two_programs_on_a_host_without_a_network_meet() {
    if !ready() {
        return;
    }
    let host = Namespace::new("alone");
    let _discovery = host.spawn(programs::span(), ["discovery", "--listen", "127.0.0.1:3000"]);
    listens(&host, "127.0.0.1:3000");
    let cluster = Cluster::new(&["http://127.0.0.1:3000"]);
    let program = example("join");
    let program = program.to_str().expect("UTF-8");
    let environment = [("SPAN_TOKEN", cluster.token.as_str())];
    let mut one = host.spawn_with(program, ["one"], &environment);
    let mut two = host.spawn_with(program, ["two"], &environment);
    one.wait_for("one: hello from two\n", BOUND);
    two.wait_for("two: hello from one\n", BOUND);
}

#[test]
fn a_daemon_tells_what_happens_and_is_configured_anew() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(1);
    mesh.up();
    let host = Namespace::new("daemon");
    mesh.switch.plug(&host, &["10.5.0.2/24", "fd05::2/64"]);
    host.ip("link add lan0 type bridge\nlink set lan0 up\naddr add 10.60.0.1/24 dev lan0\n");
    let before = host.snapshot();

    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("span.yaml");
    let state = directory.path().join("state");
    let configure = |more: &str| {
        let text = format!(
            "apiVersion: span/v1\nkind: NodeConfig\nname: daemon\nstateDirectory: {}\ntoken: {}\n{more}",
            state.display(),
            mesh.cluster.token
        );
        fs::write(&file, text).expect("a file");
        // A token is a secret.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    };
    configure("");
    let program = example("daemon");
    let mut daemon = host.spawn(program.to_str().expect("UTF-8"), [file.to_str().expect("UTF-8")]);
    daemon.wait_for("n1 is up", BOUND);
    let node = &mesh.nodes[0];
    assert_ping(&host, &node.overlay(), 5);

    configure("advertisedNetworks: [10.60.0.0/24]\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("configured anew", BOUND);
    first_ping(&node.host, "10.60.0.1", BOUND);

    configure("listenPrt: 1\n");
    daemon.signal(Signal::HUP);
    daemon.wait_for("not configured anew", BOUND);
    assert!(daemon.err().contains("listenPort"), "it says what was meant: {}", daemon.err());
    assert_ping(&host, &node.overlay(), 5);

    mesh.discovery.take().expect("a service").kill();
    let lost = format!("http://{DISCOVERY} does not work");
    eventually(BOUND, "the daemon tells that discovery is gone", || holds(daemon.out().contains(&lost)));
    assert!(daemon.terminate(BOUND).success());
    assert!(daemon.out().ends_with("stopped: Asked\n"), "{}", daemon.out());
    assert_eq!(host.snapshot(), before);
}
