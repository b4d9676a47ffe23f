//! Floods, load and cookies.

use std::time::Duration;

use crate::common::pair::{ALICE, BOB, Pair};
use crate::common::{Outbox, deliver, drain, key, path};
use crate::{seconds, strangers_initiation};
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, DropReason, Inbound, PeerId, Reason, TransmitKind};

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
