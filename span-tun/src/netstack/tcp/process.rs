//! The way of a segment, to its connection and from it.

use std::io::ErrorKind;
use std::net::SocketAddr;

use smoltcp::socket::tcp::State;
use span_core::time::Instant;

use super::connection::Owner;
use super::{Connection, Flow};
use crate::netstack::frame::{self, Packet, Segment};
use crate::netstack::recovery::Verdict;
use crate::netstack::stack::Stack;
use crate::offload::VirtioHeader;
use crate::offload::packet::{Ipv4, Ipv6, Tcp};

/// Segments that count as one to smoltcp, for its congestion window and what it sends again at once: the first
/// window of today's TCP (RFC 6928). With bursts for segments, one acknowledgement of many is worth as much as
/// many of one.
const BURST: u16 = 10;
/// The least maximum segment size that is believed, in bytes.
const MIN_SEGMENT: u16 = 216;
/// How many questions whether it is still there a peer may leave unanswered.
const KEEPALIVES: u32 = 10;
/// What a peer that announces no maximum segment size takes, in bytes (RFC 9293, section 3.7.1).
const DEFAULT_V4: u16 = 536;
const DEFAULT_V6: u16 = 1220;

impl Stack {
    /// Takes a TCP packet.
    pub(in crate::netstack) fn take_segment(&mut self, now: Instant, packet: &Packet, frame: &mut [u8]) {
        let Some(segment) = Segment::parse(&frame[packet.at..]) else {
            self.drops.malformed += 1;
            return;
        };
        let flow = Flow {
            local: SocketAddr::new(packet.destination, segment.destination_port),
            remote: SocketAddr::new(packet.source, segment.source_port),
        };
        let mut found = self.flows.get(&flow).copied();
        if segment.has(Tcp::SYN) {
            let agreed = self.agree(flow, &mut frame[packet.at..packet.at + segment.header]);
            if segment.has(Tcp::ACK) {
                if let Some(connection) = found.and_then(|id| self.connections.get_mut(id)) {
                    connection.segment = agreed;
                }
            } else {
                found = found.filter(|&id| !self.makes_way(id));
                if found.is_none() {
                    match self.welcome(now, flow, agreed) {
                        Welcome::Open(id) => found = Some(id),
                        Welcome::NobodyHome => {}
                        Welcome::Full => return,
                    }
                }
            }
        }
        let Some(id) = found else {
            if !segment.has(Tcp::RST) {
                self.feed(now, None, frame);
            }
            return;
        };
        self.hear(now, id, packet, &segment, frame);
    }

    /// A segment of a connection.
    fn hear(&mut self, now: Instant, id: usize, packet: &Packet, segment: &Segment, frame: &[u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let header = &frame[packet.at..packet.at + segment.header];
        let beyond = if segment.payload == 0 && segment.header > Tcp::HEADER_LEN {
            frame::selectively_acknowledged(header, segment.acknowledgement)
        } else {
            0
        };
        connection.heard_at = Some(now);
        let verdict = connection.recovery.received(now, segment, beyond, connection.segment);
        if segment.has(Tcp::ACK) && !segment.has(Tcp::RST) {
            frame::acknowledgement_of(packet, segment, frame, &mut connection.heard);
        }
        let before = connection.state();
        if verdict == Verdict::Nothing {
            return;
        }
        self.feed(now, Some(id), frame);
        if before == State::Listen && self.connections.get(id).is_some_and(|it| it.state() == State::Listen) {
            // It was made for this segment, which is no SYN that can be answered.
            self.drops.malformed += 1;
            self.change(id, State::SynReceived, State::Listen, true);
            return;
        }
        if verdict == Verdict::Loss {
            self.tell_of_loss(now, id);
        }
        self.review(now, id, before, true);
        self.touch(id);
    }

    /// Makes smoltcp send again what follows the last acknowledgement: three duplicates of it, after one that
    /// differs in the window alone, which makes smoltcp count from the beginning.
    fn tell_of_loss(&mut self, now: Instant, id: usize) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut frame = std::mem::take(&mut connection.heard);
        let Some(at) = Packet::header(&frame) else { return };
        frame[at + 8..at + 12].copy_from_slice(&connection.recovery.acknowledged().to_be_bytes());
        let window = frame::be16(&frame, at + 14);
        let other = if window == 0 { 1 } else { window - 1 };
        for window in [other, window, window, window, window] {
            frame[at + 14..at + 16].copy_from_slice(&window.to_be_bytes());
            self.feed(now, Some(id), &frame);
        }
        if let Some(connection) = self.connections.get_mut(id) {
            connection.heard = frame;
        }
    }

    /// Asks about a silence that is too long.
    pub(in crate::netstack) fn probe(&mut self, now: Instant, id: usize) {
        if let Some(connection) = self.connections.get_mut(id)
            && connection.recovery.probe_at(connection.segment).is_some_and(|at| at <= now)
        {
            connection.recovery.probe(now);
            self.tell_of_loss(now, id);
        }
    }

    /// Finds the payload of a full packet of both sides, and has smoltcp think in bursts of them.
    fn agree(&self, flow: Flow, header: &mut [u8]) -> u16 {
        let ours = self.segment(flow.local.ip());
        let Some(at) = frame::maximum_segment_size(header) else {
            return ours.min(if flow.local.is_ipv4() { DEFAULT_V4 } else { DEFAULT_V6 });
        };
        let theirs = frame::be16(header, at.start);
        let agreed = theirs.max(MIN_SEGMENT).min(ours);
        header[at].copy_from_slice(&agreed.saturating_mul(BURST).to_be_bytes());
        agreed
    }

    /// Whether a connection that was is no reason against a new one (RFC 9293, section 3.6.1).
    fn makes_way(&mut self, id: usize) -> bool {
        let Some(connection) = self.connections.get(id) else { return true };
        let over = matches!(connection.state(), State::TimeWait | State::Closed);
        if over {
            self.flows.remove(&connection.flow);
            if connection.owner == Owner::Nobody {
                self.remove(id);
            }
        }
        over
    }

    fn welcome(&mut self, now: Instant, flow: Flow, segment: u16) -> Welcome {
        let Some(home) = Self::bound_to(&self.listening, flow.local) else { return Welcome::NobodyHome };
        let Some(listener) = self.listeners.get_mut(home) else { return Welcome::NobodyHome };
        if listener.pending >= listener.backlog || self.connections.len() >= self.config.max_connections {
            self.drops.backlog += 1;
            return Welcome::Full;
        }
        listener.pending += 1;
        let mut connection = Connection::new(&self.config, flow, segment, Owner::Listener(home));
        connection.abort_at = Some(now + self.config.connect_timeout);
        connection.expect();
        let id = self.connections.insert(connection);
        self.flows.insert(flow, id);
        Welcome::Open(id)
    }

    /// Completes a segment that smoltcp wrote.
    pub(in crate::netstack) fn finish_segment(
        &mut self,
        now: Instant,
        id: usize,
        frame: &mut [u8],
    ) -> VirtioHeader {
        let at = if frame[0] >> 4 == 4 { Ipv4::HEADER_LEN } else { Ipv6::HEADER_LEN };
        let Some(connection) = self.connections.get_mut(id) else { return VirtioHeader::default() };
        let mut cut_at = connection.segment;
        if let Some(segment) = Segment::parse(&frame[at..]) {
            connection.recovery.sent(now, &segment);
            if segment.has(Tcp::SYN) {
                let ours = self.config.mtu - (at + Tcp::HEADER_LEN) as u16;
                let header = &mut frame[at..];
                if let Some(at) = frame::maximum_segment_size(header) {
                    header[at].copy_from_slice(&ours.to_be_bytes());
                }
            }
            // What the header has of options, the payload has not.
            cut_at = cut_at.saturating_sub((segment.header - Tcp::HEADER_LEN) as u16).max(1);
        }
        frame::offload_tcp(frame, at, cut_at)
    }

    /// Sees what became of a connection that was in the state `before`, by what `arrived` or by itself.
    pub(in crate::netstack) fn review(&mut self, now: Instant, id: usize, before: State, arrived: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let after = connection.state();
        if arrived {
            let waits = connection.waits();
            match connection.owner {
                Owner::Nobody => {
                    if connection.socket().can_recv() {
                        // Nobody will ever read it, and the peer should know (RFC 2525, section 2.17).
                        connection.socket_mut().abort();
                    }
                }
                Owner::Stream | Owner::Listener(_) => {
                    if connection.read_shut {
                        connection.discard();
                    }
                    if !connection.is_opening() {
                        connection.abort_at = waits.then_some(now + self.config.patience);
                    }
                }
            }
        }
        if after != before {
            self.change(id, before, after, arrived);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.readers.is_empty() && connection.is_readable() {
            connection.readers.wake(&mut self.wakers);
        }
        if !connection.writers.is_empty() && (connection.is_roomy() || connection.is_flushed()) {
            connection.writers.wake(&mut self.wakers);
        }
        if connection.is_over() {
            if self.flows.get(&connection.flow) == Some(&id) {
                self.flows.remove(&connection.flow);
            }
            if connection.owner == Owner::Nobody {
                self.remove(id);
            }
        }
    }

    fn change(&mut self, id: usize, before: State, after: State, arrived: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if after == State::Closed && arrived && connection.error.is_none() {
            connection.error = match before {
                State::SynSent => Some(ErrorKind::ConnectionRefused),
                // As it should be.
                State::LastAck | State::Closing | State::TimeWait | State::Closed => None,
                State::Listen
                | State::SynReceived
                | State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait => Some(ErrorKind::ConnectionReset),
            };
        }
        let Owner::Listener(home) = connection.owner else { return };
        let opened = before == State::SynReceived && !matches!(after, State::Listen | State::Closed);
        let failed = matches!(before, State::Listen | State::SynReceived)
            && matches!(after, State::Listen | State::Closed);
        if failed {
            connection.owner = Owner::Nobody;
            if let Some(listener) = self.listeners.get_mut(home) {
                listener.pending -= 1;
            }
            // A closed one has a reset to send first.
            if after == State::Listen {
                self.remove(id);
            }
        } else if opened {
            connection.abort_at = None;
            if let Some(listener) = self.listeners.get_mut(home) {
                listener.opened.push_back(id);
                listener.waiters.wake(&mut self.wakers);
            }
        }
    }

    /// Gives a connection up whose peer was not heard of for too long.
    pub(in crate::netstack) fn give_up(&mut self, now: Instant, id: usize) {
        let silence = self.config.keepalive.map(|silence| silence * KEEPALIVES);
        if let Some(connection) = self.connections.get(id)
            && (connection.abort_at.is_some_and(|at| at <= now)
                || connection
                    .heard_at
                    .zip(silence)
                    .is_some_and(|(heard, silence)| now.since(heard) >= silence))
        {
            self.reset(now, id, ErrorKind::TimedOut);
        }
    }

    /// Ends a connection at once, for a reason.
    pub(in crate::netstack) fn reset(&mut self, now: Instant, id: usize, reason: ErrorKind) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let before = connection.state();
        connection.abort_at = None;
        connection.heard_at = None;
        if before != State::Closed {
            connection.error.get_or_insert(reason);
            connection.socket_mut().abort();
        }
        self.review(now, id, before, false);
        self.touch(id);
    }

    /// The application has let go of a connection: it closes by itself, in a bounded time.
    pub(in crate::netstack) fn let_go(&mut self, now: Instant, id: usize) {
        let patience = self.config.patience;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let before = connection.state();
        connection.owner = Owner::Nobody;
        connection.abort_at = Some(now + patience);
        if connection.socket().can_recv() {
            connection.socket_mut().abort();
        } else {
            connection.socket_mut().close();
        }
        self.review(now, id, before, false);
        self.touch(id);
    }
}

/// What becomes of a peer that wants a connection.
enum Welcome {
    Open(usize),
    NobodyHome,
    Full,
}
