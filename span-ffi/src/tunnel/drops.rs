//! Why datagrams and packets were dropped, and how often.

use std::ffi::{CStr, c_char};

use span_core::wireguard::DropReason as Reason;

use super::Tunnel;
use crate::boundary::read;
use crate::pointer;
use crate::status::Status;

/// Why a datagram or packet was dropped. The numbers never change.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A reason that this version of the interface has no number for.
    Other = 0,
    /// Not one of WireGuard's four messages, by type or length.
    Malformed = 1,
    /// The tunnel has no private key yet.
    NoPrivateKey = 2,
    /// A handshake message without a valid first MAC: its sender does not know our public key.
    InvalidMac1 = 3,
    /// A handshake message over its source's allowance while the tunnel is under load.
    RateLimited = 4,
    /// The queue of handshake messages was full.
    HandshakeQueueFull = 5,
    /// The queue of cookie replies was full.
    CookieQueueFull = 6,
    /// The receiver index belongs to no session or handshake of ours.
    UnknownIndex = 7,
    /// An initiation from a public key that is not a peer's.
    UnknownPeer = 8,
    /// A handshake message or cookie reply that does not authenticate.
    InvalidHandshake = 9,
    /// An initiation whose timestamp is not newer than the last one accepted.
    StaleInitiation = 10,
    /// An initiation within 20 ms of the last one accepted from that peer.
    InitiationFlood = 11,
    /// A session that is too old, or has used up its counters.
    ExpiredSession = 12,
    /// A data packet that does not authenticate.
    Forged = 13,
    /// A data packet seen before, or too old to tell.
    Replayed = 14,
    /// The decrypted bytes are not an IP packet, or one longer than they are.
    NotIp = 15,
    /// The decrypted packet's source address is not the peer's.
    SourceNotAllowed = 16,
    /// A staged packet gave way to a newer one.
    StagedOverflow = 17,
    /// A staged packet waited for a session that never came.
    StagedExpired = 18,
    /// An event nobody read gave way to a newer one.
    EventOverflow = 19,
    /// A datagram that arrived over a path inside the mesh itself.
    ForbiddenPath = 20,
}

/// One more than the largest span_drop_reason of this version.
pub const SPAN_DROP_REASONS: u32 = 21;

impl DropReason {
    /// Each reason with its number and name. The core's own order is not the interface's.
    const TABLE: [(DropReason, Reason, &CStr); SPAN_DROP_REASONS as usize - 1] = [
        (DropReason::Malformed, Reason::Malformed, c"malformed"),
        (DropReason::NoPrivateKey, Reason::NoPrivateKey, c"no_private_key"),
        (DropReason::InvalidMac1, Reason::InvalidMac1, c"invalid_mac1"),
        (DropReason::RateLimited, Reason::RateLimited, c"rate_limited"),
        (DropReason::HandshakeQueueFull, Reason::HandshakeQueueFull, c"handshake_queue_full"),
        (DropReason::CookieQueueFull, Reason::CookieQueueFull, c"cookie_queue_full"),
        (DropReason::UnknownIndex, Reason::UnknownIndex, c"unknown_index"),
        (DropReason::UnknownPeer, Reason::UnknownPeer, c"unknown_peer"),
        (DropReason::InvalidHandshake, Reason::InvalidHandshake, c"invalid_handshake"),
        (DropReason::StaleInitiation, Reason::StaleInitiation, c"stale_initiation"),
        (DropReason::InitiationFlood, Reason::InitiationFlood, c"initiation_flood"),
        (DropReason::ExpiredSession, Reason::ExpiredSession, c"expired_session"),
        (DropReason::Forged, Reason::Forged, c"forged"),
        (DropReason::Replayed, Reason::Replayed, c"replayed"),
        (DropReason::NotIp, Reason::NotIp, c"not_ip"),
        (DropReason::SourceNotAllowed, Reason::SourceNotAllowed, c"source_not_allowed"),
        (DropReason::StagedOverflow, Reason::StagedOverflow, c"staged_overflow"),
        (DropReason::StagedExpired, Reason::StagedExpired, c"staged_expired"),
        (DropReason::EventOverflow, Reason::EventOverflow, c"event_overflow"),
        (DropReason::ForbiddenPath, Reason::ForbiddenPath, c"forbidden_path"),
    ];

    pub(super) fn from_core(reason: Reason) -> Self {
        let known = Self::TABLE.iter().find(|(_, known, _)| *known == reason);
        known.map_or(DropReason::Other, |(number, ..)| *number)
    }
}

/// The name of a span_drop_reason, as metrics have it: lower case, words joined by underscores. Static; any other
/// number is "other". Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn span_drop_reason_name(reason: u32) -> *const c_char {
    let known = DropReason::TABLE.iter().find(|(number, ..)| *number as u32 == reason);
    known.map_or(c"other", |(_, _, name)| name).as_ptr()
}

/// How many datagrams and packets were dropped for a span_drop_reason since the tunnel was made.
///
/// SPAN_STATUS_INVALID if there is no such reason.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_dropped(tunnel: *const Tunnel, reason: u32, count: *mut u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let place = pointer::place(count)?;
            let device = state.tunnel.device().counters();
            let tunnel = state.tunnel.counters();
            let of = |reason: Reason| match reason {
                Reason::ForbiddenPath => tunnel.forbidden_datagrams,
                Reason::EventOverflow => device.dropped(reason) + tunnel.events_lost,
                _ => device.dropped(reason),
            };
            place.write(if reason == DropReason::Other as u32 {
                Reason::ALL
                    .into_iter()
                    .filter(|r| DropReason::from_core(*r) == DropReason::Other)
                    .map(of)
                    .sum()
            } else {
                let known = DropReason::TABLE.iter().find(|(number, ..)| *number as u32 == reason);
                of(known.ok_or(Status::Invalid)?.1)
            });
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_core_has_its_number_and_name() {
        for reason in Reason::ALL {
            let number = DropReason::from_core(reason);
            assert_ne!(number, DropReason::Other, "{reason:?} needs a number");
            // SAFETY: the names are static texts.
            let name = unsafe { CStr::from_ptr(span_drop_reason_name(number as u32)) };
            assert_eq!(name.to_str().unwrap(), reason.name());
        }
        for (place, (number, ..)) in DropReason::TABLE.iter().enumerate() {
            assert_eq!(*number as usize, place + 1);
        }
    }
}
