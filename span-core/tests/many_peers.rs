//! What one peer more costs where there are ten thousand.

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use allocation_counter::AllocationInfo;
use common::{Outbox, drain, key};
use ipnet::IpNet;
use span_core::crypto::Suites;
use span_core::key::{PresharedKey, PublicKey};
use span_core::mesh::{self, KubeSpan, Local, MachineType, Member, NodeId, Plan, Roster, TierId};
use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::tunnel::Tunnel;
use span_core::wireguard::{Device, Reason};

const START: Instant = Instant::from_secs(1000);

/// Keys of nobody: any 32 bytes are one.
fn public_key(number: u32) -> PublicKey {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
    PublicKey::from_bytes(bytes)
}

fn endpoint(number: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from(0xc633_0000 | number).into(), 51820)
}

fn overlay_address(number: u32) -> IpAddr {
    Ipv6Addr::from_bits(0xfd75_28c9_dd5c_ef02 << 64 | u128::from(number.wrapping_mul(0x85eb_ca6b)) << 20)
        .into()
}

fn add(device: &mut Device, number: u32) {
    let peer = device.add_peer(START, public_key(number)).expect("another's key");
    device.add_allowed_ip(peer, IpNet::from(IpAddr::from(Ipv4Addr::from(0x0a00_0000 | number))));
    device.add_allowed_ip(peer, IpNet::from(overlay_address(number)));
    device.set_path(START, peer, Some(Path::udp(endpoint(number))));
}

/// What is allocated to add a peer to so many others and to remove it.
fn cost_of_one_more(peers: u32) -> [AllocationInfo; 2] {
    let mut device = Device::new(Some(key(200)), START, UnixTime::default(), [7; 32]);
    (0..peers).for_each(|number| add(&mut device, number));
    let remove = |device: &mut Device| {
        let peer = device.find(&public_key(peers)).expect("the peer");
        device.remove_peer(peer);
    };
    // Tables grow by doubling: the first time may do that.
    add(&mut device, peers);
    remove(&mut device);
    let added = allocation_counter::measure(|| add(&mut device, peers));
    assert!(device.route(overlay_address(peers)).is_some() && device.route(overlay_address(0)).is_some());
    let removed = allocation_counter::measure(|| remove(&mut device));
    assert!(device.route(overlay_address(peers)).is_none() && device.route(overlay_address(0)).is_some());
    [added, removed]
}

#[test]
fn one_peer_more_costs_the_same_among_ten_and_among_ten_thousand() {
    let [few, many] = [10, 10_000].map(cost_of_one_more);
    let allocated =
        |cost: &[AllocationInfo; 2]| cost.each_ref().map(|info| (info.count_total, info.bytes_total));
    assert_eq!(allocated(&few), allocated(&many));
    assert_eq!(many[0].bytes_current + many[1].bytes_current, 0, "removing gives everything back");
}

#[test]
fn waking_one_of_ten_thousand_peers_allocates_nothing() {
    const PEERS: u32 = 10_000;
    // Without a private key no handshake is ever made, but the timers run.
    let mut device = Device::new(None, START, UnixTime::default(), [7; 32]);
    for number in 0..PEERS {
        add(&mut device, number);
        let peer = device.find(&public_key(number)).expect("the peer");
        device.set_keepalive(START, peer, Some(25));
    }
    let mut out = Outbox::default();
    drain(&mut device, START, &mut out);
    let mut wake = |times: u32| {
        for _ in 0..times {
            let Some((at, Reason::Timer(..))) = device.poll_timeout() else { panic!("timers run") };
            device.handle_timeout(at);
            while device.poll_event().is_some() {}
            drain(&mut device, at, &mut out);
        }
    };
    wake(PEERS);
    let counted = allocation_counter::measure(|| wake(PEERS));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

fn member(number: u32) -> Member {
    let addresses = vec![endpoint(number).ip(), overlay_address(number)];
    Member {
        node_id: NodeId::new(&format!("8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44ts{number:06}")).expect("an id"),
        addresses,
        hostname: format!("node-{number}.example.org"),
        nodename: format!("node-{number}"),
        machine_type: MachineType::Worker,
        operating_system: "Talos (v1.11.0)".into(),
        kubespan: Some(KubeSpan {
            public_key: public_key(number),
            address: Some(overlay_address(number)),
            additional_addresses: vec![],
            exclude_advertised_addresses: vec![],
            suites: Suites::NONE,
        }),
        control_plane: None,
        endpoints: vec![
            endpoint(number),
            SocketAddr::new(Ipv4Addr::from(0xac10_0000 | number).into(), 51820),
        ],
    }
}

/// Lets the tunnel do what it wants for some time.
fn run(tunnel: &mut Tunnel, time: Duration) {
    let mut out = Outbox::default();
    let mut now = START;
    while now <= START + time {
        tunnel.handle_timeout(now);
        while tunnel.poll_transmit(now, &mut out).is_some() {
            out.datagrams.clear();
        }
        while tunnel.poll_event().is_some() {}
        let Some((at, _)) = tunnel.poll_timeout() else { break };
        now = now.max(at);
    }
}

#[test]
fn a_member_that_is_searched_for_costs_less_than_5_kib() {
    const MEMBERS: u32 = 2000;
    let local = Local {
        node_id: NodeId::new("me").expect("an id"),
        public_key: key(200).public_key(),
        overlay: "fd75:28c9:dd5c:ef02::/64".parse().expect("a prefix"),
        addresses: vec![],
        networks: vec![],
        excluded: vec![],
        peer_endpoints: None,
        suites: Suites::NONE,
    };
    let mut tunnel = Tunnel::new(Some(key(200)), START, UnixTime::default(), [7; 32]);
    let mut roster = Roster::new(local.node_id.clone());
    let mut known = Vec::new();
    let mut plan = Plan::default();
    let discovery = allocation_counter::measure(|| {
        roster.snapshot(TierId(1), (0..MEMBERS).map(member));
        known = roster.members(|_| false);
        plan = mesh::plan(&local, known.iter().map(|known| &known.member));
    });
    let peers = allocation_counter::measure(|| {
        tunnel.set_forbidden(START, &plan.forbidden);
        let before = Plan::default();
        let changes = plan.changes_since(&before);
        assert_eq!(changes.added.len(), MEMBERS as usize);
        tunnel.apply(START, &changes, &PresharedKey::default()).expect("keys of others");
        run(&mut tunnel, Duration::from_secs(3));
    });
    assert!(tunnel.counters().probes >= 2 * u64::from(MEMBERS), "{:?}", tunnel.counters());
    let each = [discovery, peers].map(|info| info.bytes_current / i64::from(MEMBERS));
    println!("{} B for what is known of a member, {} B for the search", each[0], each[1]);
    assert!(each[0] + each[1] < 5 * 1024);
}
