//! Datagrams from anywhere: no sequence of them makes the device panic, deliver a packet, learn a path, or
//! answer more than it was asked.
//!
//! The input begins with a byte whose lowest bit says which suite the two devices have agreed on. A list of datagrams
//! follows, each behind a byte that says what it is made of:
//! as it stands; with a valid mac1 (a handshake from somebody who knows our public key);
//! or a genuine message of a peer with some bytes changed.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use span_core::crypto::{Suite, Suites};
use span_core::key::PrivateKey;
use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, Event, Inbound, Outbound, PeerId, Reserve, Sealer, TransmitKind};

/// A list of datagrams.
#[derive(Default)]
struct Wire(Vec<Vec<u8>>);

impl Reserve for Wire {
    fn reserve(&mut self, _path: &Path, len: usize) -> Option<&mut [u8]> {
        self.0.push(vec![0xa5; len]);
        self.0.last_mut().map(Vec::as_mut_slice)
    }

    fn release(&mut self) {
        self.0.pop();
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, input)) = input.split_first() else { return };
    let suite = if first & 1 == 0 { Suite::ChaCha20Poly1305 } else { Suite::Aes256Gcm };
    let (mut ours, mut theirs) = session(suite);
    let stranger = Path::udp(([203, 0, 113, 66], 6666).into());
    let mut now = Instant::from_secs(100);
    let mut rest = input;
    while let Some((&kind, tail)) = rest.split_first() {
        let len = tail.first().map_or(0, |&len| usize::from(len)).min(tail.len().saturating_sub(1));
        let (bytes, tail) = tail.get(1..).unwrap_or_default().split_at(len);
        rest = tail;
        now = now + Duration::from_millis(u64::from(kind >> 4) * 100);

        let mut datagram = match kind & 3 {
            0 => bytes.to_vec(),
            1 => with_mac1(bytes),
            _ => {
                let Some(genuine) = theirs.message(now, kind & 3 == 2) else { continue };
                changed(genuine, bytes)
            }
        };
        let asked = datagram.len();
        // What goes beyond the message changes nothing. The second MAC, an initiation's last sixteen bytes, counts only
        // under load.
        let counts = bytes.len().min(if kind & 3 == 2 { 132 } else { asked });
        let untouched = kind & 3 >= 2 && bytes[..counts].iter().all(|&byte| byte == 0);
        let inbound = ours.device.handle_datagram(now, &stranger, &mut datagram);
        ours.device.handle_timeout(now);
        match inbound {
            Inbound::Packet { peer, ref range } => {
                assert_eq!(peer, ours.peer);
                assert!(untouched && range.end <= asked, "a forged packet was taken");
            }
            Inbound::Keepalive { .. } => assert!(untouched, "a forged keepalive was taken"),
            Inbound::Handshake | Inbound::Dropped(_) => {}
        }
        let mut wire = Wire::default();
        let mut answered = 0;
        while let Some(transmit) = ours.device.poll_transmit(now, &mut wire) {
            match transmit.kind {
                TransmitKind::Response | TransmitKind::CookieReply => answered += transmit.len,
                TransmitKind::Initiation | TransmitKind::Keepalive | TransmitKind::Data => {}
            }
        }
        assert!(answered <= asked, "an answer of {answered} bytes to {asked}");
        while let Some(event) = ours.device.poll_event() {
            match event {
                Event::PathLearnt { path, .. } => {
                    assert!(untouched, "learnt {path:?} from a forged message");
                }
                _ => {}
            }
        }
        if let Some((due, _)) = ours.device.poll_timeout() {
            assert!(due > now, "drained, and yet something is due");
        }
    }
});

struct Side {
    device: Device,
    peer: PeerId,
}

impl Side {
    /// A message that the other side would take: an initiation or a data packet.
    fn message(&mut self, now: Instant, handshake: bool) -> Option<Vec<u8>> {
        if handshake {
            self.device.initiate_now(now, self.peer);
            let mut wire = Wire::default();
            while self.device.poll_transmit(now, &mut wire).is_some() {}
            return wire.0.pop();
        }
        let packet = [&[0x45, 0, 0, 20][..], &[0; 8], &[10, 0, 0, 2], &[10, 0, 0, 1]].concat();
        let Outbound::Ready(sending) = self.device.outbound(now, self.peer) else { return None };
        let mut slot = vec![0; Sealer::slot_len(packet.len(), 1420)];
        slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(&packet);
        sending.sealer.seal(&mut slot).ok()?;
        Some(slot)
    }
}

/// Two devices with a session of this suite between them; both begin handshakes in it.
fn session(suite: Suite) -> (Side, Side) {
    let start = Instant::from_secs(99);
    let keys = [1, 2].map(|byte| PrivateKey::from_bytes([byte; 32]));
    let paths = [1, 2].map(|host| Path::udp(([192, 0, 2, host], 51820).into()));
    let mut sides = [0, 1].map(|me: usize| {
        let other = 1 - me;
        let seed = [u8::try_from(me).unwrap_or(0) + 7; 32];
        let mut device = Device::new(Some(keys[me].clone()), start, UnixTime::default(), seed);
        device.accept_suites(Suites::NONE.with(Suite::Aes256Gcm));
        let peer = device.add_peer(start, keys[other].public_key()).expect("another key");
        let network = ipnet::Ipv4Net::new_assert([10, 0, 0, u8::try_from(other).unwrap_or(0) + 1].into(), 32);
        device.add_allowed_ip(peer, network.into());
        device.set_path(start, peer, Some(paths[other]));
        device.set_suite(start, peer, suite);
        Side { device, peer }
    });
    sides[0].device.initiate(start, sides[0].peer);
    // Initiation, response, keepalive.
    for from in [0, 1, 0] {
        let mut wire = Wire::default();
        while sides[from].device.poll_transmit(start, &mut wire).is_some() {}
        for mut datagram in wire.0 {
            let _ = sides[1 - from].device.handle_datagram(start, &paths[from], &mut datagram);
            sides[1 - from].device.handle_timeout(start);
        }
    }
    for side in &mut sides {
        while side.device.poll_event().is_some() {}
        let status = side.device.peer(start, side.peer).expect("the peer");
        assert_eq!(status.suite, Some(suite), "the session is of another suite");
    }
    sides.into()
}

/// The bytes as the beginning of a handshake message whose mac1 is right.
fn with_mac1(bytes: &[u8]) -> Vec<u8> {
    use span_core::crypto;
    let mut message = vec![0; if bytes.first().is_some_and(|byte| byte & 1 == 0) { 92 } else { 148 }];
    let body = message.len() - 32;
    let len = bytes.len().min(body);
    message[..len].copy_from_slice(&bytes[..len]);
    message[..4].copy_from_slice(&[if body == 60 { 2 } else { 1 }, 0, 0, 0]);
    let public = PrivateKey::from_bytes([1; 32]).public_key();
    let key = crypto::hash(&[b"mac1----", public.as_bytes()]);
    let mac = crypto::keyed_mac(&key, &[&message[..body]]);
    message[body..body + 16].copy_from_slice(&mac);
    message
}

/// A message with bytes of the input added to its own, place by place.
fn changed(mut message: Vec<u8>, by: &[u8]) -> Vec<u8> {
    for (byte, by) in message.iter_mut().zip(by) {
        *byte ^= by;
    }
    message
}
