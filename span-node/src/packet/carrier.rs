//! What every packet thread has: its own queue of the device, its own sockets, and the buffers between.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use span_core::time::Instant;

use super::ends::Ends;
use super::inbound::Inbound;
use super::lend::Lend;
use super::outbound::{Outbound, Sides, Turn};

pub(super) const WAKER: Token = Token(0);
const TUN: Token = Token(1);
pub(super) const MONITOR: Token = Token(2);
pub(super) const ALARM: Token = Token(3);
/// The sockets of the transport have this token and those after it.
const TRANSPORT: usize = 4;

/// Frames of the host carried before the other direction gets its turn: four super-packets are some
/// 250 KiB, and 64 small packets fill a burst.
const FRAMES_A_TURN: usize = 64;

/// Carries packets in both directions, as one thread does it.
pub(super) struct Carrier<T> {
    pub(super) poll: Poll,
    pub(super) tunnel: T,
    pub(super) ends: Ends,
    inbound: Inbound,
    pub(super) outbound: Outbound,
    /// Readiness comes once and holds until a call says that it would block.
    tun_ready: bool,
    /// Of the transport's descriptors, each a bit.
    readable: u64,
    /// The transport is polled for room to send as well.
    awaits_room: bool,
}

impl<T: Lend> Carrier<T> {
    pub(super) fn new(poll: Poll, tunnel: T, ends: Ends) -> io::Result<Self> {
        if let Some(tun) = ends.tun.descriptor() {
            poll.registry().register(&mut SourceFd(&tun), TUN, Interest::READABLE)?;
        }
        let inbound = Inbound::new(&*ends.tun);
        let mut this = Carrier {
            poll,
            tunnel,
            ends,
            inbound,
            outbound: Outbound::new(),
            tun_ready: true,
            readable: 0,
            awaits_room: false,
        };
        this.poll_transport()?;
        Ok(this)
    }

    /// Whether there are packets to carry already.
    pub(super) fn is_busy(&self) -> bool {
        self.readable != 0 || (self.tun_ready && !self.outbound.blocked())
    }

    /// Waits for something to do.
    pub(super) fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes note of what can be read, and sends what waits for room.
    pub(super) fn note(&mut self, event: &Event) {
        match event.token() {
            WAKER | MONITOR | ALARM => {}
            TUN => self.tun_ready = true,
            Token(token) => {
                if event.is_readable() || event.is_error() {
                    let bit = 1_u64.checked_shl((token - TRANSPORT) as u32);
                    self.readable |= bit.unwrap_or(u64::MAX);
                }
                if event.is_writable() && self.outbound.blocked() {
                    let now = self.ends.clock.now();
                    self.outbound.flush(now, &mut sides(&mut self.ends, &mut self.tunnel));
                }
            }
        }
    }

    /// One turn for each direction.
    pub(super) fn turn(&mut self, now: Instant) -> io::Result<()> {
        let sides = &mut sides(&mut self.ends, &mut self.tunnel);
        if self.readable != 0 && self.inbound.pump(now, self.readable, sides)? == Turn::Over {
            self.readable = 0;
        }
        self.tun_ready |= sides.tun.deadline().is_some_and(|deadline| deadline <= now);
        if self.tun_ready && !self.outbound.blocked() {
            let turn = self.outbound.pump(now, FRAMES_A_TURN, sides)?;
            self.tun_ready = turn == Turn::More || self.outbound.blocked();
        }
        Ok(())
    }

    /// Sends what the tunnel itself has to say.
    pub(super) fn drain(&mut self, now: Instant) {
        self.outbound.drain(now, &mut sides(&mut self.ends, &mut self.tunnel));
    }

    /// Brings the totals up to date.
    pub(super) fn count(&mut self) {
        self.ends.own_drops = self.outbound.drops() + self.inbound.drops();
    }

    /// Polls other descriptors if the transport has others.
    pub(super) fn follow_rebinding(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.ends.rebound) { self.poll_transport() } else { Ok(()) }
    }

    /// Polls the descriptors the transport has now. Those it had before left the poll when they were closed.
    fn poll_transport(&mut self) -> io::Result<()> {
        for (index, descriptor) in self.ends.transport.descriptors().iter().enumerate() {
            let token = Token(TRANSPORT + index);
            self.poll.registry().register(&mut SourceFd(descriptor), token, Interest::READABLE)?;
        }
        self.readable = u64::MAX;
        self.awaits_room = false;
        self.await_room()
    }

    /// Waits for room to send where there is none, and only there: a socket that is polled for it wakes this
    /// thread for every datagram that has left.
    pub(super) fn await_room(&mut self) -> io::Result<()> {
        let wanted = self.outbound.blocked();
        if wanted == self.awaits_room {
            return Ok(());
        }
        self.awaits_room = wanted;
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        for (index, descriptor) in self.ends.transport.descriptors().iter().enumerate() {
            let token = Token(TRANSPORT + index);
            self.poll.registry().reregister(&mut SourceFd(descriptor), token, interest)?;
        }
        Ok(())
    }
}

fn sides<'a, T>(ends: &'a mut Ends, tunnel: &'a mut T) -> Sides<'a, T> {
    Sides { tun: &mut *ends.tun, tunnel, transport: &mut *ends.transport }
}
