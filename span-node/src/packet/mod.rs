//! The packet threads: TUN on one side, UDP on the other, the tunnel between.
//!
//! Usually it is one thread, and it owns all three. It sleeps in one poll and wakes for a packet, a datagram, a
//! deadline, a change of the network or a command. Between the system call that brings a packet in and the one
//! that takes it out it changes neither threads nor, but for the one copy into its send slot, buffers.
//!
//! Several threads each have a queue of the TUN and sockets of their own, on one port. The kernel gives all
//! packets of a flow to the same queue and all datagrams from one place to the same socket, so that a flow stays
//! with one thread and in order. They [share](lend) the tunnel. The first of them, the leader, does all that is
//! not packets: deadlines, handshakes, events, the network, commands.

mod alarm;
mod carrier;
mod command;
mod crew;
mod ends;
mod inbound;
mod leader;
mod lend;
mod outbound;
mod sealing;
mod standing;

use std::io;
use std::num::NonZeroU8;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use mio::{Poll, Waker};
use span_core::tunnel::{self, Tunnel};
use span_core::wireguard::Sealer;
use span_nat::monitor::Monitor;
use span_nat::transport::{SendBatch, Transport};
use span_tun::device::Device;

pub(crate) use command::{Handle, Stopped};
pub(crate) use ends::Ends;

use crate::clock::Clock;
use carrier::{Carrier, WAKER};
use leader::Leader;
use lend::{Owned, Shared, Sharer};

/// What packets are carried with.
pub(crate) struct Parts {
    pub(crate) tunnel: Tunnel,
    pub(crate) tun: Box<dyn Device>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    /// How many threads carry. It is fewer where device or transport can be used by one thread only.
    pub(crate) threads: NonZeroU8,
}

/// The tunnel and both of its sides, for commands.
pub(crate) struct Core<'a> {
    pub(crate) tunnel: &'a mut Tunnel,
    ends: &'a mut Ends,
}

impl Core<'_> {
    /// Fits packets, and bursts of them, to the MTU of the device.
    fn follow_mtu(&mut self) -> io::Result<()> {
        let mtu = self.tun.mtu();
        self.tunnel.device_mut().set_mtu(mtu);
        self.tun.limit_frames(longest_frame(mtu.into()))
    }

    /// Looks again at what the device is like.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.ends.refresh()?;
        self.follow_mtu()
    }
}

impl Deref for Core<'_> {
    type Target = Ends;

    fn deref(&self) -> &Ends {
        self.ends
    }
}

impl DerefMut for Core<'_> {
    fn deref_mut(&mut self) -> &mut Ends {
        self.ends
    }
}

/// What the packet threads tell the node.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// Something happened to a peer.
    Tunnel(tunnel::Event),
    /// Interfaces, addresses or routes of the host changed.
    Network,
}

/// Takes a notice, with the tunnel as it is at that moment. Must not wait.
pub(crate) type Notify = Box<dyn Fn(&Tunnel, Notice) + Send>;

/// The loop of the packet thread, or of all of them.
pub(crate) struct PacketLoop(Box<dyn FnOnce() -> io::Result<()> + Send>);

impl PacketLoop {
    /// Sets up the loop; [`run`](Self::run) is for the thread it gets. More threads are its own affair.
    pub(crate) fn new(parts: Parts, monitor: Option<Monitor>, notify: Notify) -> io::Result<(Self, Handle)> {
        let Parts { mut tunnel, tun, transport, clock, threads } = parts;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (handle, commands) = Handle::new(Arc::clone(&waker));
        let mut ends = Ends::new(tun, transport, clock);
        Core { tunnel: &mut tunnel, ends: &mut ends }.follow_mtu()?;
        let others = others(&ends, threads)?;
        if others.is_empty() {
            let carrier = Carrier::new(poll, Owned::new(tunnel), ends)?;
            let leader = Leader::new(carrier, commands, monitor, notify)?;
            return Ok((PacketLoop(Box::new(move || leader.run())), handle));
        }
        let shared = Shared::new(tunnel, ends.clock.now(), Arc::clone(&waker));
        let hands = others.into_iter().map(|other| ends.crew.enlist(&shared, other));
        let hands = hands.collect::<io::Result<Vec<_>>>()?;
        let carrier = Carrier::new(poll, Sharer::new(shared), ends)?;
        let leader = Leader::new(carrier, commands, monitor, notify)?;
        let run = leader.beside(hands, waker);
        Ok((PacketLoop(Box::new(run)), handle))
    }

    /// Carries packets until told to stop.
    ///
    /// # Errors
    /// The TUN device or a socket is gone for good.
    pub(crate) fn run(self) -> io::Result<()> {
        (self.0)()
    }
}

/// The ends of all threads but the first, as far as there can be others.
fn others(ends: &Ends, threads: NonZeroU8) -> io::Result<Vec<Ends>> {
    let mut others = Vec::new();
    while others.len() + 1 < threads.get().into() {
        let Some(other) = ends.another()? else {
            tracing::warn!(
                wanted = threads,
                got = others.len() + 1,
                "fewer packet threads: the interface has no more queues, or this host does not let its flows be \
                 steered (CAP_BPF, or CAP_SYS_ADMIN), or the sockets were brought along"
            );
            break;
        };
        others.push(other);
    }
    Ok(others)
}

/// The longest super-packet of the host whose segments, sealed, leave in one burst.
fn longest_frame(mtu: usize) -> u32 {
    /// What an IPv6 packet with TCP timestamps has before its payload, and what the kernel sets aside for the
    /// headers of a super-packet.
    const HEADERS: usize = 72;
    const SET_ASIDE: usize = 320;
    /// The bytes of UDP that an IPv4 packet holds.
    const BURST: usize = 65_507;
    let segments = (BURST / Sealer::slot_len(mtu, mtu)).min(SendBatch::MAX_SEGMENTS);
    // One byte less than would give one segment more.
    let bytes = (segments + 1) * mtu.saturating_sub(HEADERS) + SET_ASIDE - 1;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
