//! In: datagrams become packets.

use span_core::path;
use span_core::time::Instant;
use span_core::wireguard::{Inbound, PeerId};

use super::drops::DropReason;
use super::packet::{Packet, PacketResult, SPAN_DATAGRAM_MAX};
use super::peers::{Names, SPAN_PEER_NONE};
use super::{State, Tunnel};
use crate::address::Path;
use crate::boundary::change;
use crate::pointer;
use crate::status::Status;

/// Opens datagrams where they stand.
///
/// Each of the `count` datagrams stands in the `arena_len` bytes of the arena and came over its `path`. Those that
/// came over one path, stand side by side and are of one length, as receive offload joins them, are opened
/// together, which is faster.
///
/// Afterwards each says what became of it. SPAN_PACKET_RESULT_PACKET: at its new place and length stands a packet of
/// `peer`, whose source is one of that peer's allowed IPs. SPAN_PACKET_RESULT_HANDSHAKE: work is due, see
/// span_tunnel_next_timeout. SPAN_PACKET_RESULT_DROPPED: nothing, for `reason`; what stands there is undefined.
///
/// `opened`, unless NULL, says how many have become packets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_open(
    tunnel: *mut Tunnel,
    now: u64,
    arena: *mut u8,
    arena_len: usize,
    datagrams: *mut Packet,
    count: usize,
    opened: *mut usize,
) -> Status {
    // SAFETY: the caller's promise; the datagrams and the arena are not the same memory.
    unsafe {
        change(tunnel, |state| {
            let (arena, datagrams) =
                (pointer::slice_mut(arena, arena_len)?, pointer::slice_mut(datagrams, count)?);
            let place = if opened.is_null() { None } else { Some(pointer::place(opened)?) };
            let opened = state.open(Instant::from_nanos(now), arena, datagrams);
            if let Some(place) = place {
                place.write(opened);
            }
            Ok(())
        })
    }
}

impl State {
    fn open(&mut self, now: Instant, arena: &mut [u8], datagrams: &mut [Packet]) -> usize {
        let mut opened = 0;
        // The path translated last: datagrams come in runs.
        let mut known: Option<(Path, path::Path)> = None;
        // The sender named last.
        let mut sender: Option<(PeerId, u64)> = None;
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let (at, len) = (first.at as usize, first.len as usize);
            if !known.as_ref().is_some_and(|(from, _)| from.is(&first.path)) {
                known = first.path.to_core().ok().flatten().map(|path| (first.path, path));
            }
            let stands = (1..=SPAN_DATAGRAM_MAX).contains(&len) && at + len <= arena.len();
            let path = match &known {
                Some((_, path)) if stands => path,
                _ => {
                    rest[0].finish(if stands { PacketResult::Path } else { PacketResult::Length });
                    rest = &mut rest[1..];
                    continue;
                }
            };
            // What receive offload has joined.
            let mut end = at + len;
            let joins = |next: &&Packet| {
                let joins = next.at as usize == end
                    && next.len == first.len
                    && next.path.is(&first.path)
                    && end + len <= arena.len();
                end += len;
                joins
            };
            let count = 1 + rest[1..].iter().take_while(joins).count();
            let (run, behind) = rest.split_at_mut(count);
            rest = behind;
            let burst = &mut arena[at..at + count * len];
            let names = &self.names;
            let mut run = run.iter_mut();
            self.tunnel.handle_burst(now, path, burst, len, &mut |inbound| {
                let Some(datagram) = run.next() else { return };
                let Inbound::Packet { peer, range } = inbound else {
                    return report(datagram, &inbound, names);
                };
                let name = match sender {
                    Some((id, name)) if id == peer => name,
                    Some(_) | None => names.name(peer),
                };
                sender = Some((peer, name));
                datagram.at = (at + range.start) as u32;
                datagram.len = (range.end - range.start) as u32;
                datagram.peer = name;
                datagram.finish(PacketResult::Packet);
                opened += 1;
            });
        }
        opened
    }
}

/// Says what became of a datagram that has not become a packet.
#[cold]
fn report(datagram: &mut Packet, inbound: &Inbound, names: &Names) {
    let (peer, result, reason) = match inbound {
        Inbound::Packet { peer, .. } => (names.name(*peer), PacketResult::Packet, 0),
        Inbound::Keepalive { peer } => (names.name(*peer), PacketResult::Keepalive, 0),
        Inbound::Handshake => (SPAN_PEER_NONE, PacketResult::Handshake, 0),
        Inbound::Dropped(reason) => {
            (SPAN_PEER_NONE, PacketResult::Dropped, DropReason::from_core(*reason) as u32)
        }
    };
    datagram.peer = peer;
    datagram.finish(result);
    datagram.reason = reason;
}
