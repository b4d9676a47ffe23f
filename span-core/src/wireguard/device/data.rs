//! The way of packets: out through a lent slot, in through the datagram's own buffer.

use super::Device;
use super::opening::{Run, worth_opening};
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::constants::MAX_STAGED_BYTES;
use crate::wireguard::counters::DropReason;
use crate::wireguard::event::{Inbound, Outbound, PeerId, Sending};
use crate::wireguard::message::{DataHeader, Macs, Message};
use crate::wireguard::queue::HandshakeMessage;

impl Device {
    /// How to send to a peer now. Asked once per burst, followed by [`sent`](Device::sent).
    #[inline]
    pub fn outbound(&mut self, now: Instant, peer: PeerId) -> Outbound<'_> {
        let now = self.clock.observe(now);
        let Some(peer) = self.peers.get_mut(peer) else { return Outbound::Gone };
        // A handshake may also find the path, if it is raced.
        if peer.sealing(now).is_none() || peer.path.is_none() {
            peer.request_handshake(now, &mut self.agenda);
        }
        match (peer.sealing(now), &peer.path) {
            (_, None) => Outbound::NoPath,
            (None, Some(_)) => Outbound::Stage,
            // Packets that have waited go first.
            (Some(_), Some(_)) if !peer.staged.is_empty() => Outbound::Stage,
            (Some(session), Some(path)) => Outbound::Ready(Sending { sealer: &session.sealer, path }),
        }
    }

    /// Keeps a copy of an inner packet until the peer has a session and a path, then
    /// [`poll_transmit`](Device::poll_transmit) seals it. At most 128 per peer and 16 MiB in all are kept;
    /// the peer's oldest give way.
    pub fn stage(&mut self, now: Instant, peer: PeerId, packet: &[u8]) {
        let now = self.clock.observe(now);
        let Some(peer) = self.peers.get_mut(peer) else { return };
        let limit = MAX_STAGED_BYTES.saturating_sub(packet.len());
        while self.staged_bytes > limit {
            let Some(oldest) = peer.staged.pop_front() else {
                // Others fill the stage.
                return self.agenda.drop(DropReason::StagedOverflow);
            };
            self.staged_bytes -= oldest.len();
            self.agenda.drop(DropReason::StagedOverflow);
        }
        self.staged_bytes += packet.len();
        if let Some(dropped) = peer.stage(packet) {
            self.staged_bytes -= dropped;
            self.agenda.drop(DropReason::StagedOverflow);
        }
        if peer.sealing(now).is_some() && peer.path.is_some() {
            peer.enqueue(&mut self.agenda);
        } else {
            peer.request_handshake(now, &mut self.agenda);
        }
    }

    /// Tells the device what was sealed with the sealer of [`outbound`](Device::outbound): `packets` data
    /// packets in datagrams of `bytes` altogether. With no packets it only counts bytes, for initiations
    /// that were sent over more than one path.
    #[inline]
    pub fn sent(&mut self, now: Instant, peer: PeerId, packets: u32, bytes: u64) {
        let now = self.clock.observe(now);
        let Some(peer) = self.peers.get_mut(peer) else { return };
        peer.tx_bytes += bytes;
        if packets > 0 {
            peer.data_sent(now, &mut self.rng);
            peer.authenticated_sent(now);
            peer.keep_fresh_on_send(now, &mut self.agenda);
            peer.touch(&mut self.agenda);
        }
    }

    /// Takes a datagram that arrived over `path`. Packets are decrypted in place; handshake messages are
    /// copied to a queue of their own, on which [`handle_timeout`](Device::handle_timeout) works.
    ///
    /// A datagram is exactly one message: one that holds several (a GRO buffer that was not cut) does not
    /// authenticate.
    #[inline]
    pub fn handle_datagram(&mut self, now: Instant, path: &Path, datagram: &mut [u8]) -> Inbound {
        let mut answer = Inbound::Dropped(DropReason::Malformed);
        let stride = datagram.len();
        let now = self.clock.observe(now);
        self.handle_next::<1>(now, path, datagram, stride, 0, &mut |inbound| answer = inbound);
        answer
    }

    /// Takes datagrams that arrived together over `path`, as receive offload joins them: all of `stride`
    /// bytes, only the last may be shorter. `each` is told what became of them, in their order, with ranges
    /// within `burst`.
    ///
    /// The same as [`handle_datagram`](Device::handle_datagram) for one after the other, but packets of one
    /// session are decrypted together, which is faster.
    #[inline]
    pub fn handle_burst(
        &mut self,
        now: Instant,
        path: &Path,
        burst: &mut [u8],
        stride: usize,
        each: &mut impl FnMut(Inbound),
    ) {
        let now = self.clock.observe(now);
        let stride = stride.max(1);
        let mut at = 0;
        while at < burst.len() {
            let rest = &mut burst[at..];
            let len = stride.min(rest.len());
            at += len
                * if rest.len() > len {
                    self.handle_next::<MAX_RUN>(now, path, rest, len, at, each)
                } else {
                    self.handle_next::<1>(now, path, rest, len, at, each)
                };
        }
    }

    /// Takes the datagram of `stride` bytes at the front of `burst`, and those behind it that can be
    /// decrypted with it, `RUN` at most. Returns how many it took. `offset` is where `burst` stands in the
    /// caller's buffer.
    #[inline]
    fn handle_next<const RUN: usize>(
        &mut self,
        now: Instant,
        path: &Path,
        burst: &mut [u8],
        stride: usize,
        offset: usize,
        each: &mut impl FnMut(Inbound),
    ) -> usize {
        let inbound = match Message::parse(&burst[..stride]) {
            Some(Message::Data(header)) => {
                return self.handle_data::<RUN>(now, path, header, burst, stride, offset, each);
            }
            Some(message) => self.take_other(now, path, &message),
            None => self.drop(DropReason::Malformed),
        };
        each(inbound);
        1
    }

    /// Takes a message that carries no packet.
    #[cold]
    pub(super) fn take_other(&mut self, now: Instant, path: &Path, message: &Message<'_>) -> Inbound {
        match message {
            Message::Initiation(message) => {
                let queued = HandshakeMessage::Initiation(*message.0);
                self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
            }
            Message::Response(message) => {
                if self.indices.peer(message.receiver()).is_none() {
                    self.drop(DropReason::UnknownIndex)
                } else {
                    let queued = HandshakeMessage::Response(*message.0);
                    self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
                }
            }
            Message::CookieReply(reply) => self.handle_cookie_reply(now, *reply),
            // Its callers have parted from data before.
            Message::Data(_) => self.drop(DropReason::Malformed),
        }
    }

    /// Decrypts the data message at the front of `burst` and those of the same session behind it: the three
    /// steps of [`opening`](super::opening) in one go.
    #[inline]
    #[allow(clippy::too_many_arguments)] // the packet and where it stands
    fn handle_data<const RUN: usize>(
        &mut self,
        now: Instant,
        path: &Path,
        first: DataHeader,
        burst: &mut [u8],
        stride: usize,
        offset: usize,
        each: &mut impl FnMut(Inbound),
    ) -> usize {
        let (peers, mut shared) = self.split();
        let Some(peer) = shared.indices.peer(first.receiver).and_then(|place| peers.at_mut(place)) else {
            return shared.refuse(DropReason::UnknownIndex, 1, each);
        };
        let Some((slot, session)) = peer.session_mut(first.receiver) else {
            // The index of a handshake that has not become a session.
            return shared.refuse(DropReason::UnknownIndex, 1, each);
        };
        if let Err(reason) = worth_opening(session, now, first.counter) {
            return shared.refuse(reason, 1, each);
        }
        let mut run = Run::<RUN>::begin(session, first, burst, stride);
        let messages = &mut burst[..run.len() * stride];
        run.open(&session.opener, messages, stride);
        if !run.accept(&mut session.replay) {
            return shared.refuse(DropReason::Forged, run.len(), each);
        }
        shared.finish(now, path, peer, slot, &run, messages, stride, offset, each);
        run.len()
    }
}

/// Data messages decrypted at once: a burst of one message with receive offload has no more.
pub(super) const MAX_RUN: usize = 64;
