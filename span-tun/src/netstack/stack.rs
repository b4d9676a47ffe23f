//! What all sockets share: the tables that packets find them by, and the queues they send from.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::task::Waker;
use std::time::Duration;

use smoltcp::iface::{self, Interface, SocketSet};
use smoltcp::wire::{HardwareAddress, IpCidr};
use span_core::time::Instant;

use super::Drops;
use super::config::Config;
use super::frame::{self, Packet};
use super::outbox::Outbox;
use super::ping::Echo;
use super::port::{Blueprint, Port, capabilities};
use super::slab::Slab;
use super::tcp::{Connection, Flow, Listener};
use super::udp::Datagrams;
use crate::device::MAX_FRAME;
use crate::offload::icmp::Limiter;
use crate::offload::packet::{Ipv4, Ipv6, Tcp, protocol};
use crate::offload::{Gso, VirtioHeader};

/// smoltcp waits a second at least before it sends anything again, as RFC 6298 has it. Everyone else waits 200
/// ms, so its clock goes five times as fast as ours. Nothing else of what it does takes a given time: acknowledgements
/// do not wait here, and its congestion control counts round trips.
const PACE: u64 = 5;
/// When a connection that wants to be polled, and then has nothing to say, is polled again.
const AGAIN: Duration = Duration::from_millis(1);
/// Frames to addresses of our own that are carried in a row before the packet thread gets its turn.
const LOOPED: usize = 16;
/// The first port that is given to those who ask for none (RFC 6335, section 6), and how many there are.
const EPHEMERAL: u16 = 49_152;
const EPHEMERALS: u16 = 16_384;

pub(super) struct Stack {
    pub(super) config: Config,
    pub(super) closed: bool,
    pub(super) interface: Interface,
    /// The set of no sockets: what smoltcp answers to those who mean nobody.
    nobody: SocketSet<'static>,
    pub(super) connections: Slab<Connection>,
    pub(super) flows: HashMap<Flow, usize>,
    /// Connections that may have something to send, each once.
    ready: VecDeque<usize>,
    timers: BTreeSet<(Instant, usize)>,
    pub(super) listeners: Slab<Listener>,
    pub(super) listening: HashMap<SocketAddr, usize>,
    pub(super) datagrams: Slab<Datagrams>,
    pub(super) bound: HashMap<SocketAddr, usize>,
    pub(super) echoes: HashMap<u16, Echo>,
    pub(super) outbox: Outbox,
    /// Whose turn it is to send: the outbox or the connections.
    outbox_next: bool,
    /// Where smoltcp writes its answers.
    room: Vec<u8>,
    errors: Limiter,
    next_port: u16,
    pub(super) drops: Drops,
    /// Tasks to wake when the lock is released.
    pub(super) wakers: Vec<Waker>,
    /// The packet thread found nothing to do and may sleep.
    pub(super) asleep: bool,
    /// The descriptor is readable.
    pub(super) rung: bool,
}

impl Stack {
    pub(super) fn new(config: Config) -> Self {
        let now = config.clock.now();
        let interface = interface(&config, now, usize::from(u16::MAX));
        let seed = config.random_seed();
        Self {
            closed: false,
            interface,
            nobody: SocketSet::new(Vec::new()),
            connections: Slab::new(),
            flows: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            listeners: Slab::new(),
            listening: HashMap::new(),
            datagrams: Slab::new(),
            bound: HashMap::new(),
            echoes: HashMap::new(),
            outbox: Outbox::new(config.queue),
            outbox_next: true,
            room: vec![0; MAX_FRAME],
            errors: Limiter::new(Duration::from_nanos(now.as_nanos())),
            next_port: (seed >> 32) as u16 % EPHEMERALS,
            drops: Drops::default(),
            wakers: Vec::new(),
            asleep: false,
            rung: false,
            config,
        }
    }

    /// Makes super-packets no longer than `bytes`.
    pub(super) fn limit_frames(&mut self, now: Instant, bytes: usize) {
        self.interface = interface(&self.config, now, bytes.min(usize::from(u16::MAX)));
    }

    /// When there is something to do; the origin of the clock if it is now.
    pub(super) fn due(&self) -> Option<Instant> {
        if !self.ready.is_empty() || !self.outbox.is_empty() {
            return Some(Instant::ORIGIN);
        }
        self.timers.first().map(|&(at, _)| at)
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.config.addresses.contains(&address)
    }

    /// The address that packets to `peer` come from.
    pub(super) fn source_for(&self, peer: IpAddr) -> io::Result<IpAddr> {
        if self.is_own(peer) {
            return Ok(peer);
        }
        let mut of_the_family = self.config.addresses.iter().filter(|own| own.is_ipv4() == peer.is_ipv4());
        of_the_family.next().copied().ok_or_else(|| ErrorKind::AddrNotAvailable.into())
    }

    /// Payload of a TCP packet of full length between hosts of this MTU, in bytes.
    pub(super) fn segment(&self, address: IpAddr) -> u16 {
        self.config.mtu - (frame::network_header(address) + Tcp::HEADER_LEN) as u16
    }

    /// A port that `taken` does not have.
    pub(super) fn free_port(&mut self, mut taken: impl FnMut(&Self, u16) -> bool) -> io::Result<u16> {
        for _ in 0..EPHEMERALS {
            self.next_port = (self.next_port + 1) % EPHEMERALS;
            let port = EPHEMERAL + self.next_port;
            if !taken(self, port) {
                return Ok(port);
            }
        }
        Err(ErrorKind::AddrNotAvailable.into())
    }

    /// Where a socket is to be bound, if nobody is there. Port 0 becomes a free one.
    pub(super) fn place(
        &mut self,
        wanted: SocketAddr,
        taken: impl Fn(&Self, SocketAddr) -> bool,
    ) -> io::Result<SocketAddr> {
        let mut place = SocketAddr::new(wanted.ip().to_canonical(), wanted.port());
        if !place.ip().is_unspecified() && !self.is_own(place.ip()) {
            return Err(ErrorKind::AddrNotAvailable.into());
        }
        if place.port() == 0 {
            let ip = place.ip();
            place.set_port(self.free_port(|stack, port| taken(stack, SocketAddr::new(ip, port)))?);
        } else if taken(self, place) {
            return Err(ErrorKind::AddrInUse.into());
        }
        Ok(place)
    }

    /// The socket in `table` that is bound to this address: exactly, to all of its family, or to all.
    pub(super) fn bound_to(table: &HashMap<SocketAddr, usize>, local: SocketAddr) -> Option<usize> {
        let any = |ip: IpAddr| table.get(&SocketAddr::new(ip, local.port())).copied();
        any(local.ip())
            .or_else(|| local.is_ipv4().then(|| any([0; 4].into())).flatten())
            .or_else(|| any([0u16; 8].into()))
    }

    /// Takes a frame of the mesh.
    pub(super) fn ingest(&mut self, now: Instant, header: &VirtioHeader, frame: &mut [u8]) {
        let Some(packet) = Packet::parse(frame) else {
            self.drops.malformed += 1;
            return;
        };
        let stranger = packet.source.is_unspecified() || packet.source.is_multicast();
        if stranger || !self.is_own(packet.destination) || header.gso == Gso::Udp {
            self.drops.misdirected += 1;
            return;
        }
        let frame = &mut frame[..packet.end];
        if !header.needs_checksum && !packet.is_intact(frame) {
            self.drops.damaged += 1;
            return;
        }
        match (packet.protocol, packet.destination.is_ipv4()) {
            (protocol::TCP, _) => self.take_segment(now, &packet, frame),
            (protocol::UDP, _) => self.take_datagram(now, &packet, frame),
            (protocol::ICMP, true) | (protocol::ICMPV6, false) => self.take_icmp(now, &packet, frame),
            _ => self.refuse(now, frame),
        }
    }

    /// Lets smoltcp say that nobody here wants the packet, in the words of its protocol.
    pub(super) fn refuse(&mut self, now: Instant, frame: &[u8]) {
        if self.errors.allow(Duration::from_nanos(now.as_nanos())) {
            self.feed(now, None, frame);
        }
    }

    /// Gives smoltcp a frame, for one connection or none.
    pub(super) fn feed(&mut self, now: Instant, connection: Option<usize>, frame: &[u8]) {
        let mut port = Port { input: Some(frame), output: Some(&mut self.room), written: 0 };
        let (set, segment) = match connection.and_then(|id| self.connections.get_mut(id)) {
            Some(connection) => (&mut connection.set, connection.segment),
            None => (&mut self.nobody, u16::MAX),
        };
        self.interface.poll_ingress_single(paced(now), &mut port, set);
        let written = port.written;
        if written == 0 {
            return;
        }
        let answer = &mut self.room[..written];
        let header = match Packet::parse(answer) {
            Some(packet) if packet.protocol == protocol::TCP => {
                frame::offload_tcp(answer, packet.at, segment)
            }
            Some(_) | None => VirtioHeader::default(),
        };
        if !self.outbox.push(header, |frame| frame.extend_from_slice(answer)) {
            self.drops.queue_full += 1;
        }
    }

    /// Writes the next frame to the beginning of `buf`, which holds any.
    pub(super) fn emit(&mut self, now: Instant, buf: &mut [u8]) -> Option<(VirtioHeader, usize)> {
        self.expire(now);
        for _ in 0..LOOPED {
            let (header, len) = self.next_frame(now, buf)?;
            match Packet::parse(&buf[..len]) {
                Some(packet) if self.is_own(packet.destination) => {
                    self.ingest(now, &header, &mut buf[..len]);
                }
                Some(_) | None => return Some((header, len)),
            }
        }
        None
    }

    fn next_frame(&mut self, now: Instant, buf: &mut [u8]) -> Option<(VirtioHeader, usize)> {
        self.outbox_next = !self.outbox_next;
        let first = if self.outbox_next { self.pop_outbox(buf) } else { self.emit_segment(now, buf) };
        first.or_else(|| if self.outbox_next { self.emit_segment(now, buf) } else { self.pop_outbox(buf) })
    }

    fn pop_outbox(&mut self, buf: &mut [u8]) -> Option<(VirtioHeader, usize)> {
        let popped = self.outbox.pop(buf);
        if !self.outbox.room.is_empty() && self.outbox.is_roomy() {
            self.outbox.room.wake(&mut self.wakers);
        }
        popped
    }

    /// Lets the connections speak, one frame each in turn.
    fn emit_segment(&mut self, now: Instant, buf: &mut [u8]) -> Option<(VirtioHeader, usize)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.queued = false;
            self.give_up(now, id);
            self.probe(now, id);
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let before = connection.state();
            let mut port = Port { input: None, output: Some(&mut *buf), written: 0 };
            self.interface.poll_egress(paced(now), &mut port, &mut connection.set);
            let len = port.written;
            if len > 0 {
                let header = self.finish_segment(now, id, &mut buf[..len]);
                self.review(now, id, before, false);
                self.touch(id);
                return Some((header, len));
            }
            self.review(now, id, before, false);
            self.settle(now, id);
        }
        None
    }

    /// Notes that a connection may have something to send.
    pub(super) fn touch(&mut self, id: usize) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.queued
        {
            connection.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Finds out when a connection has something to send, after the application did something with it.
    pub(super) fn settle(&mut self, now: Instant, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.queued {
            return;
        }
        let wanted = self.interface.poll_at(paced(now), &connection.set).map(unpaced);
        // If it is due, it had its turn just now.
        let wanted = wanted.map(|at| if at <= now { now + AGAIN } else { at });
        let probe = connection.recovery.probe_at(connection.segment);
        let Some(at) = wanted.into_iter().chain(connection.abort_at).chain(probe).min() else { return };
        // Timers move away with every acknowledgement; one that is early finds that out.
        if connection.timer.is_none_or(|timer| at < timer) {
            let before = connection.timer.replace(at);
            if let Some(before) = before {
                self.timers.remove(&(before, id));
            }
            self.timers.insert((at, id));
        }
    }

    /// Queues a connection if it has something to send now.
    pub(super) fn prod(&mut self, now: Instant, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.queued {
            return;
        }
        match self.interface.poll_at(paced(now), &connection.set).map(unpaced) {
            Some(at) if at <= now => self.touch(id),
            Some(_) | None => self.settle(now, id),
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(id) {
                connection.timer = None;
            }
            self.touch(id);
        }
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: usize) {
        let Some(connection) = self.connections.remove(id) else { return };
        if let Some(timer) = connection.timer {
            self.timers.remove(&(timer, id));
        }
        if self.flows.get(&connection.flow) == Some(&id) {
            self.flows.remove(&connection.flow);
        }
    }

    /// Ends everything: connections are reset, and whoever waits is woken.
    pub(super) fn close(&mut self, now: Instant) {
        self.closed = true;
        for id in self.connections.ids() {
            self.reset(now, id, ErrorKind::NetworkDown);
        }
        for listener in self.listeners.values_mut() {
            listener.waiters.wake(&mut self.wakers);
        }
        for socket in self.datagrams.values_mut() {
            socket.readers.wake(&mut self.wakers);
        }
        for echo in self.echoes.values_mut() {
            echo.waiters.wake(&mut self.wakers);
        }
        self.outbox.room.wake(&mut self.wakers);
    }

    /// # Errors
    /// `NetworkDown` after [`Stack::close`].
    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.closed { Err(ErrorKind::NetworkDown.into()) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("addresses", &self.config.addresses)
            .field("closed", &self.closed)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

/// smoltcp's own state, which is next to none: addresses, and the longest super-packets it may make.
fn interface(config: &Config, now: Instant, longest: usize) -> Interface {
    let whole = |header: usize| {
        let segment = usize::from(config.mtu) - header;
        header + (longest.saturating_sub(header) / segment).max(1) * segment
    };
    let super_v4 = whole(Ipv4::HEADER_LEN + Tcp::HEADER_LEN);
    let super_v6 = whole(Ipv6::HEADER_LEN + Tcp::HEADER_LEN);
    let mut settings = iface::Config::new(HardwareAddress::Ip);
    settings.random_seed = config.random_seed();
    let mut blueprint = Blueprint(capabilities(super_v4, super_v6));
    let mut interface = Interface::new(settings, &mut blueprint, paced(now));
    interface.update_ip_addrs(|addresses| {
        for &address in &config.addresses {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            // Config::check has seen to it that they fit.
            let _ = addresses.push(IpCidr::new(address.into(), prefix));
        }
    });
    interface
}

/// How long that is on smoltcp's clock.
pub(super) fn pace(time: Duration) -> smoltcp::time::Duration {
    let micros = time.as_micros().saturating_mul(u128::from(PACE));
    smoltcp::time::Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn paced(now: Instant) -> smoltcp::time::Instant {
    let micros = now.as_nanos() / 1000 * PACE;
    smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Not before smoltcp's clock is there.
fn unpaced(at: smoltcp::time::Instant) -> Instant {
    let micros = u64::try_from(at.total_micros()).unwrap_or(0).div_ceil(PACE);
    Instant::from_nanos(micros.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_the_other_clock_has_struck_when_ours_has() {
        for nanos in [0, 1, 999, 1000, 123_456_789, 1 << 50] {
            let there = paced(Instant::from_nanos(nanos)) + smoltcp::time::Duration::from_micros(7);
            assert!(paced(unpaced(there)) >= there);
            assert!(unpaced(there).as_nanos() <= nanos + 2000);
        }
    }
}
