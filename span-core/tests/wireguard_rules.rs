//! One test for each rule that WireGuard libraries have been found to break, named after the rule, and
//! for the timers of the paper's section 6.

mod common;

use std::time::Duration;

use common::pair::{ALICE, BOB, Pair};
use common::{Outbox, deliver, drain, ipv4, key, path, send};
use span_core::key::{PresharedKey, PublicKey};
use span_core::path::{Path, Source};
use span_core::time::{Instant, Tai64N, UnixTime};
use span_core::wireguard::{
    AddPeerError, Device, DropReason, Event, Evidence, Inbound, Outbound, PeerId, Reason, Role, Sealer,
    Timer, TransmitKind,
};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn assert_near(actual: &[f64], earliest: &[f64], jitter: f64) {
    assert_eq!(actual.len(), earliest.len(), "{actual:?}");
    for (actual, earliest) in actual.iter().zip(earliest) {
        assert!((*earliest..=earliest + jitter).contains(actual), "{actual} is not {earliest} + {jitter}");
    }
}

#[test]
fn a_handshake_carries_the_packets_that_waited_for_it_in_order() {
    let mut pair = Pair::new();
    for number in 0..5_u8 {
        let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[number]);
        let mut out = Outbox::default();
        send(&mut pair.device[ALICE], pair.now, pair.peer[ALICE], &packet, &mut out);
        assert!(out.datagrams.is_empty());
    }
    pair.settle();
    let order: Vec<u8> = pair.received[BOB].iter().map(|packet| packet[20]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    use TransmitKind::{Data, Initiation, Response};
    let kinds: Vec<_> = pair.log.iter().map(|entry| (entry.1, entry.2)).collect();
    assert_eq!(kinds[..3], [(ALICE, Initiation), (BOB, Response), (ALICE, Data)]);
    assert!(pair.works());
    assert!(pair.events[ALICE].contains(&Event::SessionEstablished {
        peer: pair.peer[ALICE],
        path: pair.at[BOB],
        role: Role::Initiator
    }));
    assert!(pair.events[BOB].contains(&Event::SessionEstablished {
        peer: pair.peer[BOB],
        path: pair.at[ALICE],
        role: Role::Responder
    }));
}

#[test]
fn session_indices_are_random_and_unlinkable() {
    let mut pair = Pair::connected();
    let mut last = 0_u32;
    let mut differing = 0;
    for _ in 0..64 {
        pair.advance(seconds(6));
        pair.device[ALICE].initiate(pair.now, pair.peer[ALICE]);
        pair.forget();
        pair.settle();
        let initiation = pair.wire[ALICE].iter().find(|bytes| bytes[0] == 1).expect("an initiation");
        let index = u32::from_le_bytes([initiation[4], initiation[5], initiation[6], initiation[7]]);
        differing += (index ^ last).count_ones();
        last = index;
    }
    assert!((64 * 13..64 * 19).contains(&differing), "{differing} bits of 2048 differ");
}

#[test]
fn plaintext_is_padded_to_16_but_never_above_the_mtu() {
    let mut pair = Pair::new();
    pair.device[ALICE].set_mtu(1300);
    for len in [1300, 1297, 1269, 21] {
        let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &vec![7; len - 20]);
        pair.device[ALICE].stage(pair.now, pair.peer[ALICE], &packet);
    }
    pair.settle();
    let lens: Vec<usize> = pair.wire[ALICE].iter().filter(|bytes| bytes[0] == 4).map(Vec::len).collect();
    assert_eq!(lens, [1332, 1329, 1312, 64]);
    assert_eq!(pair.received[BOB].iter().map(Vec::len).collect::<Vec<_>>(), [1300, 1297, 1269, 21]);
    assert_eq!(Sealer::slot_len(1297, 1300), 1297 + 32);
}

#[test]
fn the_replay_window_is_8192_wide() {
    let mut pair = Pair::connected();
    let (first, second) = (pair.sealed(ALICE), pair.sealed(ALICE));
    let mut newest = Vec::new();
    for _ in 0..8191 {
        newest = pair.sealed(ALICE);
    }
    assert!(matches!(pair.receive(BOB, &newest), Inbound::Packet { .. }));
    assert!(matches!(pair.receive(BOB, &second), Inbound::Packet { .. }), "8191 behind the newest");
    assert_eq!(pair.receive(BOB, &first), Inbound::Dropped(DropReason::Replayed), "one more");
    assert_eq!(pair.receive(BOB, &second), Inbound::Dropped(DropReason::Replayed));
    assert_eq!(pair.receive(BOB, &newest), Inbound::Dropped(DropReason::Replayed));
}

#[test]
fn roams_on_every_authenticated_initiation_response_and_data_packet() {
    // Initiation: Bob learns where Alice is without being told.
    let mut pair = Pair::new();
    assert_eq!(pair.path(BOB), None);
    pair.at[BOB] = path("198.51.100.2:2");
    pair.send(ALICE);
    assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    let (alice, bob) = (pair.peer[ALICE], pair.peer[BOB]);
    assert!(pair.events[BOB].contains(&Event::PathLearnt {
        peer: bob,
        path: pair.at[ALICE],
        by: Evidence::Initiation
    }));
    // Response: it came from where Bob answered, not from where he was called.
    assert_eq!(pair.path(ALICE), Some(pair.at[BOB]));
    assert!(pair.events[ALICE].contains(&Event::PathLearnt {
        peer: alice,
        path: pair.at[BOB],
        by: Evidence::Response
    }));
    // Data, and a keepalive is data too; address and port, and the local end without an event.
    pair.forget();
    for place in ["203.0.113.9:1000", "203.0.113.9:1001", "[2001:db8::1]:1001"] {
        pair.at[ALICE] = path(place);
        pair.send(ALICE);
        assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    }
    assert_eq!(pair.events[BOB].len(), 3);
    let remote = pair.at[ALICE].remote().expect("UDP");
    pair.at[ALICE] = Path::udp_from(remote, Source { ip: "2001:db8::9".parse().unwrap(), interface: 3 });
    pair.send(ALICE);
    assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    assert_eq!(pair.events[BOB].len(), 3, "the peer has not moved");
}

#[test]
fn nothing_unauthenticated_moves_a_peer() {
    let mut pair = Pair::connected();
    let home = pair.path(BOB);
    let stranger = path("203.0.113.66:6");
    let old = pair.sealed(ALICE);
    let _ = pair.receive(BOB, &old);
    let mut forged = pair.sealed(ALICE);
    forged[20] ^= 1;
    pair.sleep(SECOND);
    pair.device[ALICE].initiate_now(pair.now, pair.peer[ALICE]);
    pair.settle();
    let initiation = pair.wire[ALICE].iter().find(|bytes| bytes[0] == 1).expect("an initiation").clone();
    let mut damaged = initiation.clone();
    damaged[100] ^= 1;
    let drops = [
        (old, DropReason::Replayed),
        (forged, DropReason::Forged),
        (damaged, DropReason::InvalidMac1),
        (vec![1; 148], DropReason::Malformed),
    ];
    for (datagram, reason) in drops {
        assert_eq!(
            deliver(&mut pair.device[BOB], pair.now, &stranger, &datagram).0,
            Inbound::Dropped(reason)
        );
    }
    // A replayed initiation gets past its MACs and no further.
    let stale = pair.device[BOB].counters().dropped(DropReason::StaleInitiation);
    let _ = deliver(&mut pair.device[BOB], pair.now, &stranger, &initiation);
    assert_eq!(pair.device[BOB].counters().dropped(DropReason::StaleInitiation), stale + 1);
    pair.settle();
    assert_eq!(pair.path(BOB), home);
}

/// Puts `device` under load with initiations of its own peer from many places; returns how many it took.
fn flood(device: &mut Device, now: Instant, initiation: &[u8], sources: u32) -> usize {
    (0..sources)
        .filter(|source| {
            let from = path(&format!("10.{}.{}.{}:9", source >> 16 & 255, source >> 8 & 255, source & 255));
            let mut datagram = initiation.to_vec();
            device.handle_datagram(now, &from, &mut datagram) == Inbound::Handshake
        })
        .count()
}

/// An initiation of a stranger that Bob cannot tell from a friend's before the key agreement.
fn strangers_initiation(now: Instant) -> Vec<u8> {
    let mut stranger = Device::new(Some(key(66)), now, UnixTime::default(), [66; 32]);
    let bob = stranger.add_peer(now, key(2).public_key()).expect("Bob");
    stranger.set_path(now, bob, Some(path("192.0.2.2:1000")));
    stranger.initiate(now, bob);
    let mut out = Outbox::default();
    drain(&mut stranger, now, &mut out);
    out.datagrams.remove(0).1
}

#[test]
fn a_cookie_reply_is_no_reason_to_roam() {
    let mut pair = Pair::new();
    flood(&mut pair.device[BOB], pair.now, &strangers_initiation(pair.now), 600);
    pair.device[ALICE].initiate(pair.now, pair.peer[ALICE]);
    let mut out = Outbox::default();
    drain(&mut pair.device[ALICE], pair.now, &mut out);
    let mut replies = Outbox::default();
    drain(&mut pair.device[BOB], pair.now, &mut replies);
    replies.datagrams.clear();
    let from = pair.at[ALICE];
    let _ = pair.device[BOB].handle_datagram(pair.now, &from, &mut out.datagrams[0].1);
    assert_eq!(drain(&mut pair.device[BOB], pair.now, &mut replies), [TransmitKind::CookieReply]);
    let elsewhere = path("203.0.113.1:5");
    let inbound = deliver(&mut pair.device[ALICE], pair.now, &elsewhere, &replies.datagrams[0].1).0;
    assert_eq!(inbound, Inbound::Handshake);
    assert_eq!(pair.device[ALICE].counters().cookies_accepted, 1);
    assert_eq!(pair.path(ALICE), Some(pair.at[BOB]));
    assert_eq!(pair.device[ALICE].poll_event(), None);
}

#[test]
fn under_load_a_handshake_needs_a_cookie_and_then_succeeds() {
    let mut pair = Pair::new();
    let spoofed = strangers_initiation(pair.now);
    flood(&mut pair.device[BOB], pair.now, &spoofed, 600);
    // Nobody works on the queue: Bob stays under load.
    let from = pair.at[ALICE];
    pair.device[ALICE].initiate(pair.now, pair.peer[ALICE]);
    let mut exchanged = Vec::new();
    for _ in 0..2 {
        let mut out = Outbox::default();
        drain(&mut pair.device[ALICE], pair.now, &mut out);
        for (_, mut bytes) in out.datagrams {
            let _ = pair.device[BOB].handle_datagram(pair.now, &from, &mut bytes);
        }
        let mut out = Outbox::default();
        drain(&mut pair.device[BOB], pair.now, &mut out);
        let answer = out.datagrams.into_iter().find(|(to, _)| *to == from).map(|(_, bytes)| bytes);
        if let Some(cookie) = &answer {
            let _ = deliver(&mut pair.device[ALICE], pair.now, &pair.at[BOB], cookie);
        }
        exchanged.push(answer.map(|bytes| bytes[0]));
        pair.now += seconds(6);
        // The load lasts.
        flood(&mut pair.device[BOB], pair.now, &spoofed, 1);
        pair.device[ALICE].handle_timeout(pair.now);
    }
    assert_eq!(exchanged, [Some(3), None], "a cookie, and then it was let in");
    pair.advance(Duration::from_millis(1));
    assert!(pair.works());
}

#[test]
fn load_is_counted_per_source_not_globally() {
    let mut pair = Pair::new();
    let spoofed = strangers_initiation(pair.now);
    // Two hosts have cookies; one of them is greedy. Bob is under load all the time.
    flood(&mut pair.device[BOB], pair.now, &spoofed, 600);
    let hosts = [path("10.9.9.1:7"), path("10.9.9.2:7")];
    let mut strangers: Vec<(Device, PeerId)> = (0..2)
        .map(|host| {
            let mut device = Device::new(Some(key(70 + host)), pair.now, UnixTime::default(), [host; 32]);
            let bob = device.add_peer(pair.now, key(2).public_key()).expect("Bob");
            device.set_path(pair.now, bob, Some(pair.at[BOB]));
            (device, bob)
        })
        .collect();
    let mut initiate = |host: usize, bob: &mut Device, now: Instant| {
        let (device, peer) = &mut strangers[host];
        device.initiate_now(now, *peer);
        let mut out = Outbox::default();
        drain(device, now, &mut out);
        let inbound = bob.handle_datagram(now, &hosts[host], &mut out.datagrams[0].1);
        let mut replies = Outbox::default();
        drain(bob, now, &mut replies);
        if let Some((_, cookie)) = replies.datagrams.iter().find(|(to, _)| *to == hosts[host]) {
            let _ = deliver(device, now, &path("192.0.2.2:1000"), cookie);
        }
        inbound
    };
    let mut replies = Outbox::default();
    drain(&mut pair.device[BOB], pair.now, &mut replies);
    for host in [0, 1] {
        assert_eq!(initiate(host, &mut pair.device[BOB], pair.now), Inbound::Handshake, "a cookie");
    }
    let greedy: Vec<Inbound> = (0..20).map(|_| initiate(0, &mut pair.device[BOB], pair.now)).collect();
    let admitted = greedy.iter().filter(|inbound| **inbound == Inbound::Handshake).count();
    assert_eq!(admitted, 5, "a burst");
    assert_eq!(greedy[19], Inbound::Dropped(DropReason::RateLimited));
    assert_eq!(initiate(1, &mut pair.device[BOB], pair.now), Inbound::Handshake, "the other is not punished");
}

#[test]
fn load_is_forgotten_after_a_burst() {
    let mut pair = Pair::new();
    flood(&mut pair.device[BOB], pair.now, &strangers_initiation(pair.now), 5000);
    pair.settle();
    while pair.device[BOB].poll_timeout().is_some_and(|due| due.1 == Reason::Handshakes) {
        pair.device[BOB].handle_timeout(pair.now);
        pair.settle();
    }
    let cookies = pair.device[BOB].counters().cookies_sent;
    pair.sleep(Duration::from_millis(1000));
    // Hundreds of handshakes later there is still no cookie asked for.
    for _ in 0..300 {
        pair.sleep(Duration::from_millis(20));
        pair.device[ALICE].initiate_now(pair.now, pair.peer[ALICE]);
        pair.settle();
    }
    assert_eq!(pair.device[BOB].counters().cookies_sent, cookies);
    assert_eq!(pair.device[BOB].counters().initiations_accepted, 300);
}

#[test]
fn a_flood_of_handshakes_is_bounded_and_answers_are_no_larger_than_questions() {
    let mut pair = Pair::new();
    let spoofed = strangers_initiation(pair.now);
    let taken = flood(&mut pair.device[BOB], pair.now, &spoofed, 20_000);
    assert!(taken <= 512 + 256, "{taken} were taken, the rest dropped");
    let mut out = Outbox::default();
    let kinds = drain(&mut pair.device[BOB], pair.now, &mut out);
    assert!(kinds.iter().all(|kind| *kind == TransmitKind::CookieReply));
    assert!(out.datagrams.iter().all(|(_, bytes)| bytes.len() < spoofed.len()));
    // Without a valid first MAC there is no answer at all.
    let mut noise = spoofed;
    noise[147 - 16] ^= 1;
    assert_eq!(flood(&mut pair.device[BOB], pair.now, &noise, 1000), 0);
    assert!(drain(&mut pair.device[BOB], pair.now, &mut out).is_empty());
}

#[test]
fn initiations_of_one_peer_come_at_most_every_20_ms() {
    let mut pair = Pair::new();
    for (wait, accepted) in [(0, 1), (19, 1), (20, 2), (39, 2), (40, 3)] {
        pair.now = Instant::from_secs(1000) + Duration::from_millis(wait);
        pair.device[ALICE].initiate_now(pair.now, pair.peer[ALICE]);
        pair.settle();
        assert_eq!(pair.device[BOB].counters().initiations_accepted, accepted, "after {wait} ms");
    }
    assert_eq!(pair.device[BOB].counters().dropped(DropReason::InitiationFlood), 2);
    assert!(pair.works());
}

#[test]
fn retries_come_every_5_s_with_jitter_and_end_after_90_s() {
    let mut gaps = Vec::new();
    for seed in 0..4 {
        let mut pair = Pair::seeded(seed);
        let start = pair.now;
        pair.mute[BOB] = true;
        pair.send(ALICE);
        pair.advance(seconds(400));
        let sent = pair.times(ALICE, TransmitKind::Initiation, start);
        assert!((17..=18).contains(&sent.len()), "{sent:?}");
        assert!(*sent.last().unwrap() < 90.0);
        gaps.extend(sent.windows(2).map(|pair| pair[1] - pair[0]));
        assert!(pair.events[ALICE].contains(&Event::HandshakeFailed { peer: pair.peer[ALICE] }));
        assert_eq!(pair.device[ALICE].counters().dropped(DropReason::StagedExpired), 1);
        assert_eq!(pair.device[ALICE].counters().handshakes_failed, 1);
        // Something to send begins it all again.
        pair.mute[BOB] = false;
        assert!(pair.works());
    }
    assert!(gaps.iter().all(|gap| (5.0..=5.334).contains(gap)), "{gaps:?}");
    let distinct = gaps.iter().map(|gap| (gap * 1e6) as u64).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct.len(), gaps.len(), "no two alike");
}

#[test]
fn no_answer_to_data_begins_a_handshake_after_15_s_with_jitter() {
    let mut waits = Vec::new();
    for seed in 0..8 {
        let mut pair = Pair::seeded(seed);
        pair.send(ALICE);
        pair.advance(seconds(30));
        pair.forget();
        pair.mute[BOB] = true;
        let start = pair.now;
        pair.send(ALICE);
        pair.advance(seconds(5));
        // More data does not put it off.
        pair.send(ALICE);
        pair.advance(seconds(11));
        let sent = pair.times(ALICE, TransmitKind::Initiation, start);
        assert_near(&sent, &[15.0], 0.334);
        assert!(pair.events[ALICE].contains(&Event::NoAnswer { peer: pair.peer[ALICE] }));
        waits.push((sent[0] * 1e6) as u64);
    }
    waits.sort_unstable();
    waits.dedup();
    assert_eq!(waits.len(), 8, "no two alike");
}

#[test]
fn the_passive_keepalive_is_armed_by_data_only_and_measured_from_receipt() {
    let mut pair = Pair::connected();
    let start = pair.now;
    // Bob received the packet that came with the handshake just now; another 4 s later changes nothing.
    pair.advance(seconds(4));
    pair.send(ALICE);
    pair.advance(seconds(60));
    assert_near(&pair.times(BOB, TransmitKind::Keepalive, start), &[10.0], 0.0);
    assert!(pair.times(ALICE, TransmitKind::Keepalive, start).is_empty(), "a keepalive asks for none");
    // A packet sent in time is answer enough.
    pair.forget();
    let start = pair.now;
    pair.send(ALICE);
    pair.advance(seconds(9));
    pair.send(BOB);
    pair.advance(seconds(9));
    pair.send(ALICE);
    pair.advance(seconds(30));
    assert_near(&pair.times(BOB, TransmitKind::Keepalive, start), &[28.0], 0.0);
    assert!(pair.times(ALICE, TransmitKind::Keepalive, start).is_empty());
}

#[test]
fn no_persistent_keepalive_while_traffic_flows() {
    let mut pair = Pair::connected();
    let start = pair.now;
    pair.device[ALICE].set_keepalive(pair.now, pair.peer[ALICE], Some(25));
    pair.settle();
    assert_near(&pair.times(ALICE, TransmitKind::Keepalive, start), &[0.0], 0.0);
    for _ in 0..4 {
        pair.advance(seconds(8));
        pair.send(ALICE);
        pair.send(BOB);
    }
    assert_eq!(pair.times(ALICE, TransmitKind::Keepalive, start).len(), 1, "traffic both ways");
    for _ in 0..3 {
        pair.advance(seconds(9));
        pair.send(BOB);
        pair.send(ALICE);
    }
    assert_eq!(pair.times(ALICE, TransmitKind::Keepalive, start).len(), 1);
    pair.forget();
    let quiet = pair.now;
    pair.advance(seconds(60));
    // Bob's own passive keepalive, after ten seconds, is traffic too.
    assert_near(&pair.times(ALICE, TransmitKind::Keepalive, quiet), &[35.0, 60.0], 0.0);
}

#[test]
fn a_persistent_keepalive_keeps_the_session_alive_for_ever() {
    let mut pair = Pair::connected();
    pair.device[ALICE].set_keepalive(pair.now, pair.peer[ALICE], Some(25));
    for _ in 0..30 {
        pair.advance(seconds(60));
        let age = pair.device[ALICE].peer(pair.now, pair.peer[ALICE]).and_then(|peer| peer.session_age);
        assert!(age.is_some_and(|age| age < seconds(180)), "{age:?}");
    }
    let handshakes = pair.times(ALICE, TransmitKind::Initiation, Instant::ORIGIN).len();
    assert!((12..=15).contains(&handshakes), "{handshakes} in half an hour");
    assert!(pair.times(BOB, TransmitKind::Initiation, Instant::ORIGIN).is_empty());
}

#[test]
fn the_initiator_rekeys_after_120_s_when_it_sends_and_the_responder_does_not() {
    let mut pair = Pair::connected();
    let start = pair.now;
    for _ in 0..119 {
        pair.advance(SECOND);
        pair.send(BOB);
        pair.send(ALICE);
    }
    assert!(pair.times(ALICE, TransmitKind::Initiation, start).is_empty());
    pair.advance(SECOND);
    pair.send(BOB);
    assert!(pair.times(BOB, TransmitKind::Initiation, start).is_empty(), "the responder does not initiate");
    pair.send(ALICE);
    assert_near(&pair.times(ALICE, TransmitKind::Initiation, start), &[120.0], 0.0);
    assert!(pair.works());
}

#[test]
fn the_responder_does_not_initiate_on_expiry() {
    let mut pair = Pair::connected();
    let start = pair.now;
    // Only Bob, the responder, has anything to say; Alice, who hears it, renews the session.
    for _ in 0..170 {
        pair.advance(SECOND);
        pair.send(BOB);
    }
    assert!(pair.times(BOB, TransmitKind::Initiation, start).is_empty());
    // Her passive keepalives are packets she sends, so she does it at the first after 120 s.
    let renewed = pair.times(ALICE, TransmitKind::Initiation, start);
    assert!(renewed.len() == 1 && (120.0..=130.0).contains(&renewed[0]), "{renewed:?}");
    // Silence until the end of the session: neither side stirs.
    pair.forget();
    let quiet = pair.now;
    pair.advance(seconds(1000));
    assert!(pair.times(BOB, TransmitKind::Initiation, quiet).is_empty());
    assert!(pair.times(ALICE, TransmitKind::Initiation, quiet).is_empty());
}

#[test]
fn the_initiator_that_only_listens_renews_once_before_the_end() {
    let mut pair = Pair::connected();
    let start = pair.now;
    // Nothing Alice sends arrives, so only what she receives can remind her.
    pair.advance(seconds(164));
    pair.forget();
    pair.mute[ALICE] = true;
    let early = pair.sealed(BOB);
    assert!(matches!(pair.receive(ALICE, &early), Inbound::Packet { .. }));
    pair.settle();
    assert!(pair.times(ALICE, TransmitKind::Initiation, start).is_empty());
    pair.advance(SECOND);
    for _ in 0..3 {
        let late = pair.sealed(BOB);
        assert!(matches!(pair.receive(ALICE, &late), Inbound::Packet { .. }));
        pair.settle();
    }
    assert_near(&pair.times(ALICE, TransmitKind::Initiation, start), &[165.0], 0.0);
}

#[test]
fn a_session_is_refused_from_180_s_on_and_its_keys_are_erased() {
    let mut pair = Pair::connected();
    let packet = pair.sealed(ALICE);
    let another = pair.sealed(ALICE);
    pair.sleep(Duration::from_nanos(179_999_999_999));
    assert!(matches!(pair.receive(BOB, &packet), Inbound::Packet { .. }));
    pair.sleep(Duration::from_nanos(1));
    assert_eq!(pair.receive(BOB, &another), Inbound::Dropped(DropReason::ExpiredSession));
    pair.device[BOB].handle_timeout(pair.now);
    assert_eq!(pair.receive(BOB, &another), Inbound::Dropped(DropReason::UnknownIndex));
    assert!(matches!(pair.device[ALICE].outbound(pair.now, pair.peer[ALICE]), Outbound::Stage));
    assert!(pair.works());
}

#[test]
fn everything_ephemeral_is_erased_after_540_s() {
    let mut pair = Pair::connected();
    pair.mute[BOB] = true;
    pair.advance(seconds(200));
    pair.send(ALICE);
    pair.advance(seconds(100));
    // The answer to an initiation that was given up after 90 s is still welcome, for a while.
    let initiation = pair.wire[ALICE].iter().rev().find(|bytes| bytes[0] == 1).expect("retries").clone();
    pair.mute[ALICE] = true;
    pair.forget();
    let _ = pair.receive(BOB, &initiation);
    pair.settle();
    let response = pair.wire[BOB].pop();
    assert_eq!(response, None, "Bob has answered that one already");
    let timers: Vec<Timer> = std::iter::from_fn(|| {
        let (due, reason) = pair.device[ALICE].poll_timeout()?;
        pair.now = pair.now.max(due);
        pair.device[ALICE].handle_timeout(pair.now);
        match reason {
            Reason::Timer(_, timer) => Some(timer),
            Reason::Handshakes | Reason::Transmits | Reason::Initiations | Reason::Events => {
                panic!("unexpected {reason:?}")
            }
        }
    })
    .collect();
    assert_eq!(timers, [Timer::Erase], "and then there is nothing left to wait for");
    assert_eq!((pair.now - Instant::from_secs(1000)).as_secs(), 540);
}

#[test]
fn a_preshared_key_change_takes_effect_at_the_next_handshake_without_dropping_the_session() {
    let mut pair = Pair::connected();
    let psk = PresharedKey::from_bytes([9; 32]);
    pair.device[ALICE].set_preshared_key(pair.peer[ALICE], psk.clone());
    assert!(pair.works(), "the session goes on");
    pair.advance(seconds(6));
    pair.device[ALICE].initiate(pair.now, pair.peer[ALICE]);
    pair.settle();
    assert!(pair.device[ALICE].counters().dropped(DropReason::InvalidHandshake) > 0, "only one side has it");
    assert!(pair.works(), "and still the old session goes on");
    pair.device[BOB].set_preshared_key(pair.peer[BOB], psk);
    let accepted = pair.device[ALICE].counters().responses_accepted;
    pair.advance(seconds(6));
    assert_eq!(pair.device[ALICE].counters().responses_accepted, accepted + 1);
    assert!(pair.works());
}

#[test]
fn a_private_key_change_begins_a_new_handshake_and_still_opens_what_is_under_way() {
    let mut pair = Pair::connected();
    let under_way = pair.sealed(BOB);
    pair.device[ALICE].set_private_key(pair.now, Some(key(3)));
    assert!(matches!(pair.receive(ALICE, &under_way), Inbound::Packet { .. }));
    // Bob learns the new key and forgets the old one; talk at once.
    let new = pair.device[BOB].add_peer(pair.now, key(3).public_key()).expect("not Bob's");
    pair.device[BOB].add_allowed_ip(new, "10.0.0.1/32".parse().unwrap());
    pair.device[BOB].remove_peer(pair.peer[BOB]);
    pair.peer[BOB] = new;
    assert!(pair.works());
}

#[test]
fn a_handshake_response_that_arrives_late_is_accepted() {
    let mut pair = Pair::new();
    pair.mute[BOB] = true;
    pair.send(ALICE);
    let response = pair.wire[BOB].iter().find(|bytes| bytes[0] == 2).expect("a response").clone();
    // Alice has sent another initiation meanwhile, which was lost.
    pair.mute[ALICE] = true;
    pair.advance(seconds(6));
    assert_eq!(pair.device[ALICE].counters().initiations_sent, 2);
    pair.mute = [false; 2];
    let _ = pair.receive(ALICE, &response);
    pair.settle();
    assert_eq!(pair.device[ALICE].counters().responses_accepted, 1);
    assert_eq!(pair.received[BOB].len(), 1, "what was staged arrives");
    assert!(pair.works());
}

#[test]
fn responses_that_overtake_each_other_end_in_a_session_both_have() {
    // Alice's two initiations reach Bob, and his responses reach her, in either order.
    for swap in [false, true] {
        let mut pair = Pair::new();
        pair.mute[BOB] = true;
        pair.send(ALICE);
        pair.sleep(Duration::from_millis(250));
        pair.device[ALICE].initiate_now(pair.now, pair.peer[ALICE]);
        pair.settle();
        let mut responses: Vec<_> = pair.wire[BOB].iter().filter(|bytes| bytes[0] == 2).cloned().collect();
        assert_eq!(responses.len(), 2);
        if swap {
            responses.reverse();
        }
        pair.mute[BOB] = false;
        for response in responses {
            let _ = pair.receive(ALICE, &response);
        }
        pair.settle();
        assert!(pair.works(), "swapped: {swap}");
    }
}

#[test]
fn both_sides_may_begin_at_once() {
    let mut pair = Pair::new();
    pair.device[BOB].set_path(pair.now, pair.peer[BOB], Some(pair.at[ALICE]));
    let mut crossing = Vec::new();
    for side in [ALICE, BOB] {
        pair.device[side].initiate(pair.now, pair.peer[side]);
        let mut out = Outbox::default();
        drain(&mut pair.device[side], pair.now, &mut out);
        crossing.push(out.datagrams.remove(0).1);
    }
    let _ = pair.receive(BOB, &crossing[ALICE]);
    let _ = pair.receive(ALICE, &crossing[BOB]);
    pair.settle();
    assert!(pair.works());
    pair.advance(seconds(100));
    assert!(pair.works());
    assert!(pair.times(ALICE, TransmitKind::Initiation, Instant::ORIGIN).is_empty(), "no fight");
    assert!(pair.times(BOB, TransmitKind::Initiation, Instant::ORIGIN).is_empty());
}

#[test]
fn a_clock_that_steps_back_neither_panics_nor_stalls() {
    let mut pair = Pair::connected();
    for back in [10_u64, 1000, 900] {
        pair.now = Instant::from_secs(1000 - back.min(999));
        assert!(pair.works(), "back by {back} s");
        // Timers go on: the passive keepalive comes after ten seconds of the new time.
        pair.forget();
        let start = pair.now;
        pair.send(ALICE);
        pair.advance(seconds(12));
        assert_near(&pair.times(BOB, TransmitKind::Keepalive, start), &[10.0], 0.0);
        pair.now = Instant::from_secs(2000);
        pair.advance(seconds(1));
        assert!(pair.works());
    }
}

#[test]
fn a_peer_suspended_for_hours_recovers() {
    let mut pair = Pair::connected();
    pair.sleep(seconds(9 * 3600));
    for device in &mut pair.device {
        device.handle_timeout(pair.now);
    }
    pair.settle();
    assert!(pair.works());
}

#[test]
fn an_oversize_or_coalesced_datagram_is_refused() {
    let mut pair = Pair::connected();
    let two = [pair.sealed(ALICE), pair.sealed(ALICE)].concat();
    assert_eq!(pair.receive(BOB, &two), Inbound::Dropped(DropReason::Forged));
    for kind in 0..=255 {
        for len in [0, 1, 4, 16, 31, 32, 33, 64, 92, 147, 148, 149, 1500, 65_535] {
            let mut datagram = vec![kind; len];
            if let Some(reserved) = datagram.get_mut(1..4) {
                reserved.fill(0);
            }
            assert!(matches!(pair.receive(BOB, &datagram), Inbound::Dropped(_)));
        }
    }
    // The largest packet there can be.
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &vec![1; 65_535 - 20]);
    let mut out = Outbox::default();
    send(&mut pair.device[ALICE], pair.now, pair.peer[ALICE], &packet, &mut out);
    let datagram = out.datagrams.remove(0).1;
    pair.forget();
    assert!(matches!(pair.receive(BOB, &datagram), Inbound::Packet { .. }));
    assert_eq!(pair.received[BOB], [packet]);
}

#[test]
fn the_source_of_the_decrypted_packet_is_checked_by_longest_match_and_the_peer_roams_first() {
    let mut pair = Pair::connected();
    let carol = pair.device[BOB].add_peer(pair.now, key(5).public_key()).expect("Carol");
    pair.device[BOB].add_allowed_ip(pair.peer[BOB], "10.0.0.0/16".parse().unwrap());
    pair.device[BOB].add_allowed_ip(carol, "10.0.7.0/24".parse().unwrap());
    let cases = [
        ([10, 0, 0, 1], None),
        ([10, 0, 9, 9], None),
        ([10, 0, 7, 9], Some(DropReason::SourceNotAllowed)),
        ([10, 1, 0, 1], Some(DropReason::SourceNotAllowed)),
    ];
    for (number, (source, refused)) in cases.into_iter().enumerate() {
        let mut out = Outbox::default();
        let packet = ipv4(source, [10, 0, 0, 2], b"x");
        send(&mut pair.device[ALICE], pair.now, pair.peer[ALICE], &packet, &mut out);
        pair.at[ALICE] = path(&format!("203.0.113.{number}:1"));
        let before = pair.device[BOB].peer(pair.now, pair.peer[BOB]).expect("Alice").rx_bytes;
        let inbound = pair.receive(BOB, &out.datagrams[0].1);
        let after = pair.device[BOB].peer(pair.now, pair.peer[BOB]).expect("Alice").rx_bytes;
        match refused {
            None => assert!(matches!(inbound, Inbound::Packet { .. }) && after > before, "{source:?}"),
            Some(reason) => assert!(inbound == Inbound::Dropped(reason) && after == before, "{source:?}"),
        }
        assert_eq!(pair.path(BOB), Some(pair.at[ALICE]), "it roams all the same");
    }
}

#[test]
fn what_is_not_ip_inside_is_refused() {
    let mut pair = Pair::connected();
    let mut truncated = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[0; 8]);
    truncated[3] = 200;
    for packet in [vec![0; 16], vec![0x45; 19], vec![0x60; 39], truncated] {
        let mut out = Outbox::default();
        send(&mut pair.device[ALICE], pair.now, pair.peer[ALICE], &packet, &mut out);
        assert_eq!(pair.receive(BOB, &out.datagrams[0].1), Inbound::Dropped(DropReason::NotIp));
    }
}

#[test]
fn timestamps_stay_monotone_across_a_restart_with_the_clock_set_back() {
    let mut pair = Pair::connected();
    pair.advance(seconds(3600));
    let kept = pair.device[ALICE].unix_time(pair.now);
    // Restarted with a clock set back by a day: the caller hands in the later of both.
    let wall = UnixTime::from_duration(kept.as_duration() - seconds(86_400));
    let restart = |pair: &mut Pair, unix: UnixTime| {
        let mut device = Device::new(Some(key(1)), pair.now, unix, [42; 32]);
        let peer = device.add_peer(pair.now, key(2).public_key()).expect("Bob");
        device.add_allowed_ip(peer, "10.0.0.2/32".parse().unwrap());
        device.set_path(pair.now, peer, Some(pair.at[BOB]));
        (pair.device[ALICE], pair.peer[ALICE]) = (device, peer);
    };
    restart(&mut pair, wall);
    pair.send(ALICE);
    assert!(pair.device[BOB].counters().dropped(DropReason::StaleInitiation) > 0, "the danger is real");
    restart(&mut pair, kept.max(wall));
    assert!(pair.works());
    // A clock that is set forward, as by NTP after the start, is followed; one set back is not.
    let before = pair.device[ALICE].unix_time(pair.now);
    pair.device[ALICE].set_unix_time(pair.now, wall);
    assert_eq!(pair.device[ALICE].unix_time(pair.now), before);
    let later = before + seconds(77);
    pair.device[ALICE].set_unix_time(pair.now, later);
    assert_eq!(pair.device[ALICE].unix_time(pair.now), later);
    assert!(Tai64N::new(before) < Tai64N::new(later));
}

#[test]
fn low_order_public_keys_are_accepted_as_peers_but_no_packet_leaves() {
    let mut pair = Pair::new();
    let device = &mut pair.device[ALICE];
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let peer = device.add_peer(pair.now, PublicKey::from_hex(point).unwrap()).expect("accepted");
        device.set_path(pair.now, peer, Some(path("192.0.2.9:9")));
        device.stage(pair.now, peer, &ipv4([10, 0, 0, 1], [10, 0, 0, 9], b"x"));
        device.initiate_now(pair.now, peer);
    }
    pair.advance(seconds(100));
    assert!(pair.log.is_empty(), "{:?}", pair.log);
    assert_eq!(
        pair.device[ALICE].counters().dropped(DropReason::StagedExpired),
        7,
        "nor do they wait for ever"
    );
}

#[test]
fn nothing_happens_before_poll_timeout_and_something_at_it() {
    let mut draws = common::Draws::new(5);
    let mut pair = Pair::connected();
    pair.device[BOB].set_keepalive(pair.now, pair.peer[BOB], Some(33));
    for step in 0..1500 {
        match draws.below(12) {
            0 => pair.send(ALICE),
            1 => pair.send(BOB),
            2 => pair.mute = [draws.below(2) == 0, draws.below(2) == 0],
            3 => {
                let side = draws.below(2) as usize;
                pair.device[side].initiate(pair.now, pair.peer[side]);
            }
            _ => {}
        }
        pair.settle();
        let Some((due, reason)) =
            pair.device.iter_mut().filter_map(Device::poll_timeout).min_by_key(|due| due.0)
        else {
            continue;
        };
        assert!(matches!(reason, Reason::Timer(..)), "step {step}: drained, but {reason:?}");
        assert!(due > pair.now, "step {step}: {reason:?} was due");
        // A nanosecond before, nothing.
        pair.now = due - Duration::from_nanos(1);
        for side in [ALICE, BOB] {
            let before = pair.device[side].poll_timeout();
            pair.device[side].handle_timeout(pair.now);
            assert_eq!(pair.device[side].poll_timeout(), before, "step {step}");
        }
        // At it, something: there is output, or the next deadline is another.
        pair.now = due;
        for side in [ALICE, BOB] {
            let before = pair.device[side].poll_timeout();
            pair.device[side].handle_timeout(pair.now);
            if before.is_some_and(|before| before.0 == due) {
                assert_ne!(pair.device[side].poll_timeout(), before, "step {step}: {reason:?} did nothing");
            }
        }
    }
}

#[test]
fn the_same_seed_and_history_give_the_same_datagrams() {
    let run = || {
        let mut pair = Pair::seeded(9);
        pair.device[ALICE].set_keepalive(pair.now, pair.peer[ALICE], Some(7));
        for _ in 0..50 {
            pair.send(BOB);
            pair.advance(seconds(11));
        }
        (pair.wire, pair.log, pair.events)
    };
    assert_eq!(run(), run());
}

#[test]
fn byte_counters_are_those_of_wg() {
    // The kernel's own selftest: ten pings of 84 bytes through a fresh tunnel.
    let mut pair = Pair::new();
    let ping = [ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[1; 64]), ipv4([10, 0, 0, 2], [10, 0, 0, 1], &[2; 64])];
    for _ in 0..10 {
        for side in [ALICE, BOB] {
            let mut out = Outbox::default();
            send(&mut pair.device[side], pair.now, pair.peer[side], &ping[side], &mut out);
            for (_, bytes) in out.datagrams {
                let _ = pair.receive(1 - side, &bytes);
            }
            pair.settle();
        }
    }
    let alice = pair.device[ALICE].peer(pair.now, pair.peer[ALICE]).expect("Bob");
    assert_eq!((alice.rx_bytes, alice.tx_bytes), (1372, 1428));
    assert!(alice.last_handshake.is_some());
    let bob = pair.device[BOB].peer(pair.now, pair.peer[BOB]).expect("Alice");
    assert_eq!((bob.rx_bytes, bob.tx_bytes), (1428, 1372));
}

#[test]
fn staged_packets_are_bounded_and_the_newest_win() {
    let mut pair = Pair::new();
    for number in 0..200_u8 {
        let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[number]);
        pair.device[ALICE].stage(pair.now, pair.peer[ALICE], &packet);
    }
    assert_eq!(pair.device[ALICE].counters().dropped(DropReason::StagedOverflow), 72);
    pair.settle();
    let arrived: Vec<u8> = pair.received[BOB].iter().map(|packet| packet[20]).collect();
    assert_eq!(arrived, (72..200).collect::<Vec<u8>>());
    // All peers together: 16 MiB.
    let mut pair = Pair::new();
    let large = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &vec![0; 60_000]);
    let device = &mut pair.device[ALICE];
    for byte in 10..30 {
        let peer = device.add_peer(pair.now, key(byte).public_key()).expect("a peer");
        for _ in 0..20 {
            device.stage(pair.now, peer, &large);
        }
    }
    let staged: usize =
        device.peers().filter_map(|peer| device.peer(pair.now, peer)).map(|peer| peer.staged).sum();
    assert_eq!(staged, (16 << 20) / large.len());
}

#[test]
fn without_room_nothing_is_lost_and_the_device_says_so() {
    let mut pair = Pair::new();
    for number in 0..5_u8 {
        pair.device[ALICE].stage(pair.now, pair.peer[ALICE], &ipv4([10, 0, 0, 1], [10, 0, 0, 2], &[number]));
    }
    let mut full = Outbox { room: 0, ..Outbox::default() };
    assert_eq!(pair.device[ALICE].poll_transmit(pair.now, &mut full), None);
    assert_eq!(pair.device[ALICE].poll_timeout().map(|due| due.1), Some(Reason::Transmits));
    pair.mute[ALICE] = true;
    let mut one = Outbox { room: 1, ..Outbox::default() };
    assert_eq!(drain(&mut pair.device[ALICE], pair.now, &mut one), [TransmitKind::Initiation]);
    let initiation = one.datagrams.remove(0).1;
    let _ = pair.receive(BOB, &initiation);
    assert_eq!(pair.device[BOB].poll_transmit(pair.now, &mut full), None);
    let mut out = Outbox::default();
    drain(&mut pair.device[BOB], pair.now, &mut out);
    let response = out.datagrams.remove(0).1;
    let _ = pair.receive(ALICE, &response);
    let mut got = Vec::new();
    while pair.device[ALICE].poll_timeout().is_some_and(|due| due.1 == Reason::Transmits) {
        let mut one = Outbox { room: 1, ..Outbox::default() };
        drain(&mut pair.device[ALICE], pair.now, &mut one);
        got.extend(one.datagrams.into_iter().map(|(_, bytes)| bytes));
    }
    pair.forget();
    for datagram in got {
        let _ = pair.receive(BOB, &datagram);
    }
    assert_eq!(pair.received[BOB].len(), 5);
}

#[test]
fn a_raced_initiation_goes_to_every_path_and_the_first_response_wins() {
    let mut pair = Pair::new();
    let alice = pair.peer[ALICE];
    pair.device[ALICE].set_path(pair.now, alice, None);
    pair.device[ALICE].set_race(alice, true);
    assert!(matches!(pair.device[ALICE].outbound(pair.now, alice), Outbound::NoPath));
    let packet = pair.packet(ALICE);
    pair.device[ALICE].stage(pair.now, alice, &packet);
    pair.settle();
    assert!(pair.log.is_empty(), "not sent by itself");
    assert_eq!(pair.device[ALICE].poll_timeout().map(|due| due.1), Some(Reason::Initiations));
    let (peer, initiation) = pair.device[ALICE].poll_initiation(pair.now).expect("an initiation");
    assert_eq!(peer, alice);
    assert_eq!(pair.device[ALICE].poll_initiation(pair.now), None);
    // It reaches Bob three times, over three paths.
    for place in ["203.0.113.1:1", "203.0.113.2:2", "203.0.113.3:3"] {
        pair.at[ALICE] = path(place);
        let _ = pair.receive(BOB, &initiation);
    }
    assert_eq!(pair.device[BOB].counters().initiations_accepted, 1);
    pair.at[BOB] = path("198.51.100.77:7");
    pair.settle();
    assert_eq!(pair.path(ALICE), Some(pair.at[BOB]));
    assert_eq!(pair.received[BOB], [packet]);
    assert_eq!(pair.path(BOB), Some(path("203.0.113.3:3")), "data came that way last");
}

#[test]
fn peers_come_and_go() {
    let mut pair = Pair::connected();
    let device = &mut pair.device[BOB];
    assert_eq!(device.add_peer(pair.now, key(2).public_key()), Err(AddPeerError::OwnKey));
    let old = pair.peer[BOB];
    assert_eq!(device.add_peer(pair.now, key(1).public_key()), Ok(old), "it is there already");
    let packet = pair.sealed(ALICE);
    let device = &mut pair.device[BOB];
    device.remove_peer(old);
    assert_eq!((device.peers().count(), device.find(&key(1).public_key())), (0, None));
    assert_eq!(device.route([10, 0, 0, 1].into()), None);
    assert!(device.peer(pair.now, old).is_none());
    assert!(matches!(device.outbound(pair.now, old), Outbound::Gone));
    assert_eq!(device.poll_timeout(), None);
    // Its place is taken by another, whom the old id does not name.
    let new = device.add_peer(pair.now, key(7).public_key()).expect("another");
    assert_eq!(new.index(), old.index());
    device.add_allowed_ip(old, "10.0.0.0/8".parse().unwrap());
    device.stage(pair.now, old, b"x");
    device.remove_peer(old);
    assert_eq!((device.peers().count(), device.allowed_ips(new).count()), (1, 0));
    assert_eq!(pair.receive(BOB, &packet), Inbound::Dropped(DropReason::UnknownIndex));
    // A private key removes the peer of that name, and without one nothing is answered.
    pair.device[BOB].set_private_key(pair.now, Some(key(7)));
    assert_eq!(pair.device[BOB].peers().count(), 0);
    pair.device[BOB].set_private_key(pair.now, None);
    let initiation = strangers_initiation(pair.now);
    assert_eq!(pair.receive(BOB, &initiation), Inbound::Dropped(DropReason::NoPrivateKey));
}

#[test]
fn a_path_that_comes_later_begins_the_handshake_at_once() {
    let mut pair = Pair::new();
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], None);
    assert!(matches!(pair.device[ALICE].outbound(pair.now, pair.peer[ALICE]), Outbound::NoPath));
    pair.send(ALICE);
    pair.advance(seconds(2));
    assert!(pair.log.is_empty());
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], Some(pair.at[BOB]));
    pair.settle();
    assert_eq!(pair.received[BOB].len(), 1);
}

#[test]
fn a_silent_peer_is_called_again_from_whatever_address_the_host_has() {
    let mut pair = Pair::connected();
    let source = Source { ip: "192.0.2.1".parse().unwrap(), interface: 2 };
    let sticky = Path::udp_from(pair.at[BOB].remote().expect("UDP"), source);
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], Some(sticky));
    pair.mute[BOB] = true;
    pair.send(ALICE);
    pair.advance(seconds(14));
    assert_eq!(pair.path(ALICE), Some(sticky));
    pair.advance(seconds(2));
    assert_eq!(pair.path(ALICE), Some(sticky.without_source()));
}
