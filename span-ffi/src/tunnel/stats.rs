//! How a tunnel and its peers are doing.

use span_core::time::Instant;

use super::drive::nanos;
use super::{Cipher, Tunnel};
use crate::address::Path;
use crate::boundary::read;
use crate::key::Key;
use crate::pointer::{self, Versioned};
use crate::status::Status;

/// A peer as wg show has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PeerStats {
    /// sizeof(span_peer_stats), set before the call; after it, how many bytes the library wrote.
    pub size: u32,
    /// The span_cipher of the session, if there is one.
    pub cipher: u32,
    /// The peer's public key.
    pub public_key: Key,
    /// Where the peer is sent to.
    pub path: Path,
    /// When the last handshake was completed, in nanoseconds since 1970; 0 if none was.
    pub last_handshake: u64,
    /// The age of the session in nanoseconds; SPAN_NEVER if there is none.
    pub session_age: u64,
    /// Bytes of authentic datagrams received.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent.
    pub tx_bytes: u64,
    /// Packets that wait for a session.
    pub staged: u32,
    /// Seconds between persistent keepalives; 0 for none.
    pub keepalive: u32,
}

// SAFETY: numbers and bytes, the first of which is the size.
unsafe impl Versioned for PeerStats {
    const FIRST_SIZE: usize = 136;
}

/// Totals of a tunnel since it was made. Drops are in span_tunnel_dropped.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct TunnelCounters {
    /// sizeof(span_counters), set before the call; after it, how many bytes the library wrote.
    pub size: u32,
    /// Reserved.
    pub reserved: u32,
    /// Initiations written, retries included. One that goes over several paths counts once.
    pub initiations_sent: u64,
    /// Initiations accepted and answered.
    pub initiations_accepted: u64,
    /// Handshakes that this side began and completed.
    pub responses_accepted: u64,
    /// Cookie replies written.
    pub cookies_sent: u64,
    /// Cookie replies accepted.
    pub cookies_accepted: u64,
    /// Handshakes given up after 90 s.
    pub handshakes_failed: u64,
    /// Copies of initiations sent to candidates.
    pub probes: u64,
    /// Events nobody read that gave way to newer ones.
    pub events_lost: u64,
    /// All drops, whatever the reason.
    pub dropped: u64,
}

// SAFETY: numbers, the first of which is the size.
unsafe impl Versioned for TunnelCounters {
    const FIRST_SIZE: usize = 80;
}

/// How a peer is configured and doing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_peer_stats(
    tunnel: *const Tunnel,
    now: u64,
    peer: u64,
    stats: *mut PeerStats,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let place = pointer::report(stats)?;
            let peer = state.names.id(peer)?;
            let status =
                state.tunnel.device().peer(Instant::from_nanos(now), peer).ok_or(Status::UnknownPeer)?;
            place.write(&PeerStats {
                size: 0,
                cipher: status.suite.map_or(0, |suite| Cipher::from_core(suite) as u32),
                public_key: Key { bytes: *status.public_key.as_bytes() },
                path: status.path.map_or(Path::default(), Path::from),
                last_handshake: status.last_handshake.map_or(0, |unix| nanos(unix.as_duration())),
                session_age: status.session_age.map_or(super::SPAN_NEVER, nanos),
                rx_bytes: status.rx_bytes,
                tx_bytes: status.tx_bytes,
                staged: status.staged as u32,
                keepalive: status.keepalive.map_or(0, u32::from),
            });
            Ok(())
        })
    }
}

/// What the tunnel has done so far.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_counters(
    tunnel: *const Tunnel,
    counters: *mut TunnelCounters,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let place = pointer::report(counters)?;
            let (tunnel, device) = (state.tunnel.counters(), state.tunnel.device().counters());
            place.write(&TunnelCounters {
                size: 0,
                reserved: 0,
                initiations_sent: device.initiations_sent,
                initiations_accepted: device.initiations_accepted,
                responses_accepted: device.responses_accepted,
                cookies_sent: device.cookies_sent,
                cookies_accepted: device.cookies_accepted,
                handshakes_failed: device.handshakes_failed,
                probes: tunnel.probes,
                events_lost: tunnel.events_lost,
                dropped: device.dropped_total() + tunnel.forbidden_datagrams + tunnel.events_lost,
            });
            Ok(())
        })
    }
}
