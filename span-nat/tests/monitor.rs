//! The monitor against a real kernel, in a namespace of its own.
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::Namespace;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use span_core::path::{Path, Source};
use span_nat::monitor::{Changes, Monitor, Scope};

/// Every change there is to read now.
fn drain(monitor: &mut Monitor) -> Changes {
    let mut all = Changes::default();
    loop {
        let changes = monitor.poll().expect("polling");
        all = all.and(changes);
        if !changes.more {
            return Changes { more: false, ..all };
        }
    }
}

#[test]
fn a_snapshot_shows_links_addresses_and_default_routes() {
    let (Some(here), Some(there)) = (Namespace::new(), Namespace::new()) else { return };
    here.cable("near", &there, "far");
    here.run(
        "ip link set near mtu 1400 address 02:00:00:00:00:77
         ip addr add 192.0.2.1/24 dev near
         ip addr add 10.9.9.1 peer 10.9.9.2/32 dev near
         ip addr add 2001:db8::1/64 dev near nodad
         ip addr add 2001:db8::2/64 dev near nodad preferred_lft 0
         ip addr add 10.8.0.1/24 scope link dev near
         ip route add default via 192.0.2.254
         ip route add default via 192.0.2.253 metric 77 table 180
         ip -6 route add default dev near metric 5
         ip route add blackhole default metric 9999
         ip route add 198.51.100.0/24 via 192.0.2.254",
    );
    let found = here.enter(|| Monitor::new().unwrap().snapshot().unwrap());

    let near = found.link_named("near").unwrap();
    assert_eq!(near.mac, [2, 0, 0, 0, 0, 0x77]);
    assert_eq!((near.kind.as_deref(), near.mtu), (Some("veth"), 1400));
    assert!(near.up && near.carrier && near.ethernet && !near.loopback);
    let lo = found.link_named("lo").unwrap();
    assert!(lo.up && lo.loopback && lo.mac.is_empty() && !lo.ethernet);
    assert_eq!(found.link(near.index), Some(near));
    assert_eq!(found.physical_mac(), None, "a veth is no hardware");

    let address = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        *found.addresses.iter().find(|address| address.prefix.addr() == ip).expect("address")
    };
    assert_eq!(address("192.0.2.1").prefix.to_string(), "192.0.2.1/24");
    assert_eq!(address("192.0.2.1").interface, near.index);
    assert_eq!(address("10.9.9.1").prefix.to_string(), "10.9.9.1/32");
    assert!(address("2001:db8::2").deprecated && !address("2001:db8::1").deprecated);
    assert_eq!(address("10.8.0.1").scope, Scope::Link);
    assert_eq!(address("127.0.0.1").scope, Scope::Host);
    let routed: Vec<_> = found.routed_addresses().map(|address| address.prefix.to_string()).collect();
    assert_eq!(routed, ["192.0.2.1/24", "10.9.9.1/32", "2001:db8::1/64"]);

    let mut defaults: Vec<_> =
        found.default_routes.iter().map(|r| (r.ipv6, r.table, r.gateway, r.metric, r.interface)).collect();
    defaults.sort();
    let router = |last| Some(IpAddr::from([192, 0, 2, last]));
    assert_eq!(
        defaults,
        [
            (false, 180, router(253), 77, near.index),
            (false, 254, router(254), 0, near.index),
            (true, 254, None, 5, near.index)
        ]
    );
}

#[test]
fn each_change_is_told_through_the_descriptor_and_only_once() {
    // Only links without a carrier to wait for: theirs is told late.
    let Some(here) = Namespace::new() else { return };
    let mut monitor = here.enter(|| Monitor::new().unwrap());
    let mut poll = Poll::new().unwrap();
    let descriptor = monitor.descriptor();
    poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(4);
    drain(&mut monitor);
    here.run("ip rule add fwmark 0x1 lookup 180");
    assert!(drain(&mut monitor).rules);
    assert_eq!(drain(&mut monitor), Changes::default());

    let mut expect = |command: &str, check: &dyn Fn(&Changes) -> bool| {
        here.run(command);
        let mut changes = Changes::default();
        // IPv6 tells of an address a moment after its route.
        while !check(&changes) {
            poll.poll(&mut events, Some(Duration::from_secs(2))).unwrap();
            assert!(!events.is_empty(), "{command}: no more than {changes:?}");
            changes = changes.and(drain(&mut monitor));
        }
        assert!(!changes.resync, "{command}");
    };
    expect("ip addr add 192.0.2.1/24 dev lo", &|c| c.addresses && c.routes && !c.links && !c.rules);
    expect("ip route add 198.51.100.0/24 dev lo", &|c| c.routes && !c.addresses && !c.links);
    expect("ip rule add fwmark 0x40 lookup 180 priority 32500", &|c| c.rules && !c.addresses && !c.links);
    expect("ip -6 rule add fwmark 0x40 lookup 180 priority 32500", &|c| c.rules && !c.links);
    expect("ip addr del 192.0.2.1/24 dev lo", &|c| c.addresses && c.routes && !c.links);
    expect("ip link add bridge type bridge", &|c| c.links && !c.addresses && !c.rules);
    expect("ip link set bridge mtu 1300", &|c| c.links && !c.addresses && !c.rules);
    expect("ip link del bridge", &|c| c.links && !c.addresses && !c.rules);
    expect("ip -6 addr add 2001:db8::1/64 dev lo nodad", &|c| c.addresses && c.routes && !c.links);
}

#[test]
fn more_changes_than_the_kernel_keeps_ask_for_a_resync() {
    let Some(here) = Namespace::new() else { return };
    let mut monitor = here.enter(|| Monitor::new().unwrap());
    drain(&mut monitor);
    here.run(
        "for a in $(seq 1 40); do for b in $(seq 1 100); do \
         echo addr add 10.1.$a.$b/32 dev lo; done; done | ip -batch -",
    );
    let changes = drain(&mut monitor);
    assert_eq!(
        changes,
        Changes { links: true, addresses: true, routes: true, rules: true, resync: true, more: false }
    );
    // It works on, and the snapshot has what the events lost.
    here.run("ip addr add 10.2.0.1/32 dev lo");
    assert!(drain(&mut monitor).addresses);
    let found = monitor.snapshot().unwrap();
    assert_eq!(found.addresses.iter().filter(|address| address.prefix.addr().is_ipv4()).count(), 4002);
}

#[test]
fn the_way_to_an_address_is_the_kernels() {
    let (Some(here), Some(there)) = (Namespace::new(), Namespace::new()) else { return };
    here.cable("near", &there, "far");
    here.cable("other", &there, "off");
    here.run(
        "ip addr add 192.0.2.1/24 dev near
         ip addr add 198.51.100.1/24 dev other
         ip addr add 2001:db8::1/64 dev near nodad
         ip route add default via 192.0.2.254
         ip route add default via 198.51.100.254 table 77
         ip rule add fwmark 0x7 lookup 77
         ip route add prohibit 203.0.113.0/24",
    );
    let mut monitor = here.enter(|| Monitor::new().unwrap());
    let found = monitor.snapshot().unwrap();
    let (near, other) = (found.link_named("near").unwrap().index, found.link_named("other").unwrap().index);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut route =
        |remote, source: Option<&str>, mark| monitor.route_to(ip(remote), source.map(ip), mark).unwrap();

    let on_link = route("192.0.2.9", None, 0).unwrap();
    assert_eq!((on_link.interface, on_link.gateway), (near, None));
    assert_eq!(on_link.source, Some(ip("192.0.2.1")));
    let routed = route("8.8.8.8", None, 0).unwrap();
    assert_eq!((routed.interface, routed.gateway), (near, Some(ip("192.0.2.254"))));
    let marked = route("8.8.8.8", None, 7).unwrap();
    assert_eq!((marked.interface, marked.gateway, marked.table), (other, Some(ip("198.51.100.254")), 77));
    assert!(route("192.0.2.1", None, 0).unwrap().local);
    assert_eq!(route("2001:db8::9", Some("2001:db8::1"), 0).unwrap().interface, near);
    assert_eq!(route("2001:db8:1::9", None, 0), None);
    assert_eq!(route("203.0.113.1", None, 0), None);
    assert_eq!(route("8.8.8.8", Some("192.0.2.77"), 0), None, "not our address");

    // A path learnt on one link holds until a better route leads over another.
    let source = Source { ip: ip("192.0.2.1"), interface: near };
    let Path::Udp(path) = Path::udp_from("8.8.8.8:51820".parse().unwrap(), source) else { panic!() };
    assert!(monitor.source_holds(&path, 0).unwrap());
    assert!(!monitor.source_holds(&path, 7).unwrap());
    here.run("ip route add 8.8.8.0/24 via 198.51.100.254");
    assert!(!monitor.source_holds(&path, 0).unwrap());
    here.run("ip route del 8.8.8.0/24");
    assert!(monitor.source_holds(&path, 0).unwrap());
    here.run("ip addr del 192.0.2.1/24 dev near");
    assert!(!monitor.source_holds(&path, 0).unwrap());
}
