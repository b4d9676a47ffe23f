//! A span device and a boringtun tunnel, and a network between them that drops, duplicates, reorders, delays and
//! damages datagrams; both sides move, restart, change the preshared key and let time pass. What happens next
//! is drawn: from a seed in tests, from the fuzzer's input in fuzzing.
//!
//! A model that watches only the wire knows which sessions either side must hold, by the rules of the
//! protocol. From it follows for every datagram whether its packet must be delivered. Nothing may be delivered
//! twice, or that was never sent.
//!
//! boringtun reads its clock through `mock_instant`, which moves together with span's here.

#![allow(dead_code, unreachable_pub, reason = "tests and fuzzing use their parts")]

use std::collections::BTreeSet;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use mock_instant::MockClock;
use span_core::key::PresharedKey;
use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, Event, Inbound, PeerId};

use crate::common::{Draws, Outbox, deliver, drain, ipv4, key, path, send};

const SPAN_KEY: u8 = 1;
const BORING_KEY: u8 = 2;
const SPAN_IP: [u8; 4] = [10, 0, 0, 1];
const BORING_IP: [u8; 4] = [10, 0, 0, 2];
/// How long a session may be used.
const SESSION_LIFE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Span,
    Boring,
}

#[derive(Clone)]
struct Datagram {
    to: Side,
    from: Path,
    destination: Path,
    due: Instant,
    bytes: Vec<u8>,
    /// Whether it is as it was sent.
    intact: bool,
}

/// A session as the wire shows it: the receiver's index, since when, and the highest counter delivered.
#[derive(Clone, Copy)]
struct Held {
    index: u32,
    born: Instant,
    highest: u64,
}

/// The three sessions of a WireGuard peer, by the rules of the protocol.
#[derive(Default)]
struct SpanModel {
    current: Option<Held>,
    previous: Option<Held>,
    next: Option<Held>,
}

impl SpanModel {
    fn responded(&mut self, session: Held) {
        self.next = Some(session);
        self.previous = None;
    }

    fn completed(&mut self, session: Held) {
        let demoted = self.next.take().or(self.current.take());
        self.previous = demoted;
        self.current = Some(session);
    }

    fn confirm(&mut self, index: u32) {
        if self.next.is_some_and(|next| next.index == index) {
            self.previous = self.current.take();
            self.current = self.next.take();
        }
    }

    fn find(&mut self, index: u32) -> Option<&mut Held> {
        [&mut self.current, &mut self.previous, &mut self.next]
            .into_iter()
            .flatten()
            .find(|held| held.index == index)
    }
}

/// boringtun keeps its last sessions in a ring of eight.
#[derive(Default)]
struct BoringModel {
    ring: [Option<Held>; 8],
}

impl BoringModel {
    fn install(&mut self, session: Held) {
        self.ring[session.index as usize % 8] = Some(session);
    }

    fn find(&mut self, index: u32) -> Option<&mut Held> {
        self.ring[index as usize % 8].as_mut().filter(|held| held.index == index)
    }
}

/// How much happened.
#[derive(Default, Debug)]
pub struct Tally {
    pub delivered_to_span: u64,
    pub delivered_to_boring: u64,
    pub must: u64,
    pub handshakes: u64,
    pub refused: u64,
    pub moved: u64,
    pub cookies: u64,
}

/// The two, the network, and what must come of it.
pub struct World {
    /// For messages: what was drawn from.
    name: String,
    draws: Draws,
    now: Instant,
    preshared: [u8; 32],
    span: Device,
    peer: PeerId,
    span_at: Path,
    span_model: SpanModel,
    boring: Tunn,
    boring_at: Path,
    /// Where boringtun's side sends to: the source of the last thing it accepted.
    boring_sends_to: Path,
    boring_model: BoringModel,
    network: Vec<Datagram>,
    /// Old datagrams, to be replayed.
    history: Vec<Datagram>,
    /// Data datagrams already delivered intact, by their bytes' header and tag.
    seen: BTreeSet<Vec<u8>>,
    /// Inner packets that have not been delivered.
    pub sent_to_span: BTreeSet<Vec<u8>>,
    pub sent_to_boring: BTreeSet<Vec<u8>>,
    serial: u64,
    pub tally: Tally,
}

impl World {
    /// Both sides started, nothing sent. `name` says in messages what is drawn from.
    pub fn new(name: &str, mut draws: Draws) -> Self {
        let now = Instant::from_secs(1000);
        MockClock::set_time(Duration::from_secs(1000));
        let span_at = path("192.0.2.1:1000");
        let boring_at = path("198.51.100.1:2000");
        let preshared = [0; 32];
        let (span, peer) = span_device(now, wall_clock(), &mut draws, preshared, boring_at);
        World {
            name: name.to_owned(),
            now,
            preshared,
            span,
            peer,
            span_at,
            span_model: SpanModel::default(),
            boring: boring_tunnel(preshared, 7),
            boring_at,
            boring_sends_to: span_at,
            boring_model: BoringModel::default(),
            network: Vec::new(),
            history: Vec::new(),
            seen: BTreeSet::new(),
            sent_to_span: BTreeSet::new(),
            sent_to_boring: BTreeSet::new(),
            serial: 0,
            tally: Tally::default(),
            draws,
        }
    }

    /// Whether there is nothing left to decide what happens.
    pub fn is_over(&self) -> bool {
        self.draws.is_empty()
    }

    /// One thing happens.
    pub fn step(&mut self) {
        match self.draws.below(1000) {
            0..200 => self.send_from_span(),
            200..400 => self.send_from_boring(),
            400..780 => {
                if let Some(datagram) = self.take_random() {
                    self.deliver(&datagram);
                }
            }
            780..820 => drop(self.take_random()),
            820..850 => {
                // Duplicate.
                if let Some(datagram) = self.take_random() {
                    self.network.push(datagram.clone());
                    self.network.push(datagram);
                }
            }
            850..870 => {
                // Delay.
                let wait = Duration::from_millis(self.draws.below(20_000));
                if let Some(mut datagram) = self.take_random() {
                    datagram.due = self.now + wait;
                    self.network.push(datagram);
                }
            }
            870..885 => {
                // Damage.
                if let Some(mut datagram) = self.take_random() {
                    let bit = self.draws.below(8 * datagram.bytes.len() as u64) as usize;
                    datagram.bytes[bit / 8] ^= 1 << (bit % 8);
                    datagram.intact = false;
                    self.network.push(datagram);
                }
            }
            885..900 => {
                // Replay something old, perhaps from another place.
                if !self.history.is_empty() {
                    let place = self.draws.below(self.history.len() as u64) as usize;
                    let mut datagram = self.history[place].clone();
                    if self.draws.below(2) == 0 {
                        datagram.from = path("203.0.113.66:666");
                    }
                    self.deliver(&datagram);
                }
            }
            900..972 => {
                let nanos = self.draws.below(2_000_000_000);
                self.advance(Duration::from_nanos(nanos));
            }
            972..980 => {
                // Long enough for rekeys, expiry and giving up.
                let secs = self.draws.below(140);
                self.advance(Duration::from_secs(secs));
            }
            980..987 => self.move_span(),
            987..994 => self.move_boring(),
            994..995 => self.restart_span(),
            995..996 => self.restart_boring(),
            // Discovery tells each where the other is.
            996..998 => self.introduce(),
            _ => self.change_preshared_key(),
        }
        self.pump();
    }

    /// Span's side has a packet.
    pub fn send_from_span(&mut self) {
        let packet = self.packet(SPAN_IP, BORING_IP);
        self.sent_to_boring.insert(packet.clone());
        let mut out = Outbox::default();
        send(&mut self.span, self.now, self.peer, &packet, &mut out);
        self.post_from_span(out);
    }

    /// boringtun's side has a packet.
    pub fn send_from_boring(&mut self) {
        let packet = self.packet(BORING_IP, SPAN_IP);
        self.sent_to_span.insert(packet.clone());
        let mut buffer = [0; 2048];
        if let TunnResult::WriteToNetwork(bytes) = self.boring.encapsulate(&packet, &mut buffer) {
            let bytes = bytes.to_vec();
            self.post_from_boring(bytes);
        }
    }

    fn packet(&mut self, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        self.serial += 1;
        let len = self.draws.below(200) as usize;
        let mut payload = self.serial.to_be_bytes().to_vec();
        payload.extend(self.draws.bytes(len));
        ipv4(source, destination, &payload)
    }

    fn advance(&mut self, by: Duration) {
        // Timers run when they are due, not when the step ends.
        let end = self.now + by;
        while self.now < end {
            let step = match self.span.poll_timeout() {
                Some((deadline, _)) if deadline < end => deadline.max(self.now),
                Some(_) | None => end,
            };
            // boringtun wants to be asked every now and then.
            let step = step.min(self.now + Duration::from_millis(250)).min(end);
            MockClock::advance(step - self.now);
            self.now = step;
            self.span.handle_timeout(self.now);
            self.tick_boring();
            self.pump();
        }
    }

    fn tick_boring(&mut self) {
        let was_expired = self.boring.is_expired();
        let mut buffer = [0; 2048];
        match self.boring.update_timers(&mut buffer) {
            TunnResult::WriteToNetwork(bytes) => {
                let bytes = bytes.to_vec();
                self.post_from_boring(bytes);
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) if !was_expired => {
                self.boring_model = BoringModel::default();
            }
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
    }

    /// Lets span say what it has to say.
    fn pump(&mut self) {
        let mut out = Outbox::default();
        drain(&mut self.span, self.now, &mut out);
        self.post_from_span(out);
        while let Some(event) = self.span.poll_event() {
            match event {
                Event::SessionEstablished { .. } => self.tally.handshakes += 1,
                Event::PathLearnt { .. } => self.tally.moved += 1,
                _ => {}
            }
        }
    }

    fn post_from_span(&mut self, out: Outbox) {
        for (destination, bytes) in out.datagrams {
            if bytes[0] == 2 {
                let index = word(&bytes, 4);
                self.span_model.responded(Held { index, born: self.now, highest: 0 });
            }
            assert!(bytes[0] != 4 || bytes.len().is_multiple_of(16), "data is padded");
            self.post(Datagram {
                to: Side::Boring,
                from: self.span_at,
                destination,
                due: self.now,
                bytes,
                intact: true,
            });
        }
    }

    fn post_from_boring(&mut self, bytes: Vec<u8>) {
        self.post(Datagram {
            to: Side::Span,
            from: self.boring_at,
            destination: self.boring_sends_to,
            due: self.now,
            bytes,
            intact: true,
        });
    }

    fn post(&mut self, datagram: Datagram) {
        if self.draws.below(8) == 0 {
            self.history.push(datagram.clone());
        }
        self.network.push(datagram);
    }

    fn take_random(&mut self) -> Option<Datagram> {
        let ready: Vec<usize> =
            (0..self.network.len()).filter(|place| self.network[*place].due <= self.now).collect();
        if ready.is_empty() {
            return None;
        }
        // Mostly the oldest, so that conversations come about.
        let pick = if self.draws.below(4) == 0 { self.draws.below(ready.len() as u64) as usize } else { 0 };
        Some(self.network.remove(ready[pick]))
    }

    fn deliver(&mut self, datagram: &Datagram) {
        match datagram.to {
            Side::Span if datagram.destination.same_remote(&self.span_at) => self.deliver_to_span(datagram),
            Side::Boring if datagram.destination.same_remote(&self.boring_at) => {
                self.deliver_to_boring(datagram);
            }
            // Nobody lives there any more.
            Side::Span | Side::Boring => {}
        }
    }

    fn deliver_to_span(&mut self, datagram: &Datagram) {
        let data = data_header(datagram);
        let first = data.is_some() && self.seen.insert(datagram.bytes.clone());
        let now = self.now;
        let must = datagram.intact
            && first
            && data.is_some_and(|(index, counter)| {
                self.span_model
                    .find(index)
                    .is_some_and(|held| now < held.born + SESSION_LIFE && counter + 8192 > held.highest)
            });
        let completed = self.span.counters().responses_accepted;
        let (inbound, packet) = deliver(&mut self.span, now, &datagram.from, &datagram.bytes);
        match &inbound {
            Inbound::Packet { peer, .. } | Inbound::Keepalive { peer } => {
                assert_eq!(*peer, self.peer);
                assert!(datagram.intact && first, "{}: forged or repeated", self.name);
                let (index, counter) = data.expect("only data is delivered");
                self.span_model.confirm(index);
                if let Some(held) = self.span_model.find(index) {
                    held.highest = held.highest.max(counter);
                }
                let path = self.span.peer(now, self.peer).and_then(|peer| peer.path.copied());
                assert_eq!(path, Some(datagram.from), "{}: roams to whom it hears", self.name);
            }
            Inbound::Handshake | Inbound::Dropped(_) => self.tally.refused += 1,
        }
        if self.span.counters().responses_accepted > completed {
            let index = word(&datagram.bytes, 8);
            self.span_model.completed(Held { index, born: now, highest: 0 });
        }
        if must {
            self.tally.must += 1;
            assert!(
                matches!(inbound, Inbound::Packet { .. } | Inbound::Keepalive { .. }),
                "{}: {inbound:?} at {now:?}, but the session is there",
                self.name
            );
        }
        if let Some(packet) = packet {
            assert!(self.sent_to_span.remove(&packet), "{}: twice, or never sent", self.name);
            self.tally.delivered_to_span += 1;
        }
    }

    fn deliver_to_boring(&mut self, datagram: &Datagram) {
        let data = data_header(datagram);
        let first = data.is_some() && self.seen.insert(datagram.bytes.clone());
        let now = self.now;
        let must = datagram.intact
            && first
            && data.is_some_and(|(index, counter)| {
                self.boring_model
                    .find(index)
                    .is_some_and(|held| now < held.born + SESSION_LIFE && counter + 1024 > held.highest)
            });
        let Some(source) = datagram.from.remote() else { return };
        let mut buffer = [0; 2048];
        let mut accepted = false;
        let mut answers = Vec::new();
        match self.boring.decapsulate(Some(source.ip()), &datagram.bytes, &mut buffer) {
            TunnResult::WriteToNetwork(bytes) => {
                answers.push(bytes.to_vec());
                accepted = true;
            }
            TunnResult::WriteToTunnelV4(packet, _) => {
                assert!(datagram.intact && first, "{}: forged or repeated", self.name);
                assert!(self.sent_to_boring.remove(packet), "{}: twice, or never sent", self.name);
                self.tally.delivered_to_boring += 1;
                accepted = true;
            }
            TunnResult::Done => accepted = data.is_some(),
            TunnResult::Err(_) => {}
            TunnResult::WriteToTunnelV6(..) => panic!("nobody sent IPv6"),
        }
        if accepted {
            // What boringtun has queued until there is a session.
            while let TunnResult::WriteToNetwork(bytes) = self.boring.decapsulate(None, &[], &mut buffer) {
                answers.push(bytes.to_vec());
                if bytes[0] == 1 {
                    break;
                }
            }
        }
        for bytes in answers {
            match (datagram.bytes[0], bytes[0]) {
                // A response: a session under the index it names.
                (1, 2) => {
                    let index = word(&bytes, 4);
                    self.boring_model.install(Held { index, born: now, highest: 0 });
                }
                // The keepalive that follows a response: a session under the initiation's index.
                (2, 4) => {
                    let index = word(&datagram.bytes, 8);
                    if self.boring_model.find(index).is_none_or(|held| held.born != now) {
                        self.boring_model.install(Held { index, born: now, highest: 0 });
                    }
                }
                (_, 3) => {
                    self.tally.cookies += 1;
                    accepted = false;
                }
                _ => {}
            }
            self.post_from_boring(bytes);
        }
        if accepted {
            self.boring_sends_to = datagram.from;
            if let Some(held) = data.and_then(|(index, _)| self.boring_model.find(index)) {
                held.highest = held.highest.max(data.map_or(0, |(_, counter)| counter));
            }
        }
        if must {
            self.tally.must += 1;
            assert!(accepted, "{}: boringtun refused a packet at {now:?}", self.name);
        }
    }

    fn introduce(&mut self) {
        self.span.set_path(self.now, self.peer, Some(self.boring_at));
        self.boring_sends_to = self.span_at;
    }

    fn move_span(&mut self) {
        let port = 1000 + self.draws.below(60_000);
        let host = 1 + self.draws.below(200);
        self.span_at = path(&format!("192.0.2.{host}:{port}"));
    }

    fn move_boring(&mut self) {
        let port = 1000 + self.draws.below(60_000);
        let host = 1 + self.draws.below(200);
        self.boring_at = path(&format!("198.51.100.{host}:{port}"));
    }

    fn restart_span(&mut self) {
        let unix = self.span.unix_time(self.now);
        let (span, peer) = span_device(self.now, unix, &mut self.draws, self.preshared, self.boring_at);
        self.span = span;
        self.peer = peer;
        self.span_model = SpanModel::default();
    }

    fn restart_boring(&mut self) {
        // boringtun stamps its handshakes with the wall clock at its start plus the mocked time since: made
        // at time zero, its stamps go on from those of its predecessor.
        MockClock::set_time(Duration::ZERO);
        let index = self.draws.below(1 << 20) as u32;
        self.boring = boring_tunnel(self.preshared, index);
        MockClock::set_time(Duration::from_nanos(self.now.as_nanos()));
        self.boring_model = BoringModel::default();
        self.boring_sends_to = self.span_at;
        self.tick_boring();
    }

    fn change_preshared_key(&mut self) {
        self.preshared = self.draws.seed();
        self.span.set_preshared_key(self.peer, PresharedKey::from_bytes(self.preshared));
        // boringtun takes one only when it is made.
        self.restart_boring();
    }

    /// The faults end. Both sides are told where the other is; then packets must get through both ways.
    pub fn calm(&mut self) {
        self.introduce();
        for _ in 0..45 {
            self.advance(Duration::from_secs(1));
            self.send_from_span();
            self.send_from_boring();
            self.settle();
        }
        self.advance(Duration::from_millis(100));
        self.settle();
        let before = (self.tally.delivered_to_span, self.tally.delivered_to_boring);
        for _ in 0..20 {
            self.send_from_span();
            self.send_from_boring();
            self.settle();
        }
        let after = (self.tally.delivered_to_span, self.tally.delivered_to_boring);
        assert_eq!((before.0 + 20, before.1 + 20), after, "{}: on a calm network", self.name);
        // What was lost on the way here is lost.
        self.network.clear();
    }

    /// Everything on its way arrives, and what that makes on its way too.
    pub fn settle(&mut self) {
        self.pump();
        while let Some(place) = (0..self.network.len()).find(|place| self.network[*place].due <= self.now) {
            let datagram = self.network.remove(place);
            self.deliver(&datagram);
            self.pump();
        }
    }
}

/// Receiver index and counter of a data packet.
fn data_header(datagram: &Datagram) -> Option<(u32, u64)> {
    let bytes = &datagram.bytes;
    let counter = || u64::from(word(bytes, 8)) | u64::from(word(bytes, 12)) << 32;
    (bytes.len() >= 32 && bytes[..4] == [4, 0, 0, 0]).then(|| (word(bytes, 4), counter()))
}

/// The little-endian number at `place`.
fn word(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes([bytes[place], bytes[place + 1], bytes[place + 2], bytes[place + 3]])
}

fn span_device(
    now: Instant,
    unix: UnixTime,
    draws: &mut Draws,
    preshared: [u8; 32],
    boring_at: Path,
) -> (Device, PeerId) {
    let mut device = Device::new(Some(key(SPAN_KEY)), now, unix, draws.seed());
    let peer = device.add_peer(now, key(BORING_KEY).public_key()).expect("another's key");
    device.add_allowed_ip(peer, "10.0.0.2/32".parse().expect("a prefix"));
    device.set_preshared_key(peer, PresharedKey::from_bytes(preshared));
    device.set_path(now, peer, Some(boring_at));
    if draws.below(2) == 0 {
        device.set_keepalive(now, peer, Some(25));
    }
    (device, peer)
}

fn boring_tunnel(preshared: [u8; 32], index: u32) -> Tunn {
    Tunn::new(
        x25519::StaticSecret::from(*key(BORING_KEY).as_bytes()),
        x25519::PublicKey::from(*key(SPAN_KEY).public_key().as_bytes()),
        Some(preshared),
        index.is_multiple_of(2).then_some(25),
        index,
        None,
    )
}

fn wall_clock() -> UnixTime {
    UnixTime::from_duration(Duration::from_secs(1_700_000_000))
}
