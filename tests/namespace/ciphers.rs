//! What the links of a mesh are encrypted with: told in the members' records, decided by both ends.

use serde_json::Value;
use span_tests::mesh::{Mesh, Node};
use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, assert_tcp};
use span_tests::{eventually, holds, ready};

const AES: &str = "aes-256-gcm";
const CHACHA: &str = "chacha20-poly1305";

/// What `auto` comes to on this machine.
fn best(node: &Node) -> &'static str {
    let ciphers = &node.ask("status")["node"]["ciphers"];
    let has_aes = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| {
        let flags = |all: &[&str]| all.iter().all(|flag| cpu.split_whitespace().any(|word| word == *flag));
        flags(&["aes", "pclmulqdq"]) || flags(&["aes", "pmull"])
    });
    let expected = if has_aes { vec![CHACHA, AES] } else { vec![CHACHA] };
    assert_eq!(*ciphers, Value::from(expected), "what the CPU has is offered");
    if has_aes { AES } else { CHACHA }
}

/// The cipher of `node`'s link to `other`, as it says itself.
fn link(node: &Node, other: &Node) -> Value {
    let peers = node.ask("peers");
    let peers = peers.as_array().or_else(|| peers["peers"].as_array()).expect("a list of peers");
    let peer = peers.iter().find(|peer| peer["name"] == other.host.name());
    peer.map_or(Value::Null, |peer| peer["cipher"].clone())
}

fn becomes(mesh: &Mesh, a: usize, b: usize, cipher: &str) {
    let (a, b) = (&mesh.nodes[a], &mesh.nodes[b]);
    let what = format!("{} and {} use {cipher}", a.host.name(), b.host.name());
    eventually(SOON, &what, || holds([link(a, b), link(b, a)].iter().all(|used| *used == cipher)));
    assert_ping(&a.host, &b.overlay(), 10);
    assert_ping(&b.host, &a.overlay(), 10);
    assert_tcp(&a.host, &b.host, &b.overlay(), 8);
}

/// Two nodes with the instructions for it use AES-256-GCM by themselves; with the one that was told otherwise,
/// both use what WireGuard does. A node that changes its mind is followed.
#[test]
fn each_link_uses_what_both_ends_have() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(3);
    let token = mesh.cluster.token.clone();
    let auto = ["--token", token.as_str()];
    let plain = [&auto[..], &["--cipher", CHACHA]].concat();
    mesh.nodes[0].up(&auto);
    mesh.nodes[1].up(&auto);
    mesh.nodes[2].up(&plain);
    mesh.meets();
    let best = best(&mesh.nodes[0]);
    assert_eq!(mesh.nodes[2].ask("status")["node"]["ciphers"], Value::from(vec![CHACHA]));
    becomes(&mesh, 0, 1, best);
    becomes(&mesh, 0, 2, CHACHA);
    becomes(&mesh, 2, 1, CHACHA);
    let shown = mesh.nodes[0].host.run(&format!("{} peers", span_tests::programs::span()));
    assert!(shown.contains(best) && shown.contains(CHACHA), "{shown}");

    assert!(mesh.nodes[1].stop().success());
    mesh.nodes[1].up(&plain);
    becomes(&mesh, 0, 1, CHACHA);
    assert!(mesh.nodes[1].stop().success());
    mesh.nodes[1].up(&auto);
    becomes(&mesh, 0, 1, best);
}

/// A node whose policy has changed while nobody could be told: what the others remember of it is wrong, and its
/// own handshakes put that right.
#[test]
fn a_stale_record_stands_in_nobodys_way() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    mesh.up();
    let best = best(&mesh.nodes[0]);
    becomes(&mesh, 0, 1, best);
    mesh.discovery.take().expect("started").kill();
    let token = mesh.cluster.token.clone();
    assert!(mesh.nodes[1].stop().success());
    mesh.nodes[1].up(&["--token", &token, "--cipher", CHACHA]);
    becomes(&mesh, 0, 1, CHACHA);
}
