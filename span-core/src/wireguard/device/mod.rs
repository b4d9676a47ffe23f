//! Many peers behind one private key.
//!
//! The device owns what its peers share: the table of indices, the allowed IPs, the queue of handshake
//! messages, the deadlines. What concerns one peer alone is in [`peer`](super::peer).

mod config;
mod data;
mod drive;
mod handshakes;
mod opening;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use hashbrown::HashMap;
use zeroize::Zeroizing;

use super::agenda::Agenda;
use super::clock::Clock;
use super::constants::DEFAULT_MTU;
use super::cookie::CookieChecker;
use super::counters::{Counters, DropReason};
use super::deadlines::Deadlines;
use super::event::PeerId;
use super::index::IndexTable;
use super::peer::Peer;
use super::queue::HandshakeQueue;
use super::random::Randomness;
use super::ratelimit::RateLimiter;
use crate::allowed_ips::AllowedIps;
use crate::crypto::{Suite, Suites};
use crate::key::{PrivateKey, PublicKey};
use crate::time::{Instant, UnixTime};

pub use config::{AddPeerError, PeerStatus};
pub use opening::Opening;

/// A WireGuard interface without its network: keys, peers, sessions and timers.
///
/// See the [module](super) for how to drive it.
pub struct Device {
    identity: Option<Identity>,
    /// The suites in which initiations are answered.
    accepted: Suites,
    peers: Peers,
    by_key: HashMap<PublicKey, u32>,
    allowed_ips: AllowedIps,
    indices: IndexTable,
    deadlines: Deadlines,
    agenda: Agenda,
    handshakes: HandshakeQueue,
    limiter: RateLimiter,
    /// Responses and cookie replies that wait for a slot.
    replies: VecDeque<handshakes::Reply>,
    rng: Randomness,
    clock: Clock,
    mtu: usize,
    staged_bytes: usize,
}

/// Our side of every handshake.
struct Identity {
    private: PrivateKey,
    public: PublicKey,
    checker: CookieChecker,
}

impl Device {
    /// A device without peers.
    ///
    /// `unix` is the wall clock at `now`. From then on the device counts with `now` alone, so the timestamps
    /// of its handshakes only ever grow; to let them grow across restarts too, even if the wall clock was
    /// set back meanwhile, hand in the later of the wall clock and what [`unix_time`](Device::unix_time)
    /// last said. `seed` is 32 fresh bytes of the system's randomness: every key the device makes depends
    /// on it.
    pub fn new(private_key: Option<PrivateKey>, now: Instant, unix: UnixTime, seed: [u8; 32]) -> Self {
        Device {
            identity: private_key.map(Identity::new),
            accepted: Suites::NONE.with(Suite::ChaCha20Poly1305),
            peers: Peers::default(),
            by_key: HashMap::new(),
            allowed_ips: AllowedIps::new(),
            indices: IndexTable::new(),
            deadlines: Deadlines::new(),
            agenda: Agenda::default(),
            handshakes: HandshakeQueue::new(),
            limiter: RateLimiter::new(),
            replies: VecDeque::new(),
            rng: Randomness::new(&Zeroizing::new(seed)),
            clock: Clock::new(now, unix),
            mtu: DEFAULT_MTU,
            staged_bytes: 0,
        }
    }

    /// Mixes 32 more bytes of the system's randomness into the device's. Worth doing now and then, and a
    /// must when the machine was copied while running, as a virtual machine can be: two copies would draw
    /// the same keys.
    pub fn reseed(&mut self, fresh: [u8; 32]) {
        self.rng.mix(&*Zeroizing::new(fresh));
    }

    /// The device's idea of the wall clock, which never goes back. Keep it for the next
    /// [`new`](Device::new).
    pub fn unix_time(&self, now: Instant) -> UnixTime {
        self.clock.unix(self.clock.at(now))
    }

    /// Corrects the wall clock: to be called when the system's clock was set, as by NTP after a start
    /// without a battery-backed clock. A clock that was set back is ignored.
    pub fn set_unix_time(&mut self, now: Instant, unix: UnixTime) {
        let now = self.clock.observe(now);
        self.clock.advance_unix(now, unix);
    }

    /// Totals since the device was made.
    pub fn counters(&self) -> &Counters {
        &self.agenda.counters
    }

    fn drop(&mut self, reason: DropReason) -> super::Inbound {
        self.agenda.drop(reason);
        super::Inbound::Dropped(reason)
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("public_key", &self.public_key())
            .field("peers", &self.by_key.len())
            .finish_non_exhaustive()
    }
}

impl Identity {
    fn new(private: PrivateKey) -> Self {
        let public = private.public_key();
        Identity { private, checker: CookieChecker::new(&public), public }
    }
}

/// The peers by place. A place that becomes free is used again under a new generation.
#[derive(Default)]
struct Peers {
    places: Vec<Place>,
    free: Vec<u32>,
}

struct Place {
    generation: u32,
    peer: Option<Box<Peer>>,
}

impl Peers {
    fn insert(&mut self, make: impl FnOnce(PeerId) -> Peer) -> PeerId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, peer: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        let id = PeerId { index, generation: place.generation };
        place.peer = Some(Box::new(make(id)));
        id
    }

    fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        self.get(id)?;
        let place = &mut self.places[id.index()];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        place.peer.take()
    }

    #[inline]
    fn get(&self, id: PeerId) -> Option<&Peer> {
        self.at(id.index).filter(|peer| peer.id == id)
    }

    #[inline]
    fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.at_mut(id.index).filter(|peer| peer.id == id)
    }

    #[inline]
    fn at(&self, index: u32) -> Option<&Peer> {
        self.places.get(index as usize)?.peer.as_deref()
    }

    #[inline]
    fn at_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.places.get_mut(index as usize)?.peer.as_deref_mut()
    }

    fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.places.iter().filter_map(|place| place.peer.as_deref())
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.places.iter_mut().filter_map(|place| place.peer.as_deref_mut())
    }
}

#[cfg(test)]
mod tests;
