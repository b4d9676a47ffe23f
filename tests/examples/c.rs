//! The example in C that needs an interface of the host. The others are run beside the C library.

use std::fs;

use rustix::process::Signal;
use span_tests::mesh::Mesh;
use span_tests::namespace::SOON;
use span_tests::programs::c_example;
use span_tests::traffic::{assert_ping, assert_tcp, first_ping};
use span_tests::{Namespace, ready, several_users};

/// An interface and sockets that another opened, in a process that may nothing.
#[test]
fn a_node_without_privileges_has_an_interface() {
    if !ready() || !several_users() {
        return;
    }
    let mut mesh = Mesh::new(1);
    mesh.up();
    let host = Namespace::new("c");
    mesh.switch.plug(&host, &["10.5.0.2/24", "fd05::2/64"]);
    let before = host.snapshot();

    let program = c_example("unprivileged");
    let mut node = host.spawn(&program, ["tun7", "51820", mesh.cluster.token.as_str()]);
    node.wait_for("n1 is up", SOON);
    let said = node.out();
    let address = said.lines().find_map(|line| line.strip_prefix("at ")).expect("its address").to_owned();
    host.ip(&format!("addr add {address}/64 dev tun7 nodad\nlink set tun7 mtu 1420 up\n"));
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("a process");
    for nothing in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "Uid:\t65534\t65534\t65534"] {
        assert!(status.contains(nothing), "{status}");
    }

    let other = &mesh.nodes[0];
    first_ping(&other.host, &address, SOON);
    assert_ping(&host, &other.overlay(), 10);
    assert_tcp(&host, &other.host, &other.overlay(), 64);
    assert_tcp(&other.host, &host, &address, 64);

    node.signal(Signal::TERM);
    assert!(node.wait(SOON).success(), "{}", node.err());
    assert_eq!(host.snapshot(), before);
}
