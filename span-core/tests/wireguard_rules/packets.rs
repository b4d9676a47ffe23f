//! What is done to packets and datagrams, and what is refused.

use crate::common::pair::{ALICE, BOB, Pair};
use crate::common::{Outbox, drain, ipv4, key, path, send};
use span_core::wireguard::{DropReason, Inbound, Reason, Sealer, TransmitKind};

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
