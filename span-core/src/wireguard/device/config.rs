//! Configuration and status: what `wg set` and `wg show` do.

use core::net::IpAddr;
use core::num::NonZeroU16;
use core::time::Duration;

use ipnet::IpNet;

use super::{Device, Identity};
use crate::crypto::{Suite, Suites, diffie_hellman};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::path::Path;
use crate::time::{Instant, UnixTime};
use crate::wireguard::constants::PADDING;
use crate::wireguard::event::PeerId;
use crate::wireguard::peer::{Peer, Wanted};
use crate::wireguard::timers::Timer;

/// Why a peer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// The key is the device's own.
    #[error("a device cannot be its own peer; use the other machine's public key")]
    OwnKey,
}

/// A peer as `wg show` has it. Answer of [`Device::peer`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStatus<'a> {
    /// The peer's name.
    pub public_key: &'a PublicKey,
    /// The symmetric key mixed into handshakes; all zeros if there is none.
    pub preshared_key: &'a PresharedKey,
    /// Where the peer is sent to.
    pub path: Option<&'a Path>,
    /// When the last handshake was completed.
    pub last_handshake: Option<UnixTime>,
    /// Age of the session packets are sealed with, if there is one.
    pub session_age: Option<Duration>,
    /// The cipher suite of that session.
    pub suite: Option<Suite>,
    /// Bytes of authentic datagrams received: what `wg` counts.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent: what `wg` counts.
    pub tx_bytes: u64,
    /// Interval of the persistent keepalive in seconds.
    pub keepalive: Option<u16>,
    /// Packets that wait for a session.
    pub staged: usize,
}

impl Device {
    /// Sets, changes or removes the private key. A peer with the same public key is removed.
    ///
    /// Sessions made with the former key go on receiving, but send no more: the next packet to each peer
    /// begins a new handshake.
    pub fn set_private_key(&mut self, now: Instant, private_key: Option<PrivateKey>) {
        self.clock.observe(now);
        if self.private_key() == private_key.as_ref() {
            return;
        }
        self.identity = private_key.map(Identity::new);
        if let Some(own) = self.public_key().and_then(|public| self.find(public)) {
            self.remove_peer(own);
        }
        for peer in self.peers.iter_mut() {
            peer.noise.static_static = self
                .identity
                .as_ref()
                .and_then(|identity| diffie_hellman(&identity.private, &peer.noise.public_key));
            peer.retire_sessions(&mut self.indices);
        }
    }

    /// The private key, clamped.
    pub fn private_key(&self) -> Option<&PrivateKey> {
        self.identity.as_ref().map(|identity| &identity.private)
    }

    /// The public key that belongs to the private key.
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.identity.as_ref().map(|identity| &identity.public)
    }

    /// The inner side's MTU, 1420 until set: staged packets are not padded beyond it.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = usize::from(mtu).max(PADDING);
    }

    /// Adds a peer, or finds it if it is there already.
    pub fn add_peer(&mut self, now: Instant, public_key: PublicKey) -> Result<PeerId, AddPeerError> {
        self.clock.observe(now);
        if let Some(peer) = self.find(&public_key) {
            return Ok(peer);
        }
        if self.public_key() == Some(&public_key) {
            return Err(AddPeerError::OwnKey);
        }
        let static_static =
            self.identity.as_ref().and_then(|identity| diffie_hellman(&identity.private, &public_key));
        let id = self.peers.insert(|id| Peer::new(id, public_key, static_static));
        self.by_key.insert(public_key, id.index);
        Ok(id)
    }

    /// Removes a peer with all that belongs to it. Does nothing if it is gone already.
    pub fn remove_peer(&mut self, peer: PeerId) {
        if let Some(mut removed) = self.peers.remove(peer) {
            removed.erase(&mut self.indices);
            self.staged_bytes -= removed.unstage_all().1;
            self.by_key.remove(&removed.noise.public_key);
            self.allowed_ips.remove_all(peer);
            self.deadlines.set(peer.index, None);
        }
    }

    /// The peer with this public key.
    pub fn find(&self, public_key: &PublicKey) -> Option<PeerId> {
        let index = *self.by_key.get(public_key)?;
        self.peers.at(index).map(|peer| peer.id)
    }

    /// All peers, in the order of their [`index`](PeerId::index).
    pub fn peers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.peers.iter().map(|peer| peer.id)
    }

    /// How a peer is configured and doing.
    pub fn peer(&self, now: Instant, peer: PeerId) -> Option<PeerStatus<'_>> {
        let now = self.clock.at(now);
        let peer = self.peers.get(peer)?;
        Some(PeerStatus {
            public_key: &peer.noise.public_key,
            preshared_key: &peer.noise.preshared_key,
            path: peer.path.as_ref(),
            last_handshake: peer.last_handshake,
            session_age: peer.sealing(now).map(|session| now - session.born),
            suite: peer.sealing(now).map(|session| session.suite),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            keepalive: peer.keepalive.map(NonZeroU16::get),
            staged: peer.staged.len(),
        })
    }

    /// Sets the symmetric key that is mixed into handshakes from the next one on; all zeros for none.
    pub fn set_preshared_key(&mut self, peer: PeerId, key: PresharedKey) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.noise.preshared_key = key;
        }
    }

    /// Says in which suites initiations of peers are answered, besides WireGuard's own, which always is. At
    /// first it is that one alone. Suites that this build lacks are left out.
    ///
    /// One the device has not been told to accept does not exist for it: such an initiation does not
    /// authenticate.
    pub fn accept_suites(&mut self, suites: Suites) {
        let available = suites.iter().filter(|suite| suite.is_available());
        self.accepted = available.chain([Suite::ChaCha20Poly1305]).collect();
        for peer in self.peers.iter_mut() {
            peer.accept_suites(self.accepted);
        }
    }

    /// Sets the suite of this device's own initiations to a peer, WireGuard's until then; one that this build
    /// lacks counts as WireGuard's. A session of another suite is renewed at the next occasion.
    ///
    /// Set what the peer is known to accept: nothing else is tried when it does not answer. A peer that begins
    /// a session itself, in any suite this device accepts, is followed from then on, until this is called
    /// again: its own word is newer than what was known about it.
    pub fn set_suite(&mut self, now: Instant, peer: PeerId, suite: Suite) {
        let now = self.clock.observe(now);
        if let Some(peer) = self.peers.get_mut(peer) {
            let suite = if suite.is_available() { suite } else { Suite::default() };
            peer.set_suite(suite, now, &mut self.agenda);
        }
    }

    /// Sets the interval of the persistent keepalive; none and zero turn it off. Turning it on sends one
    /// at once.
    pub fn set_keepalive(&mut self, now: Instant, peer: PeerId, seconds: Option<u16>) {
        let now = self.clock.observe(now);
        let Some(peer) = self.peers.get_mut(peer) else { return };
        let before = core::mem::replace(&mut peer.keepalive, seconds.and_then(NonZeroU16::new));
        match (before, peer.keepalive) {
            (_, None) => peer.timers.clear(Timer::PersistentKeepalive),
            (None, Some(_)) => {
                peer.put_off_persistent_keepalive(now);
                peer.want_keepalive(now, &mut self.agenda);
            }
            (Some(_), Some(_)) => peer.put_off_persistent_keepalive(now),
        }
        peer.touch(&mut self.agenda);
    }

    /// Sets where the peer is sent to, until it is heard from elsewhere. A handshake that waited for a path
    /// begins at once.
    pub fn set_path(&mut self, now: Instant, peer: PeerId, path: Option<Path>) {
        let now = self.clock.observe(now);
        let Some(peer) = self.peers.get_mut(peer) else { return };
        let before = core::mem::replace(&mut peer.path, path);
        if before.is_none() && path.is_some() && peer.timers.is_armed(Timer::GiveUp) {
            // What was "sent" without a path was not sent.
            peer.last_handshake_sent = None;
            peer.request_handshake(now, &mut self.agenda);
            peer.enqueue(&mut self.agenda);
        }
    }

    /// Lets the caller send the peer's initiations, over as many paths as it likes: they are handed out by
    /// [`poll_initiation`](Device::poll_initiation) and no longer by `poll_transmit`.
    pub fn set_race(&mut self, peer: PeerId, race: bool) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.raced = race;
            if peer.initiation != Wanted::No {
                peer.enqueue(&mut self.agenda);
            }
        }
    }

    /// Gives a prefix to a peer, taking it from the one that had it.
    pub fn add_allowed_ip(&mut self, peer: PeerId, prefix: IpNet) {
        if self.peers.get(peer).is_some() {
            self.allowed_ips.insert(prefix, peer);
        }
    }

    /// Takes a prefix from a peer. False if it was not the peer's.
    pub fn remove_allowed_ip(&mut self, peer: PeerId, prefix: IpNet) -> bool {
        self.peers.get(peer).is_some() && self.allowed_ips.remove(prefix, peer)
    }

    /// Takes all its prefixes from a peer.
    pub fn clear_allowed_ips(&mut self, peer: PeerId) {
        if self.peers.get(peer).is_some() {
            self.allowed_ips.remove_all(peer);
        }
    }

    /// The prefixes of a peer, IPv4 first, in order.
    pub fn allowed_ips(&self, peer: PeerId) -> impl Iterator<Item = IpNet> + '_ {
        self.peers.get(peer).into_iter().flat_map(|peer| self.allowed_ips.of(peer.id))
    }

    /// The peer a packet to `destination` belongs to: the one with the longest prefix that holds it.
    #[inline]
    pub fn route(&self, destination: IpAddr) -> Option<PeerId> {
        self.allowed_ips.lookup(destination)
    }
}
