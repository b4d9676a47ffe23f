//! Handshakes: what they carry, change and survive.

use std::time::Duration;

use crate::common::pair::{ALICE, BOB, Pair};
use crate::common::{Outbox, drain, ipv4, key, path, send};
use crate::seconds;
use span_core::key::PresharedKey;
use span_core::time::{Instant, Tai64N, UnixTime};
use span_core::wireguard::{Device, DropReason, Event, Inbound, Outbound, Reason, Role, TransmitKind};

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
