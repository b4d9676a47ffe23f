//! How packets are lent.

use span_core::wireguard::Sealer;

use crate::address::Path;

/// Bytes in front of a packet that sealing writes to.
pub const SPAN_HEADROOM: usize = 16;

/// Bytes behind a packet that sealing writes to at most: padding and the tag.
pub const SPAN_TAILROOM: usize = 31;

/// Bytes of the largest packet.
pub const SPAN_PACKET_MAX: usize = 65535;

/// Bytes of the largest datagram.
pub const SPAN_DATAGRAM_MAX: usize = 65582;

const _: () = assert!(SPAN_HEADROOM == Sealer::PLAINTEXT_AT);
const _: () = assert!(SPAN_TAILROOM == 15 + Sealer::OVERHEAD - SPAN_HEADROOM);
const _: () = assert!(SPAN_DATAGRAM_MAX == SPAN_PACKET_MAX + SPAN_HEADROOM + SPAN_TAILROOM);

/// One packet or datagram of a batch, in memory that the batch shares, the *arena*. Calls turn one into the other
/// where it stands, and say so here.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it begins in the arena, in bytes.
    pub at: u32,
    /// Its length in bytes.
    pub len: u32,
    /// The peer it is for or from; SPAN_PEER_NONE where unknown.
    pub peer: u64,
    /// Where it goes to or came from.
    pub path: Path,
    /// What became of it: a span_packet_result.
    pub result: u32,
    /// SPAN_PACKET_RESULT_DROPPED: why, a span_drop_reason.
    pub reason: u32,
}

/// What became of a packet or datagram.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketResult {
    /// Nothing yet. No call leaves it.
    None = 0,
    /// A datagram to be sent to `path`, which carries a packet.
    Data = 1,
    /// A datagram to be sent: the first message of a handshake.
    Initiation = 2,
    /// A datagram to be sent: the answer to it.
    Response = 3,
    /// A datagram to be sent: asks its receiver to prove its address.
    CookieReply = 4,
    /// To be sent, a datagram that only says that this side is there; received, the same of the peer.
    Keepalive = 5,
    /// A packet of the peer's for the inner side.
    Packet = 6,
    /// A handshake message was taken in. Work on it is due now: span_tunnel_handle_timeout.
    Handshake = 7,
    /// The packet was copied and waits for a handshake; span_tunnel_poll_transmit will have it.
    Staged = 8,
    /// The datagram was dropped, for `reason`. It is counted.
    Dropped = 9,
    /// Not sealed: no peer has the packet's destination among its allowed IPs.
    NoRoute = 10,
    /// Not sealed: not an IP packet.
    NotIp = 11,
    /// Not touched: the peer is not, or no longer, one of the tunnel's.
    UnknownPeer = 12,
    /// Not touched: it does not stand in the arena with the room it needs, is empty, or is too long.
    Length = 13,
    /// Not touched: the path is none.
    Path = 14,
}

/// The length of the datagram that a packet of `len` bytes becomes, for a tunnel with this MTU (1420 if zero): 16
/// bytes in front, padding to a multiple of 16 unless it would cross the MTU, 16 bytes behind. Any thread.
///
/// Packets of one length, to one peer, whose distance in the arena is just this are sealed together, which is
/// faster, and can leave as one message with segmentation offload.
#[unsafe(no_mangle)]
pub extern "C" fn span_datagram_len(len: usize, mtu: usize) -> usize {
    let mtu = if mtu == 0 { super::DEFAULT_MTU.into() } else { mtu };
    if len > SPAN_PACKET_MAX { 0 } else { Sealer::slot_len(len, mtu) }
}

impl Packet {
    pub(super) fn finish(&mut self, result: PacketResult) {
        self.result = result as u32;
        self.reason = 0;
    }
}
