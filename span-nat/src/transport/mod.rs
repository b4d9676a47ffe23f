//! Carriers of datagrams, and the batches they are handed over in.
//!
//! A [`Transport`] never blocks and never fails for good because of one datagram: what could not be sent
//! is counted by its [`DropReason`], and only a full socket buffer stops a flush, so that the caller can
//! hold back what it reads instead of dropping it.

pub mod batch;
pub mod memory;
#[cfg(unix)]
pub mod udp;

use std::io;
#[cfg(unix)]
use std::os::fd::RawFd;

pub use span_core::ecn::Ecn;
use span_core::path::Path;
use thiserror::Error;

pub use batch::{FlushOutcome, Received, RecvBatch, SendBatch};

/// Something that carries datagrams over paths it understands.
pub trait Transport: Send {
    /// Appends what is waiting to `batch`, as far as it has room, and returns the number of entries
    /// added. If it has room left then, nothing waits any more: with edge-triggered readiness, call until then.
    ///
    /// # Errors
    /// Only what makes the transport as a whole unusable.
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize>;

    /// [`recv`](Self::recv) for those who know which [`descriptors`](Self::descriptors) may be readable: the
    /// lowest bit of `readable` stands for the first. The others need not be asked.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    fn recv_readable(&mut self, readable: u64, batch: &mut RecvBatch) -> io::Result<usize> {
        let _ = readable;
        self.recv(batch)
    }

    /// Sends one datagram, or one burst of equally long ones, whole or not at all.
    ///
    /// # Errors
    /// See [`SendError`]; none of them ends the transport.
    fn send(&mut self, transmit: &Transmit<'_>) -> Result<Sent, SendError>;

    /// How many datagrams one [`Transmit`] may hold; 1 where bursts are not supported. May fall while
    /// running, when a burst turns out not to be supported after all.
    fn max_segments(&self) -> usize;

    /// What to poll: for reading always, for writing after [`SendError::Blocked`]. Empty for a transport
    /// without descriptors, which a node cannot use. They stay the same but for [`rebind`](Self::rebind).
    #[cfg(unix)]
    fn descriptors(&self) -> &[RawFd];

    /// The UDP port at which others reach this transport on each address of this host; 0 if it is not
    /// reached in that way, and only at endpoints that are configured.
    fn local_port(&self) -> u16 {
        0
    }

    /// Moves to another port, 0 for one the host chooses. The [`descriptors`](Self::descriptors) are others
    /// then, and those before are closed.
    ///
    /// # Errors
    /// See [`udp::BindError`]; nothing has changed then. A transport without ports says
    /// [`Unsupported`](udp::BindError::Unsupported).
    #[cfg(unix)]
    fn rebind(&mut self, port: u16) -> Result<(), udp::BindError> {
        let _ = port;
        Err(udp::BindError::Unsupported)
    }

    /// The firewall mark of everything sent; 0 for none.
    fn mark(&self) -> u32 {
        0
    }

    /// Changes the firewall mark of everything sent from now on; 0 for none.
    ///
    /// # Errors
    /// [`udp::BindError::MarkDenied`] without the capability CAP_NET_ADMIN, and
    /// [`Unsupported`](udp::BindError::Unsupported) by a transport without marks.
    #[cfg(unix)]
    fn set_mark(&mut self, mark: u32) -> Result<(), udp::BindError> {
        let _ = mark;
        Err(udp::BindError::Unsupported)
    }

    /// Datagrams lost at sending since it was made, as far as it counts them.
    fn drops(&self) -> Drops {
        Drops::default()
    }

    /// Another transport like this one and at the same port, for another thread: it sends as this one does, and all
    /// datagrams from one place come to the same of them, as long as none is closed. `None` if there can be but one.
    ///
    /// # Errors
    /// See [`udp::BindError`].
    #[cfg(unix)]
    fn sibling(&self) -> Result<Option<Box<dyn Transport>>, udp::BindError> {
        Ok(None)
    }
}

/// Datagrams for one path.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where they go, and where from.
    pub path: Path,
    /// The datagrams, one behind the other.
    pub contents: &'a [u8],
    /// The length of each datagram in bytes; the last may be shorter. `None` for a single datagram.
    pub segment_size: Option<usize>,
    /// The mark for congestion control in the outer IP header.
    pub ecn: Ecn,
}

impl Transmit<'_> {
    /// How many datagrams it is.
    pub fn datagrams(&self) -> u64 {
        let len = self.contents.len();
        self.segment_size.map_or(1, |segment| len.div_ceil(segment.max(1))) as u64
    }
}

/// How a [`Transmit`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// As asked for.
    Done,
    /// From an address the host chose, because the path's source is no longer an address of this host
    /// or no longer leads to the peer. The path should forget its source.
    SourceLost,
}

/// Why a [`Transmit`] did not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The socket's buffer is full: wait until it is writable and send the same again.
    #[error("the socket's buffer is full")]
    Blocked,
    /// This burst cannot leave as one over this path: send its datagrams one by one.
    #[error("the burst must be sent as single datagrams")]
    Unsegmented,
    /// These datagrams are lost.
    #[error("{0}")]
    Dropped(DropReason),
}

/// Why datagrams were lost at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[repr(u8)]
pub enum DropReason {
    /// Longer than a datagram can be, or than the path takes without fragments.
    #[error("datagram too long for the path")]
    TooLong,
    /// The remote host answered that nobody listens there.
    #[error("remote port unreachable")]
    Refused,
    /// No route leads there, or the next hop does not answer.
    #[error("no route to the remote address")]
    Unreachable,
    /// A local firewall or a missing capability forbids it.
    #[error("sending is forbidden by this host")]
    Denied,
    /// The path is of another kind or family than this transport has, or has no usable address.
    #[error("the transport cannot use such a path")]
    Unsupported,
    /// The kernel had no memory or queue space for it.
    #[error("the host is out of buffers")]
    NoBuffers,
    /// Any other error of the socket.
    #[error("socket error")]
    Other,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [DropReason; 7] = [
        DropReason::TooLong,
        DropReason::Refused,
        DropReason::Unreachable,
        DropReason::Denied,
        DropReason::Unsupported,
        DropReason::NoBuffers,
        DropReason::Other,
    ];
}

/// Datagrams lost, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Datagrams lost for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Datagrams lost for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, also those that never happened.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().map(|reason| (reason, self.get(reason)))
    }

    /// Counts those of another transport as well.
    pub fn merge(&mut self, others: &Drops) {
        for (count, more) in self.0.iter_mut().zip(others.0) {
            *count += more;
        }
    }

    pub(crate) fn add(&mut self, reason: DropReason, datagrams: u64) {
        self.0[reason as usize] += datagrams;
    }
}
