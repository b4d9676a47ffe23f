//! What a device tells its owner, and what it hands out to be sent.

use core::ops::Range;

use super::counters::DropReason;
use super::session::Sealer;
use super::timers::Timer;
use crate::path::Path;
use alloc::sync::Arc;

/// A peer of one [`Device`](super::Device).
///
/// [`index`](PeerId::index) is dense and small, fit for a table of the caller's own. A removed peer's
/// index is used again, but the id of its successor differs: a stale id names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl PeerId {
    /// The peer's place in the device's table: below the largest number of peers there ever was.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    #[cfg(test)]
    pub(crate) const fn for_tests(index: u32) -> Self {
        PeerId { index, generation: 0 }
    }
}

/// Which side of the handshake this device was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It sent the initiation.
    Initiator,
    /// It sent the response.
    Responder,
}

/// The authenticated message a path was learnt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// A handshake initiation.
    Initiation,
    /// A handshake response.
    Response,
    /// A data packet or keepalive.
    Data,
}

/// Something that happened to a peer. Read with [`Device::poll_event`](super::Device::poll_event).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A handshake is complete: packets flow both ways. The responder learns it with the initiator's
    /// first data packet.
    SessionEstablished {
        /// Whose session it is.
        peer: PeerId,
        /// The path the message that completed it came over.
        path: Path,
        /// Which side this device was.
        role: Role,
    },
    /// The peer was heard from another place, and is now sent to there.
    PathLearnt {
        /// Who moved.
        peer: PeerId,
        /// Where it is now.
        path: Path,
        /// What proved it.
        by: Evidence,
    },
    /// An initiation of the peer was accepted and is answered. Where several come and no session follows,
    /// the answers do not arrive.
    Answered {
        /// Who asks.
        peer: PeerId,
        /// Where the answer goes.
        path: Path,
    },
    /// Data was sent and nothing came back for `KEEPALIVE_TIMEOUT + REKEY_TIMEOUT` (15 s and up to a third
    /// of a second). A new handshake is under way.
    NoAnswer {
        /// Who is silent.
        peer: PeerId,
    },
    /// No handshake succeeded for `REKEY_ATTEMPT_TIME` (90 s). Its staged packets are dropped, and nothing
    /// more is tried until there is something to send.
    HandshakeFailed {
        /// Who could not be reached.
        peer: PeerId,
    },
}

/// How to send to a peer. Answer of [`Device::outbound`](super::Device::outbound).
#[derive(Debug)]
pub enum Outbound<'a> {
    /// There is a session: seal packets with it and send them on the path.
    Ready(Sending<'a>),
    /// There is no session: hand the packets to [`Device::stage`](super::Device::stage). A handshake is
    /// under way.
    Stage,
    /// As [`Stage`](Outbound::Stage), but not even a path is known.
    NoPath,
    /// No such peer (it was removed).
    Gone,
}

/// What a burst to one peer needs.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Seals packets. Clone the `Arc` to seal on another thread.
    pub sealer: &'a Arc<Sealer>,
    /// Where they go.
    pub path: &'a Path,
}

/// What became of a datagram. Answer of [`Device::handle_datagram`](super::Device::handle_datagram).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Inbound {
    /// A packet for the inner side.
    Packet {
        /// Who sent it.
        peer: PeerId,
        /// Where the decrypted packet stands in the datagram's buffer, padding trimmed.
        range: Range<usize>,
    },
    /// An authenticated packet without contents.
    Keepalive {
        /// Who sent it.
        peer: PeerId,
    },
    /// A handshake message: taken into its queue, or answered at once by a cookie reply. Work on it is
    /// due now, see [`Device::poll_timeout`](super::Device::poll_timeout).
    Handshake,
    /// Nothing, and why. Already counted.
    Dropped(DropReason),
}

/// A datagram that was written into the slot lent by [`Reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transmit {
    /// Whom it is for; a cookie reply is for nobody yet known.
    pub peer: Option<PeerId>,
    /// Where it goes.
    pub path: Path,
    /// Its length in bytes.
    pub len: usize,
    /// What it is.
    pub kind: TransmitKind,
}

/// The kinds of datagrams a device sends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransmitKind {
    /// Handshake initiation, 148 bytes.
    Initiation,
    /// Handshake response, 92 bytes.
    Response,
    /// Cookie reply, 64 bytes.
    CookieReply,
    /// Data packet without contents, 32 bytes.
    Keepalive,
    /// A packet that was staged.
    Data,
}

/// Why [`Device::poll_timeout`](super::Device::poll_timeout) names an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Handshake messages wait to be worked on, by `handle_timeout`.
    Handshakes,
    /// Datagrams wait to be sent, by `poll_transmit`.
    Transmits,
    /// Initiations wait to be raced, by `poll_initiation`.
    Initiations,
    /// Events wait to be read, by `poll_event`.
    Events,
    /// A timer of a peer runs out.
    Timer(PeerId, Timer),
}

/// A place to put datagrams, lent by the caller.
pub trait Reserve {
    /// Lends `len` bytes at the place a datagram for `path` will be sent from; `None` when there is no
    /// room. The bytes may hold anything.
    ///
    /// What is lent is sent, in the order of lending, unless [`release`](Reserve::release) follows.
    fn reserve(&mut self, path: &Path, len: usize) -> Option<&mut [u8]>;

    /// Takes back the slot lent last: it is not to be sent.
    fn release(&mut self);
}
