//! What happened to datagrams that were not delivered, and how often.

/// Why a datagram or packet was dropped. Counted, never logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Not one of WireGuard's four messages, by type or length.
    Malformed,
    /// This device has no private key yet.
    NoPrivateKey,
    /// A handshake message without a valid first MAC: its sender does not know our public key.
    InvalidMac1,
    /// A handshake message over its source's allowance while this device is under load.
    RateLimited,
    /// The queue of handshake messages was full.
    HandshakeQueueFull,
    /// The queue of cookie replies was full.
    CookieQueueFull,
    /// The receiver index belongs to no session or handshake of ours.
    UnknownIndex,
    /// An initiation from a public key that is not a peer's.
    UnknownPeer,
    /// A handshake message or cookie reply that does not authenticate.
    InvalidHandshake,
    /// An initiation whose timestamp is not newer than the last one accepted.
    StaleInitiation,
    /// An initiation within 20 ms of the last one accepted from that peer.
    InitiationFlood,
    /// A session older than `REJECT_AFTER_TIME`, or one that has used up its counters.
    ExpiredSession,
    /// A data packet that does not authenticate.
    Forged,
    /// A data packet seen before, or too old to tell.
    Replayed,
    /// The decrypted bytes are not an IP packet, or one longer than they are.
    NotIp,
    /// The decrypted packet's source address is not the peer's (cryptokey routing).
    SourceNotAllowed,
    /// A staged packet gave way to a newer one.
    StagedOverflow,
    /// A staged packet waited for a session that never came.
    StagedExpired,
    /// An event nobody read gave way to a newer one.
    EventOverflow,
    /// A datagram that arrived over a path inside the mesh itself; counted by the
    /// [`Tunnel`](crate::tunnel::Tunnel).
    ForbiddenPath,
}

impl DropReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [DropReason; DropReason::COUNT] = [
        DropReason::Malformed,
        DropReason::NoPrivateKey,
        DropReason::InvalidMac1,
        DropReason::RateLimited,
        DropReason::HandshakeQueueFull,
        DropReason::CookieQueueFull,
        DropReason::UnknownIndex,
        DropReason::UnknownPeer,
        DropReason::InvalidHandshake,
        DropReason::StaleInitiation,
        DropReason::InitiationFlood,
        DropReason::ExpiredSession,
        DropReason::Forged,
        DropReason::Replayed,
        DropReason::NotIp,
        DropReason::SourceNotAllowed,
        DropReason::StagedOverflow,
        DropReason::StagedExpired,
        DropReason::EventOverflow,
        DropReason::ForbiddenPath,
    ];

    const COUNT: usize = DropReason::ForbiddenPath as usize + 1;

    /// The reason's name in metrics: lower case, words joined by `_`.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Malformed => "malformed",
            DropReason::NoPrivateKey => "no_private_key",
            DropReason::InvalidMac1 => "invalid_mac1",
            DropReason::RateLimited => "rate_limited",
            DropReason::HandshakeQueueFull => "handshake_queue_full",
            DropReason::CookieQueueFull => "cookie_queue_full",
            DropReason::UnknownIndex => "unknown_index",
            DropReason::UnknownPeer => "unknown_peer",
            DropReason::InvalidHandshake => "invalid_handshake",
            DropReason::StaleInitiation => "stale_initiation",
            DropReason::InitiationFlood => "initiation_flood",
            DropReason::ExpiredSession => "expired_session",
            DropReason::Forged => "forged",
            DropReason::Replayed => "replayed",
            DropReason::NotIp => "not_ip",
            DropReason::SourceNotAllowed => "source_not_allowed",
            DropReason::StagedOverflow => "staged_overflow",
            DropReason::StagedExpired => "staged_expired",
            DropReason::EventOverflow => "event_overflow",
            DropReason::ForbiddenPath => "forbidden_path",
        }
    }
}

/// Totals of one device since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Initiations written, retries included. One that is raced over several paths counts once.
    pub initiations_sent: u64,
    /// Initiations accepted and answered.
    pub initiations_accepted: u64,
    /// Responses accepted: handshakes this device began and completed.
    pub responses_accepted: u64,
    /// Cookie replies written.
    pub cookies_sent: u64,
    /// Cookie replies accepted.
    pub cookies_accepted: u64,
    /// Handshakes given up after `REKEY_ATTEMPT_TIME`.
    pub handshakes_failed: u64,
    drops: [u64; DropReason::COUNT],
}

impl Counters {
    /// How many datagrams or packets were dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// All drops, whatever the reason.
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn drop(&mut self, reason: DropReason, count: u64) {
        self.drops[reason as usize] += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut counters = Counters::default();
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "ALL is in the order of declaration");
            counters.drop(reason, place as u64 + 1);
        }
        for (place, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(counters.dropped(reason), place as u64 + 1);
        }
        assert_eq!(counters.dropped_total(), (1..=DropReason::COUNT as u64).sum());
    }
}
