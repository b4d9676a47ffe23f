//! A small network of tunnels under a virtual clock.
//!
//! Node `n` has the address 10.k.0.n+1 in every network `k`; a datagram to 10.k.… leaves from there. A
//! network can be slow, or swallow what goes from one node to another; a node can sit behind a NAT that
//! changes its mind about ports.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::vec;

use super::{Event, Reason, Tunnel};
use crate::endpoint::CandidateSource;
use crate::key::PrivateKey;
use crate::path::{Path, Source};
use crate::time::{Instant, UnixTime};
use crate::wireguard::{self, Inbound, Outbound, PeerId, Reserve, Sealer, TransmitKind};

pub(super) const PORT: u16 = 51820;
const MTU: usize = 1420;

pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node>,
    /// What happened, one line each.
    pub(super) log: String,
    pub(super) latency: BTreeMap<u8, Duration>,
    /// (network, from, to): what is swallowed.
    pub(super) holes: BTreeSet<(u8, usize, usize)>,
    /// (network, node): the port a NAT shows to the outside, in place of the node's own.
    pub(super) mappings: BTreeMap<(u8, usize), u16>,
    in_flight: BTreeMap<(Instant, u64), Datagram>,
    sequence: u64,
}

pub(super) struct Node {
    pub(super) tunnel: Tunnel,
    /// The handle of each other node here.
    pub(super) peers: Vec<Option<PeerId>>,
    /// Whether it answers every packet, as TCP does.
    pub(super) answers: bool,
    pub(super) events: Vec<(Instant, Event)>,
    /// When packets arrived, and from whom.
    pub(super) received: Vec<(Instant, PeerId)>,
}

struct Datagram {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// The slot lent, and where it was to be sent.
#[derive(Default)]
pub(super) struct Slots(pub(super) Vec<(Path, Vec<u8>)>);

impl Reserve for Slots {
    fn reserve(&mut self, path: &Path, len: usize) -> Option<&mut [u8]> {
        self.0.push((*path, vec![0; len]));
        self.0.last_mut().map(|(_, bytes)| bytes.as_mut_slice())
    }

    fn release(&mut self) {
        self.0.pop();
    }
}

pub(super) fn key(node: usize) -> PrivateKey {
    let mut bytes = [7; 32];
    bytes[8..16].copy_from_slice(&(node as u64 + 1).to_be_bytes());
    PrivateKey::from_bytes(bytes)
}

/// The address of a node in a network.
pub(super) fn at(network: u8, node: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, network, 0, node as u8 + 1)), PORT)
}

/// An address of a network at which there is nobody.
pub(super) fn nowhere(n: u8) -> Path {
    Path::udp(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 1, n)), PORT))
}

fn inner_address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, node as u8)
}

impl Network {
    /// `count` nodes that know each other's keys, but not where they are.
    pub(super) fn new(count: usize, seed: u8) -> Self {
        let now = Instant::from_secs(1_000_000);
        let nodes = (0..count).map(|node| {
            let mut bytes = [seed; 32];
            bytes[0] = node as u8;
            let mut tunnel = Tunnel::new(Some(key(node)), now, UnixTime::default(), bytes);
            let peers = (0..count).map(|other| {
                if other == node {
                    return None;
                }
                let peer = tunnel.device_mut().add_peer(now, key(other).public_key()).unwrap();
                tunnel.device_mut().add_allowed_ip(peer, IpAddr::V4(inner_address(other)).into());
                Some(peer)
            });
            let peers = peers.collect();
            Node { tunnel, peers, answers: true, events: Vec::new(), received: Vec::new() }
        });
        Network {
            now,
            nodes: nodes.collect(),
            log: String::new(),
            latency: BTreeMap::new(),
            holes: BTreeSet::new(),
            mappings: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(super) fn peer(&self, node: usize, other: usize) -> PeerId {
        self.nodes[node].peers[other].unwrap()
    }

    pub(super) fn name(&mut self, node: usize, other: usize, paths: &[Path]) {
        let peer = self.peer(node, other);
        let now = self.now;
        self.nodes[node].tunnel.set_candidates(now, peer, CandidateSource::Published, paths);
    }

    /// Everybody knows everybody's addresses in these networks.
    pub(super) fn introduce(&mut self, networks: &[u8]) {
        for node in 0..self.nodes.len() {
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let paths: Vec<Path> =
                    networks.iter().map(|network| Path::udp(at(*network, other))).collect();
                self.name(node, other, &paths);
            }
        }
    }

    /// Where `node` sends to `other` now.
    pub(super) fn path(&self, node: usize, other: usize) -> Option<SocketAddr> {
        let status = self.nodes[node].tunnel.device().peer(self.now, self.peer(node, other))?;
        status.path.and_then(Path::remote)
    }

    pub(super) fn is_up(&self, node: usize, other: usize) -> bool {
        self.nodes[node].tunnel.is_up(&key(other).public_key())
    }

    /// When `node` last received a packet.
    pub(super) fn last_received(&self, node: usize) -> Option<Instant> {
        self.nodes[node].received.last().map(|(when, _)| *when)
    }

    /// A packet from the inner side of `node` to that of `other`.
    pub(super) fn send(&mut self, node: usize, other: usize) {
        let packet = packet(inner_address(node), inner_address(other));
        let (now, peer) = (self.now, self.peer(node, other));
        let tunnel = &mut self.nodes[node].tunnel;
        assert_eq!(tunnel.route(inner_address(other).into()), Some(peer));
        let sealed = match tunnel.outbound(now, peer) {
            Outbound::Ready(sending) => {
                let mut slot = vec![0; Sealer::slot_len(packet.len(), MTU)];
                slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(&packet);
                sending.sealer.seal(&mut slot).unwrap();
                Some((*sending.path, slot))
            }
            Outbound::Stage | Outbound::NoPath => None,
            Outbound::Gone => panic!("the peer is there"),
        };
        match sealed {
            Some((path, slot)) => {
                tunnel.sent(now, peer, 1, slot.len() as u64);
                self.carry(node, &path, slot);
            }
            None => tunnel.stage(now, peer, &packet),
        }
    }

    /// Lets time pass, all the while checking that deadlines are exact.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.drain();
            let due: Vec<Option<(Instant, Reason)>> =
                self.nodes.iter_mut().map(|node| node.tunnel.poll_timeout()).collect();
            let timer = due.iter().flatten().map(|(at, _)| *at).min();
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            self.check_deadlines_are_kept();
            let Some(next) = [timer, arrival].into_iter().flatten().min().filter(|next| *next <= end) else {
                break;
            };
            assert!(next >= self.now, "work of the past is left undone: {due:?}");
            self.check_nothing_happens_before(next);
            self.now = next;
            while let Some(((at, _), _)) = self.in_flight.first_key_value()
                && *at <= next
            {
                let (_, datagram) = self.in_flight.pop_first().unwrap();
                self.deliver(datagram);
            }
            for (place, due) in due.iter().enumerate() {
                if let Some((at, reason)) = due
                    && *at <= next
                {
                    self.nodes[place].tunnel.handle_timeout(next);
                    self.drain();
                    let left = self.nodes[place].tunnel.poll_timeout();
                    // Of handshake messages only some are worked on at a time.
                    let more = Reason::Device(wireguard::Reason::Handshakes);
                    assert!(left != Some((*at, *reason)) || *reason == more, "nothing was done: {due:?}");
                }
            }
        }
        self.now = end;
    }

    /// As [`run`](Self::run), with a packet from `node` to `other` every 50 ms.
    pub(super) fn talk(&mut self, node: usize, other: usize, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.send(node, other);
            self.run(Duration::from_millis(50));
        }
    }

    /// Runs until `done`, at most `limit`. How long it took.
    pub(super) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Network) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now - start < limit, "not within {limit:?}\n{}", self.log);
            self.run(Duration::from_millis(1));
        }
        self.now - start
    }

    fn check_nothing_happens_before(&mut self, next: Instant) {
        let before = next - Duration::from_nanos(1);
        if before < self.now {
            return;
        }
        for node in &mut self.nodes {
            let due = node.tunnel.poll_timeout();
            node.tunnel.handle_timeout(before);
            assert!(
                node.tunnel.poll_transmit(before, &mut Slots::default()).is_none(),
                "too early for {due:?}"
            );
            assert!(node.tunnel.poll_event().is_none(), "too early for {due:?}");
            assert_eq!(node.tunnel.poll_timeout(), due);
        }
    }

    /// The earliest deadline on the tunnel's list is the earliest that any of its selections has.
    fn check_deadlines_are_kept(&self) {
        for node in &self.nodes {
            let selections = node.tunnel.slots.iter().flatten();
            let earliest =
                selections.filter_map(|slot| slot.selection.poll_timeout()).map(|(at, _)| at).min();
            assert_eq!(node.tunnel.deadlines.first().map(|(at, _)| at), earliest);
        }
    }

    fn drain(&mut self) {
        for place in 0..self.nodes.len() {
            let mut slots = Slots::default();
            while let Some(transmit) = self.nodes[place].tunnel.poll_transmit(self.now, &mut slots) {
                let kind = transmit.kind;
                if kind != TransmitKind::Data {
                    let now = self.now;
                    writeln!(self.log, "{now:?} node {place} sends {kind:?} to {}", transmit.path).unwrap();
                }
            }
            for (path, bytes) in slots.0 {
                self.carry(place, &path, bytes);
            }
            while let Some(event) = self.nodes[place].tunnel.poll_event() {
                writeln!(self.log, "{:?} node {place}: {event:?}", self.now).unwrap();
                self.nodes[place].events.push((self.now, event));
            }
        }
    }

    fn carry(&mut self, node: usize, path: &Path, bytes: Vec<u8>) {
        let Some(to) = path.remote() else { panic!("all paths here are UDP") };
        let network = network_of(to);
        let mut from = at(network, node);
        if let Some(port) = self.mappings.get(&(network, node)) {
            from.set_port(*port);
        }
        let latency = self.latency.get(&network).copied().unwrap_or(Duration::from_millis(10));
        self.sequence += 1;
        self.in_flight.insert((self.now + latency, self.sequence), Datagram { from, to, bytes });
    }

    fn deliver(&mut self, mut datagram: Datagram) {
        let network = network_of(datagram.to);
        let find = |addr: SocketAddr| (0..self.nodes.len()).find(|node| at(network, *node).ip() == addr.ip());
        let (Some(from), Some(to)) = (find(datagram.from), find(datagram.to)) else { return };
        let port = self.mappings.get(&(network, to)).copied().unwrap_or(PORT);
        if datagram.to.port() != port || self.holes.contains(&(network, from, to)) {
            return;
        }
        let source = Source { ip: at(network, to).ip(), interface: u32::from(network) };
        let path = Path::udp_from(datagram.from, source);
        let now = self.now;
        let node = &mut self.nodes[to];
        let inbound = node.tunnel.handle_datagram(now, &path, &mut datagram.bytes);
        if let Inbound::Packet { peer, .. } = inbound {
            node.received.push((now, peer));
            // An answer is not answered again.
            let is_answer = datagram.bytes[16 + 20] != 0;
            if node.answers && !is_answer {
                let mut packet = packet(inner_address(to), inner_address(from));
                packet[20] = 1;
                node.tunnel.stage(now, peer, &packet);
            }
        }
    }
}

fn network_of(addr: SocketAddr) -> u8 {
    match addr.ip() {
        IpAddr::V4(ip) => ip.octets()[1],
        IpAddr::V6(_) => panic!("all networks here are IPv4"),
    }
}

/// An IPv4 packet with one byte of payload, zero.
fn packet(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 21, 0, 0, 0, 0, 64, 253, 0, 0];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.push(0);
    packet
}
