//! Threads that share a device: packets are opened beside each other and still received once.

mod common;

use std::sync::{Barrier, Mutex, MutexGuard};

use common::pair::{ALICE, BOB, Pair};
use common::{Outbox, drain, ipv4, path};
use span_core::path::Path;
use span_core::time::Instant;
use span_core::wireguard::{
    Device, DropReason, Inbound, Opening, Outbound, REJECT_AFTER_TIME, SealError, Sealer,
};

/// Packets of Alice's in one burst, numbered from `first`, all of one length.
fn burst(pair: &mut Pair, first: u32, count: u32) -> (Vec<u8>, usize) {
    let Outbound::Ready(sending) = pair.device[ALICE].outbound(pair.now, pair.peer[ALICE]) else {
        panic!("a session");
    };
    let mut bytes = Vec::new();
    let mut stride = 0;
    for number in first..first + count {
        let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], &number.to_be_bytes());
        stride = Sealer::slot_len(packet.len(), 1420);
        let mut slot = vec![0; stride];
        slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(&packet);
        bytes.extend_from_slice(&slot);
    }
    assert_eq!(sending.sealer.seal_burst(&mut bytes, stride).map(drop), Ok::<(), SealError>(()));
    (bytes, stride)
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes(packet[20..24].try_into().expect("four bytes"))
}

fn lock(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().expect("no thread has panicked")
}

/// What the three steps make of a burst, with `between` done to the device before the third.
fn three_steps(
    device: &Mutex<Device>,
    now: Instant,
    from: &Path,
    mut burst: Vec<u8>,
    stride: usize,
    between: impl FnOnce(&Mutex<Device>),
) -> (Vec<u32>, Vec<DropReason>) {
    let (mut packets, mut drops, mut openings) = (Vec::new(), Vec::new(), Vec::<Opening>::new());
    lock(device).begin_burst(now, from, &burst, stride, &mut openings, &mut |inbound| match inbound {
        Inbound::Dropped(reason) => drops.push(reason),
        other => panic!("{other:?}"),
    });
    for opening in &mut openings {
        opening.open(&mut burst);
    }
    between(device);
    lock(device).finish_burst(now, from, &mut openings, &burst, &mut |inbound| match inbound {
        Inbound::Packet { range, .. } => packets.push(number(&burst[range])),
        Inbound::Dropped(reason) => drops.push(reason),
        other => panic!("{other:?}"),
    });
    (packets, drops)
}

/// Each burst is given to both threads, which have opened it before either finishes: every packet comes out of one of
/// them alone.
#[test]
fn a_replay_given_to_two_threads_at_once_is_accepted_once() {
    const BURSTS: u32 = 200;
    const PACKETS: u32 = 16;
    let mut pair = Pair::connected();
    let bursts: Vec<_> = (0..BURSTS).map(|n| burst(&mut pair, n * PACKETS, PACKETS)).collect();
    let (now, from) = (pair.now, pair.at[ALICE]);
    let [_, bob] = pair.device;
    let bob = Mutex::new(bob);
    let opened = Barrier::new(2);
    let work = || {
        let mut all = (Vec::new(), Vec::new());
        for (bytes, stride) in &bursts {
            let meet = |_: &Mutex<Device>| {
                opened.wait();
            };
            let (packets, drops) = three_steps(&bob, now, &from, bytes.clone(), *stride, meet);
            assert!(packets.is_sorted());
            all.0.extend(packets);
            all.1.extend(drops);
        }
        all
    };
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        [work(), other.join().expect("the other thread")]
    });
    let mut packets: Vec<u32> = outcomes.iter().flat_map(|(packets, _)| packets).copied().collect();
    packets.sort_unstable();
    assert_eq!(packets, (0..BURSTS * PACKETS).collect::<Vec<_>>(), "each once");
    let drops: Vec<DropReason> = outcomes.into_iter().flat_map(|(_, drops)| drops).collect();
    assert!(drops.iter().all(|reason| *reason == DropReason::Replayed), "and the others are repetitions");
    let bob = bob.into_inner().expect("no thread has panicked");
    assert_eq!(bob.counters().dropped(DropReason::Replayed), drops.len() as u64, "all counted");
}

/// The same in a fixed order: both have decrypted before the first finishes.
#[test]
fn what_was_received_between_the_steps_is_a_repetition() {
    let mut pair = Pair::connected();
    let (bytes, stride) = burst(&mut pair, 0, 3);
    let (now, from) = (pair.now, pair.at[ALICE]);
    let [_, bob] = pair.device;
    let bob = Mutex::new(bob);
    let mut copy = bytes.clone();
    let mut taken = 0;
    let (packets, drops) = three_steps(&bob, now, &from, bytes, stride, |bob| {
        lock(bob).handle_burst(now, &from, &mut copy, stride, &mut |inbound| {
            assert!(matches!(inbound, Inbound::Packet { .. }));
            taken += 1;
        });
    });
    assert_eq!((taken, packets, drops), (3, vec![], vec![DropReason::Replayed; 3]));
}

#[test]
fn a_session_that_goes_between_the_steps_delivers_nothing() {
    // The peer is removed; it is removed and comes back; the session ends.
    let alice = |bob: &Device| bob.peers().next().expect("Alice");
    let remove = |bob: &mut Device| bob.remove_peer(alice(bob));
    type Change<'a> = &'a dyn Fn(&mut Device, Instant);
    let cases: [(Change<'_>, DropReason); 3] = [
        (&|bob, _| remove(bob), DropReason::UnknownIndex),
        (
            &|bob, now| {
                let key = *bob.peer(now, alice(bob)).expect("Alice").public_key;
                remove(bob);
                bob.add_peer(now, key).expect("another's key");
            },
            DropReason::UnknownIndex,
        ),
        // Nothing but time passes.
        (&|bob, now| bob.sent(now + REJECT_AFTER_TIME, alice(bob), 0, 0), DropReason::ExpiredSession),
    ];
    for (change, reason) in cases {
        let mut pair = Pair::connected();
        let (bytes, stride) = burst(&mut pair, 0, 3);
        let (now, from) = (pair.now, pair.at[ALICE]);
        let [_, bob] = pair.device;
        let bob = Mutex::new(bob);
        let outcome = three_steps(&bob, now, &from, bytes, stride, |bob| change(&mut lock(bob), now));
        assert_eq!(outcome, (vec![], vec![reason; 3]));
        assert_eq!(bob.into_inner().expect("no panic").counters().dropped(reason), 3);
    }
}

/// Forged, repeated, foreign and malformed datagrams between good ones: the steps say what
/// `handle_burst` says of the same bytes, and leave the device as it does.
#[test]
fn the_three_steps_say_what_one_call_says() {
    type Said = (Vec<u32>, Vec<DropReason>);
    let reasons = |mixed: &mut dyn FnMut(&mut Pair, &[u8], usize) -> Said| {
        let mut pair = Pair::connected();
        let (mut bytes, stride) = burst(&mut pair, 0, 9);
        bytes[stride + 20] ^= 1;
        bytes[3 * stride + 4] ^= 1;
        bytes[5 * stride] = 9;
        bytes.copy_within(6 * stride..7 * stride, 7 * stride);
        pair.at[ALICE] = path("192.0.2.77:7");
        let outcome = mixed(&mut pair, &bytes, stride);
        let status = pair.device[BOB].peer(pair.now, pair.peer[BOB]).expect("Alice");
        let left = (status.path.copied(), status.rx_bytes, pair.device[BOB].counters().clone());
        (
            outcome.0,
            {
                let mut drops = outcome.1;
                drops.sort();
                drops
            },
            left,
            pair.device[BOB].poll_event(),
        )
    };
    let one_call = reasons(&mut |pair, bytes, stride| {
        let mut bytes = bytes.to_vec();
        let (mut ranges, mut drops) = (Vec::new(), Vec::new());
        pair.device[BOB].handle_burst(pair.now, &pair.at[ALICE], &mut bytes, stride, &mut |inbound| {
            match inbound {
                Inbound::Packet { range, .. } => ranges.push(range),
                Inbound::Dropped(reason) => drops.push(reason),
                other => panic!("{other:?}"),
            }
        });
        (ranges.into_iter().map(|range| number(&bytes[range])).collect(), drops)
    });
    assert_eq!(one_call.0, [0, 2, 4, 6, 8]);
    use DropReason::{Forged, Malformed, Replayed, UnknownIndex};
    assert_eq!(one_call.1, [Malformed, UnknownIndex, Forged, Replayed]);
    let three = reasons(&mut |pair, bytes, stride| {
        let bob = std::mem::replace(
            &mut pair.device[BOB],
            Device::new(None, pair.now, Default::default(), [0; 32]),
        );
        let bob = Mutex::new(bob);
        let outcome = three_steps(&bob, pair.now, &pair.at[ALICE], bytes.to_vec(), stride, |_| ());
        pair.device[BOB] = bob.into_inner().expect("no panic");
        outcome
    });
    assert_eq!(one_call, three);
}

/// Handshakes are taken in the first step.
#[test]
fn a_handshake_needs_no_opening() {
    let mut pair = Pair::new();
    pair.device[ALICE].initiate(pair.now, pair.peer[ALICE]);
    let mut out = Outbox::default();
    drain(&mut pair.device[ALICE], pair.now, &mut out);
    let (_, initiation) = out.datagrams.remove(0);
    let (mut openings, mut taken) = (Vec::new(), Vec::new());
    let bob = &mut pair.device[BOB];
    bob.begin_burst(
        pair.now,
        &pair.at[ALICE],
        &initiation,
        initiation.len(),
        &mut openings,
        &mut |inbound| {
            taken.push(inbound);
        },
    );
    assert_eq!((openings.len(), taken), (0, vec![Inbound::Handshake]));
    bob.handle_timeout(pair.now);
    let mut answer = Outbox::default();
    drain(bob, pair.now, &mut answer);
    assert_eq!(answer.datagrams.len(), 1);
}
