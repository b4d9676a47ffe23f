//! Which suite a link comes to use, who decides it, and that nobody else can.
#![cfg(feature = "ring")]

mod common;

use std::time::Duration;

use common::pair::{ALICE, BOB, Pair};
use span_core::crypto::{Suite, Suites};
use span_core::wireguard::{DropReason, Inbound, TransmitKind};

const CHACHA: Suite = Suite::ChaCha20Poly1305;
const AES: Suite = Suite::Aes256Gcm;

/// What a side is told: whether it accepts AES, and what its record of the other says.
#[derive(Clone, Copy)]
struct Told {
    accepts_aes: bool,
    begins_with: Suite,
}

const PLAIN: Told = Told { accepts_aes: false, begins_with: CHACHA };
const BOTH: Told = Told { accepts_aes: true, begins_with: AES };
/// It would, but believes that the other would not.
const UNAWARE: Told = Told { accepts_aes: true, begins_with: CHACHA };

fn pair(alice: Told, bob: Told) -> Pair {
    let mut pair = Pair::new();
    let (at, peer) = (pair.at, pair.peer);
    pair.device[BOB].set_path(pair.now, peer[BOB], Some(at[ALICE]));
    for (side, told) in [(ALICE, alice), (BOB, bob)] {
        tell(&mut pair, side, told);
    }
    pair
}

fn tell(pair: &mut Pair, side: usize, told: Told) {
    let aes: Suites = told.accepts_aes.then_some(AES).into_iter().collect();
    pair.device[side].accept_suites(aes);
    pair.device[side].set_suite(pair.now, pair.peer[side], told.begins_with);
}

fn suites(pair: &Pair) -> [Option<Suite>; 2] {
    [ALICE, BOB].map(|side| pair.device[side].peer(pair.now, pair.peer[side]).expect("a peer").suite)
}

/// A new handshake that `side` begins.
fn renew(pair: &mut Pair, side: usize) {
    pair.advance(Duration::from_secs(6));
    pair.device[side].initiate(pair.now, pair.peer[side]);
    pair.settle();
}

#[test]
fn either_side_begins_in_what_it_was_told() {
    for (alice, bob, by_alice, by_bob) in [
        (PLAIN, PLAIN, CHACHA, CHACHA),
        (BOTH, BOTH, AES, AES),
        (PLAIN, UNAWARE, CHACHA, CHACHA),
        (BOTH, UNAWARE, AES, CHACHA),
    ] {
        for (side, suite) in [(ALICE, by_alice), (BOB, by_bob)] {
            let mut pair = pair(alice, bob);
            assert_eq!(suites(&pair), [None; 2]);
            pair.send(side);
            assert!(pair.works());
            assert_eq!(suites(&pair), [Some(suite); 2], "begun by {side}");
            let sizes: Vec<usize> =
                pair.wire[side].iter().chain(&pair.wire[1 - side]).map(Vec::len).take(2).collect();
            assert_eq!(sizes[0], 148, "nothing shows on the wire");
        }
    }
}

#[test]
fn a_device_that_was_not_told_drops_aes_and_counts_it() {
    let mut pair = pair(BOTH, PLAIN);
    pair.send(ALICE);
    assert_eq!(pair.device[BOB].counters().dropped(DropReason::InvalidHandshake), 1);
    assert_eq!(pair.device[BOB].counters().initiations_accepted, 0);
    assert!(pair.wire[BOB].is_empty(), "there is no answer");
}

/// Bob has restarted with another policy, and Alice has not heard of it.
#[test]
fn a_peers_own_handshake_outweighs_its_stale_record() {
    // He takes AES no more.
    let mut pair = pair(BOTH, PLAIN);
    pair.send(ALICE);
    assert_eq!(suites(&pair), [None; 2], "Alice asks in vain");
    pair.send(BOB);
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(CHACHA); 2]);
    let failed = pair.device[BOB].counters().dropped(DropReason::InvalidHandshake);
    renew(&mut pair, ALICE);
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(CHACHA); 2]);
    assert_eq!(pair.device[BOB].counters().dropped(DropReason::InvalidHandshake), failed, "the first try");
    // He does again, and now she is told.
    tell(&mut pair, BOB, BOTH);
    tell(&mut pair, ALICE, BOTH);
    pair.advance(Duration::from_secs(6));
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(AES); 2], "a change is put into effect");
}

#[test]
fn a_peer_that_begins_in_aes_is_followed() {
    let mut pair = pair(UNAWARE, BOTH);
    pair.send(BOB);
    assert!(pair.works());
    renew(&mut pair, ALICE);
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(AES); 2]);
    // Not if her own owner then decides otherwise.
    pair.device[ALICE].accept_suites(Suites::NONE);
    renew(&mut pair, ALICE);
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(CHACHA); 2]);
}

/// An initiation that somebody kept and sends again, to a device that has restarted and cannot tell, must not
/// decide in which suite the peer is addressed: only a session that the peer uses does.
#[test]
fn a_replayed_initiation_does_not_choose_the_suite() {
    let mut former = pair(BOTH, UNAWARE);
    former.send(BOB);
    let kept = former.wire[BOB][0].clone();
    assert_eq!(kept.len(), 148);

    let mut pair = pair(BOTH, BOTH);
    assert_eq!(pair.receive(ALICE, &kept), Inbound::Handshake);
    assert_eq!(pair.device[ALICE].counters().initiations_accepted, 1, "she cannot tell");
    pair.mute[ALICE] = true;
    pair.settle();
    pair.mute[ALICE] = false;
    renew(&mut pair, ALICE);
    assert!(pair.works());
    assert_eq!(suites(&pair), [Some(AES); 2]);
}

/// Whoever can make packets disappear gets no link in another suite for it.
#[test]
fn loss_does_not_change_the_suite() {
    let mut pair = pair(BOTH, UNAWARE);
    pair.mute = [true; 2];
    pair.send(ALICE);
    pair.advance(Duration::from_secs(80));
    let initiations = pair.times(ALICE, TransmitKind::Initiation, pair.now - Duration::from_secs(80)).len();
    assert!(initiations > 10, "{initiations}");
    pair.mute = [false; 2];
    pair.advance(Duration::from_secs(6));
    assert_eq!(suites(&pair), [Some(AES); 2]);
}

#[test]
fn a_response_serves_only_the_handshake_it_was_made_for() {
    // In AES first: the response is kept.
    let mut pair = pair(BOTH, BOTH);
    pair.send(ALICE);
    let mut kept = pair.wire[BOB][0].clone();
    assert_eq!(kept.len(), 92);
    // Then in ChaCha, where the answer is lost and the kept one comes in its place, readdressed. Its first MAC
    // is made with Alice's public key, which is no secret.
    tell(&mut pair, ALICE, UNAWARE);
    pair.mute[ALICE] = true;
    pair.advance(Duration::from_secs(6));
    let initiation = pair.wire[ALICE].iter().rfind(|bytes| bytes[0] == 1).expect("an initiation").clone();
    kept[8..12].copy_from_slice(&initiation[4..8]);
    let key =
        span_core::crypto::hash(&[b"mac1----", pair.device[ALICE].public_key().expect("a key").as_bytes()]);
    let mac1 = span_core::crypto::keyed_mac(&key, &[&kept[..60]]);
    kept[60..76].copy_from_slice(&mac1);
    let before = pair.device[ALICE].counters().clone();
    assert_eq!(pair.receive(ALICE, &kept), Inbound::Handshake);
    let after = pair.device[ALICE].counters();
    assert_eq!(after.responses_accepted, before.responses_accepted);
    assert_eq!(after.dropped(DropReason::InvalidHandshake), before.dropped(DropReason::InvalidHandshake) + 1);
}

/// Both begin at once, each in a suite of its own.
#[test]
fn handshakes_of_different_suites_may_cross() {
    for first in [ALICE, BOB] {
        let mut pair = pair(BOTH, UNAWARE);
        pair.send(ALICE);
        assert!(pair.works());
        for round in 0..20 {
            // What was heard is forgotten, so that they disagree again.
            tell(&mut pair, ALICE, BOTH);
            tell(&mut pair, BOB, UNAWARE);
            pair.sleep(Duration::from_secs(6));
            for side in [first, 1 - first] {
                pair.device[side].initiate_now(pair.now, pair.peer[side]);
            }
            pair.settle();
            assert!(pair.works(), "round {round}");
            let suites = suites(&pair);
            assert!(suites.iter().all(Option::is_some), "{suites:?}");
        }
    }
}

#[test]
fn a_session_in_another_suite_keeps_working_until_it_is_replaced() {
    let mut pair = pair(BOTH, BOTH);
    pair.send(ALICE);
    assert!(pair.works());
    let early = pair.sealed(ALICE);
    // Bob's policy changes; datagrams of the old session are still on their way.
    tell(&mut pair, BOB, PLAIN);
    pair.advance(Duration::from_secs(6));
    assert_eq!(suites(&pair), [Some(CHACHA); 2]);
    assert!(matches!(pair.receive(BOB, &early), Inbound::Packet { .. }));
}
