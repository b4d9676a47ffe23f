//! The timers of the paper's section 6, and clocks.

use std::time::Duration;

use crate::common::Draws;
use crate::common::pair::{ALICE, BOB, Pair};
use crate::{SECOND, assert_near, seconds};
use span_core::time::Instant;
use span_core::wireguard::{Device, DropReason, Event, Inbound, Outbound, Reason, Timer, TransmitKind};

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
fn nothing_happens_before_poll_timeout_and_something_at_it() {
    let mut draws = Draws::new(5);
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
