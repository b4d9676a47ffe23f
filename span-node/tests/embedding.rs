//! Nodes as an embedder has them: in one process, without privileges.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Cluster, Member, PATIENCE, free_address};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use span_core::time::{Instant, UnixTime};
use span_discovery::memory::Registry;
use span_nat::transport::memory::Hub;
use span_node::clock::{self, Clock};
use span_node::control::PeerState;
use span_node::node::{NoEvent, ReconfigureError, StartError, StopReason};
use span_node::state::Identity;
use span_node::{Event, Node};
use span_tun::device::{Descriptor, Device, memory};
use span_tun::offload::VirtioHeader;

#[test]
fn nodes_of_one_process_are_a_mesh_and_exchange_packets() {
    let cluster = Cluster::new();
    let mut members: Vec<Member> = (0..5).map(|number| cluster.start(&format!("node-{number}"))).collect();
    for member in &members {
        let mut others = 4;
        member.wait_for(|event| {
            others -= usize::from(matches!(event, Event::PeerAdded(_)));
            others == 0
        });
    }
    for from in 0..5 {
        for to in (0..5).filter(|to| *to != from) {
            let address = members[to].address;
            let text = format!("from {from} to {to}");
            // Where the tunnel does not stand yet, the packet waits for it.
            members[from].send(address, text.as_bytes());
            assert_eq!(members[to].receive(), (members[from].address, text.into_bytes()));
        }
    }
    let status = members[0].node.status().unwrap();
    assert_eq!(status.peers.len(), 4);
    assert!(status.peers.iter().all(|peer| peer.state == PeerState::Up));
    assert_eq!(status.node.interface, "memory0");
}

#[test]
fn a_burst_after_a_silence_arrives_whole() {
    let cluster = Cluster::new();
    let (mut one, mut two) = (cluster.start("one"), cluster.start("two"));
    one.wait_for_peer("two");
    for _ in 0..3 {
        // As long as nobody sends, no queue stands.
        std::thread::sleep(Duration::from_millis(300));
        one.send_burst(two.address, 10, 1000);
        assert_eq!(two.receive_tcp(), 10_000);
    }
}

#[test]
fn events_tell_who_comes_and_goes() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    let two = cluster.start("two");
    let key = two.node.status().unwrap().node.public_key;
    let events = one.node.events();
    let mut happened = Vec::new();
    while !matches!(happened.last(), Some(Event::PeerUp(_))) {
        happened.push(events.recv_timeout(PATIENCE).unwrap());
    }
    let place = |wanted: fn(&Event) -> bool| happened.iter().position(wanted).unwrap();
    assert!(place(|e| matches!(e, Event::DiscoveryUp { name } if name == "memory")) == 0);
    let joined = place(|e| matches!(e, Event::MemberJoined(member) if member.name == "two"));
    let added = place(|e| matches!(e, Event::PeerAdded(peer) if peer.name == "two"));
    assert!(joined < added, "{happened:?}");
    let Some(Event::PeerUp(peer)) = happened.last() else { panic!() };
    assert_eq!((peer.public_key, peer.address), (key, Some(two.address.into())));
    place(|e| matches!(e, Event::PathChanged { peer, .. } if peer.name == "two"));

    let ended = two.node.events();
    two.node.stop();
    two.node.stop();
    assert_eq!(ended.last(), Some(Event::Stopped(StopReason::Asked)));
    assert_eq!(two.node.events().try_recv(), Err(NoEvent::Stopped));
    assert!(two.node.status().is_err() && two.node.add_tier(Box::new(Registry::new().tier())).is_err());
}

#[test]
fn the_descriptor_of_the_events_can_be_waited_on() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    let events = one.node.events();
    let fd = events.as_fd();
    let mut wait = [PollFd::new(&fd, PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut wait, Some(&patience)).unwrap(), 1);
    while events.try_recv().is_ok() {}
    one.node.stopper().stop();
    assert_eq!(poll(&mut wait, Some(&patience)).unwrap(), 1);
    one.node.wait().unwrap();
    assert!(events.into_iter().any(|event| event == Event::Stopped(StopReason::Asked)));
}

#[test]
fn a_node_whose_device_breaks_ends_and_says_why() {
    let cluster = Cluster::new();
    let (device, _host) = memory::pair(1420, 8).unwrap();
    let transport = Hub::new().attach("192.0.2.1:1".parse().unwrap()).unwrap();
    let builder = cluster.builder(cluster.config("one")).transport(Box::new(transport));
    let refused = builder.device(Box::new(device)).start().err();
    assert!(matches!(refused, Some(StartError::NotPollable("transport"))));

    let broken = Arc::new(AtomicBool::new(false));
    let (device, mut host) = memory::pair(1420, 8).unwrap();
    let device = Breaking { device, broken: Arc::clone(&broken) };
    let one = cluster.start_with(cluster.config("one"), |builder| builder.device(Box::new(device)));
    broken.store(true, Ordering::Relaxed);
    host.send(&VirtioHeader::default(), &[IoSlice::new(b"to be read")]).unwrap();
    let last = one.wait_for(|event| matches!(event, Event::Stopped(_)));
    let Event::Stopped(StopReason::Failed(why)) = last else { panic!("{last:?}") };
    assert!(why.contains("pulled out"), "{why}");
    let error = one.node.wait().unwrap_err();
    assert!(error.to_string().contains("pulled out"), "{error}");
}

#[test]
fn what_can_change_changes_and_the_rest_is_named() {
    let cluster = Cluster::new();
    let one = cluster.start("one");
    let two = cluster.start("two");
    one.wait_for_peer("two");

    let mut config = one.node.config().unwrap();
    config.name = Some("renamed".to_owned());
    config.advertised_networks = vec!["10.1.0.0/16".parse().unwrap()];
    config.cipher = "chacha20-poly1305".parse().unwrap();
    one.node.reconfigure(config.clone()).unwrap();
    let added = two.wait_for(|event| matches!(event, Event::MemberJoined(_)));
    assert!(matches!(added, Event::MemberJoined(member) if member.name == "one"));
    let network = config.advertised_networks[0];
    until(|| {
        let status = two.node.status().unwrap();
        let peer = &status.peers[0];
        peer.name == "renamed" && peer.allowed_ips.contains(&network)
    });
    assert_eq!(one.node.status().unwrap().node.ciphers, ["chacha20-poly1305"]);

    let fixed = |change: fn(&mut span_node::NodeConfig)| {
        let mut config = one.node.config().unwrap();
        change(&mut config);
        match one.node.reconfigure(config) {
            Err(ReconfigureError::Fixed { field, .. } | ReconfigureError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fixed(|config| config.cluster = None), "cluster");
    assert_eq!(fixed(|config| config.state_dir = "other".into()), "state_dir");
    assert_eq!(fixed(|config| config.interface = "other0".parse().unwrap()), "interface");
    assert_eq!(fixed(|config| config.mtu = 1400), "mtu");
    assert_eq!(fixed(|config| config.listen_port = 1), "listen_port");
    assert_eq!(fixed(|config| config.discovery.serve = Some("[::]:1".parse().unwrap())), "discovery.serve");
    assert_eq!(one.node.config().unwrap().name.as_deref(), Some("renamed"));
}

/// A configuration sets routes unless told otherwise; a host inside the process has none to set, and needs no
/// privileges to mark what it sends.
#[cfg(feature = "netstack")]
#[test]
fn a_host_of_its_own_sets_no_routes() {
    let cluster = Cluster::new();
    let mut config = cluster.config("alone");
    config.listen_port = 0;
    assert!(config.routes);
    let node = cluster.builder(config.clone()).netstack().start().unwrap();
    let running = node.config().unwrap();
    assert!(!running.routes);
    config.name = Some("lonely".to_owned());
    node.reconfigure(config).unwrap();
    assert_eq!(node.config().unwrap().name.as_deref(), Some("lonely"));
}

#[test]
fn a_node_moves_to_another_port_and_its_peers_follow() {
    let cluster = Cluster::new();
    let start = |name: &str| {
        let address = free_address();
        let mut config = cluster.config(name);
        config.listen_port = address.port();
        config.routes = false;
        config.extra_endpoints = vec![address];
        let (device, host) = memory::pair(1420, 64).unwrap();
        Member::new(cluster.builder(config).device(Box::new(device)).start().unwrap(), host)
    };
    let (mut one, mut two) = (start("one"), start("two"));
    one.wait_for_peer("two");
    let address = free_address();
    let mut config = one.node.config().unwrap();
    config.listen_port = address.port();
    config.extra_endpoints = vec![address];
    one.node.reconfigure(config).unwrap();
    assert_eq!(one.node.status().unwrap().node.listen_port, address.port());
    two.wait_for(|event| {
        matches!(event, Event::PathChanged { path, .. }
        if path.remote().is_some_and(|remote| remote.port() == address.port()))
    });
    two.send(one.address, b"to the new port");
    assert_eq!(one.receive(), (two.address, b"to the new port".to_vec()));

    let taken = two.node.status().unwrap().node.listen_port;
    let mut config = one.node.config().unwrap();
    config.listen_port = taken;
    assert!(matches!(one.node.reconfigure(config), Err(ReconfigureError::Port(_))));
    assert_eq!(one.node.status().unwrap().node.listen_port, address.port());
}

#[test]
fn sources_of_members_come_and_go_with_a_running_node() {
    let (cluster, other) = (Cluster::new(), Registry::new());
    let one = cluster.start("one");
    let two = cluster.start_with(cluster.config("two"), |builder| builder.tier(Box::new(other.tier())));
    one.wait_for_peer("two");
    let elsewhere = Cluster { token: cluster.token.clone(), registry: other.clone() };
    let three = elsewhere.start("three");
    three.wait_for_peer("two");
    assert_eq!(one.node.status().unwrap().peers.len(), 1);
    one.node.add_tier(Box::new(other.tier())).unwrap();
    one.wait_for_peer("three");
    assert_eq!(one.node.remove_tier("memory"), Ok(2));
    assert_eq!(one.node.status().unwrap().discovery.len(), 0);
    // Whom a tunnel reaches stays.
    assert_eq!(one.node.status().unwrap().peers.len(), 2);
    drop(two);
}

#[test]
fn a_node_lives_by_the_clock_it_is_given() {
    let cluster = Cluster::new();
    let clock = Arc::new(Hand::default());
    let one = {
        let clock = Arc::clone(&clock);
        cluster.start_with(cluster.config("one"), |builder| builder.clock(clock))
    };
    let before = one.node.status().unwrap().node.uptime_seconds;
    assert_eq!(before, 0.0);
    clock.advance(Duration::from_secs(3600));
    one.node.wake();
    assert_eq!(one.node.status().unwrap().node.uptime_seconds, 3600.0);
}

#[test]
fn the_identity_is_the_keys() {
    let cluster = Cluster::new();
    let key = span_core::key::PrivateKey::from_bytes([7; 32]);
    let identity = Identity::from_key(key.clone());
    assert_eq!(identity.node_id, Identity::from_key(key.clone()).node_id);
    let one = cluster.start_with(cluster.config("one"), |builder| builder.identity(identity.clone()));
    let node = one.node.status().unwrap().node;
    assert_eq!((node.public_key, node.node_id), (key.public_key(), identity.node_id.to_string()));
}

#[test]
fn a_node_needs_a_cluster_and_a_source() {
    let cluster = Cluster::new();
    let mut config = cluster.config("one");
    config.cluster = None;
    assert!(matches!(Node::start(config).err(), Some(StartError::NoCluster)));
    let lonely = Node::builder(cluster.config("one")).identity(Identity::generate().unwrap());
    assert!(matches!(lonely.start().err(), Some(StartError::NoSource)));
}

fn until(true_at_last: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !true_at_last() {
        assert!(std::time::Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A clock that stands until it is set ahead.
#[derive(Default)]
struct Hand(AtomicU64);

impl Hand {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn unix(&self) -> UnixTime {
        clock::unix()
    }
}

/// A device that can be pulled out.
struct Breaking {
    device: memory::Memory,
    broken: Arc<AtomicBool>,
}

impl Device for Breaking {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn mtu(&self) -> u16 {
        self.device.mtu()
    }

    fn index(&self) -> u32 {
        self.device.index()
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the cable was pulled out"));
        }
        self.device.recv(buf)
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.device.send(header, parts)
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.device.descriptor()
    }

    fn accepts_udp_segmentation(&self) -> bool {
        self.device.accepts_udp_segmentation()
    }

    fn refused(&self) -> u64 {
        self.device.refused()
    }
}
