//! What a tunnel tells its owner.

use crate::endpoint::{self, Cause};
use crate::path::Path;
use crate::wireguard::{self, Evidence, PeerId, Role};

/// Something that happened to a peer. Read with [`Tunnel::poll_event`](super::Tunnel::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A peer with candidates answers: from now on packets flow.
    PeerUp {
        /// Who.
        peer: PeerId,
    },
    /// A peer with candidates has left every handshake unanswered for
    /// [`DOWN_AFTER`](crate::endpoint::DOWN_AFTER). It is tried further.
    PeerDown {
        /// Who.
        peer: PeerId,
    },
    /// The peer is sent to somewhere else than before.
    PathChanged {
        /// Who.
        peer: PeerId,
        /// Where to now.
        path: Path,
        /// Why.
        why: PathReason,
    },
    /// A handshake is complete.
    Established {
        /// With whom.
        peer: PeerId,
        /// Over which path.
        path: Path,
        /// Which side the device was.
        role: Role,
    },
    /// No handshake succeeded for 90 s: packets staged for the peer are dropped.
    HandshakeFailed {
        /// With whom.
        peer: PeerId,
    },
}

/// Why a path changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathReason {
    /// The peer answered over it first, in a race that had this cause.
    Answered(Cause),
    /// The peer itself was heard from there.
    Roamed(Evidence),
}

/// Why [`Tunnel::poll_timeout`](super::Tunnel::poll_timeout) names an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Events wait to be read.
    Events,
    /// Copies of initiations wait to be sent.
    Probes,
    /// Initiations wait for their turn, so that many at once do not hold up packets.
    Initiations,
    /// A selection wants something.
    Selection(PeerId, endpoint::Reason),
    /// The device wants something.
    Device(wireguard::Reason),
}
