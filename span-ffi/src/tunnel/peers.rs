//! Peers and what belongs to them.

use std::mem::MaybeUninit;

use span_core::endpoint::CandidateSource;
use span_core::time::Instant;
use span_core::wireguard::PeerId;

use super::{State, Tunnel, suite};
use crate::address::{Path, Prefix};
use crate::boundary::{change, read};
use crate::key::Key;
use crate::pointer::{self, Versioned};
use crate::status::Status;

/// No peer.
pub const SPAN_PEER_NONE: u64 = 0;

/// A peer as it is added. Begin with all zeros and set `size` and `public_key`; zero is a good value for every
/// other field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PeerConfig {
    /// sizeof(span_peer_config).
    pub size: u32,
    /// Seconds between persistent keepalives; none if zero.
    pub keepalive: u16,
    /// Reserved.
    pub reserved: u16,
    /// The peer's name.
    pub public_key: Key,
    /// The symmetric key mixed into handshakes; none if all zeros.
    pub preshared_key: Key,
    /// Where the peer is, until it is heard from elsewhere; a path of no kind if that is not known.
    pub path: Path,
    /// The span_cipher of sessions that this side begins; set what the peer is known to accept.
    pub cipher: u32,
    /// Reserved.
    pub reserved2: u32,
    /// The prefixes of the peer. One that another peer has is taken from it.
    pub allowed_ips: *const Prefix,
    /// How many there are.
    pub allowed_ips_count: usize,
}

// SAFETY: numbers, bytes and a pointer, which may be anything until it is used; the first is the size.
unsafe impl Versioned for PeerConfig {
    const FIRST_SIZE: usize = 152;
}

/// What peers are called outside. The core's ids are of no use to C.
#[derive(Default)]
pub(super) struct Names {
    /// By the index of the peer.
    places: Vec<Place>,
}

struct Place {
    /// The peer that was given this place last; it may have been removed.
    peer: PeerId,
    /// How many were before it.
    generation: u32,
}

impl Names {
    /// Gives a name to a peer that is new, or finds its name.
    fn enter(&mut self, peer: PeerId) -> u64 {
        match self.places.get_mut(peer.index()) {
            Some(place) if place.peer == peer => {}
            Some(place) => *place = Place { peer, generation: place.generation.wrapping_add(1) },
            // Places are filled from the front, and every peer is entered.
            None => self.places.push(Place { peer, generation: 0 }),
        }
        self.name(peer)
    }

    /// The name of a peer.
    #[inline]
    pub(super) fn name(&self, peer: PeerId) -> u64 {
        let place = self.places.get(peer.index()).filter(|place| place.peer == peer);
        place.map_or(SPAN_PEER_NONE, |place| u64::from(place.generation) << 32 | (peer.index() as u64 + 1))
    }

    /// The peer of a name. The core knows whether it is still there.
    #[inline]
    pub(super) fn id(&self, name: u64) -> Result<PeerId, Status> {
        let index = (name & u64::from(u32::MAX)).checked_sub(1).ok_or(Status::UnknownPeer)?;
        let place = self.places.get(index as usize).ok_or(Status::UnknownPeer)?;
        if u64::from(place.generation) == name >> 32 { Ok(place.peer) } else { Err(Status::UnknownPeer) }
    }
}

impl State {
    /// The peer of a name, if it is still there.
    pub(super) fn peer(&self, name: u64) -> Result<PeerId, Status> {
        let peer = self.names.id(name)?;
        let status = self.tunnel.device().peer(Instant::ORIGIN, peer);
        status.map(|_| peer).ok_or(Status::UnknownPeer)
    }

    fn add_peer(&mut self, now: Instant, config: &PeerConfig, prefixes: &[Prefix]) -> Result<u64, Status> {
        if config.reserved != 0 || config.reserved2 != 0 {
            return Err(Status::Unsupported);
        }
        // All that can be wrong comes before anything is changed.
        let (suite, path) = (suite(config.cipher)?, config.path.to_core()?);
        let prefixes = prefixes.iter().map(|prefix| prefix.to_core()).collect::<Result<Vec<_>, _>>()?;
        if !config.public_key.is_set() {
            return Err(Status::Invalid);
        }
        let device = self.tunnel.device_mut();
        let peer = device.add_peer(now, config.public_key.public()).map_err(|_| Status::OwnKey)?;
        device.set_preshared_key(peer, config.preshared_key.preshared());
        device.set_suite(now, peer, suite);
        if path.is_some() {
            device.set_path(now, peer, path);
        }
        for prefix in prefixes {
            device.add_allowed_ip(peer, prefix);
        }
        device.set_keepalive(now, peer, Some(config.keepalive));
        Ok(self.names.enter(peer))
    }
}

/// Writes as many of `values` as there is room for, and how many there are.
fn list<T>(values: impl Iterator<Item = T>, room: &mut [MaybeUninit<T>]) -> usize {
    let mut count = 0;
    for value in values {
        if let Some(place) = room.get_mut(count) {
            place.write(value);
        }
        count += 1;
    }
    count
}

/// Adds a peer, or changes the one with this public key: all but its path is set to what `config` says, its prefixes
/// are added to those it has, and so is its path if there is one. `peer` is what it is called from then on. A name is
/// never used again; that of a removed peer is SPAN_STATUS_UNKNOWN_PEER for ever.
///
/// SPAN_STATUS_OWN_KEY if the public key is the tunnel's own; SPAN_STATUS_INVALID if it is all zeros, or for a path,
/// prefix or cipher that does not exist.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_add_peer(
    tunnel: *mut Tunnel,
    now: u64,
    config: *const PeerConfig,
    peer: *mut u64,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let config = pointer::config(config)?;
            let prefixes = pointer::slice(config.allowed_ips, config.allowed_ips_count)?;
            let place = pointer::place(peer)?;
            place.write(state.add_peer(Instant::from_nanos(now), &config, prefixes)?);
            Ok(())
        })
    }
}

/// Removes a peer with all that belongs to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_remove_peer(tunnel: *mut Tunnel, peer: u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let peer = state.peer(peer)?;
            state.tunnel.remove_peer(peer);
            Ok(())
        })
    }
}

/// The peer with this public key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_find_peer(
    tunnel: *const Tunnel,
    public_key: *const Key,
    peer: *mut u64,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let (public_key, place) = (pointer::reference(public_key)?.public(), pointer::place(peer)?);
            let found = state.tunnel.device().find(&public_key).ok_or(Status::UnknownPeer)?;
            place.write(state.names.name(found));
            Ok(())
        })
    }
}

/// The peer a packet to this address goes to: the one with the longest prefix that holds it. The address is a prefix
/// of full length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_route(
    tunnel: *const Tunnel,
    address: *const Prefix,
    peer: *mut u64,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let (address, place) = (pointer::reference(address)?.to_core()?, pointer::place(peer)?);
            if address.prefix_len() != address.max_prefix_len() {
                return Err(Status::Invalid);
            }
            let found = state.tunnel.route(address.addr()).ok_or(Status::UnknownPeer)?;
            place.write(state.names.name(found));
            Ok(())
        })
    }
}

/// Writes the names of as many peers as there is room for, and to `count` how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_peers(
    tunnel: *const Tunnel,
    peers: *mut u64,
    room: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let peers = pointer::slice_mut(peers.cast::<MaybeUninit<u64>>(), room)?;
            let place = pointer::place(count)?;
            place.write(list(state.tunnel.device().peers().map(|peer| state.names.name(peer)), peers));
            Ok(())
        })
    }
}

/// Sets the symmetric key that is mixed into handshakes from the next one on; none if all zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_preshared_key(
    tunnel: *mut Tunnel,
    peer: u64,
    preshared_key: *const Key,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (key, peer) = (pointer::reference(preshared_key)?.preshared(), state.peer(peer)?);
            state.tunnel.device_mut().set_preshared_key(peer, key);
            Ok(())
        })
    }
}

/// Sets the seconds between persistent keepalives; none if zero. Turning it on sends one at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_keepalive(
    tunnel: *mut Tunnel,
    now: u64,
    peer: u64,
    seconds: u16,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let peer = state.peer(peer)?;
            state.tunnel.device_mut().set_keepalive(Instant::from_nanos(now), peer, Some(seconds));
            Ok(())
        })
    }
}

/// Sets the span_cipher of sessions that this side begins with the peer.
///
/// SPAN_STATUS_INVALID for one that does not exist.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_cipher(
    tunnel: *mut Tunnel,
    now: u64,
    peer: u64,
    cipher: u32,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (suite, peer) = (suite(cipher)?, state.peer(peer)?);
            state.tunnel.device_mut().set_suite(Instant::from_nanos(now), peer, suite);
            Ok(())
        })
    }
}

/// Sets where the peer is sent to, until it is heard from elsewhere; nowhere for a path of no kind. A handshake that
/// waited for a path begins at once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_path(
    tunnel: *mut Tunnel,
    now: u64,
    peer: u64,
    path: *const Path,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (path, peer) = (pointer::reference(path)?.to_core()?, state.peer(peer)?);
            state.tunnel.device_mut().set_path(Instant::from_nanos(now), peer, path);
            Ok(())
        })
    }
}

/// Gives the peer paths that may lead to it, the best first, in place of those given before. From then on the tunnel
/// finds the way itself: where no path is known to work, all are tried at once, and one that falls silent is
/// replaced. span_tunnel_poll_event tells of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_candidates(
    tunnel: *mut Tunnel,
    now: u64,
    peer: u64,
    paths: *const Path,
    count: usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (paths, peer) = (pointer::slice(paths, count)?, state.peer(peer)?);
            let to_core = |path: &Path| path.to_core()?.ok_or(Status::Invalid);
            let paths = paths.iter().map(to_core).collect::<Result<Vec<_>, _>>()?;
            let now = Instant::from_nanos(now);
            state.tunnel.set_candidates(now, peer, CandidateSource::Configured, &paths);
            Ok(())
        })
    }
}

/// Asks for a fresh handshake, at the earliest five seconds after the last one began.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_initiate(tunnel: *mut Tunnel, now: u64, peer: u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let peer = state.peer(peer)?;
            state.tunnel.device_mut().initiate(Instant::from_nanos(now), peer);
            Ok(())
        })
    }
}

/// Gives a prefix to a peer, taking it from the one that had it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_add_allowed_ip(
    tunnel: *mut Tunnel,
    peer: u64,
    prefix: *const Prefix,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (prefix, peer) = (pointer::reference(prefix)?.to_core()?, state.peer(peer)?);
            state.tunnel.device_mut().add_allowed_ip(peer, prefix);
            Ok(())
        })
    }
}

/// Takes a prefix from a peer.
///
/// SPAN_STATUS_INVALID if it was not the peer's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_remove_allowed_ip(
    tunnel: *mut Tunnel,
    peer: u64,
    prefix: *const Prefix,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let (prefix, peer) = (pointer::reference(prefix)?.to_core()?, state.peer(peer)?);
            let removed = state.tunnel.device_mut().remove_allowed_ip(peer, prefix);
            if removed { Ok(()) } else { Err(Status::Invalid) }
        })
    }
}

/// Takes all its prefixes from a peer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_clear_allowed_ips(tunnel: *mut Tunnel, peer: u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let peer = state.peer(peer)?;
            state.tunnel.device_mut().clear_allowed_ips(peer);
            Ok(())
        })
    }
}

/// Writes as many of a peer's prefixes as there is room for, IPv4 first, in order, and to `count` how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_allowed_ips(
    tunnel: *const Tunnel,
    peer: u64,
    prefixes: *mut Prefix,
    room: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let prefixes = pointer::slice_mut(prefixes.cast::<MaybeUninit<Prefix>>(), room)?;
            let place = pointer::place(count)?;
            let peer = state.peer(peer)?;
            place.write(list(state.tunnel.device().allowed_ips(peer).map(Prefix::from), prefixes));
            Ok(())
        })
    }
}
