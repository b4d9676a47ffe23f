//! `span up` on three hosts: what crosses the wire, what does not need the discovery service, what is left
//! behind.

use std::net::IpAddr;
use std::time::Duration;

use span_tests::capture::{Capture, Kind, Packet, summary};
use span_tests::mesh::{Cluster, DISCOVERY, Mesh, Node};
use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, assert_tcp, first_ping, ping_with};
use span_tests::{Namespace, eventually, holds, ready, veth};

#[test]
fn a_mesh_from_one_token() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(3);
    mesh.up();
    members_are_reached_through_the_mesh_only(&mut mesh);
}

#[test]
fn a_mesh_from_one_talos_fragment() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(3);
    let fragment = mesh.cluster.talos_fragment(&format!("http://{DISCOVERY}/"));
    for node in &mut mesh.nodes {
        let file = node.files().join("talos.yaml");
        std::fs::write(&file, &fragment).expect("a file");
        node.up(&["--config", file.to_str().expect("a path in UTF-8")]);
    }
    mesh.meets();
    members_are_reached_through_the_mesh_only(&mut mesh);
}

/// Traffic to a member's real address and to its networks crosses the wire only as WireGuard; traffic to
/// anyone else crosses it as it is.
fn members_are_reached_through_the_mesh_only(mesh: &mut Mesh) {
    let other = Namespace::new("other");
    mesh.switch.plug(&other, &["10.5.0.9/24", "fd05::9/64"]);
    // Behind the second node, a host that knows nothing of the mesh.
    let [first, second, third] = &mesh.nodes[..] else { panic!("three nodes") };
    let guest = Namespace::new("guest");
    veth(&second.host, "lan1", &guest, "eth0");
    second.host.ip("link set lan1 master lan0\n");
    guest.ip("addr add 10.52.0.7/24 dev eth0\nroute add default via 10.52.0.1\n");

    let captures = [first, second].map(|node| {
        let interface = mesh.switch.port(&node.host);
        Capture::start(mesh.switch.host(), &interface)
    });
    for (from, to) in [(first, second), (second, first), (first, third), (third, first)] {
        assert_ping(&from.host, &to.address(), 20);
        assert_ping(&from.host, &to.address6(), 20);
        assert_ping(&from.host, &to.behind(), 20);
        assert_ping(&from.host, &to.overlay(), 20);
    }
    assert_tcp(&first.host, &second.host, &second.address(), 8);
    assert_tcp(&second.host, &first.host, &first.address6(), 8);
    assert_tcp(&first.host, &guest, "10.52.0.7", 8);
    assert_tcp(&guest, &first.host, &first.behind(), 8);
    // A TCP segment of the guest's full size must not depend on ICMP to shrink: clamped while forwarded.
    guest.feed(
        "nft -f -",
        "table ip t { chain i { type filter hook input priority 0; meta l4proto icmp drop; }; }\n",
    );
    assert_tcp(&guest, &third.host, &third.behind(), 8);
    assert_tcp(&third.host, &guest, "10.52.0.7", 8);

    assert_ping(&first.host, "10.5.0.9", 20);
    assert_ping(&first.host, "fd05::9", 20);
    assert_ping(&other, &first.address(), 20);
    assert_tcp(&first.host, &other, "10.5.0.9", 4);

    let stranger: [IpAddr; 2] = ["10.5.0.9", "fd05::9"].map(|text| text.parse().expect("an address"));
    for (node, capture) in [first, second].into_iter().zip(captures) {
        let packets = capture.finish();
        let seen = summary(&packets);
        assert!(
            packets.iter().any(|packet| packet.kind == Kind::WireGuard(4)),
            "{}: {seen}",
            node.host.name()
        );
        let to_stranger = |packet: &Packet| {
            stranger.iter().any(|&ip| packet.source == Some(ip) || packet.destination == Some(ip))
        };
        let naked: Vec<&Packet> = packets
            .iter()
            .filter(|packet| packet.is_plaintext() && !packet.uses_port(3000) && !to_stranger(packet))
            .collect();
        assert!(
            naked.is_empty(),
            "{}: {} in the clear, as {:?}; {seen}",
            node.host.name(),
            naked.len(),
            naked[0]
        );
        if node.host.name() == "n1" {
            let pings =
                packets.iter().filter(|packet| packet.kind == Kind::Icmp && to_stranger(packet)).count();
            // Where an answer is slow, ping asks once more.
            assert!(pings >= 120, "{pings} pings to a stranger and their answers: {seen}");
            assert!(packets.iter().any(|packet| packet.kind == Kind::Tcp && to_stranger(packet)));
        }
    }
    for node in &mut mesh.nodes {
        assert!(node.process().runs());
    }
}

/// Without the discovery service running links stay, and a node that starts again finds the others in what it
/// has kept on disk.
#[test]
fn the_mesh_outlives_its_discovery() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(3);
    mesh.up();
    let steady = mesh.nodes[0]
        .host
        .spawn("ping", ["-q", "-n", "-i", "0.05", "-c", "200", "-W", "1", &mesh.nodes[1].overlay()]);
    let mut steady = steady;
    mesh.discovery.take().expect("a service").kill();
    steady.wait(Duration::from_secs(20));
    assert!(steady.out().contains(" 0% packet loss"), "{}", steady.out());
    assert_tcp(&mesh.nodes[1].host, &mesh.nodes[2].host, &mesh.nodes[2].address(), 8);

    let token = mesh.cluster.token.clone();
    mesh.nodes[2].stop();
    mesh.nodes[2].up(&["--token", &token]);
    mesh.meets();

    // The service comes back empty, and learns all of them again. Whoever has missed it for long comes back
    // within 45 seconds.
    mesh.start_discovery();
    let late = Node::new(&mesh.switch, 4);
    mesh.nodes.push(late);
    mesh.nodes[3].up(&["--token", &token]);
    mesh.meets_within(Duration::from_secs(45) + SOON);
}

/// A member that is down stays claimed: nothing for it crosses the wire in the clear while it is away, unless
/// the node was told to let it.
#[test]
fn a_member_that_is_down_is_not_met_in_the_clear() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    mesh.up();
    let away = mesh.nodes.pop().expect("two nodes");
    let address = away.address();
    let ip: IpAddr = address.parse().expect("an address");
    let mut away = away;
    assert!(away.stop().success());
    assert!(away.host.has_link("eth0"), "its host still answers");

    let node = &mut mesh.nodes[0];
    let capture = Capture::start(mesh.switch.host(), &mesh.switch.port(&node.host));
    assert_eq!(ping_with(&node.host, &address, 100, "-i 0.2 -W 0.5"), 0);
    let packets = capture.finish();
    let naked =
        packets.iter().filter(|packet| packet.is_plaintext() && packet.destination == Some(ip)).count();
    // The host may be told by ICMP that our datagrams reach no socket; those come from it.
    assert_eq!(naked, 0, "{}", summary(&packets));

    node.stop();
    let token = mesh.cluster.token.clone();
    node.up(&["--token", &token, "--allow-down-peer-bypass"]);
    first_ping(&node.host, &address, Duration::from_secs(40));
}

/// SIGTERM: no rule, no route, no table, no interface, no socket stays.
#[test]
fn nothing_stays_behind() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    let before: Vec<String> = mesh.nodes.iter().map(|node| node.host.snapshot()).collect();
    mesh.up();
    for (node, before) in mesh.nodes.iter_mut().zip(before) {
        assert!(
            node.host.run("ip rule").contains("fwmark 0x40/0x60 lookup 180"),
            "there was something to remove"
        );
        assert!(node.stop().success());
        assert_eq!(node.host.snapshot(), before);
    }
}

/// SIGKILL leaves everything; the next start takes it over, and removes it in the end.
#[test]
fn a_start_after_a_crash_repairs() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    let before = mesh.nodes[0].host.snapshot();
    mesh.up();
    mesh.nodes[0].kill();
    assert_ne!(mesh.nodes[0].host.snapshot(), before, "a crash leaves rules behind");
    let token = mesh.cluster.token.clone();
    mesh.nodes[0].up(&["--token", &token]);
    mesh.meets();
    let host = &mesh.nodes[0].host;
    for family in ["-4", "-6"] {
        assert_eq!(
            host.run(&format!("ip {family} rule")).matches("lookup 180").count(),
            1,
            "one rule, not two"
        );
    }
    assert_ping(host, &mesh.nodes[1].address(), 5);
    assert!(mesh.nodes[0].stop().success());
    assert_eq!(mesh.nodes[0].host.snapshot(), before);
}

/// Somebody removes the rule, the route, the nftables table: they come back while the node runs.
#[test]
fn what_others_remove_comes_back() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    mesh.up();
    let [first, second] = &mesh.nodes[..] else { panic!("two nodes") };
    let whole = first.host.snapshot();
    first.host.run("ip -4 rule del fwmark 0x40/0x60 lookup 180");
    first.host.run("ip -4 route flush table 180");
    first.host.run("nft flush ruleset");
    eventually(Duration::from_secs(40), "everything is back", || holds(first.host.snapshot() == whole));
    assert_ping(&first.host, &second.address(), 5);
}

/// A node that another cluster's secret seals is nobody here, although both use one service.
#[test]
fn clusters_do_not_mix() {
    if !ready() {
        return;
    }
    let mut mesh = Mesh::new(2);
    mesh.up();
    let stranger = Cluster::new(&[&format!("http://{DISCOVERY}")]);
    let mut other = Node::new(&mesh.switch, 3);
    other.up(&["--token", &stranger.token]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(ping_with(&mesh.nodes[0].host, &other.overlay(), 2, "-i 0.2 -W 0.5"), 0);
    assert_ping(&mesh.nodes[0].host, &other.address(), 2);
    mesh.meets();
}
