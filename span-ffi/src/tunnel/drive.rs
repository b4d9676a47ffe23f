//! The tunnel's own motion.

use std::mem::MaybeUninit;
use std::time::Duration;

use span_core::path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Reserve, TransmitKind};
use zeroize::Zeroizing;

use super::packet::{Packet, PacketResult};
use super::peers::SPAN_PEER_NONE;
use super::{State, Tunnel};
use crate::address::Path;
use crate::boundary::{change, read};
use crate::key::Key;
use crate::pointer;
use crate::status::Status;

/// The time that never comes.
pub const SPAN_NEVER: u64 = u64::MAX;

/// Does what is due: timers, and some of the handshake messages that wait. Then span_tunnel_poll_transmit may have
/// datagrams and span_tunnel_poll_event events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_handle_timeout(tunnel: *mut Tunnel, now: u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            state.tunnel.handle_timeout(Instant::from_nanos(now));
            Ok(())
        })
    }
}

/// When the tunnel wants attention next: span_tunnel_handle_timeout, then span_tunnel_poll_transmit and
/// span_tunnel_poll_event. A time that has passed means now, SPAN_NEVER that nothing happens by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_next_timeout(tunnel: *mut Tunnel, when: *mut u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let place = pointer::place(when)?;
            place.write(state.tunnel.poll_timeout().map_or(SPAN_NEVER, |(when, _)| when.as_nanos()));
            Ok(())
        })
    }
}

/// Takes datagrams that the tunnel sends by itself: handshakes, keepalives, packets that were staged. They are written
/// to the arena one after the other, and each is described by one of `datagrams`, of which there are `room`; send
/// them on their paths. `count` says how many there are. If it is `room`, there may be more.
///
/// SPAN_STATUS_NO_ROOM if the arena has no room for the first one. SPAN_DATAGRAM_MAX bytes are enough for any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_poll_transmit(
    tunnel: *mut Tunnel,
    now: u64,
    arena: *mut u8,
    arena_len: usize,
    datagrams: *mut Packet,
    room: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller's promise; the datagrams and the arena are not the same memory.
    unsafe {
        change(tunnel, |state| {
            let arena = pointer::slice_mut(arena, arena_len)?;
            let datagrams = pointer::slice_mut(datagrams.cast::<MaybeUninit<Packet>>(), room)?;
            let place = pointer::place(count)?;
            place.write(state.poll_transmit(Instant::from_nanos(now), arena, datagrams)?);
            Ok(())
        })
    }
}

/// Mixes 32 more bytes of true randomness into the tunnel's; the operating system's if NULL. A must after the machine
/// was copied while it ran, as a virtual machine can be: two copies would draw the same keys.
///
/// SPAN_STATUS_ENTROPY if the operating system is asked and has none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_reseed(tunnel: *mut Tunnel, seed: *const Key) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let fresh = if seed.is_null() {
                crate::key::randomness()?
            } else {
                Zeroizing::new(pointer::reference(seed)?.bytes)
            };
            state.tunnel.device_mut().reseed(*fresh);
            Ok(())
        })
    }
}

/// Corrects the wall clock, nanoseconds since 1970. One that was set back is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_set_unix_time(tunnel: *mut Tunnel, now: u64, unix_time: u64) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let unix = UnixTime::from_duration(Duration::from_nanos(unix_time));
            state.tunnel.device_mut().set_unix_time(Instant::from_nanos(now), unix);
            Ok(())
        })
    }
}

/// The tunnel's idea of the wall clock, nanoseconds since 1970. Keep it for the next span_tunnel_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_unix_time(
    tunnel: *const Tunnel,
    now: u64,
    unix_time: *mut u64,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(tunnel, |state| {
            let place = pointer::place(unix_time)?;
            place.write(nanos(state.tunnel.device().unix_time(Instant::from_nanos(now)).as_duration()));
            Ok(())
        })
    }
}

/// Nanoseconds as far as 64 bits hold them: until the year 2554.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl State {
    fn poll_transmit(
        &mut self,
        now: Instant,
        arena: &mut [u8],
        datagrams: &mut [MaybeUninit<Packet>],
    ) -> Result<usize, Status> {
        let mut arena = Arena { bytes: arena, used: 0, last: 0, refused: false };
        let mut count = 0;
        while let Some(place) = datagrams.get_mut(count) {
            let Some(transmit) = self.tunnel.poll_transmit(now, &mut arena) else { break };
            let result = match transmit.kind {
                TransmitKind::Initiation => PacketResult::Initiation,
                TransmitKind::Response => PacketResult::Response,
                TransmitKind::CookieReply => PacketResult::CookieReply,
                TransmitKind::Keepalive => PacketResult::Keepalive,
                TransmitKind::Data => PacketResult::Data,
            };
            place.write(Packet {
                at: arena.last as u32,
                len: transmit.len as u32,
                peer: transmit.peer.map_or(SPAN_PEER_NONE, |peer| self.names.name(peer)),
                path: Path::from(&transmit.path),
                result: result as u32,
                reason: 0,
            });
            count += 1;
        }
        if count == 0 && arena.refused { Err(Status::NoRoom) } else { Ok(count) }
    }
}

/// The caller's memory, filled from the front.
struct Arena<'a> {
    bytes: &'a mut [u8],
    used: usize,
    /// Where the slot lent last begins.
    last: usize,
    refused: bool,
}

impl Reserve for Arena<'_> {
    fn reserve(&mut self, _path: &path::Path, len: usize) -> Option<&mut [u8]> {
        let slot = self.bytes.get_mut(self.used..)?.get_mut(..len).filter(|_| self.used <= u32::MAX as usize);
        match slot {
            Some(_) => (self.last, self.used) = (self.used, self.used + len),
            None => self.refused = true,
        }
        slot
    }

    fn release(&mut self) {
        self.used = self.last;
    }
}
