//! From the host to the peers: read, split into the send batch, seal there, send.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use span_core::path::{Path, UdpPath};
use span_core::time::Instant;
use span_core::tunnel::Tunnel;
use span_core::wireguard::{self, PeerId, Sealer, TransmitKind};
use span_nat::transport::{Ecn, SendBatch, Transport};
use span_tun::device::{Device, MAX_FRAME};
use span_tun::offload::icmp::{self, Unreachable};
use span_tun::offload::packet::{Ip, Ipv6, protocol};
use span_tun::offload::{self, Gso, Segments, VirtioHeader};

use super::lend::{Lend, Route};
use super::sealing::Unsealed;
use super::standing::Standing;

/// Send lanes of 64 KiB. A super-packet fills little more than one; a lane never used is never touched.
const LANES: usize = 8;

/// The buffers of the way out.
pub(super) struct Outbound {
    frame: Vec<u8>,
    /// Where a packet is completed that has to wait for a session.
    waiting: Vec<u8>,
    batch: SendBatch,
    unsealed: Unsealed,
    /// The transport took no more: nothing is read until it does.
    blocked: bool,
    /// Among what it did not take are packets that had waited for a session.
    held: bool,
    host: Standing,
    drops: Drops,
    /// How often the host is told that nobody has a destination.
    refusals: icmp::Limiter,
}

/// Packets that were not carried, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drops {
    /// Neither IPv4 nor IPv6, or not what the virtio header says.
    pub(crate) malformed: u64,
    /// No peer has the destination among its allowed IPs.
    pub(crate) no_route: u64,
    /// Met congestion, on their way here (RFC 6040) or in a queue here that stands, and their senders do not
    /// understand marks.
    pub(crate) congested: u64,
    /// Datagrams of the tunnel itself, routed into it.
    pub(crate) looped: u64,
    /// The transport was congested or refused them.
    pub(crate) transport: u64,
}

impl std::ops::Add for Drops {
    type Output = Drops;

    fn add(self, other: Drops) -> Drops {
        Drops {
            malformed: self.malformed + other.malformed,
            no_route: self.no_route + other.no_route,
            congested: self.congested + other.congested,
            looped: self.looped + other.looped,
            transport: self.transport + other.transport,
        }
    }
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The device may have more.
    More,
    /// The device has no more, or the transport takes no more.
    Over,
}

/// What a frame is carried with.
pub(super) struct Sides<'a, T> {
    pub(super) tun: &'a mut dyn Device,
    pub(super) tunnel: &'a mut T,
    pub(super) transport: &'a mut dyn Transport,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Outbound {
            frame: vec![0; MAX_FRAME],
            waiting: Vec::new(),
            batch: SendBatch::new(LANES),
            unsealed: Unsealed::default(),
            blocked: false,
            held: false,
            host: Standing::default(),
            drops: Drops::default(),
            refusals: icmp::Limiter::new(Duration::ZERO),
        }
    }

    pub(super) fn drops(&self) -> Drops {
        self.drops
    }

    /// Whether packets of the host wait for the transport.
    pub(super) fn blocked(&self) -> bool {
        self.blocked
    }

    /// Reads and sends up to `frames` frames.
    pub(super) fn pump<T: Lend>(
        &mut self,
        now: Instant,
        frames: usize,
        sides: &mut Sides<'_, T>,
    ) -> io::Result<Turn> {
        let mut frame = std::mem::take(&mut self.frame);
        let turn = self.pump_through(&mut frame, now, frames, sides);
        self.frame = frame;
        turn
    }

    fn pump_through<T: Lend>(
        &mut self,
        frame: &mut [u8],
        now: Instant,
        frames: usize,
        sides: &mut Sides<'_, T>,
    ) -> io::Result<Turn> {
        for _ in 0..frames {
            if self.blocked {
                return Ok(Turn::Over);
            }
            match sides.tun.recv(frame) {
                Ok((header, len)) => self.carry(now, &header, &mut frame[..len], sides),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.host.empty(now);
                    self.flush(now, sides);
                    return Ok(Turn::Over);
                }
                Err(error) => return Err(error),
            }
        }
        self.flush(now, sides);
        Ok(if self.blocked { Turn::Over } else { Turn::More })
    }

    /// Sends what the tunnel itself has to say: handshakes, keepalives, packets that waited for a session.
    pub(super) fn drain<T: Lend>(&mut self, now: Instant, sides: &mut Sides<'_, T>) {
        self.batch.set_ecn(Ecn::NotEct);
        let transport = &mut *sides.transport;
        sides.tunnel.drain(now, |tunnel, now| {
            let mut waited = false;
            while !self.blocked {
                let Some(transmit) = tunnel.poll_transmit(now, &mut self.batch) else { break };
                waited |= transmit.kind == TransmitKind::Data;
            }
            if T::SHARED && waited {
                // Another thread may have the next packet of the same flow in its hands: it gets the tunnel, and
                // with it the session, only when those before it have left. That is once in a session.
                self.send(transport);
                self.forget_sources(now, tunnel);
                self.held |= self.blocked;
            }
            self.held
        });
        self.flush(now, sides);
    }

    /// Hands the batch to the transport; what it does not take stays.
    pub(super) fn flush<T: Lend>(&mut self, now: Instant, sides: &mut Sides<'_, T>) {
        self.send(sides.transport);
        if !self.batch.lost_sources().is_empty() {
            sides.tunnel.with(now, |tunnel, now| self.forget_sources(now, tunnel));
        }
    }

    fn send(&mut self, transport: &mut dyn Transport) {
        if self.batch.is_empty() {
            self.blocked = false;
        } else {
            self.drops.transport += self.unsealed.seal(&mut self.batch);
            let outcome = self.batch.flush(transport);
            self.drops.transport += outcome.drops.total();
            self.blocked = outcome.blocked;
        }
        self.held &= self.blocked;
    }

    /// Lets the host choose again where it could not send from where it was asked to.
    fn forget_sources(&mut self, now: Instant, tunnel: &mut Tunnel) {
        for path in self.batch.lost_sources() {
            if let Path::Udp(UdpPath { source: Some(lost), .. }) = path {
                tunnel.network_changed(now, |source| source != lost);
            }
        }
    }

    /// Carries one frame of the host to the peer that has its destination.
    fn carry<T: Lend>(
        &mut self,
        now: Instant,
        header: &VirtioHeader,
        frame: &mut [u8],
        sides: &mut Sides<'_, T>,
    ) {
        let Some(destination) = offload::packet::destination(frame) else {
            self.drops.malformed += 1;
            return;
        };
        let peer = match sides.tunnel.route(now, destination, frame) {
            Route::Peer(peer) => peer,
            Route::Nobody => {
                self.drops.no_route += 1;
                if self.refusals.allow(Duration::from_nanos(now.as_nanos())) {
                    refuse(frame, sides.tun);
                }
                return;
            }
            Route::Own => {
                self.drops.looped += 1;
                return;
            }
        };
        let mtu = usize::from(sides.tun.mtu());
        // Whoever sends bursts fills queues.
        let bulk = header.gso != Gso::None;
        let mut mark = Ecn::from_bits(offload::packet::ecn(frame));
        let told = bulk && self.host.tells(now);
        if told && let Some(after) = mark.after(Ecn::Ce) {
            mark = after;
            offload::packet::set_ecn(frame, mark as u8);
        }
        let Ok(mut segments) = offload::split(header, frame) else {
            self.drops.malformed += 1;
            return;
        };
        if told && mark == Ecn::NotEct {
            segments.next();
            self.drops.congested += 1;
        }
        match sides.tunnel.outbound(now, peer) {
            wireguard::Outbound::Ready(sending) => {
                self.batch.set_ecn(mark.outer());
                let path = *sending.path;
                let batch = &mut self.batch;
                let placed = place(batch, &mut self.unsealed, segments, sending.sealer, &path, mtu);
                self.drops.transport += placed.lost;
                sides.tunnel.sent(now, peer, placed.packets, placed.bytes);
                // A burst is worth a system call of its own, and its bytes are still in the cache.
                if bulk {
                    self.flush(now, sides);
                }
            }
            wireguard::Outbound::Stage | wireguard::Outbound::NoPath => {
                if T::SHARED {
                    // What waits is sent by the leader: what went before it is not to wait here.
                    self.send(sides.transport);
                }
                for segment in segments {
                    self.waiting.resize(segment.len(), 0);
                    segment.write_to(&mut self.waiting);
                    sides.tunnel.with(now, |tunnel, now| tunnel.stage(now, peer, &self.waiting));
                }
            }
            wireguard::Outbound::Gone => self.drops.no_route += 1,
        }
    }
}

/// Whether the frame is what the tunnel itself sent to this peer: the host routes the peer's endpoint into the
/// tunnel. Carrying it would send it again, longer, without end.
pub(super) fn is_own_datagram(frame: &[u8], now: Instant, peer: PeerId, tunnel: &Tunnel) -> bool {
    let Some(destination) = udp_destination(frame) else { return false };
    let path = tunnel.device().peer(now, peer).and_then(|peer| peer.path.copied());
    path.and_then(|path| path.remote()) == Some(destination)
}

/// Where a packet goes if it is UDP and holds its header.
fn udp_destination(packet: &[u8]) -> Option<SocketAddr> {
    let (header, address) = match Ip::parse(packet)? {
        Ip::V4(ip) if ip.protocol() == protocol::UDP && ip.fragment_offset() == 0 => {
            (ip.header_len(), ip.destination().into())
        }
        Ip::V6(ip) if ip.next_header() == protocol::UDP => (Ipv6::HEADER_LEN, ip.destination().into()),
        Ip::V4(_) | Ip::V6(_) => return None,
    };
    let port = packet.get(header + 2..header + 4)?.try_into().ok()?;
    Some(SocketAddr::new(address, u16::from_be_bytes(port)))
}

/// What became of the packets of one frame.
#[derive(Clone, Copy, Default)]
struct Placed {
    packets: u32,
    bytes: u64,
    lost: u64,
}

/// Writes the segments to the places they are sealed at and sent from.
fn place(
    batch: &mut SendBatch,
    unsealed: &mut Unsealed,
    mut segments: Segments<'_>,
    sealer: &Arc<Sealer>,
    path: &Path,
    mtu: usize,
) -> Placed {
    let mut placed = Placed::default();
    while segments.len() > 0 {
        // All segments but the last are equally long: they make bursts, the last goes by itself.
        let stride = Sealer::slot_len(segments.stride(), mtu);
        let most = (SendBatch::max_datagram(path) / stride).clamp(1, SendBatch::MAX_SEGMENTS);
        let run = (segments.len() - 1).min(most);
        let count = run.max(1);
        let stride = if run > 0 { stride } else { Sealer::slot_len(segments.last_len(), mtu) };
        let Some(slots) = batch.reserve_burst(path, count, stride) else {
            placed.lost += count as u64;
            segments.by_ref().take(count).for_each(drop);
            continue;
        };
        for (segment, slot) in segments.by_ref().take(count).zip(slots.chunks_exact_mut(stride)) {
            let end = Sealer::PLAINTEXT_AT + segment.len();
            segment.write_to(&mut slot[Sealer::PLAINTEXT_AT..end]);
            slot[end..stride - (Sealer::OVERHEAD - Sealer::PLAINTEXT_AT)].fill(0);
        }
        placed.packets += count as u32;
        placed.bytes += (count * stride) as u64;
        let at = batch.reserved();
        placed.lost += unsealed.add(batch, sealer, stride, at);
    }
    placed
}

/// Tells the host by ICMP that nobody has the destination, as the kernel's WireGuard does.
fn refuse(packet: &[u8], tun: &mut dyn Device) {
    let mut answer = [0; icmp::MAX_LEN];
    // The answer comes from the destination itself: a host drops what claims to be from its own address.
    if let Some(len) = icmp::unreachable(packet, Unreachable::Host, None, &mut answer) {
        // A device that does not take it drops and counts it.
        let _ = tun.send(&VirtioHeader::default(), &[IoSlice::new(&answer[..len])]);
    }
}
