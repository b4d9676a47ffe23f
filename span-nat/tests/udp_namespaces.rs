//! The UDP transport on networks made for it: several addresses, small MTUs, firewalls, no IPv6.
#![cfg(target_os = "linux")]

mod common;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use common::{Namespace, receive, send};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::thread::CapabilitySet;
use socket2::{Domain, Socket, Type};
use span_core::path::{Path, Source};
use span_core::wireguard::Reserve;
use span_nat::monitor::Monitor;
use span_nat::transport::udp::{BindError, Config, Udp};
use span_nat::transport::{DropReason, RecvBatch, SendBatch, SendError, Sent, Transmit, Transport};

fn bind(namespace: &Namespace) -> Udp {
    namespace.enter(|| Udp::bind(Config::default()).expect("binding"))
}

fn to(udp: &Udp, ip: &str) -> Path {
    Path::udp(SocketAddr::new(ip.parse().expect("address"), udp.local_port()))
}

fn source(path: &Path) -> Source {
    match path {
        Path::Udp(udp) => udp.source.expect("a source"),
        _ => panic!("not UDP"),
    }
}

/// Two hosts on one cable, with two addresses each per family.
fn neighbours() -> Option<(Namespace, Namespace)> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.cable("near", &there, "far");
    here.run(
        "ip addr add 10.0.0.1/24 dev near
         ip addr add 10.0.0.3/24 dev near
         ip addr add fd00::1/64 dev near nodad
         ip addr add fd00::3/64 dev near nodad",
    );
    there.run(
        "ip addr add 10.0.0.2/24 dev far
         ip addr add 10.0.0.4/24 dev far
         ip addr add fd00::2/64 dev far nodad
         ip addr add fd00::4/64 dev far nodad",
    );
    for ip in ["10.0.0.2", "fd00::2"] {
        here.await_link_to(&there, ip);
    }
    Some((here, there))
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    let Some((here, there)) = neighbours() else { return };
    let (mut asking, mut asked) = (bind(&here), bind(&there));
    for ip in ["10.0.0.2", "10.0.0.4", "fd00::2", "fd00::4"] {
        assert_eq!(send(&mut asking, &to(&asked, ip), 1, 100).drops.total(), 0);
        let question = receive(&mut asked, 1)[0].0;
        assert_eq!(source(&question).ip, ip.parse::<IpAddr>().unwrap());
        assert_ne!(source(&question).interface, 0);
        assert_eq!(send(&mut asked, &question, 3, 100).drops.total(), 0);
        for (answer, _) in receive(&mut asking, 3) {
            assert_eq!(answer.remote().unwrap().ip(), ip.parse::<IpAddr>().unwrap());
        }
    }
    // Link-local addresses too, whose scope is part of the address.
    let local = here.enter(|| Monitor::new().unwrap().snapshot().unwrap());
    let is_link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let own = local.addresses.iter().find(|it| is_link_local(it.prefix.addr())).expect("link-local");
    let IpAddr::V6(own_ip) = own.prefix.addr() else { panic!() };
    let far_index = there.enter(|| Monitor::new().unwrap().snapshot().unwrap());
    let far_index = far_index.link_named("far").unwrap().index;
    let scoped = std::net::SocketAddrV6::new(own_ip, asking.local_port(), 0, far_index);
    assert_eq!(send(&mut asked, &Path::udp(scoped.into()), 1, 100).drops.total(), 0);
    let question = receive(&mut asking, 1)[0].0;
    assert_eq!(source(&question).ip, IpAddr::V6(own_ip));
    assert_eq!(send(&mut asking, &question, 1, 100).drops.total(), 0);
    let answer = receive(&mut asked, 1)[0].0;
    assert_eq!(answer.remote().unwrap(), SocketAddr::V6(scoped));
}

#[test]
fn a_source_that_is_gone_is_given_up_and_bursts_go_on() {
    let Some((here, there)) = neighbours() else { return };
    here.run("echo 1 > /proc/sys/net/ipv4/conf/near/promote_secondaries");
    let (mut leaving, mut staying) = (bind(&here), bind(&there));
    for (ip, removal, other) in [
        ("10.0.0.1", "ip addr del 10.0.0.1/24 dev near", "10.0.0.3"),
        ("fd00::1", "ip addr del fd00::1/64 dev near", "fd00::3"),
    ] {
        assert_eq!(send(&mut staying, &to(&leaving, ip), 1, 100).datagrams, 1);
        let path = receive(&mut leaving, 1)[0].0;
        here.run(removal);
        let mut batch = SendBatch::default();
        for _ in 0..30 {
            batch.reserve(&path, 1400).unwrap().fill(1);
        }
        let outcome = batch.flush(&mut leaving);
        assert_eq!((outcome.datagrams, outcome.drops.total(), outcome.calls), (30, 0, 1), "{ip}");
        assert_eq!(batch.lost_sources(), [path]);
        for (from, len) in receive(&mut staying, 30) {
            assert_eq!((from.remote().unwrap().ip(), len), (other.parse::<IpAddr>().unwrap(), 1400));
        }
        // The kernel's EINVAL was about the source: bursts and congestion marks are not given up.
        let outcome = send(&mut leaving, &path.without_source(), 30, 1400);
        assert_eq!((outcome.datagrams, outcome.calls), (30, 1), "{ip}");
        receive(&mut staying, 30);
        assert_eq!(leaving.max_segments(), 64);
    }
    assert_eq!(leaving.counters().sources_lost, 2);
    assert_eq!(leaving.counters().unsegmented, 0);
}

#[test]
fn datagrams_longer_than_the_link_takes_go_in_fragments() {
    let Some((here, there)) = neighbours() else { return };
    let (mut sender, mut receiver) = (bind(&here), bind(&there));
    for ip in ["10.0.0.2", "fd00::2"] {
        let path = to(&receiver, ip);
        let most = SendBatch::max_datagram(&path);
        for len in [34_816, most] {
            assert_eq!(send(&mut sender, &path, 1, len).drops.total(), 0, "{len} bytes to {ip}");
            assert_eq!(receive(&mut receiver, 1)[0].1, len);
        }
        // As a burst the kernel refuses them; they leave singly, and shorter ones as bursts again.
        let before = sender.counters().unsegmented;
        let outcome = send(&mut sender, &path, 4, 12_000);
        assert_eq!((outcome.datagrams, outcome.calls, outcome.drops.total()), (4, 4, 0));
        assert_eq!(receive(&mut receiver, 4).len(), 4);
        assert_eq!(sender.counters().unsegmented - before, 1);
        assert_eq!(send(&mut sender, &path, 40, 1400).calls, 1);
        receive(&mut receiver, 40);
    }
}

#[test]
fn dont_fragment_is_not_set() {
    let Some((here, there)) = neighbours() else { return };
    there.run(
        "nft add table inet watch
         nft add chain inet watch input '{ type filter hook input priority 0; }'
         nft add rule inet watch input ip protocol udp ip frag-off '&' 0x4000 == 0x4000 drop",
    );
    let (mut sender, mut receiver) = (bind(&here), bind(&there));
    let path = to(&receiver, "10.0.0.2");
    assert_eq!(send(&mut sender, &path, 1, 1000).drops.total(), 0);
    assert_eq!(send(&mut sender, &path, 20, 1000).calls, 1);
    receive(&mut receiver, 21);
}

#[test]
fn a_host_without_ipv6_works_with_ipv4_alone() {
    let Some((here, there)) = neighbours() else { return };
    here.run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    let (mut without, mut with) = (bind(&here), bind(&there));
    let outcome = send(&mut without, &to(&with, "fd00::2"), 3, 100);
    assert_eq!(outcome.drops.get(DropReason::Unreachable), 3, "{outcome:?}");
    assert_eq!(send(&mut without, &to(&with, "10.0.0.2"), 40, 1400).calls, 1);
    receive(&mut with, 40);
    assert_eq!(without.counters().drops.total(), 3);
}

#[test]
fn losses_are_told_apart_and_none_is_fatal() {
    let Some((here, there)) = neighbours() else { return };
    here.run(
        "nft add table inet watch
         nft add chain inet watch output '{ type filter hook output priority 0; }'
         nft add rule inet watch output ip daddr 10.0.0.4 drop",
    );
    let (mut udp, mut other) = (bind(&here), bind(&there));
    let mut reason = |ip: &str| {
        let outcome = send(&mut udp, &to(&other, ip), 1, 100);
        DropReason::ALL.into_iter().find(|reason| outcome.drops.get(*reason) == 1)
    };
    assert_eq!(reason("203.0.113.1"), Some(DropReason::Unreachable));
    assert_eq!(reason("2001:db8::1"), Some(DropReason::Unreachable));
    assert_eq!(reason("10.0.0.4"), Some(DropReason::Denied));
    assert_eq!(reason("0.0.0.0"), Some(DropReason::Unsupported));
    assert_eq!(reason("10.0.0.255"), Some(DropReason::Denied), "broadcast");
    assert_eq!(reason("10.0.0.2"), None);
    receive(&mut other, 1);
    // Nobody listens: the ICMP answer disturbs neither receiving nor sending.
    let nobody = Path::udp("10.0.0.2:9".parse().unwrap());
    for _ in 0..3 {
        assert_eq!(send(&mut udp, &nobody, 1, 100).datagrams, 1);
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(udp.recv(&mut RecvBatch::new(1)).unwrap(), 0);
    }
    assert_eq!(send(&mut udp, &to(&other, "10.0.0.2"), 20, 100).datagrams, 20);
    receive(&mut other, 20);
}

#[test]
fn a_full_socket_blocks_until_it_is_writable_and_loses_nothing() {
    let Some((here, there)) = neighbours() else { return };
    here.run("tc qdisc add dev near root tbf rate 400mbit burst 200k limit 50m");
    let mut sender =
        here.enter(|| Udp::bind(Config { send_buffer: 200_000, ..Config::default() }).expect("binding"));
    let mut receiver = bind(&there);
    let path = to(&receiver, "10.0.0.2");
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    for descriptor in sender.descriptors() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(descriptor), Token(0), interest).unwrap();
    }
    let (mut batch, mut blocked, mut sent, mut received) = (SendBatch::default(), 0, 0, 0);
    let mut inbox = RecvBatch::new(8);
    for round in 0..100 {
        for _ in 0..40 {
            batch.reserve(&path, 1400).expect("room").fill(round);
        }
        loop {
            let outcome = batch.flush(&mut sender);
            assert_eq!(outcome.drops.total(), 0);
            sent += outcome.datagrams;
            inbox.clear();
            while receiver.recv(&mut inbox).unwrap() > 0 {
                received += inbox.entries().iter().map(|entry| entry.datagrams().len() as u64).sum::<u64>();
                inbox.clear();
            }
            if !outcome.blocked {
                break;
            }
            blocked += 1;
            poll.poll(&mut events, Some(Duration::from_secs(2))).unwrap();
            assert!(!events.is_empty(), "the socket became writable");
        }
    }
    assert!(blocked > 0, "the socket was never full");
    assert_eq!(sent, 4000);
    receive(&mut receiver, (sent - received) as usize);
}

#[test]
fn marks_are_put_on_packets_and_changed_while_running() {
    let Some((here, there)) = neighbours() else { return };
    here.run(
        "nft add table inet watch
         nft add chain inet watch output '{ type filter hook output priority 0; }'
         nft add rule inet watch output meta l4proto udp meta mark != 0x20 drop",
    );
    let mut receiver = bind(&there);
    let mut marked = here.enter(|| Udp::bind(Config { mark: 0x20, ..Config::default() }).unwrap());
    for ip in ["10.0.0.2", "fd00::2"] {
        let path = to(&receiver, ip);
        assert_eq!(send(&mut marked, &path, 1, 100).drops.total(), 0);
        marked.set_mark(0x21).unwrap();
        assert_eq!(send(&mut marked, &path, 1, 100).drops.get(DropReason::Denied), 1);
        marked.set_mark(0x20).unwrap();
        here.enter(|| marked.rebind(0)).unwrap();
        assert_eq!(send(&mut marked, &path, 1, 100).drops.total(), 0, "rebinding keeps the mark");
        receive(&mut receiver, 2);
    }
}

#[test]
fn the_hosts_choice_of_a_port_is_free_in_both_families() {
    let Some(here) = Namespace::new() else { return };
    here.run("echo 40000 40001 > /proc/sys/net/ipv4/ip_local_port_range");
    let take = |port| {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        socket.bind(&SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()).unwrap();
        socket
    };
    // A process that another test is just starting holds what was closed here a moment longer.
    let bind = || {
        let patient = (0..50).map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            Udp::bind(Config::default())
        });
        patient.filter(|result| !matches!(result, Err(BindError::NoFreePort))).map(Result::unwrap).next()
    };
    here.enter(|| {
        let _taken = take(40000);
        for _ in 0..20 {
            let udp = bind().expect("a port free in both");
            assert!(udp.local_addresses().map(|address| address.port()).eq([40001, 40001]));
        }
        let _also = take(40001);
        assert!(matches!(Udp::bind(Config::default()), Err(BindError::NoFreePort)));
        let alone = Udp::bind(Config { ipv6: None, ..Config::default() }).unwrap();
        assert!(!alone.has_ipv6() && alone.has_ipv4());
    });
}

#[test]
fn a_sent_source_is_checked_with_the_whole_path() {
    let Some((here, there)) = neighbours() else { return };
    let (mut udp, mut other) = (bind(&here), bind(&there));
    let foreign = Source { ip: "10.0.0.99".parse().unwrap(), interface: 0 };
    let Path::Udp(to) = to(&other, "10.0.0.2") else { panic!() };
    let contents = [0; 64];
    let transmit = |path| Transmit { path, contents: &contents, segment_size: None, ecn: Default::default() };
    assert_eq!(udp.send(&transmit(Path::udp_from(to.remote, foreign))), Ok(Sent::SourceLost));
    receive(&mut other, 1);
    // With and without the source there is no way: the datagram is lost, not the source.
    let nowhere = Path::udp_from("203.0.113.1:1".parse().unwrap(), foreign);
    assert_eq!(udp.send(&transmit(nowhere)), Err(SendError::Dropped(DropReason::Unreachable)));
    assert_eq!(udp.counters().sources_lost, 1);
}

#[test]
fn a_source_holds_until_a_better_route_leads_over_another_link() {
    let Some((here, there)) = neighbours() else { return };
    here.cable("near2", &there, "far2");
    // An address of no link of its own, asked through the cable: the source is that address.
    there.run("ip addr add 10.50.0.1/32 dev lo");
    here.run(
        "ip route add 10.50.0.0/24 dev near
         ip addr add 10.1.0.1/24 dev near2",
    );
    let (mut udp, mut other) = (bind(&here), bind(&there));
    let mut monitor = there.enter(|| Monitor::new().unwrap());
    assert_eq!(send(&mut udp, &to(&other, "10.50.0.1"), 1, 100).datagrams, 1);
    let asked = receive(&mut other, 1)[0].0;
    assert_eq!(source(&asked).ip, IpAddr::from([10, 50, 0, 1]));
    let Path::Udp(path) = asked else { panic!() };
    assert!(monitor.source_holds(&path, 0).unwrap());
    assert_eq!(send(&mut other, &asked, 1, 100).datagrams, 1);
    assert_eq!(receive(&mut udp, 1)[0].0.remote().unwrap().ip(), IpAddr::from([10, 50, 0, 1]));

    // Another link takes over: told by the monitor, seen by the peer as another address.
    while monitor.poll().unwrap().more {}
    there.run(
        "ip addr add 10.1.0.2/24 dev far2
         ip route add 10.0.0.1/32 dev far2 src 10.1.0.2
         echo 0 > /proc/sys/net/ipv4/conf/far2/rp_filter",
    );
    here.run("for link in all near near2; do echo 0 > /proc/sys/net/ipv4/conf/$link/rp_filter; done");
    there.await_link_to(&here, "10.0.0.1");
    assert!(monitor.poll().unwrap().routes);
    assert!(!monitor.source_holds(&path, 0).unwrap());
    assert_eq!(send(&mut other, &asked.without_source(), 1, 100).datagrams, 1);
    assert_eq!(receive(&mut udp, 1)[0].0.remote().unwrap().ip(), IpAddr::from([10, 1, 0, 2]));
}

#[test]
fn without_capabilities_it_says_what_is_missing_and_does_the_rest() {
    let Some(here) = Namespace::new() else { return };
    here.enter(|| {
        let mut own = rustix::thread::capabilities(None).unwrap();
        own.effective = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, own).unwrap();
        let mut udp = Udp::bind(Config::default()).expect("no capability is needed for this");
        let error = Udp::bind(Config { mark: 0x20, ..Config::default() }).unwrap_err();
        assert!(matches!(error, BindError::MarkDenied(0x20)), "{error}");
        assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
        assert!(matches!(udp.set_mark(0x20), Err(BindError::MarkDenied(0x20))));
        assert_eq!(udp.mark(), 0);
        let error = udp.rebind(53).unwrap_err();
        assert!(matches!(error, BindError::PortDenied(_)), "{error}");
        assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
    });
}
