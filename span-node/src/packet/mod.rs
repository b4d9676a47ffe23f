//! The packet thread: TUN on one side, UDP on the other, the tunnel between.
//!
//! One thread owns all three. It sleeps in one poll and wakes for a packet, a datagram, a deadline, a
//! change of the network or a command. Between the system call that brings a packet in and the one that
//! takes it out it changes neither threads nor, but for the one copy into its send slot, buffers.

mod alarm;
mod command;
mod inbound;
mod outbound;
mod sealing;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use span_core::path::{Path, Source};
use span_core::time::Instant;
use span_core::tunnel::{self, Tunnel};
use span_core::wireguard::Sealer;
use span_nat::monitor::Monitor;
use span_nat::transport::udp::BindError;
use span_nat::transport::{SendBatch, Transport};
use span_tun::device::Device;

pub(crate) use command::{Handle, Stopped};
pub(crate) use outbound::Drops;

use crate::clock::Clock;
use alarm::Alarm;
use command::Command;
use inbound::Inbound;
use outbound::{Outbound, Sides, Turn};

const WAKER: Token = Token(0);
const TUN: Token = Token(1);
const MONITOR: Token = Token(2);
const ALARM: Token = Token(3);
/// The sockets of the transport have this token and those after it.
const TRANSPORT: usize = 4;

/// Frames of the host carried before the other direction gets its turn: four super-packets are some
/// 250 KiB, and 64 small packets fill a burst.
const FRAMES_A_TURN: usize = 64;

/// What the packet thread is made of.
pub(crate) struct Core {
    pub(crate) tunnel: Tunnel,
    pub(crate) tun: Box<dyn Device>,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Packets of the host that did not leave.
    pub(crate) drops: Drops,
    /// The transport's descriptors are others than before.
    rebound: bool,
    stopping: bool,
}

impl Core {
    pub(crate) fn new(
        tunnel: Tunnel,
        tun: Box<dyn Device>,
        transport: Box<dyn Transport>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let drops = Drops::default();
        let mut core = Core { tunnel, tun, transport, clock, drops, rebound: false, stopping: false };
        core.follow_mtu()?;
        Ok(core)
    }

    /// Fits packets, and bursts of them, to the MTU of the device.
    fn follow_mtu(&mut self) -> io::Result<()> {
        let mtu = self.tun.mtu();
        self.tunnel.device_mut().set_mtu(mtu);
        self.tun.limit_frames(longest_frame(mtu.into()))
    }

    /// Moves the transport to another port; 0 lets the host choose.
    pub(crate) fn rebind(&mut self, port: u16) -> Result<(), BindError> {
        let before = self.transport.local_port();
        self.transport.rebind(port)?;
        // Refused, or already there: the descriptors are those that are polled already.
        self.rebound |= self.transport.local_port() != before;
        Ok(())
    }

    /// Looks again at what the device is like.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.tun.refresh()?;
        self.follow_mtu()
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}

/// What the packet thread tells the node.
#[derive(Clone, Debug)]
pub(crate) enum Notice {
    /// Something happened to a peer.
    Tunnel(tunnel::Event),
    /// Interfaces, addresses or routes of the host changed.
    Network,
}

/// Takes a notice, with the tunnel as it is at that moment. Must not wait.
pub(crate) type Notify = Box<dyn Fn(&Tunnel, Notice) + Send>;

/// The loop of the packet thread.
pub(crate) struct PacketLoop {
    poll: Poll,
    core: Core,
    commands: Receiver<Command>,
    monitor: Option<Monitor>,
    alarm: Alarm,
    /// Where to tell what happened; told without waiting.
    notify: Notify,
    inbound: Inbound,
    outbound: Outbound,
    /// Readiness comes once and holds until a call says that it would block.
    tun_ready: bool,
    /// Of the transport's descriptors, each a bit.
    readable: u64,
    /// The transport is polled for room to send as well.
    awaits_room: bool,
}

impl PacketLoop {
    /// Sets up the loop; [`run`](Self::run) is for the thread it gets.
    pub(crate) fn new(
        mut core: Core,
        monitor: Option<Monitor>,
        notify: Notify,
    ) -> io::Result<(Self, Handle)> {
        let poll = Poll::new()?;
        let (handle, commands) = Handle::new(Waker::new(poll.registry(), WAKER)?);
        if let Some(tun) = core.tun.descriptor() {
            poll.registry().register(&mut SourceFd(&tun), TUN, Interest::READABLE)?;
        }
        if let Some(monitor) = &monitor {
            poll.registry().register(&mut SourceFd(&monitor.descriptor()), MONITOR, Interest::READABLE)?;
        }
        let alarm = Alarm::new()?;
        poll.registry().register(&mut SourceFd(&alarm.descriptor()), ALARM, Interest::READABLE)?;
        core.rebound = false;
        let now = core.clock.now();
        let inbound = Inbound::new(now, &*core.tun);
        let mut this = PacketLoop {
            poll,
            core,
            commands,
            monitor,
            alarm,
            notify,
            inbound,
            outbound: Outbound::new(now),
            tun_ready: true,
            readable: 0,
            awaits_room: false,
        };
        this.poll_transport()?;
        Ok((this, handle))
    }

    /// Carries packets until told to stop.
    ///
    /// # Errors
    /// The TUN device or a socket is gone for good.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        while !self.core.stopping {
            let timeout = self.timeout()?;
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut network_changed = false;
            for event in &events {
                match event.token() {
                    WAKER => {}
                    TUN => self.tun_ready = true,
                    MONITOR => network_changed = true,
                    ALARM => self.alarm.went_off(),
                    Token(token) => {
                        if event.is_readable() || event.is_error() {
                            let bit = 1_u64.checked_shl((token - TRANSPORT) as u32);
                            self.readable |= bit.unwrap_or(u64::MAX);
                        }
                        if event.is_writable() && self.outbound.blocked() {
                            let now = self.core.clock.now();
                            self.outbound.flush(now, &mut sides(&mut self.core));
                        }
                    }
                }
            }
            if network_changed {
                self.follow_network()?;
            }
            self.obey()?;
            self.work(self.core.clock.now())?;
            self.await_room()?;
        }
        Ok(())
    }

    /// How long to wait for the next event: not at all while there is work. Deadlines are the alarm's.
    fn timeout(&mut self) -> io::Result<Option<Duration>> {
        if self.readable != 0 || (self.tun_ready && !self.outbound.blocked()) {
            return Ok(Some(Duration::ZERO));
        }
        let tunnel = self.core.tunnel.poll_timeout().map(|(deadline, _)| deadline);
        // With nothing to send into, a device that is due waits like everything else.
        let device = self.core.tun.deadline().filter(|_| !self.outbound.blocked());
        if let Some(deadline) = tunnel.into_iter().chain(device).min() {
            let now = self.core.clock.now();
            if device.is_some_and(|due| due <= now) {
                return Ok(Some(Duration::ZERO));
            }
            self.alarm.set(now, deadline)?;
        }
        Ok(None)
    }

    /// One turn for each direction and for the tunnel's own business.
    fn work(&mut self, now: Instant) -> io::Result<()> {
        let sides = &mut sides(&mut self.core);
        if self.readable != 0 && self.inbound.pump(now, self.readable, sides)? == Turn::Over {
            self.readable = 0;
        }
        self.tun_ready |= sides.tun.deadline().is_some_and(|deadline| deadline <= now);
        if self.tun_ready && !self.outbound.blocked() {
            let turn = self.outbound.pump(now, FRAMES_A_TURN, sides)?;
            self.tun_ready = turn == Turn::More || self.outbound.blocked();
        }
        sides.tunnel.handle_timeout(now);
        self.outbound.drain(now, sides);
        self.core.drops = self.outbound.drops() + self.inbound.drops();
        while let Some(event) = self.core.tunnel.poll_event() {
            (self.notify)(&self.core.tunnel, Notice::Tunnel(event));
        }
        Ok(())
    }

    /// Carries out what other threads asked for.
    fn obey(&mut self) -> io::Result<()> {
        while let Ok(command) = self.commands.try_recv() {
            command(&mut self.core);
        }
        if std::mem::take(&mut self.core.rebound) {
            self.poll_transport()?;
        }
        Ok(())
    }

    /// Interfaces, addresses or routes changed: sources may be gone, and better ways may have come.
    fn follow_network(&mut self) -> io::Result<()> {
        let Some(monitor) = &mut self.monitor else { return Ok(()) };
        let mut changed = false;
        loop {
            let changes = monitor.poll()?;
            changed |= changes.any();
            if !changes.more {
                break;
            }
        }
        if !changed {
            return Ok(());
        }
        self.core.refresh()?;
        let lost = lost_sources(&self.core, monitor);
        self.core.tunnel.network_changed(self.core.clock.now(), |source| !lost.contains(source));
        (self.notify)(&self.core.tunnel, Notice::Network);
        Ok(())
    }

    /// Polls the descriptors the transport has now. Those it had before left the poll when they were closed.
    fn poll_transport(&mut self) -> io::Result<()> {
        for (index, descriptor) in self.core.transport.descriptors().iter().enumerate() {
            let token = Token(TRANSPORT + index);
            self.poll.registry().register(&mut SourceFd(descriptor), token, Interest::READABLE)?;
        }
        self.readable = u64::MAX;
        self.awaits_room = false;
        self.await_room()
    }

    /// Waits for room to send where there is none, and only there: a socket that is polled for it wakes this
    /// thread for every datagram that has left.
    fn await_room(&mut self) -> io::Result<()> {
        let wanted = self.outbound.blocked();
        if wanted == self.awaits_room {
            return Ok(());
        }
        self.awaits_room = wanted;
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        for (index, descriptor) in self.core.transport.descriptors().iter().enumerate() {
            let token = Token(TRANSPORT + index);
            self.poll.registry().reregister(&mut SourceFd(descriptor), token, interest)?;
        }
        Ok(())
    }
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

/// The local addresses in use that are gone, or that the host would no longer choose.
fn lost_sources(core: &Core, monitor: &mut Monitor) -> BTreeSet<Source> {
    /// Each costs a question to the kernel while packets wait.
    const QUESTIONS_A_SOURCE: usize = 32;
    let (now, mark) = (core.clock.now(), core.transport.mark());
    let device = core.tunnel.device();
    let mut asked: BTreeMap<Source, usize> = BTreeMap::new();
    let mut lost = BTreeSet::new();
    for peer in device.peers() {
        let path = device.peer(now, peer).and_then(|peer| peer.path.copied());
        let Some(Path::Udp(udp)) = path else { continue };
        let Some(source) = udp.source else { continue };
        let asked = asked.entry(source).or_default();
        if *asked < QUESTIONS_A_SOURCE && !lost.contains(&source) {
            *asked += 1;
            // Where the kernel does not answer, the next datagram that fails to leave tells.
            if !monitor.source_holds(&udp, mark).unwrap_or(true) {
                lost.insert(source);
            }
        }
    }
    lost
}

fn sides(core: &mut Core) -> Sides<'_> {
    Sides { tun: &mut *core.tun, tunnel: &mut core.tunnel, transport: &mut *core.transport }
}
