//! What only shows from within: counters far into a session, and that nothing is left behind. The rules
//! that show from outside are in `tests/`.

use std::vec;
use std::vec::Vec;

use core::time::Duration;

use super::*;
use crate::crypto::AGREEMENTS;
use crate::path::Path;
#[cfg(feature = "ring")]
use crate::wireguard::constants::{REJECT_AFTER_BLOCKS, REKEY_AFTER_BLOCKS};
use crate::wireguard::constants::{REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES};
use crate::wireguard::cookie::CookieJar;
use crate::wireguard::message::INITIATION_LEN;
use crate::wireguard::{Inbound, Outbound, Reserve, Sealer, TransmitKind};

#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Reserve for Wire {
    fn reserve(&mut self, _path: &Path, len: usize) -> Option<&mut [u8]> {
        self.0.push(vec![0; len]);
        self.0.last_mut().map(Vec::as_mut_slice)
    }

    fn release(&mut self) {
        self.0.pop();
    }
}

struct Pair {
    now: Instant,
    devices: [Device; 2],
    peers: [PeerId; 2],
}

const PACKET: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1];

impl Pair {
    fn connected() -> Self {
        let now = Instant::from_secs(7);
        let key = |byte| PrivateKey::from_bytes([byte; 32]);
        let mut devices =
            [1, 2].map(|byte| Device::new(Some(key(byte)), now, UnixTime::default(), [byte; 32]));
        let peers = [0, 1].map(|side| {
            let peer = devices[side].add_peer(now, key(2 - side as u8).public_key()).unwrap();
            devices[side].add_allowed_ip(peer, "10.0.0.1/32".parse().unwrap());
            peer
        });
        devices[0].set_path(now, peers[0], Some(Path::Custom(1)));
        devices[0].initiate(now, peers[0]);
        let mut pair = Pair { now, devices, peers };
        pair.talk();
        pair
    }

    /// Both are told that the other takes AES-256-GCM.
    #[cfg(feature = "ring")]
    fn use_aes(&mut self) {
        self.now += Duration::from_secs(6);
        for (device, peer) in self.devices.iter_mut().zip(self.peers) {
            device.accept_suites(Suites::NONE.with(Suite::Aes256Gcm));
            device.set_suite(self.now, peer, Suite::Aes256Gcm);
        }
        self.talk();
    }

    /// Exchanges datagrams until there are none; says which initiator and responder wrote.
    fn talk(&mut self) -> Vec<(usize, TransmitKind)> {
        let mut kinds = Vec::new();
        loop {
            let before = kinds.len();
            for side in [0, 1] {
                let mut wire = Wire::default();
                while let Some(transmit) = self.devices[side].poll_transmit(self.now, &mut wire) {
                    kinds.push((side, transmit.kind));
                }
                for mut datagram in wire.0 {
                    let _ = self.devices[1 - side].handle_datagram(
                        self.now,
                        &Path::Custom(side as u64),
                        &mut datagram,
                    );
                    self.devices[1 - side].handle_timeout(self.now);
                }
            }
            if kinds.len() == before {
                return kinds;
            }
        }
    }

    /// Seals one packet, if there is a session to do it.
    fn seal(&mut self, side: usize) -> Option<Vec<u8>> {
        let mut slot = vec![0; Sealer::slot_len(PACKET.len(), 1420)];
        slot[16..36].copy_from_slice(&PACKET);
        match self.devices[side].outbound(self.now, self.peers[side]) {
            Outbound::Ready(sending) => sending.sealer.seal(&mut slot).ok()?,
            Outbound::Stage | Outbound::NoPath | Outbound::Gone => return None,
        };
        self.devices[side].sent(self.now, self.peers[side], 1, slot.len() as u64);
        Some(slot)
    }

    fn sealer(&self, side: usize) -> &Sealer {
        &self.devices[side].peers.get(self.peers[side]).unwrap().sealing(self.now).unwrap().sealer
    }
}

#[test]
fn rekey_by_count_and_counters_beyond_32_bits() {
    for side in [0, 1] {
        let mut pair = Pair::connected();
        pair.now += Duration::from_secs(6);
        for next in [(1 << 32) - 1, 1 << 32, 1 << 40, REKEY_AFTER_MESSAGES - 1] {
            pair.sealer(side).set_counter(next);
            let mut packet = pair.seal(side).unwrap();
            assert_eq!(packet[8..16], next.to_le_bytes());
            let inbound = pair.devices[1 - side].handle_datagram(pair.now, &Path::Custom(9), &mut packet);
            assert!(matches!(inbound, Inbound::Packet { .. }), "counter {next}");
        }
        assert!(pair.talk().is_empty(), "not yet");
        pair.seal(side).unwrap();
        assert!(
            pair.talk().contains(&(side, TransmitKind::Initiation)),
            "either side renews a session by count"
        );
        assert!(pair.sealer(side).sealed() < 3, "and has another");
    }
}

#[cfg(feature = "ring")]
#[test]
fn rekey_by_blocks() {
    for side in [0, 1] {
        let mut pair = Pair::connected();
        pair.use_aes();
        pair.now += Duration::from_secs(6);
        pair.sealer(side).set_blocks(REKEY_AFTER_BLOCKS - 3);
        pair.seal(side).unwrap();
        assert!(pair.talk().is_empty(), "not yet");
        pair.seal(side).unwrap();
        assert!(pair.talk().contains(&(side, TransmitKind::Initiation)), "either side renews a session");
        assert!(pair.sealer(side).sealed() < 3 && !pair.sealer(side).is_worn(), "and has another");

        // Should that never succeed, the session ends where it must.
        pair.now += Duration::from_secs(6);
        pair.sealer(side).set_blocks(REJECT_AFTER_BLOCKS - 1);
        assert_eq!(pair.seal(side), None, "no packet more");
        assert!(pair.devices[side].peer(pair.now, pair.peers[side]).unwrap().session_age.is_none());
        assert_eq!(pair.seal(side), None);
        pair.talk();
        assert!(pair.seal(side).is_some(), "the next session");
    }
}

/// What a stranger who knows our public key can make us do: one key agreement for each initiation, however
/// many suites there are to try.
#[test]
fn junk_costs_one_key_agreement_whatever_is_accepted() {
    let mut pair = Pair::connected();
    for accepted in [Suites::NONE, Suite::ALL.into_iter().collect()] {
        pair.devices[0].accept_suites(accepted);
        for junk in 1..=5_u8 {
            let mut message = [junk; INITIATION_LEN];
            message[..4].copy_from_slice(&[1, 0, 0, 0]);
            CookieJar::new(pair.devices[0].public_key().unwrap()).sign(pair.now, &mut message);
            let before = AGREEMENTS.get();
            let inbound = pair.devices[0].handle_datagram(pair.now, &Path::Custom(9), &mut message);
            assert_eq!(inbound, Inbound::Handshake);
            pair.devices[0].handle_timeout(pair.now);
            assert_eq!(AGREEMENTS.get() - before, 1);
        }
    }
    assert_eq!(pair.devices[0].counters().dropped(DropReason::InvalidHandshake), 10);
}

#[test]
fn reject_after_messages_is_enforced_before_the_nonce_wraps() {
    let mut pair = Pair::connected();
    pair.now += Duration::from_secs(6);
    pair.sealer(0).set_counter(REJECT_AFTER_MESSAGES - 1);
    let mut last = pair.seal(0).unwrap();
    let inbound = pair.devices[1].handle_datagram(pair.now, &Path::Custom(9), &mut last.clone());
    assert!(matches!(inbound, Inbound::Packet { .. }));
    assert_eq!(pair.seal(0), None, "no packet more");
    // One with a later counter is refused before it is even opened.
    last[8..16].copy_from_slice(&REJECT_AFTER_MESSAGES.to_le_bytes());
    let inbound = pair.devices[1].handle_datagram(pair.now, &Path::Custom(9), &mut last);
    assert_eq!(inbound, Inbound::Dropped(DropReason::ExpiredSession));
    pair.talk();
    assert!(pair.seal(0).is_some(), "the next session");
}

#[test]
fn indices_and_deadlines_are_given_back() {
    let mut pair = Pair::connected();
    for round in 0..40 {
        pair.now += Duration::from_secs(6);
        let side = round % 2;
        pair.devices[side].initiate_now(pair.now, pair.peers[side]);
        if round % 3 == 0 {
            // Lost on the way.
            while pair.devices[side].poll_transmit(pair.now, &mut Wire::default()).is_some() {}
        }
        pair.talk();
        let _ = pair.seal(1 - side);
        for device in &mut pair.devices {
            device.handle_timeout(pair.now);
            // Three sessions and four initiations at most.
            assert!(device.indices.used() <= 7, "round {round}: {}", device.indices.used());
        }
    }
    for (device, peer) in pair.devices.iter_mut().zip(pair.peers) {
        device.stage(pair.now, peer, &PACKET);
        device.remove_peer(peer);
        assert_eq!((device.indices.used(), device.staged_bytes), (0, 0));
        assert_eq!(device.deadlines.first(), None);
    }
}

#[test]
fn packets_that_wait_for_a_path_leave_when_there_is_one() {
    // Told, or learnt from the peer's own packets.
    for told in [true, false] {
        let mut pair = Pair::connected();
        let (now, peer) = (pair.now, pair.peers[0]);
        pair.devices[0].set_path(now, peer, None);
        assert!(matches!(pair.devices[0].outbound(now, peer), Outbound::NoPath));
        pair.devices[0].stage(now, peer, &PACKET);
        assert_eq!(pair.talk(), []);
        if told {
            pair.devices[0].set_path(now, peer, Some(Path::Custom(1)));
        } else {
            let mut packet = pair.seal(1).unwrap();
            let _ = pair.devices[0].handle_datagram(now, &Path::Custom(1), &mut packet);
        }
        assert!(pair.talk().contains(&(0, TransmitKind::Data)), "told: {told}");
    }
}

/// Both sides begin handshakes at once, again and again, as two nodes do that have just heard of each other
/// and are slow to answer. Whatever overtakes what: each must know the session the other settles on.
#[test]
fn crossing_handshakes_leave_sessions_that_both_sides_know() {
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut pair = Pair::connected();
        pair.devices[1].set_path(pair.now, pair.peers[1], Some(Path::Custom(0)));
        pair.now += Duration::from_secs(10);
        let start = pair.now;
        let begin: Vec<(u64, usize)> =
            (0..2 + random(6)).map(|_| (random(8) * 25, random(2) as usize)).collect();
        let mut flying: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        for ms in 0..1000 {
            pair.now = start + Duration::from_millis(ms);
            for (_, side) in begin.iter().filter(|(at, _)| *at == ms) {
                pair.devices[*side].initiate_now(pair.now, pair.peers[*side]);
            }
            let (landing, rest) = flying.into_iter().partition(|(at, ..)| *at <= ms);
            flying = rest;
            for (_, side, mut datagram) in landing {
                let _ = pair.devices[side].handle_datagram(pair.now, &Path::Custom(9), &mut datagram);
            }
            for side in [0, 1] {
                pair.devices[side].handle_timeout(pair.now);
                let mut wire = Wire::default();
                while pair.devices[side].poll_transmit(pair.now, &mut wire).is_some() {}
                flying.extend(wire.0.into_iter().map(|datagram| (ms + 1 + random(150), 1 - side, datagram)));
            }
        }
        assert!(flying.is_empty());
        for side in [0, 1] {
            let mut packet = pair.seal(side).unwrap();
            let inbound = pair.devices[1 - side].handle_datagram(pair.now, &Path::Custom(9), &mut packet);
            assert!(matches!(inbound, Inbound::Packet { .. }), "seed {seed}, from {side}: {inbound:?}");
        }
    }
}
