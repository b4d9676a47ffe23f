//! Two devices on a network without delay.

use std::collections::VecDeque;
use std::time::Duration;

use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, Event, Inbound, PeerId, TransmitKind};

use super::{Outbox, deliver, drain, ipv4, key, path, send};

pub const ALICE: usize = 0;
pub const BOB: usize = 1;

/// Alice is 10.0.0.1 at 192.0.2.1:1000, Bob 10.0.0.2 at 192.0.2.2:1000.
pub struct Pair {
    pub now: Instant,
    pub device: [Device; 2],
    /// How each knows the other.
    pub peer: [PeerId; 2],
    pub at: [Path; 2],
    /// What leaves each side from now on is lost.
    pub mute: [bool; 2],
    /// When each side sent what, in order.
    pub log: Vec<(Instant, usize, TransmitKind)>,
    pub events: [Vec<Event>; 2],
    /// Inner packets each side received.
    pub received: [Vec<Vec<u8>>; 2],
    /// The datagrams each side sent, in order.
    pub wire: [Vec<Vec<u8>>; 2],
}

impl Pair {
    pub fn new() -> Self {
        Pair::seeded(1)
    }

    pub fn seeded(seed: u8) -> Self {
        let now = Instant::from_secs(1000);
        let unix = UnixTime::from_duration(Duration::from_secs(1_700_000_000));
        let mut device = [
            Device::new(Some(key(1)), now, unix, [seed; 32]),
            Device::new(Some(key(2)), now, unix, [seed.wrapping_add(100); 32]),
        ];
        let at = [path("192.0.2.1:1000"), path("192.0.2.2:1000")];
        let peer = [
            device[ALICE].add_peer(now, key(2).public_key()).expect("Bob is not Alice"),
            device[BOB].add_peer(now, key(1).public_key()).expect("Alice is not Bob"),
        ];
        device[ALICE].add_allowed_ip(peer[ALICE], "10.0.0.2/32".parse().expect("a prefix"));
        device[BOB].add_allowed_ip(peer[BOB], "10.0.0.1/32".parse().expect("a prefix"));
        device[ALICE].set_path(now, peer[ALICE], Some(at[BOB]));
        Pair {
            now,
            device,
            peer,
            at,
            mute: [false; 2],
            log: Vec::new(),
            events: [Vec::new(), Vec::new()],
            received: [Vec::new(), Vec::new()],
            wire: [Vec::new(), Vec::new()],
        }
    }

    /// A pair whose session Alice has begun, with nothing in flight.
    pub fn connected() -> Self {
        let mut pair = Pair::new();
        pair.send(ALICE);
        pair.settle();
        assert_eq!(pair.received[BOB].len(), 1);
        pair.forget();
        pair
    }

    /// Forgets what happened so far.
    pub fn forget(&mut self) {
        self.log.clear();
        for side in [ALICE, BOB] {
            self.events[side].clear();
            self.received[side].clear();
            self.wire[side].clear();
        }
    }

    pub fn packet(&self, side: usize) -> Vec<u8> {
        let (source, destination) =
            if side == ALICE { ([10, 0, 0, 1], [10, 0, 0, 2]) } else { ([10, 0, 0, 2], [10, 0, 0, 1]) };
        ipv4(source, destination, b"hello")
    }

    /// Sends a packet; its datagram is delivered at once.
    pub fn send(&mut self, side: usize) {
        let packet = self.packet(side);
        let mut out = Outbox::default();
        send(&mut self.device[side], self.now, self.peer[side], &packet, &mut out);
        // At most one: without a session it is staged, and logged when it leaves.
        self.log.extend(out.datagrams.iter().map(|_| (self.now, side, TransmitKind::Data)));
        self.exchange(out.datagrams.into_iter().map(|(_, bytes)| (side, bytes)).collect());
    }

    /// Seals a packet that stays in the caller's hands.
    pub fn sealed(&mut self, side: usize) -> Vec<u8> {
        let packet = self.packet(side);
        let mut out = Outbox::default();
        send(&mut self.device[side], self.now, self.peer[side], &packet, &mut out);
        out.datagrams.pop().expect("there is a session").1
    }

    /// Lets both sides talk until they have nothing more to say.
    pub fn settle(&mut self) {
        self.exchange(VecDeque::new());
    }

    fn exchange(&mut self, mut flying: VecDeque<(usize, Vec<u8>)>) {
        loop {
            for side in [ALICE, BOB] {
                let mut out = Outbox::default();
                for kind in drain(&mut self.device[side], self.now, &mut out) {
                    self.log.push((self.now, side, kind));
                }
                flying.extend(out.datagrams.into_iter().map(|(_, bytes)| (side, bytes)));
                while let Some(event) = self.device[side].poll_event() {
                    self.events[side].push(event);
                }
            }
            let Some((side, bytes)) = flying.pop_front() else { return };
            self.wire[side].push(bytes.clone());
            if !self.mute[side] {
                let _ = self.receive(1 - side, &bytes);
            }
        }
    }

    /// Delivers a datagram of the other side, from where it is.
    pub fn receive(&mut self, side: usize, datagram: &[u8]) -> Inbound {
        let from = self.at[1 - side];
        let (inbound, packet) = deliver(&mut self.device[side], self.now, &from, datagram);
        self.received[side].extend(packet);
        inbound
    }

    /// Lets time pass; timers run exactly when they are due.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        self.settle();
        loop {
            let due = self.device.iter_mut().filter_map(Device::poll_timeout).map(|due| due.0).min();
            match due {
                Some(due) if due <= end => self.now = due.max(self.now),
                Some(_) | None => break,
            }
            for device in &mut self.device {
                device.handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
    }

    /// Moves the clock without anybody looking at it.
    pub fn sleep(&mut self, by: Duration) {
        self.now += by;
    }

    /// When `side` sent datagrams of this kind, in seconds since `since`.
    pub fn times(&self, side: usize, kind: TransmitKind, since: Instant) -> Vec<f64> {
        self.log
            .iter()
            .filter(|entry| (entry.1, entry.2) == (side, kind))
            .map(|entry| (entry.0 - since).as_secs_f64())
            .collect()
    }

    pub fn path(&self, side: usize) -> Option<Path> {
        self.device[side].peer(self.now, self.peer[side]).and_then(|peer| peer.path.copied())
    }

    /// Whether packets get through both ways now.
    pub fn works(&mut self) -> bool {
        self.settle();
        let before = [self.received[ALICE].len(), self.received[BOB].len()];
        self.send(ALICE);
        self.send(BOB);
        self.settle();
        [self.received[ALICE].len(), self.received[BOB].len()] == [before[0] + 1, before[1] + 1]
    }
}
