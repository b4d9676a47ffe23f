//! The WireGuard protocol, complete and without a socket, a clock or a thread.
//!
//! A [`Device`] is one interface: a private key and its peers. It is a state machine. Hand it what
//! happened, with the time: packets from the inner side, datagrams from the outer side, a deadline that
//! has come. Then take what it has to say, until it says nothing more: datagrams from
//! [`poll_transmit`](Device::poll_transmit), events from [`poll_event`](Device::poll_event), and from
//! [`poll_timeout`](Device::poll_timeout) when to call [`handle_timeout`](Device::handle_timeout).
//!
//! The device owns no packet. Outbound, [`route`](Device::route) finds the peer and
//! [`outbound`](Device::outbound) its [`Sealer`], which seals the packet where it stands: in the caller's
//! buffer, sixteen bytes from the front of its slot. Inbound,
//! [`handle_datagram`](Device::handle_datagram) decrypts in place and says where the packet is.
//!
//! Several threads may share a device behind a lock and encrypt and decrypt beside each other: a [`Sealer`] is
//! used without the device, and so is an [`Opening`], which [`begin_burst`](Device::begin_burst) hands out and
//! [`finish_burst`](Device::finish_burst) takes back.
//!
//! Everything is taken from the paper, "WireGuard: Next Generation Kernel Network Tunnel", whose sections
//! the modules name; where the paper is silent, from what Linux does. The [crate's page](crate) shows two
//! devices at work.

mod agenda;
mod clock;
mod constants;
mod cookie;
mod counters;
mod deadlines;
mod device;
mod event;
mod handshake;
mod index;
mod inner;
mod message;
mod peer;
mod queue;
mod random;
mod ratelimit;
mod replay;
mod session;
mod timers;

pub(crate) use clock::Clock;
pub use constants::{
    COOKIE_SECRET_MAX_AGE, KEEPALIVE_TIMEOUT, PADDING, REJECT_AFTER_BLOCKS, REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME, REKEY_AFTER_BLOCKS, REKEY_AFTER_MESSAGES, REKEY_AFTER_TIME, REKEY_ATTEMPT_TIME,
    REKEY_TIMEOUT,
};
pub use counters::{Counters, DropReason};
pub(crate) use deadlines::Deadlines;
pub use device::{AddPeerError, Device, Opening, PeerStatus};
pub use event::{
    Event, Evidence, Inbound, Outbound, PeerId, Reason, Reserve, Role, Sending, Transmit, TransmitKind,
};
pub use message::{COOKIE_REPLY_LEN, DATA_HEADER_LEN, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
pub use session::{SealError, Sealer};
pub use timers::Timer;
