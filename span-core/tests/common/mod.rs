//! What the tests of WireGuard share: a buffer that takes datagrams, packets, keys.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

pub mod pair;

use std::net::{IpAddr, Ipv4Addr};

use span_core::key::PrivateKey;
use span_core::path::Path;
use span_core::time::Instant;
use span_core::wireguard::{Device, Inbound, Outbound, PeerId, Reserve, Sealer, TransmitKind};

/// A list of datagrams, of bounded length.
pub struct Outbox {
    pub datagrams: Vec<(Path, Vec<u8>)>,
    pub room: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Outbox { datagrams: Vec::new(), room: usize::MAX }
    }
}

impl Reserve for Outbox {
    fn reserve(&mut self, path: &Path, len: usize) -> Option<&mut [u8]> {
        if self.datagrams.len() >= self.room {
            return None;
        }
        // Slots hold anything: nobody may rely on zeros.
        self.datagrams.push((*path, vec![0xa5; len]));
        self.datagrams.last_mut().map(|(_, bytes)| bytes.as_mut_slice())
    }

    fn release(&mut self) {
        self.datagrams.pop();
    }
}

pub fn key(byte: u8) -> PrivateKey {
    PrivateKey::from_bytes([byte; 32])
}

pub fn path(text: &str) -> Path {
    Path::udp(text.parse().expect("a socket address"))
}

/// An IPv4 packet of `20 + payload.len()` bytes.
pub fn ipv4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet.extend_from_slice(payload);
    packet
}

pub fn destination(packet: &[u8]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]))
}

/// Sends one inner packet the way a packet loop does. Staged packets leave with `drain`.
pub fn send(device: &mut Device, now: Instant, peer: PeerId, packet: &[u8], out: &mut Outbox) {
    match device.outbound(now, peer) {
        Outbound::Ready(sending) => {
            let len = Sealer::slot_len(packet.len(), 1420);
            let slot = out.reserve(sending.path, len).expect("room");
            slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(packet);
            slot[Sealer::PLAINTEXT_AT + packet.len()..].fill(0);
            sending.sealer.seal(slot).expect("a fresh session");
            device.sent(now, peer, 1, len as u64);
        }
        Outbound::Stage | Outbound::NoPath => device.stage(now, peer, packet),
        Outbound::Gone => panic!("no such peer"),
    }
}

/// Takes everything the device has to send.
pub fn drain(device: &mut Device, now: Instant, out: &mut Outbox) -> Vec<TransmitKind> {
    let mut kinds = Vec::new();
    while let Some(transmit) = device.poll_transmit(now, out) {
        let (path, bytes) = out.datagrams.last().expect("what was transmitted was reserved");
        assert_eq!((transmit.path, transmit.len), (*path, bytes.len()));
        kinds.push(transmit.kind);
    }
    kinds
}

/// Delivers a datagram and lets the device work on it.
pub fn deliver(
    device: &mut Device,
    now: Instant,
    from: &Path,
    datagram: &[u8],
) -> (Inbound, Option<Vec<u8>>) {
    let mut buffer = datagram.to_vec();
    let inbound = device.handle_datagram(now, from, &mut buffer);
    let packet = match &inbound {
        Inbound::Packet { range, .. } => Some(buffer[range.clone()].to_vec()),
        Inbound::Keepalive { .. } | Inbound::Handshake | Inbound::Dropped(_) => None,
    };
    if inbound == Inbound::Handshake {
        device.handle_timeout(now);
    }
    (inbound, packet)
}

/// Where random tests take their decisions from.
pub enum Draws {
    /// A small generator of its own, so that the draws of a test do not change with a library's.
    Seed(u64),
    /// The input of a fuzzer, last byte first: four bytes a draw; zeros when it is used up.
    Input(Vec<u8>),
}

impl Draws {
    pub fn new(seed: u64) -> Self {
        Draws::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn from_input(input: &[u8]) -> Self {
        Draws::Input(input.to_vec())
    }

    /// Whether there is nothing left to draw from.
    pub fn is_empty(&self) -> bool {
        match self {
            Draws::Seed(_) => false,
            Draws::Input(input) => input.is_empty(),
        }
    }

    pub fn next(&mut self) -> u64 {
        match self {
            Draws::Seed(state) => {
                // xorshift64*
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                state.wrapping_mul(0x2545_f491_4f6c_dd1d)
            }
            Draws::Input(input) => {
                // `below` leaves the lowest sixteen bits out.
                (0..4).fold(0, |sum, place| sum | u64::from(input.pop().unwrap_or(0)) << (16 + 8 * place))
            }
        }
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    /// Contents that decide nothing.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        match self {
            Draws::Seed(_) => (0..len).map(|_| self.next() as u8).collect(),
            Draws::Input(_) => vec![0x5a; len],
        }
    }

    pub fn seed(&mut self) -> [u8; 32] {
        match self {
            Draws::Seed(_) => core::array::from_fn(|_| self.next() as u8),
            Draws::Input(input) => [input.len() as u8; 32],
        }
    }
}
