//! How fast a mesh comes up, and comes back.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use span_tests::mesh::{Mesh, Node};
use span_tests::ready;
use span_tests::traffic::first_ping;

/// Held by each test: one at a time, whatever the number of threads.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// How long until every node of `mesh` reaches every other by its address in the mesh.
fn time_to_meet(start: Instant, mesh: &Mesh) -> Duration {
    mesh.meets();
    start.elapsed()
}

/// All links of a mesh are up within two seconds of the start of its last node.
#[test]
fn a_mesh_comes_up_within_two_seconds() {
    if !ready() {
        return;
    }
    let _alone = alone();
    let mut mesh = Mesh::new(5);
    let token = mesh.cluster.token.clone();
    for node in &mut mesh.nodes {
        node.start(&["--token", &token]);
    }
    let start = Instant::now();
    for node in &mut mesh.nodes {
        node.wait_for_overlay();
    }
    let took = time_to_meet(start, &mesh);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

/// A node that starts again on another address is back within three seconds, for the others and for itself,
/// whether it could say goodbye or not.
#[test]
fn a_node_is_back_on_another_address_within_three_seconds() {
    if !ready() {
        return;
    }
    let _alone = alone();
    let mut mesh = Mesh::new(3);
    mesh.up();
    let token = mesh.cluster.token.clone();
    for (generation, said_goodbye) in [(1_u8, true), (2, false)] {
        let node = &mut mesh.nodes[2];
        if said_goodbye {
            assert!(node.stop().success());
        } else {
            node.kill();
        }
        node.host.ip(&format!(
            "addr flush dev eth0\naddr add 10.5.0.{0}/24 dev eth0\naddr add fd05::{0}/64 dev eth0\n\
             route replace default via 10.5.0.254\n",
            100 + generation
        ));
        let start = Instant::now();
        node.up(&["--token", &token]);
        let took = time_to_meet(start, &mesh);
        assert!(took < Duration::from_secs(3), "goodbye {said_goodbye}: {took:?}");
        let start = Instant::now();
        first_ping(&mesh.nodes[0].host, &format!("10.5.0.{}", 100 + generation), Duration::from_secs(3));
        assert!(took + start.elapsed() < Duration::from_secs(3), "by its new address");
    }
}

/// Seven of a member's eight endpoints are dead, and it cannot call itself: the first packet is through in
/// less than a second more than with all of them alive.
#[test]
fn dead_endpoints_cost_less_than_a_second() {
    if !ready() {
        return;
    }
    let _alone = alone();
    let took = [false, true].map(|dead| {
        let mut mesh = Mesh::new(2);
        let token = mesh.cluster.token.clone();
        let callee = &mesh.nodes[1];
        for host in 21..28 {
            callee.host.ip(&format!("addr add 10.5.0.{host}/24 dev eth0\n"));
        }
        // Its first address, 10.5.0.2, comes first in order; leave it only a last one that works.
        callee.host.ip("addr add 10.5.0.28/24 dev eth0\naddr del fd05::2/64 dev eth0\n");
        if dead {
            callee.host.feed(
                "nft -f -",
                "table ip t { chain i { type filter hook input priority 0; udp dport 51820 ip daddr { 10.5.0.2, 10.5.0.21-10.5.0.27 } drop; }; }\n",
            );
        }
        // Only what answers the caller comes in to it.
        mesh.nodes[0].host.feed(
            "nft -f -",
            "table ip t { chain i { type filter hook input priority 0; udp dport 51820 ct state new drop; }; }\n",
        );
        mesh.nodes[1].up(&["--token", &token]);
        let overlay = mesh.nodes[1].overlay();
        std::thread::sleep(Duration::from_secs(1));
        let start = Instant::now();
        mesh.nodes[0].up(&["--token", &token]);
        first_ping(&mesh.nodes[0].host, &overlay, Duration::from_secs(10));
        start.elapsed()
    });
    let [alive, dead] = took;
    assert!(dead < alive + Duration::from_secs(1), "{alive:?} with all alive, {dead:?} with seven dead");
}

/// The network under a running node changes: the others follow without anyone being restarted.
#[test]
fn a_running_node_that_moves_is_followed_within_three_seconds() {
    if !ready() {
        return;
    }
    let _alone = alone();
    let mut mesh = Mesh::new(3);
    mesh.up();
    let mover: &Node = &mesh.nodes[2];
    let overlay = mover.overlay();
    mover.host.ip("addr flush dev eth0\naddr add 10.5.0.103/24 dev eth0\naddr add fd05::103/64 dev eth0\n\
         route replace default via 10.5.0.254\n");
    let start = Instant::now();
    for node in &mesh.nodes[..2] {
        first_ping(&node.host, &overlay, Duration::from_secs(10));
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
}
