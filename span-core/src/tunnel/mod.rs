//! WireGuard with a choice of paths: a [`Device`] and a [`Selection`] for each peer of a mesh.
//!
//! A [`Tunnel`] is driven like its device: packets, datagrams and deadlines in; datagrams, events and the
//! next deadline out. A peer that is given [candidates](Tunnel::set_candidates) is raced, watched and
//! moved to another path when its own falls silent. A peer that never is, as on a plain WireGuard
//! interface, has the one path it is configured with or was heard from, and costs nothing here.
//!
//! # A tunnel must not carry itself
//!
//! Datagrams to a peer must never be routed into the tunnel that they come out of. The outer socket's mark
//! keeps them out of the policy routes of the mesh, but not out of those that stand in the main table: the
//! overlay's own prefix, and networks that a container network routes through other nodes. Such paths are
//! *forbidden* ([`Tunnel::set_forbidden`]): never tried as a candidate, and datagrams that arrive from
//! there are dropped unread, so that the peer's handshake over them fails and it looks for another way.
//! The node addresses of members are the exception that makes a mesh: they are routed through the tunnel,
//! and at the same time they are where it ends. [`plan`](crate::mesh::plan()) knows which is which.

mod apply;
mod data;
mod drive;
mod event;
mod pace;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};

pub use event::{Event, PathReason, Reason};
use pace::Pace;

use crate::endpoint::{CandidateSource, Explanation, Liveness, Selection};
use crate::key::{PrivateKey, PublicKey};
use crate::mesh::PrefixSet;
use crate::path::{Path, Source};
use crate::time::{Instant, UnixTime};
use crate::wireguard::{Clock, Deadlines, Device, PeerId};

/// A WireGuard device that finds its way to its peers.
#[allow(missing_debug_implementations)] // holds keys
pub struct Tunnel {
    device: Device,
    /// By the index of the peer.
    slots: Vec<Option<Box<Slot>>>,
    deadlines: Deadlines,
    /// Peers whose selection wants an initiation.
    asking: VecDeque<PeerId>,
    /// Peers with copies of an initiation to send.
    probing: VecDeque<PeerId>,
    pace: Pace,
    events: VecDeque<Event>,
    forbidden: PrefixSet,
    /// The last remote address found not to be forbidden: bursts come from one place.
    last_clean: Option<IpAddr>,
    /// Who was heard in the burst at hand.
    heard: Vec<PeerId>,
    random: ChaCha20Rng,
    counters: Counters,
    /// The selections' time: their instants are on its scale, the device's on the caller's.
    clock: Clock,
}

/// Totals of one tunnel, besides those of its device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams that arrived over a path inside the mesh itself.
    pub forbidden_datagrams: u64,
    /// Candidates that lie inside the mesh itself, each time they were named.
    pub forbidden_candidates: u64,
    /// Copies of initiations sent.
    pub probes: u64,
    /// Events nobody read that gave way to newer ones.
    pub events_lost: u64,
}

/// A peer with a choice.
struct Slot {
    id: PeerId,
    selection: Selection,
    /// The peer's place on the lists of those names.
    asking: Entry,
    probing: Entry,
}

/// Whether a peer is on a list, and whether it still wants what the list is for. One that does not is taken off
/// when it comes to the front: nothing is ever searched for.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    listed: bool,
    wanted: bool,
}

impl Tunnel {
    /// A tunnel without peers. `unix` is the wall clock at `now`; `seed` is 32 bytes of true randomness, from
    /// which every secret of the tunnel is drawn.
    pub fn new(private_key: Option<PrivateKey>, now: Instant, unix: UnixTime, seed: [u8; 32]) -> Self {
        let mut random = ChaCha20Rng::from_seed(seed);
        let mut device_seed = [0; 32];
        random.fill_bytes(&mut device_seed);
        Tunnel {
            device: Device::new(private_key, now, unix, device_seed),
            slots: Vec::new(),
            deadlines: Deadlines::new(),
            asking: VecDeque::new(),
            probing: VecDeque::new(),
            pace: Pace::new(),
            events: VecDeque::new(),
            forbidden: PrefixSet::new(),
            last_clean: None,
            heard: Vec::new(),
            random,
            counters: Counters::default(),
            clock: Clock::new(now, unix),
        }
    }

    /// The device, for its status and counters.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The device, for its configuration. Remove peers by [`remove_peer`](Self::remove_peer), and leave
    /// the device's `handle`, `poll` and race methods to the tunnel.
    pub const fn device_mut(&mut self) -> &mut Device {
        &mut self.device
    }

    /// Totals since the tunnel was made.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Removes a peer with all that belongs to it.
    pub fn remove_peer(&mut self, peer: PeerId) {
        self.device.remove_peer(peer);
        if self.slot(peer).is_some() {
            self.slots[peer.index()] = None;
            self.deadlines.set(place(peer), None);
            self.skip_settled();
        }
    }

    /// Gives a peer the paths that `source` names now, the best first, in place of those it named before.
    ///
    /// With the first call, even one without paths, the peer's path becomes the tunnel's affair: where no
    /// path is known to work, all candidates are tried at once.
    pub fn set_candidates(&mut self, now: Instant, peer: PeerId, source: CandidateSource, paths: &[Path]) {
        if !self.adopt(now, peer) {
            return;
        }
        let now = self.clock.observe(now);
        let forbidden = |path: &Path| is_forbidden(&self.forbidden, path);
        self.counters.forbidden_candidates += paths.iter().filter(|path| forbidden(path)).count() as u64;
        if let Some(slot) = slot_mut(&mut self.slots, peer) {
            slot.selection.set_candidates(now, source, paths, forbidden);
        }
        self.settle(peer);
    }

    /// Why a peer that has a choice is reached the way it is, or is not reached.
    pub fn explain(&self, now: Instant, peer: PeerId) -> Option<Explanation> {
        self.slot(peer).map(|slot| slot.selection.explain(self.clock.at(now)))
    }

    /// The choice of paths for a peer that has one. Its instants are the caller's unless the caller's clock
    /// was ever set back.
    pub fn selection(&self, peer: PeerId) -> Option<&Selection> {
        self.slot(peer).map(|slot| &slot.selection)
    }

    /// Whether the tunnel to this key works. For [`Roster::members`](crate::mesh::Roster::members).
    pub fn is_up(&self, public_key: &PublicKey) -> bool {
        let selection = self.device.find(public_key).and_then(|peer| self.selection(peer));
        selection.is_some_and(|selection| selection.liveness() == Liveness::Up)
    }

    /// Where the peers that are up are, for [`harvest`](crate::mesh::harvest).
    pub fn observed(&self, now: Instant) -> Vec<(PublicKey, SocketAddr)> {
        let up = self.slots.iter().flatten().filter(|slot| slot.selection.liveness() == Liveness::Up);
        up.filter_map(|slot| {
            let remote = slot.selection.current()?.remote()?;
            Some((*self.device.peer(now, slot.id)?.public_key, remote))
        })
        .collect()
    }

    /// Names the prefixes where no path may lead, in place of those named before: see the
    /// [module](self) for what belongs there. Peers whose path lies there are given another.
    pub fn set_forbidden(&mut self, now: Instant, prefixes: &[IpNet]) {
        let here = self.clock.observe(now);
        let forbidden: PrefixSet = prefixes.iter().copied().collect();
        if forbidden == self.forbidden {
            return;
        }
        self.forbidden = forbidden;
        self.last_clean = None;
        for peer in self.selected() {
            let Some(slot) = slot_mut(&mut self.slots, peer) else { continue };
            let forbidden = |path: &Path| is_forbidden(&self.forbidden, path);
            let before = slot.selection.current().copied();
            slot.selection.forbid(here, forbidden);
            if slot.selection.current().is_none() && before.is_some() {
                self.device.set_path(now, peer, None);
            }
            self.settle(peer);
        }
    }

    /// The host's interfaces, addresses or routes changed. `keep` says which local addresses still stand
    /// and are still the right ones; the others are no longer insisted on. Peers that lost theirs, and
    /// peers that are not up, are tried anew.
    pub fn network_changed(&mut self, now: Instant, mut keep: impl FnMut(&Source) -> bool) {
        let here = self.clock.observe(now);
        let peers: Vec<PeerId> = self.device.peers().collect();
        for peer in peers {
            let path = self.device.peer(now, peer).and_then(|status| status.path.copied());
            if let Some(slot) = slot_mut(&mut self.slots, peer) {
                // The device follows a change of the local address alone without telling.
                if let Some(path) = path {
                    slot.selection.learnt(here, &path);
                }
                slot.selection.network_changed(here, &mut keep);
            }
            if let Some(Path::Udp(udp)) = path
                && udp.source.is_some_and(|source| !keep(&source))
            {
                self.device.set_path(now, peer, path.map(Path::without_source));
            }
            self.settle(peer);
        }
    }

    /// Makes the peer's path the tunnel's affair. False if there is no such peer.
    fn adopt(&mut self, now: Instant, peer: PeerId) -> bool {
        if self.slot(peer).is_some() {
            return true;
        }
        let Some(status) = self.device.peer(now, peer) else { return false };
        let here = self.clock.observe(now);
        let mut selection = Selection::new(here);
        if let Some(path) = status.path {
            selection.learnt(here, path);
        }
        self.device.set_race(peer, true);
        if peer.index() >= self.slots.len() {
            self.slots.resize_with(peer.index() + 1, || None);
        }
        self.slots[peer.index()] =
            Some(Box::new(Slot { id: peer, selection, asking: Entry::default(), probing: Entry::default() }));
        true
    }

    fn slot(&self, peer: PeerId) -> Option<&Slot> {
        self.slots.get(peer.index())?.as_deref().filter(|slot| slot.id == peer)
    }

    fn selected(&self) -> Vec<PeerId> {
        self.slots.iter().flatten().map(|slot| slot.id).collect()
    }
}

fn slot_mut(slots: &mut [Option<Box<Slot>>], peer: PeerId) -> Option<&mut Slot> {
    slots.get_mut(peer.index())?.as_deref_mut().filter(|slot| slot.id == peer)
}

fn is_forbidden(forbidden: &PrefixSet, path: &Path) -> bool {
    !forbidden.is_empty() && path.remote().is_some_and(|remote| forbidden.contains(remote.ip()))
}

/// The peer's place in the tables. Device indices are 32 bits wide.
fn place(peer: PeerId) -> u32 {
    peer.index() as u32
}
