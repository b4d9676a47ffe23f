//! Out: packets become datagrams.

use std::net::IpAddr;

use span_core::time::Instant;
use span_core::wireguard::{Outbound, PeerId, Sealer};

use super::packet::{Packet, PacketResult, SPAN_HEADROOM, SPAN_PACKET_MAX};
use super::peers::SPAN_PEER_NONE;
use super::{State, Tunnel};
use crate::address::Path;
use crate::boundary::change;
use crate::pointer;
use crate::status::Status;

/// Seals packets where they stand.
///
/// Each of the `count` packets stands in the `arena_len` bytes of the arena, with SPAN_HEADROOM bytes in front of it
/// and SPAN_TAILROOM behind that are overwritten; exactly as many as span_datagram_len says will do. It is for
/// `peer`, or, if that is SPAN_PEER_NONE, for the peer with the longest prefix that holds its destination.
///
/// Afterwards each says what became of it. SPAN_PACKET_RESULT_DATA: at its new place and length stands a datagram to be
/// sent on `path`. SPAN_PACKET_RESULT_STAGED: there is no session yet, a copy waits for one, and a handshake is due by
/// span_tunnel_poll_transmit. Any other: not sent, the packet is as it was.
///
/// `sealed`, unless NULL, says how many have become datagrams.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_seal(
    tunnel: *mut Tunnel,
    now: u64,
    arena: *mut u8,
    arena_len: usize,
    packets: *mut Packet,
    count: usize,
    sealed: *mut usize,
) -> Status {
    // SAFETY: the caller's promise; the packets and the arena are not the same memory.
    unsafe {
        change(tunnel, |state| {
            let (arena, packets) =
                (pointer::slice_mut(arena, arena_len)?, pointer::slice_mut(packets, count)?);
            let place = if sealed.is_null() { None } else { Some(pointer::place(sealed)?) };
            let sealed = state.seal(Instant::from_nanos(now), arena, packets);
            if let Some(place) = place {
                place.write(sealed);
            }
            Ok(())
        })
    }
}

impl State {
    fn seal(&mut self, now: Instant, arena: &mut [u8], packets: &mut [Packet]) -> usize {
        let mut sealed = 0;
        let mut rest = packets;
        while let Some(first) = rest.first_mut() {
            let taken = match self.target(arena, first) {
                Ok((peer, target)) => {
                    let group = self.seal_group(now, peer, &target, arena, rest);
                    sealed += group.sealed;
                    group.taken
                }
                Err(result) => {
                    first.finish(result);
                    1
                }
            };
            rest = &mut rest[taken..];
        }
        sealed
    }

    /// The peer a packet goes to, and what others that go there with it have in common.
    fn target(&self, arena: &[u8], packet: &Packet) -> Result<(PeerId, Target), PacketResult> {
        slot_len(arena, packet, self.mtu).ok_or(PacketResult::Length)?;
        if packet.peer == SPAN_PEER_NONE {
            let destination = destination(plain(arena, packet)).ok_or(PacketResult::NotIp)?;
            let peer = self.tunnel.route(destination).ok_or(PacketResult::NoRoute)?;
            Ok((peer, Target::Address(destination)))
        } else {
            let peer = self.names.id(packet.peer).map_err(|_| PacketResult::UnknownPeer)?;
            Ok((peer, Target::Peer(packet.peer)))
        }
    }

    /// Seals the packets at the front that go to the target, or stages them. The first is one of them.
    fn seal_group(
        &mut self,
        now: Instant,
        peer: PeerId,
        target: &Target,
        arena: &mut [u8],
        packets: &mut [Packet],
    ) -> Group {
        let (name, mtu) = (self.names.name(peer), self.mtu);
        let mut group = Group { taken: 0, sealed: 0 };
        match self.tunnel.outbound(now, peer) {
            Outbound::Ready(sending) => {
                let path = Path::from(sending.path);
                let mut bytes = 0;
                let mut rest = &mut *packets;
                while let Some(Run { count, start, len, slot_len }) = Run::first(arena, rest, target, mtu) {
                    let slots = &mut arena[start..start + count * slot_len];
                    clear_padding(slots, slot_len, len);
                    if sending.sealer.seal_burst(slots, slot_len).is_err() {
                        // The session is used up: the next one will seal them.
                        break;
                    }
                    let (run, behind) = rest.split_at_mut(count);
                    rest = behind;
                    for packet in run {
                        *packet = Packet {
                            at: packet.at - SPAN_HEADROOM as u32,
                            len: slot_len as u32,
                            peer: name,
                            path,
                            result: PacketResult::Data as u32,
                            reason: 0,
                        };
                    }
                    group.sealed += count;
                    bytes += count * slot_len;
                }
                self.tunnel.sent(now, peer, group.sealed as u32, bytes as u64);
                group.taken = group.sealed;
            }
            Outbound::Stage | Outbound::NoPath => {}
            Outbound::Gone => {
                packets[0].finish(PacketResult::UnknownPeer);
                return Group { taken: 1, sealed: 0 };
            }
        }
        for packet in &mut packets[group.taken..] {
            if slot_len(arena, packet, mtu).is_none() || !target.is_of(arena, packet) {
                break;
            }
            self.tunnel.stage(now, peer, plain(arena, packet));
            packet.peer = name;
            packet.finish(PacketResult::Staged);
            group.taken += 1;
        }
        group
    }
}

/// What packets that go to the same peer for the same reason have in common.
enum Target {
    /// The caller named the peer.
    Peer(u64),
    /// The caller left it to the allowed IPs.
    Address(IpAddr),
}

impl Target {
    /// Whether a packet that stands in the arena is one of them.
    #[inline]
    fn is_of(&self, arena: &[u8], packet: &Packet) -> bool {
        match self {
            Target::Peer(name) => packet.peer == *name,
            Target::Address(destination) => {
                packet.peer == SPAN_PEER_NONE && goes_to(plain(arena, packet), *destination)
            }
        }
    }
}

/// What became of the packets to one peer.
struct Group {
    /// How many there were.
    taken: usize,
    /// How many of them have become datagrams.
    sealed: usize,
}

/// Packets that stand where the datagrams of one message would, and can be sealed at once.
struct Run {
    count: usize,
    /// Where the first datagram begins in the arena.
    start: usize,
    /// The length of each packet.
    len: usize,
    /// The length of each datagram.
    slot_len: usize,
}

impl Run {
    /// As many as there are at the front, if the first is one for the target.
    #[inline]
    fn first(arena: &[u8], packets: &[Packet], target: &Target, mtu: usize) -> Option<Self> {
        let first = packets.first()?;
        let slot_len = slot_len(arena, first, mtu)?;
        if !target.is_of(arena, first) {
            return None;
        }
        let start = first.at as usize - SPAN_HEADROOM;
        let mut end = start + slot_len;
        let joins = |next: &&Packet| {
            let stands = next.at as usize == end + SPAN_HEADROOM
                && next.len == first.len
                && end + slot_len <= arena.len();
            end += slot_len;
            stands && target.is_of(arena, next)
        };
        let count = 1 + packets[1..].iter().take_while(joins).count();
        Some(Run { count, start, len: first.len as usize, slot_len })
    }
}

/// The length of the packet's slot, if it stands in the arena.
#[inline]
fn slot_len(arena: &[u8], packet: &Packet, mtu: usize) -> Option<usize> {
    let (at, len) = (packet.at as usize, packet.len as usize);
    if len == 0 || len > SPAN_PACKET_MAX || at < SPAN_HEADROOM {
        return None;
    }
    let slot_len = Sealer::slot_len(len, mtu);
    (at - SPAN_HEADROOM + slot_len <= arena.len()).then_some(slot_len)
}

/// The bytes of a packet that stands in the arena.
#[inline]
fn plain<'a>(arena: &'a [u8], packet: &Packet) -> &'a [u8] {
    &arena[packet.at as usize..][..packet.len as usize]
}

fn clear_padding(slots: &mut [u8], slot_len: usize, len: usize) {
    let padding = SPAN_HEADROOM + len..slot_len - (Sealer::OVERHEAD - SPAN_HEADROOM);
    if !padding.is_empty() {
        for slot in slots.chunks_exact_mut(slot_len) {
            slot[padding.clone()].fill(0);
        }
    }
}

/// Where an IP packet goes to.
#[inline]
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            Some(IpAddr::from(*header[16..].first_chunk::<4>()?))
        }
        6 => {
            let header = packet.first_chunk::<40>()?;
            Some(IpAddr::from(*header[24..].first_chunk::<16>()?))
        }
        _ => None,
    }
}

/// Whether it is an IP packet that goes there.
#[inline]
fn goes_to(packet: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            packet[0] >> 4 == 4 && packet.get(16..20).is_some_and(|bytes| *bytes == address.octets())
        }
        IpAddr::V6(address) => {
            packet[0] >> 4 == 6 && packet.get(24..40).is_some_and(|bytes| *bytes == address.octets())
        }
    }
}
