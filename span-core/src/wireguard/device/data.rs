//! The way of packets: out through a lent slot, in through the datagram's own buffer.

use super::Device;
use crate::crypto::TAG_LEN;
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::constants::{MAX_STAGED_BYTES, REJECT_AFTER_MESSAGES};
use crate::wireguard::counters::DropReason;
use crate::wireguard::event::{Evidence, Inbound, Outbound, PeerId, Role, Sending};
use crate::wireguard::inner;
use crate::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, Macs, Message};
use crate::wireguard::peer::Slot;
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
            Some(Message::Initiation(message)) => {
                let queued = HandshakeMessage::Initiation(*message.0);
                self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
            }
            Some(Message::Response(message)) => {
                if self.indices.peer(message.receiver()).is_none() {
                    self.drop(DropReason::UnknownIndex)
                } else {
                    let queued = HandshakeMessage::Response(*message.0);
                    self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
                }
            }
            Some(Message::CookieReply(reply)) => self.handle_cookie_reply(now, reply),
            None => self.drop(DropReason::Malformed),
        };
        each(inbound);
        1
    }

    /// Decrypts the data message at the front of `burst` and those of the same session behind it.
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
        let agenda = &mut self.agenda;
        let mut refuse = |reason| {
            agenda.drop(reason);
            each(Inbound::Dropped(reason));
            1
        };
        let Some(peer) = self.indices.peer(first.receiver).and_then(|place| self.peers.at_mut(place)) else {
            return refuse(DropReason::UnknownIndex);
        };
        let Some((slot, session)) = peer.session_mut(first.receiver) else {
            // The index of a handshake that has not become a session.
            return refuse(DropReason::UnknownIndex);
        };
        if session.has_ended(now) || first.counter >= REJECT_AFTER_MESSAGES {
            return refuse(DropReason::ExpiredSession);
        }
        if !session.replay.is_fresh(first.counter) {
            return refuse(DropReason::Replayed);
        }
        let mut counters = [first.counter; RUN];
        let mut count = 1;
        // What does not belong to the run begins the next.
        for message in burst.chunks_exact(stride).take(RUN).skip(1) {
            match Message::parse(message) {
                Some(Message::Data(header))
                    if header.receiver == first.receiver && session.replay.is_fresh(header.counter) =>
                {
                    counters[count] = header.counter;
                    count += 1;
                }
                Some(_) | None => break,
            }
        }
        let run = &mut burst[..count * stride];
        let mut accepted = [false; RUN];
        session.opener.open_burst(&counters[..count], run, stride, &mut accepted[..count]);
        let mut authentic = 0;
        // Why each one that is not accepted is not.
        let mut repeated = [false; RUN];
        for i in 0..count {
            if accepted[i] {
                authentic += 1;
                // A counter may also stand in one run twice.
                accepted[i] = session.replay.accept(counters[i]);
                repeated[i] = !accepted[i];
            }
        }
        if authentic == 0 {
            for _ in 0..count {
                agenda.drop(DropReason::Forged);
                each(Inbound::Dropped(DropReason::Forged));
            }
            return count;
        }

        // From here on the packets are the peer's own, so the path is learnt even if their contents are not
        // accepted.
        let id = peer.id;
        peer.learn_path(path, Evidence::Data, agenda);
        match slot {
            Slot::Current => peer.confirm_current(&mut self.indices),
            Slot::Previous => {}
            Slot::Next => {
                peer.confirm_next(&mut self.indices);
                peer.handshake_completed(Role::Responder, path, self.clock.unix(now), agenda);
            }
        }
        peer.keep_fresh_on_receive(now, agenda);
        peer.authenticated_received(now);
        peer.touch(agenda);
        if stride > DATA_OVERHEAD {
            peer.data_received(now);
        }

        // The source that was last found to be the peer's.
        let mut known = None;
        for (i, message) in run.chunks_exact(stride).enumerate() {
            let plain = &message[DATA_HEADER_LEN..stride - TAG_LEN];
            let result = if repeated[i] {
                Err(DropReason::Replayed)
            } else if !accepted[i] {
                Err(DropReason::Forged)
            } else if plain.is_empty() {
                Ok(Inbound::Keepalive { peer: id })
            } else {
                match inner::source_and_len(plain) {
                    None => Err(DropReason::NotIp),
                    Some((source, len)) => {
                        if known == Some(source) || self.allowed_ips.lookup(source) == Some(id) {
                            known = Some(source);
                            let start = offset + i * stride + DATA_HEADER_LEN;
                            Ok(Inbound::Packet { peer: id, range: start..start + len })
                        } else {
                            Err(DropReason::SourceNotAllowed)
                        }
                    }
                }
            };
            each(match result {
                Ok(inbound) => {
                    peer.rx_bytes += stride as u64;
                    inbound
                }
                Err(reason) => {
                    agenda.drop(reason);
                    Inbound::Dropped(reason)
                }
            });
        }
        count
    }
}

/// Data messages decrypted at once: a burst of one message with receive offload has no more.
const MAX_RUN: usize = 64;
