//! How `span wg` carries packets: the behaviours of the kernel's own test of WireGuard, as far as a program
//! in user space has them.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, assert_tcp, bulk, first_ping, ping, ping_with};
use span_tests::wg::{self, Keys, Program, setconf};
use span_tests::{Namespace, eventually, holds, ready, veth};

use crate::pair::{Family, Pair};

fn span_pair(family: Family) -> Pair {
    let pair = Pair::new(Program::Span, Program::Span, family);
    pair.configure();
    pair
}

/// Pings, bulk TCP one and fifty streams wide, UDP as fast as it goes, both families inside.
#[test]
fn bulk_data_of_every_kind() {
    if !ready() {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let mut pair = span_pair(family);
        assert_ping(&pair.a, Pair::B_INNER, 10);
        assert_ping(&pair.b, Pair::A_INNER6, 10);
        everything_through(&pair.a, &pair.b, Pair::B_INNER, Pair::B_INNER6);
        pair.both_run();
    }
}

fn everything_through(a: &Namespace, b: &Namespace, b_inner: &str, b_inner6: &str) {
    for (address, options) in
        [(b_inner, "-t 2"), (b_inner6, "-t 2 -R"), (b_inner, "-t 2 -P 5"), (b_inner6, "-t 2 -P 50 -Z")]
    {
        let transfer = bulk(a, b, address.parse().expect("an address"), options);
        assert!(transfer.bytes > 4 << 20, "{options}: {transfer:?}");
    }
    for (address, options) in [(b_inner, "-u -b 0 -t 2"), (b_inner6, "-u -b 0 -t 2 -l 1200")] {
        // A flood without limit beside other tests: what matters is that it goes on, not how fast.
        let transfer = bulk(a, b, address.parse().expect("an address"), options);
        assert!(transfer.bytes > 1 << 18, "{options}: {transfer:?}");
    }
    // Slow enough to be carried whole: no loss is excused.
    let transfer = bulk(a, b, b_inner.parse().expect("an address"), "-u -b 5M -t 2");
    assert!(transfer.lost_percent < 0.01, "{transfer:?}");
}

/// Interfaces and cables of 34 KiB, and large packets over an ordinary cable, in fragments.
#[test]
fn large_packets() {
    if !ready() {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let pair = span_pair(family);
        for node in [&pair.a, &pair.b] {
            node.ip("link set wg0 mtu 34736\n");
        }
        // Over the 1500 bytes of the cable first: each datagram travels in fragments.
        assert_eq!(ping_with(&pair.a, Pair::B_INNER, 5, "-i 0.05 -W 1 -s 30000"), 5);
        for node in [&pair.a, &pair.b] {
            node.ip("link set eth0 mtu 34816\n");
        }
        assert_eq!(ping_with(&pair.a, Pair::B_INNER, 5, "-i 0.05 -W 1 -s 30000"), 5);
        assert_eq!(ping_with(&pair.b, Pair::A_INNER6, 5, "-i 0.05 -W 1 -s 34000"), 5);
        assert_tcp(&pair.a, &pair.b, Pair::B_INNER, 32);
        assert_tcp(&pair.b, &pair.a, Pair::A_INNER6, 32);
    }
}

/// Padding never makes a packet larger than the interface's MTU lets it be: where padding to sixteen would
/// cross it, a datagram of 1360 bytes is never seen.
#[test]
fn padding_stays_below_the_mtu() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    for (node, other) in [(&pair.a, Pair::B_INNER), (&pair.b, Pair::A_INNER)] {
        node.ip(&format!("link set wg0 mtu 1300\nroute add {other}/32 dev wg0 mtu 1299\n"));
        node.feed(
            "nft -f -",
            "table inet test { chain in { type filter hook input priority 0; udp dport 51820-51821 meta length 1360 drop; }; }\n",
        );
    }
    assert_eq!(ping_with(&pair.a, Pair::B_INNER, 1, "-W 1 -s 1269"), 1);
    assert_eq!(ping_with(&pair.b, Pair::A_INNER, 1, "-W 1 -s 1269"), 1);
}

/// A packet is taken only from the peer that owns its source, by the longest prefix; but whoever sent it was
/// authenticated, so the endpoint roams even with a packet that is refused.
#[test]
fn a_packet_comes_from_the_peer_that_owns_its_source() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    pair.a.ip("addr add 10.9.7.1/32 dev wg0\n");
    let key = &pair.keys[0].public;
    pair.b.run(&format!("wg set wg0 peer {key} allowed-ips 10.9.0.1/32,fd09::1/128,10.9.7.0/24"));
    pair.b.ip("route add 10.9.7.0/24 dev wg0\n");
    assert_eq!(ping_with(&pair.a, Pair::B_INNER, 3, "-i 0.05 -W 1 -I 10.9.7.1"), 3, "the peer's own network");

    let other = Keys::new(&pair.b).public;
    pair.b.run(&format!("wg set wg0 peer {other} allowed-ips 10.9.7.1/32"));
    pair.a.ip(&pair.renumber(1));
    assert_eq!(
        ping_with(&pair.a, Pair::B_INNER, 3, "-i 0.05 -W 0.5 -I 10.9.7.1"),
        0,
        "a more specific owner"
    );
    let a = wg::peers(&pair.b, "wg0").into_iter().find(|peer| peer.public_key == *key).expect("A");
    assert_eq!(a.endpoint, pair.endpoint(1, 2, Pair::A_PORT), "the endpoint followed");

    pair.b.run(&format!("wg set wg0 peer {other} remove"));
    pair.b.run(&format!("wg set wg0 peer {key} allowed-ips 10.9.0.1/32,fd09::1/128,10.9.7.0/24"));
    assert_eq!(ping_with(&pair.a, Pair::B_INNER, 3, "-i 0.05 -W 1 -I 10.9.7.1"), 3, "given back");
}

/// A new private key on one side, its public key on the other, and traffic goes on at once.
#[test]
fn a_private_key_changes_under_way() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    assert_ping(&pair.a, Pair::B_INNER, 3);
    let next = Keys::new(&pair.a);
    pair.a.feed("wg set wg0 private-key /dev/stdin", &next.private);
    pair.b.run(&format!("wg set wg0 peer {} remove", pair.keys[0].public));
    pair.b.feed(
        &format!(
            "wg set wg0 peer {} allowed-ips 10.9.0.1/32,fd09::1/128 preshared-key /dev/stdin",
            next.public
        ),
        &pair.preshared,
    );
    first_ping(&pair.a, Pair::B_INNER, Duration::from_secs(12));
    assert_ping(&pair.a, Pair::B_INNER, 10);
    assert_ping(&pair.b, Pair::A_INNER, 10);
}

/// A WireGuard inside a WireGuard carries everything a WireGuard carries.
#[test]
fn a_tunnel_inside_a_tunnel() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    let keys = [Keys::new(&pair.a), Keys::new(&pair.b)];
    let _inner = [Program::Span.start(&pair.a, "wg1"), Program::Span.start(&pair.b, "wg1")];
    for (host, node, other_inner) in [(1_u8, &pair.a, Pair::B_INNER), (2, &pair.b, Pair::A_INNER)] {
        let other = 3 - host;
        setconf(
            node,
            "wg1",
            &format!(
                "[Interface]\nPrivateKey={}\nListenPort=1{host}\n[Peer]\nPublicKey={}\n\
                 AllowedIPs=10.10.0.{other}/32,fd10::{other}/128\nEndpoint={other_inner}:1{other}\n",
                keys[usize::from(host) - 1].private,
                keys[usize::from(other) - 1].public,
            ),
        );
        node.ip(&format!(
            "addr add 10.10.0.{host}/24 dev wg1\naddr add fd10::{host}/64 dev wg1\nlink set wg1 mtu 1340 up\n"
        ));
    }
    assert_ping(&pair.a, "10.10.0.2", 10);
    assert_ping(&pair.b, "fd10::1", 10);
    everything_through(&pair.a, &pair.b, "10.10.0.2", "fd10::2");
}

/// An endpoint that is routed into the tunnel itself makes no storm, and does not stop the program.
#[test]
fn a_routing_loop_stays_small() {
    if !ready() {
        return;
    }
    let mut pair = span_pair(Family::V4);
    assert_ping(&pair.a, Pair::B_INNER, 3);
    let key = &pair.keys[1].public;
    let sent = wg::peer(&pair.a, "wg0").tx;
    // Two ways to loop: an endpoint inside the tunnel, and the real endpoint routed into the tunnel.
    pair.a.run(&format!("wg set wg0 peer {key} endpoint {}:51821", Pair::B_INNER));
    let _ = ping_with(&pair.a, Pair::B_INNER, 3, "-i 0.3 -W 0.5");
    pair.a.run(&format!("wg set wg0 peer {key} endpoint 192.0.2.12:51821 allowed-ips 0.0.0.0/0"));
    pair.a.ip("route add 192.0.2.12/32 dev wg0\n");
    let _ = ping_with(&pair.a, Pair::B_INNER, 3, "-i 0.3 -W 0.5");
    let looped = wg::peer(&pair.a, "wg0").tx - sent;
    assert!(looped < 70_000, "{looped} bytes sent in a loop");
    assert!(pair.processes[0].busy(Duration::from_secs(1)) < 0.2, "nothing goes round");

    pair.a.ip("route del 192.0.2.12/32 dev wg0\n");
    first_ping(&pair.a, Pair::B_INNER, Duration::from_secs(15));
    pair.both_run();
}

/// No peer for a destination, or no way to a peer: the sender is told with ICMP, it need not time out.
#[test]
fn a_packet_without_a_peer_is_answered() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    pair.a.ip("route add 10.77.0.0/24 dev wg0\nroute add fd77::/64 dev wg0\n");
    for address in ["10.77.0.1", "fd77::1"] {
        let start = Instant::now();
        let said = pair.a.attempt(&format!("ping -n -c 1 -W 5 {address}"));
        assert!(said.is_err(), "no peer owns {address}");
        assert!(start.elapsed() < Duration::from_secs(2), "{address}: an answer, not a timeout");
    }
    // From another network behind A, the answer finds its way back there.
    let host = Namespace::new("host");
    veth(&host, "eth0", &pair.a, "lan0");
    host.ip("addr add 10.50.0.2/24 dev eth0\nroute add default via 10.50.0.1\n");
    pair.a.ip("addr add 10.50.0.1/24 dev lan0\n");
    pair.a.run("sysctl -qw net.ipv4.ip_forward=1");
    let mut ping = host.command("ping");
    let output = ping.args(["-n", "-c", "1", "-W", "5", "10.77.0.1"]).output().expect("ping");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Unreachable") || said.contains("prohibited"), "{said}");
}

/// Behind a NAT that forgets after two seconds: the peer sees the NAT's address, and a keepalive each second
/// keeps the way back open.
#[test]
fn through_a_nat_with_keepalives() {
    if !ready() {
        return;
    }
    let (client, router, server) =
        (Namespace::new("client"), Namespace::new("router"), Namespace::new("server"));
    veth(&client, "eth0", &router, "inside");
    veth(&router, "outside", &server, "eth0");
    client.ip("addr add 192.168.1.100/24 dev eth0\nroute add default via 192.168.1.1\n");
    router.ip("addr add 192.168.1.1/24 dev inside\naddr add 10.0.0.1/24 dev outside\n");
    server.ip("addr add 10.0.0.100/24 dev eth0\n");
    router.run("sysctl -qw net.ipv4.ip_forward=1");
    router.feed(
        "nft -f -",
        "table ip nat { chain out { type nat hook postrouting priority srcnat; oifname outside meta l4proto udp snat to 10.0.0.1:1; }; }\n",
    );
    router.run(
        "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=2 net.netfilter.nf_conntrack_udp_timeout_stream=2",
    );

    let keys = [Keys::new(&client), Keys::new(&server)];
    let _both = [Program::Span.start(&client, "wg0"), Program::Span.start(&server, "wg0")];
    setconf(
        &client,
        "wg0",
        &format!(
            "[Interface]\nPrivateKey={}\n[Peer]\nPublicKey={}\nAllowedIPs=10.9.0.2/32\nEndpoint=10.0.0.100:51820\n",
            keys[0].private, keys[1].public
        ),
    );
    setconf(
        &server,
        "wg0",
        &format!(
            "[Interface]\nPrivateKey={}\nListenPort=51820\n[Peer]\nPublicKey={}\nAllowedIPs=10.9.0.1/32\n",
            keys[1].private, keys[0].public
        ),
    );
    client.ip("addr add 10.9.0.1/24 dev wg0\nlink set wg0 up\n");
    server.ip("addr add 10.9.0.2/24 dev wg0\nlink set wg0 up\n");

    assert_ping(&client, "10.9.0.2", 3);
    assert_eq!(wg::peer(&server, "wg0").endpoint, "10.0.0.1:1");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ping_with(&server, "10.9.0.1", 1, "-W 1"), 0, "without keepalives the NAT has forgotten");
    client.run(&format!("wg set wg0 peer {} persistent-keepalive 1", keys[1].public));
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(ping_with(&server, "10.9.0.1", 1, "-W 1"), 1, "with keepalives it has not");
}

/// The mark of the interface is on its datagrams, also when it changes: policy routing sees it.
#[test]
fn datagrams_carry_the_mark() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    pair.a.ip("route del 192.0.2.0/24 dev eth0\nroute add 192.0.2.0/24 dev eth0 table 77\n");
    assert_eq!(ping_with(&pair.a, Pair::B_INNER, 2, "-i 0.2 -W 0.3"), 0, "no route without the mark");
    for mark in ["0x33", "0x44"] {
        pair.a.ip(&format!("rule add fwmark {mark} lookup 77\n"));
        pair.a.run(&format!("wg set wg0 fwmark {mark}"));
        first_ping(&pair.a, Pair::B_INNER, SOON);
        assert_eq!(pair.a.run("wg show wg0 fwmark").trim(), mark);
        assert_ping(&pair.a, Pair::B_INNER, 10);
        pair.a.ip(&format!("rule del fwmark {mark} lookup 77\n"));
    }
}

/// The source address sticks to what the peer knows, and lets go when that address goes (IPv4 and IPv6).
#[test]
fn the_source_address_is_not_overly_sticky() {
    if !ready() {
        return;
    }
    for (family, host, second) in [(Family::V4, 1, "192.0.2.99/24"), (Family::V6, 1, "2001:db8::99/64")] {
        let pair = span_pair(family);
        assert_ping(&pair.a, Pair::B_INNER, 3);
        assert_ping(&pair.b, Pair::A_INNER, 3);
        pair.a.ip(&format!("addr add {second} dev eth0\n"));
        assert_ping(&pair.a, Pair::B_INNER, 3);
        pair.a.ip(&pair.renumber(host));
        assert_ping(&pair.a, Pair::B_INNER, 3);
        assert_ping(&pair.b, Pair::A_INNER, 3);
    }
}

/// A host with several addresses answers from the one it was asked at, also when that one is of another
/// interface than the packets come in by.
#[test]
fn the_answer_comes_from_the_address_that_was_asked() {
    if !ready() {
        return;
    }
    for (family, addresses) in [
        (Family::V4, ["192.0.2.12", "192.0.2.112", "10.50.0.1"]),
        (Family::V6, ["2001:db8::12", "2001:db8::112", "fd50::1"]),
    ] {
        let pair = span_pair(family);
        let (length, full) = if family == Family::V4 { (24, 32) } else { (64, 128) };
        pair.b.ip(&format!(
            "addr add {}/{length} dev eth0\nlink add other0 type bridge\nlink set other0 up\n\
             addr add {}/{full} dev other0\n",
            addresses[1], addresses[2]
        ));
        pair.a.ip(&format!("route add {}/{full} via {}\n", addresses[2], addresses[0]));
        let key = &pair.keys[1].public;
        for address in addresses {
            let endpoint =
                if family == Family::V4 { format!("{address}:51821") } else { format!("[{address}]:51821") };
            pair.a.run(&format!("wg set wg0 peer {key} endpoint {endpoint}"));
            // A session stays when the endpoint changes: its packets and a new handshake's are answered alike.
            assert_ping(&pair.a, Pair::B_INNER, 5);
            assert_eq!(wg::peer(&pair.a, "wg0").endpoint, endpoint, "answered from where it was asked");
            assert_ping(&pair.b, Pair::A_INNER, 5);
            assert_eq!(wg::peer(&pair.a, "wg0").endpoint, endpoint, "and spoken to from there");
        }
    }
}

/// A better route over another interface appears: the packets leave there, from that interface's address.
#[test]
fn the_source_follows_the_route() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    assert_ping(&pair.a, Pair::B_INNER, 3);
    assert_ping(&pair.b, Pair::A_INNER, 3);
    veth(&pair.a, "eth1", &pair.b, "eth1");
    pair.a.ip("addr add 192.0.2.77/32 dev eth1\nroute add 192.0.2.12/32 dev eth1 src 192.0.2.77\n");
    pair.b.ip("route add 192.0.2.77/32 dev eth1\n");
    for node in [&pair.a, &pair.b] {
        node.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0");
    }
    first_ping(&pair.a, Pair::B_INNER, SOON);
    eventually(SOON, "the endpoint follows the route", || {
        let _ = ping(&pair.a, Pair::B_INNER, 1);
        holds(wg::peer(&pair.b, "wg0").endpoint == "192.0.2.77:51820")
    });
}

/// Started and stopped many times, by signal and by deletion of the interface: nothing stays, nothing spins.
#[test]
fn nothing_stays_behind() {
    if !ready() {
        return;
    }
    let node = Namespace::new("lone");
    let before = node.snapshot();
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        let mut process = Program::Span.start(&node, "wg0");
        node.ip("addr add 10.0.0.1/24 dev wg0\nlink set wg0 up\n");
        assert!(process.busy(Duration::from_secs(1)) < 0.05, "an idle interface is idle");
        process.signal(signal);
        let status = process.wait(Duration::from_secs(5));
        assert!(status.success(), "{signal:?}: {status}");
        assert_eq!(node.snapshot(), before);
    }

    let mut process = Program::Span.start(&node, "wg0");
    node.ip("link del wg0\n");
    process.wait(Duration::from_secs(5));
    assert_eq!(node.snapshot(), before, "after the interface was deleted");

    // Killed, it cannot remove its socket; the next one takes its place.
    Program::Span.start(&node, "wg0").kill();
    let mut process = Program::Span.start(&node, "wg0");
    process.terminate(Duration::from_secs(5));
    assert_eq!(node.snapshot(), before, "after one was killed");
}

/// Peers that come and go leave no descriptor and no thread.
#[test]
fn peers_leave_nothing_behind() {
    if !ready() {
        return;
    }
    let pair = span_pair(Family::V4);
    assert_ping(&pair.a, Pair::B_INNER, 3);
    let process = &pair.processes[0];
    let before = (process.descriptors(), process.threads());
    for round in 0..50 {
        let config = pair.a_config();
        setconf(&pair.a, "wg0", if round % 2 == 0 { "[Interface]\n" } else { &config });
        pair.a.run(&format!("wg set wg0 listen-port {}", 52000 + round));
    }
    setconf(&pair.a, "wg0", &pair.a_config());
    first_ping(&pair.a, Pair::B_INNER, Duration::from_secs(12));
    assert_eq!((process.descriptors(), process.threads()), before);
}
