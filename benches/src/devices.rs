//! WireGuard devices that have sessions with each other.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use span_core::crypto::Suite;
use span_core::key::{PrivateKey, PublicKey};
use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, Inbound, Outbound, PeerId, Reserve, Sealer, Transmit, TransmitKind};

use crate::packets;
use crate::random::Random;

/// Room for one datagram, used again and again: what is measured allocates nothing.
#[derive(Debug)]
pub struct Slot {
    bytes: [u8; 2048],
    len: usize,
}

impl Slot {
    /// The datagram written last.
    #[must_use]
    pub fn datagram(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self { bytes: [0; 2048], len: 0 }
    }
}

impl Reserve for Slot {
    fn reserve(&mut self, _path: &Path, len: usize) -> Option<&mut [u8]> {
        self.len = len;
        self.bytes.get_mut(..len)
    }

    fn release(&mut self) {
        self.len = 0;
    }
}

/// One of two devices.
#[derive(Debug)]
pub struct End {
    /// The device.
    pub device: Device,
    /// The other, as this one knows it.
    pub peer: PeerId,
    /// Where the other is.
    pub path: Path,
    /// What it sent last.
    pub slot: Slot,
}

impl End {
    /// Sends an initiation, whatever went before.
    ///
    /// # Panics
    /// If the device sends something else first.
    pub fn initiate(&mut self, now: Instant) -> &mut [u8] {
        self.device.initiate_now(now, self.peer);
        self.transmit(now, TransmitKind::Initiation)
    }

    /// Takes a datagram of the other, and works on it at once if it belongs to a handshake.
    pub fn receive(&mut self, now: Instant, datagram: &mut [u8]) -> Inbound {
        let inbound = self.device.handle_datagram(now, &self.path, datagram);
        if inbound == Inbound::Handshake {
            self.device.handle_timeout(now);
        }
        inbound
    }

    /// The next datagram the device sends by itself, which is of this kind.
    ///
    /// # Panics
    /// If it is of another kind, or there is none.
    pub fn transmit(&mut self, now: Instant, kind: TransmitKind) -> &mut [u8] {
        let sent = self.device.poll_transmit(now, &mut self.slot);
        assert!(
            matches!(sent, Some(Transmit { kind: sent, .. }) if sent == kind),
            "{kind:?} expected, {sent:?} came"
        );
        &mut self.slot.bytes[..self.slot.len]
    }

    /// Forgets what the device has to say.
    pub fn drain(&mut self, now: Instant) {
        while self.device.poll_transmit(now, &mut self.slot).is_some() {}
        while self.device.poll_event().is_some() {}
    }

    /// The sealer of the session.
    ///
    /// # Panics
    /// Without a session.
    pub fn sealer(&mut self, now: Instant) -> Arc<Sealer> {
        match self.device.outbound(now, self.peer) {
            Outbound::Ready(sending) => Arc::clone(sending.sealer),
            other => panic!("a session expected, {other:?} found"),
        }
    }
}

/// Alice, 10.0.0.1, who begins, and Bob, 10.0.0.2.
#[derive(Debug)]
pub struct Pair {
    /// The time on both clocks.
    pub now: Instant,
    /// The initiator.
    pub alice: End,
    /// The responder.
    pub bob: End,
}

impl Pair {
    /// Two devices that know each other's keys and have never met.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making one costs key agreements")]
    pub fn new() -> Self {
        let now = Instant::from_secs(1000);
        let end = |own: u8, other: u8| {
            let mut device = device(own, now);
            let peer = device.add_peer(now, key(other).public_key()).expect("another's key");
            device.add_allowed_ip(peer, format!("10.0.0.{other}/32").parse().expect("a prefix"));
            let path = Path::udp(([192, 0, 2, other], 51820).into());
            device.set_path(now, peer, Some(path));
            End { device, peer, path, slot: Slot::default() }
        };
        Self { now, alice: end(1, 2), bob: end(2, 1) }
    }

    /// The same with a session of WireGuard's own suite.
    #[must_use]
    pub fn connected() -> Self {
        Self::connected_with(Suite::default())
    }

    /// The same with a session of this suite.
    #[must_use]
    pub fn connected_with(suite: Suite) -> Self {
        let mut pair = Self::new();
        pair.bob.device.accept_suites(std::iter::once(suite).collect());
        pair.alice.device.set_suite(pair.now, pair.alice.peer, suite);
        pair.handshake();
        pair
    }

    /// A whole handshake, confirmed by the initiator's keepalive, a second after whatever was before.
    ///
    /// # Panics
    /// If it fails.
    pub fn handshake(&mut self) {
        let response = self.respond();
        self.complete(&response);
        let now = self.now;
        let inbound = self.bob.receive(now, self.alice.transmit(now, TransmitKind::Keepalive));
        assert!(matches!(inbound, Inbound::Keepalive { .. }), "{inbound:?}");
        self.alice.drain(now);
        self.bob.drain(now);
    }

    /// Alice's next initiation, a second after whatever was before.
    pub fn initiate(&mut self) -> Vec<u8> {
        self.now += Duration::from_secs(1);
        self.alice.drain(self.now);
        self.alice.initiate(self.now).to_vec()
    }

    /// Bob's response to Alice's next initiation.
    ///
    /// # Panics
    /// If he does not answer.
    pub fn respond(&mut self) -> Vec<u8> {
        let mut initiation = self.initiate();
        self.bob.drain(self.now);
        let inbound = self.bob.receive(self.now, &mut initiation);
        assert_eq!(inbound, Inbound::Handshake);
        self.bob.transmit(self.now, TransmitKind::Response).to_vec()
    }

    /// Alice takes the response.
    ///
    /// # Panics
    /// If it is not to her last initiation.
    pub fn complete(&mut self, response: &[u8]) {
        let inbound = self.alice.receive(self.now, &mut response.to_vec());
        assert_eq!(inbound, Inbound::Handshake);
    }
}

/// A device with many peers, each of which has a session with it.
#[derive(Debug)]
pub struct Hub {
    /// The time on all clocks.
    pub now: Instant,
    /// The device.
    pub device: Device,
    /// Its peers: `10.a.b.c` counts from 10.0.0.0.
    pub spokes: Vec<Spoke>,
}

/// What the hub's peers need to send.
#[derive(Debug)]
pub struct Spoke {
    /// How the hub knows it.
    pub peer: PeerId,
    /// Where it is.
    pub path: Path,
    /// Its inner address.
    pub address: [u8; 4],
    /// The sending half of its session.
    pub sealer: Arc<Sealer>,
    /// A datagram that the hub has received.
    pub seen: Vec<u8>,
}

impl Hub {
    /// A hub with this many peers; half a millisecond for each is spent on handshakes.
    ///
    /// # Panics
    /// If a handshake fails.
    #[must_use]
    pub fn new(peers: usize) -> Self {
        let now = Instant::from_secs(1000);
        let mut hub = Self { now, device: device(1, now), spokes: Vec::new() };
        let hub_key = *hub.device.public_key().expect("a key");
        let mut random = Random::new(3);
        for number in 0..peers {
            let mut secret = [0; 32];
            secret.fill_with(|| random.bits() as u8);
            let own = PrivateKey::from_bytes(secret);
            let [_, a, b, c] = (number as u32).to_be_bytes();
            let path = Path::udp(([198, a, b, c], 51820).into());
            let peer = hub.device.add_peer(hub.now, own.public_key()).expect("another's key");
            let address = [10, a, b, c];
            hub.device.add_allowed_ip(peer, Ipv4Net::from(Ipv4Addr::from(address)).into());

            let mut device = Device::new(Some(own), now, UnixTime::default(), secret);
            let there = device.add_peer(now, hub_key).expect("another's key");
            device.set_path(now, there, Some(path));
            let mut end = End { device, peer: there, path, slot: Slot::default() };
            // As many at the same instant would look like a flood.
            hub.now += Duration::from_millis(1);
            let mut hub_slot = Slot::default();
            let _ = hub.device.handle_datagram(hub.now, &path, end.initiate(now));
            hub.device.handle_timeout(hub.now);
            let answer = hub.device.poll_transmit(hub.now, &mut hub_slot).expect("a response");
            assert_eq!(answer.kind, TransmitKind::Response);
            let _ = end.receive(now, &mut hub_slot.bytes[..hub_slot.len]);
            end.drain(now);

            let sealer = end.sealer(now);
            let seen = sealed(&sealer, &packets::ipv4_from(address, 64));
            let inbound = hub.device.handle_datagram(hub.now, &path, &mut seen.clone());
            assert!(matches!(inbound, Inbound::Packet { .. }), "{inbound:?}");
            while hub.device.poll_event().is_some() {}
            hub.spokes.push(Spoke { peer, path, address, sealer, seen });
        }
        hub
    }
}

/// A device whose peers each wait for a persistent keepalive, and the time on its clock. It has no private key: its
/// peers cost no key agreement, and nothing is sent.
///
/// # Panics
/// Never: all keys are different.
#[must_use]
pub fn with_keepalives(peers: usize) -> (Device, Vec<PeerId>, Instant) {
    let mut now = Instant::from_secs(1000);
    let mut device = Device::new(None, now, UnixTime::default(), [9; 32]);
    let mut random = Random::new(5);
    let ids = (0..peers)
        .map(|_| {
            let mut key = [0; 32];
            key.fill_with(|| random.bits() as u8);
            let peer = device.add_peer(now, PublicKey::from_bytes(key)).expect("another's key");
            now += Duration::from_micros(1);
            device.set_keepalive(now, peer, Some(25));
            peer
        })
        .collect();
    // Without a path nothing leaves, and what was wanted is given up.
    while device.poll_transmit(now, &mut Slot::default()).is_some() {}
    (device, ids, now)
}

/// A device with this many peers, none of which it has met: [`join`] made them, numbered from 0. Without a private key
/// they cost no key agreement.
#[must_use]
pub fn with_strangers(peers: usize) -> (Device, Instant) {
    let now = Instant::from_secs(1000);
    let mut device = Device::new(None, now, UnixTime::default(), [9; 32]);
    for number in 0..peers {
        let _ = join(&mut device, now, number);
    }
    (device, now)
}

/// Adds the peer of this number, with two addresses and a path.
///
/// # Panics
/// If the device has such a key itself.
pub fn join(device: &mut Device, now: Instant, number: usize) -> PeerId {
    let mut random = Random::new(number as u64);
    let mut key = [0; 32];
    key.fill_with(|| random.bits() as u8);
    let peer = device.add_peer(now, PublicKey::from_bytes(key)).expect("another's key");
    let [_, a, b, c] = (number as u32).to_be_bytes();
    let overlay = (0xfd75 << 112) | u128::from(random.bits());
    device.add_allowed_ip(peer, Ipv4Net::from(Ipv4Addr::new(10, a, b, c)).into());
    device.add_allowed_ip(peer, Ipv6Net::from(Ipv6Addr::from(overlay)).into());
    device.set_path(now, peer, Some(Path::udp(([198, a, b, c], 51820).into())));
    peer
}

/// A packet as a datagram of this session.
///
/// # Panics
/// If the session is used up.
#[must_use]
pub fn sealed(sealer: &Sealer, packet: &[u8]) -> Vec<u8> {
    let mut slot = vec![0; Sealer::slot_len(packet.len(), packet.len())];
    slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(packet);
    sealer.seal(&mut slot).expect("a fresh session");
    slot
}

fn device(own: u8, now: Instant) -> Device {
    Device::new(Some(key(own)), now, UnixTime::from_duration(Duration::from_secs(1_700_000_000)), [own; 32])
}

fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes([byte; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_can_shake_hands_again_and_again() {
        let mut pair = Pair::connected();
        for suite in Suite::ALL {
            let pair = Pair::connected_with(suite);
            let status = pair.alice.device.peer(pair.now, pair.alice.peer).unwrap();
            assert_eq!(status.suite, Some(suite));
        }
        for _ in 0..20 {
            pair.handshake();
            let datagram = sealed(&pair.alice.sealer(pair.now), &packets::ipv4(1420));
            let inbound = pair.bob.receive(pair.now, &mut datagram.clone());
            assert!(matches!(inbound, Inbound::Packet { .. }), "{inbound:?}");
        }
    }

    #[test]
    fn strangers_come_and_go() {
        let (mut device, now) = with_strangers(20);
        let peer = join(&mut device, now, 20);
        assert_eq!(device.route([10, 0, 0, 20].into()), Some(peer));
        assert_eq!(device.peers().count(), 21);
        device.remove_peer(peer);
        assert_eq!(device.route([10, 0, 0, 20].into()), None);
        assert!(device.route([10, 0, 0, 19].into()).is_some());
    }

    #[test]
    fn every_spoke_is_heard_once() {
        let mut hub = Hub::new(50);
        for spoke in &mut hub.spokes {
            let packet = packets::ipv4_from(spoke.address, 100);
            let mut fresh = sealed(&spoke.sealer, &packet);
            let inbound = hub.device.handle_datagram(hub.now, &spoke.path, &mut fresh);
            assert!(matches!(inbound, Inbound::Packet { peer, .. } if peer == spoke.peer), "{inbound:?}");
            let inbound = hub.device.handle_datagram(hub.now, &spoke.path, &mut spoke.seen);
            assert!(matches!(inbound, Inbound::Dropped(_)), "{inbound:?}");
        }
    }
}
