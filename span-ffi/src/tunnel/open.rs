//! In: datagrams become packets.

use span_core::path;
use span_core::time::Instant;
use span_core::wireguard::Inbound;

use super::drops::DropReason;
use super::packet::{Packet, PacketResult, SPAN_DATAGRAM_MAX};
use super::peers::SPAN_PEER_NONE;
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
        let mut rest = datagrams;
        while let Some(first) = rest.first() {
            let (at, len) = (first.at as usize, first.len as usize);
            let path = match known {
                Some((from, path)) if from == first.path => Ok(path),
                Some(_) | None => match first.path.to_core() {
                    Ok(Some(path)) => {
                        known = Some((first.path, path));
                        Ok(path)
                    }
                    Ok(None) | Err(_) => Err(PacketResult::Path),
                },
            };
            let stands = (1..=SPAN_DATAGRAM_MAX).contains(&len) && at + len <= arena.len();
            let path = match path {
                Ok(path) if stands => path,
                refused => {
                    rest[0].finish(refused.err().filter(|_| stands).unwrap_or(PacketResult::Length));
                    rest = &mut rest[1..];
                    continue;
                }
            };
            // What receive offload has joined.
            let mut end = at + len;
            let joins = |next: &&Packet| {
                let joins = next.at as usize == end
                    && next.len == first.len
                    && next.path == first.path
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
            self.tunnel.handle_burst(now, &path, burst, len, &mut |inbound| {
                if let Some(datagram) = run.next() {
                    opened += usize::from(matches!(inbound, Inbound::Packet { .. }));
                    report(datagram, at, inbound, |peer| names.name(peer));
                }
            });
        }
        opened
    }
}

#[inline]
fn report(
    datagram: &mut Packet,
    burst_at: usize,
    inbound: Inbound,
    name: impl Fn(span_core::wireguard::PeerId) -> u64,
) {
    match inbound {
        Inbound::Packet { peer, range } => {
            datagram.at = (burst_at + range.start) as u32;
            datagram.len = range.len() as u32;
            datagram.peer = name(peer);
            datagram.finish(PacketResult::Packet);
        }
        Inbound::Keepalive { peer } => {
            datagram.peer = name(peer);
            datagram.finish(PacketResult::Keepalive);
        }
        Inbound::Handshake => {
            datagram.peer = SPAN_PEER_NONE;
            datagram.finish(PacketResult::Handshake);
        }
        Inbound::Dropped(reason) => {
            datagram.peer = SPAN_PEER_NONE;
            datagram.finish(PacketResult::Dropped);
            datagram.reason = DropReason::from_core(reason) as u32;
        }
    }
}
