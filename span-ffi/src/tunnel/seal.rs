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
        while let Some(first) = rest.first() {
            let target = self.target(arena, first);
            // Those behind it that go to the same peer for the same reason.
            let mut count = 1;
            if target.is_ok() {
                let together = |next: &Packet| {
                    next.peer == first.peer
                        && self.slot_len(arena, next).is_some()
                        && (next.peer != SPAN_PEER_NONE
                            || same_destination(plain(arena, first), plain(arena, next)))
                };
                count += rest[1..].iter().take_while(|next| together(next)).count();
            }
            let (group, behind) = rest.split_at_mut(count);
            rest = behind;
            match target {
                Ok(peer) => sealed += self.seal_group(now, peer, arena, group),
                Err(result) => group.iter_mut().for_each(|packet| packet.finish(result)),
            }
        }
        sealed
    }

    /// The length of the packet's slot, if it stands in the arena.
    #[inline]
    fn slot_len(&self, arena: &[u8], packet: &Packet) -> Option<usize> {
        let (at, len) = (packet.at as usize, packet.len as usize);
        if len == 0 || len > SPAN_PACKET_MAX || at < SPAN_HEADROOM {
            return None;
        }
        let slot_len = Sealer::slot_len(len, self.mtu);
        (at - SPAN_HEADROOM + slot_len <= arena.len()).then_some(slot_len)
    }

    /// The peer a packet goes to.
    fn target(&self, arena: &[u8], packet: &Packet) -> Result<PeerId, PacketResult> {
        self.slot_len(arena, packet).ok_or(PacketResult::Length)?;
        if packet.peer == SPAN_PEER_NONE {
            let destination = destination(plain(arena, packet)).ok_or(PacketResult::NotIp)?;
            self.tunnel.route(destination).ok_or(PacketResult::NoRoute)
        } else {
            self.names.id(packet.peer).map_err(|_| PacketResult::UnknownPeer)
        }
    }

    /// Seals packets to one peer, or stages them. Returns how many are sealed.
    fn seal_group(&mut self, now: Instant, peer: PeerId, arena: &mut [u8], group: &mut [Packet]) -> usize {
        let (name, mtu) = (self.names.name(peer), self.mtu);
        let (mut sealed, mut bytes) = (0, 0);
        let mut rest = group;
        match self.tunnel.outbound(now, peer) {
            Outbound::Ready(sending) => {
                let path = Path::from(sending.path);
                while let Some(first) = rest.first() {
                    let len = first.len as usize;
                    let slot_len = Sealer::slot_len(len, mtu);
                    let start = first.at as usize - SPAN_HEADROOM;
                    // As many as stand where the datagrams of one message would.
                    let mut end = start + slot_len;
                    let joins = |next: &&Packet| {
                        let joins = next.len as usize == len && next.at as usize - SPAN_HEADROOM == end;
                        end += slot_len;
                        joins
                    };
                    let count = 1 + rest[1..].iter().take_while(joins).count();
                    let slots = &mut arena[start..start + count * slot_len];
                    clear_padding(slots, slot_len, len);
                    if sending.sealer.seal_burst(slots, slot_len).is_err() {
                        // The session is used up: the next one will seal them.
                        break;
                    }
                    let (run, behind) = rest.split_at_mut(count);
                    rest = behind;
                    for packet in run {
                        packet.at -= SPAN_HEADROOM as u32;
                        packet.len = slot_len as u32;
                        packet.peer = name;
                        packet.path = path;
                        packet.finish(PacketResult::Data);
                    }
                    sealed += count;
                    bytes += count * slot_len;
                }
                self.tunnel.sent(now, peer, sealed as u32, bytes as u64);
            }
            Outbound::Stage | Outbound::NoPath => {}
            Outbound::Gone => {
                rest.iter_mut().for_each(|packet| packet.finish(PacketResult::UnknownPeer));
                return 0;
            }
        }
        for packet in rest {
            self.tunnel.stage(now, peer, plain(arena, packet));
            packet.peer = name;
            packet.finish(PacketResult::Staged);
        }
        sealed
    }
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

/// Whether `next` goes where `first` does, which is an IP packet.
#[inline]
fn same_destination(first: &[u8], next: &[u8]) -> bool {
    let destination = if first[0] >> 4 == 4 { 16..20 } else { 24..40 };
    first[0] >> 4 == next[0] >> 4 && next.get(destination.clone()) == first.get(destination)
}
