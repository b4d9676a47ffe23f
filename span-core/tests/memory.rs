//! What a peer costs while it is idle, and that a packet costs nothing.

mod common;

use std::net::Ipv6Addr;
use std::time::Duration;

use common::pair::{ALICE, BOB, Pair};
use common::{Outbox, deliver, drain, ipv4, key, path};
use ipnet::IpNet;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, Inbound, Outbound, PeerId, Sealer};

/// The bytes a device holds for one peer more, once it has had the given number of handshakes.
fn bytes_per_idle_peer(handshakes: u64) -> i64 {
    const PEERS: u8 = 100;
    let mut now = Instant::from_secs(1000);
    let mut hub = Device::new(Some(key(200)), now, UnixTime::default(), [7; 32]);
    let hub_key = hub.public_key().copied().expect("a key");
    let mut held = 0;
    let mut measure = |run: &mut dyn FnMut()| held += allocation_counter::measure(run).bytes_current;
    let mut others: Vec<(Device, PeerId)> = Vec::new();
    for other in 0..PEERS {
        measure(&mut || {
            let peer = hub.add_peer(now, key(other).public_key()).expect("another's key");
            hub.add_allowed_ip(peer, format!("fd00::{other:x}/128").parse().expect("a prefix"));
        });
        let mut device = Device::new(Some(key(other)), now, UnixTime::default(), [other; 32]);
        let peer = device.add_peer(now, hub_key).expect("the hub's key");
        device.set_path(now, peer, Some(path("192.0.2.1:1")));
        others.push((device, peer));
    }
    for _ in 0..handshakes {
        now += Duration::from_secs(121);
        for (number, (device, peer)) in others.iter_mut().enumerate() {
            let from = path(&format!("198.51.100.{}:1", number + 1));
            device.initiate(now, *peer);
            // Initiation, response, keepalive.
            for _ in 0..2 {
                let mut out = Outbox::default();
                drain(device, now, &mut out);
                let mut answers = Outbox::default();
                for (_, mut bytes) in out.datagrams {
                    measure(&mut || {
                        let _ = hub.handle_datagram(now, &from, &mut bytes);
                        hub.handle_timeout(now);
                        while hub.poll_event().is_some() {}
                    });
                }
                drain(&mut hub, now, &mut answers);
                for (_, bytes) in answers.datagrams {
                    let _ = deliver(device, now, &path("192.0.2.1:1"), &bytes);
                }
                while device.poll_event().is_some() {}
            }
        }
    }
    let connected =
        hub.peers().filter_map(|peer| hub.peer(now, peer)).filter(|peer| peer.session_age.is_some());
    assert_eq!(connected.count(), if handshakes > 0 { usize::from(PEERS) } else { 0 });
    held / i64::from(PEERS)
}

#[test]
fn an_idle_peer_costs_less_than_4_kib() {
    let [fresh, once, rekeyed, often] = [0, 1, 2, 8].map(bytes_per_idle_peer);
    println!("{fresh} B without a session, {once} B with one, {rekeyed} B with the one before too");
    assert!(rekeyed < 4096, "{rekeyed} bytes");
    assert!(often <= rekeyed + 64, "it does not grow: {rekeyed}, then {often} bytes");
}

/// A device with a peer, to give prefixes to.
fn routing_device() -> (Device, PeerId) {
    let now = Instant::from_secs(1000);
    let mut device = Device::new(Some(key(200)), now, UnixTime::default(), [7; 32]);
    let peer = device.add_peer(now, key(1).public_key()).expect("another's key");
    (device, peer)
}

/// Bytes held for each of these prefixes.
fn bytes_per_prefix(prefixes: &[IpNet]) -> i64 {
    let (mut device, peer) = routing_device();
    let held = allocation_counter::measure(|| {
        prefixes.iter().for_each(|prefix| device.add_allowed_ip(peer, *prefix));
    });
    assert!(prefixes.iter().all(|prefix| device.route(prefix.addr()) == Some(peer)));
    held.bytes_current / prefixes.len() as i64
}

fn ipv6(bits: u128, len: u8) -> IpNet {
    IpNet::new(Ipv6Addr::from_bits(bits).into(), len).expect("a length").trunc()
}

#[test]
fn a_prefix_costs_tens_of_bytes() {
    let mut random = 1_u128;
    let mut draw = || {
        random = random.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        random ^ random >> 61
    };
    let few: Vec<IpNet> = (0..20).map(|host| ipv6(0xfd << 120 | host, 128)).collect();
    let few = bytes_per_prefix(&few);
    let overlay: Vec<IpNet> = (0..10_000).map(|_| ipv6(0xfd75 << 112 | draw() >> 64, 128)).collect();
    let overlay = bytes_per_prefix(&overlay);
    let many: Vec<IpNet> = (0..100_000).map(|_| ipv6(draw(), 32 + (draw() % 33) as u8)).collect();
    let many = bytes_per_prefix(&many);
    // The most wasteful prefixes there are: each node holds as little as it may.
    let mut worst = Vec::new();
    for chain in 0..1000_u128 {
        let top = 0xfd << 120 | chain << 104;
        worst.extend((1..=22).map(|depth| ipv6(top | 1 << (100 - 4 * depth), 128)));
        worst.extend((0..9).map(|host| ipv6(top | host, 128)));
    }
    let worst = bytes_per_prefix(&worst);
    println!("{few} B each for 20, {overlay} B for 10,000, {many} B for 100,000, {worst} B at worst");
    assert!(few < 192 && overlay < 192 && many < 192 && worst < 384);
}

#[test]
fn packets_cost_no_allocation() {
    let mut pair = Pair::connected();
    // The replay window is allocated once, by the first packets that need it.
    for _ in 0..200 {
        pair.send(ALICE);
        pair.send(BOB);
    }
    pair.now += Duration::from_secs(1);
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[3; 1000]);
    let len = Sealer::slot_len(packet.len(), 1420);
    let mut burst = vec![0; 40 * len];
    let (from, now) = (pair.at[ALICE], pair.now);
    let counted = allocation_counter::measure(|| {
        for _ in 0..50 {
            for slot in burst.chunks_exact_mut(len) {
                slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(&packet);
                slot[Sealer::PLAINTEXT_AT + packet.len()..].fill(0);
            }
            let Outbound::Ready(sending) = pair.device[ALICE].outbound(now, pair.peer[ALICE]) else {
                panic!("ready")
            };
            assert!(sending.sealer.seal_burst(&mut burst, len).is_ok());
            pair.device[ALICE].sent(now, pair.peer[ALICE], 40, burst.len() as u64);
            for slot in burst.chunks_exact_mut(len) {
                assert!(matches!(pair.device[BOB].handle_datagram(now, &from, slot), Inbound::Packet { .. }));
            }
            for side in [ALICE, BOB] {
                assert!(pair.device[side].poll_timeout().is_some());
                pair.device[side].handle_timeout(now);
            }
        }
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
