//! The way of packets: out through a lent slot, in through the datagram's own buffer.

use super::Device;
use crate::crypto::TAG_LEN;
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::constants::{MAX_STAGED_BYTES, REJECT_AFTER_MESSAGES};
use crate::wireguard::counters::DropReason;
use crate::wireguard::event::{Evidence, Inbound, Outbound, PeerId, Role, Sending};
use crate::wireguard::inner;
use crate::wireguard::message::{DATA_HEADER_LEN, DataHeader, Macs, Message};
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
        let now = self.clock.observe(now);
        match Message::parse(datagram) {
            Some(Message::Data(header)) => self.handle_data(now, path, header, datagram),
            Some(Message::Initiation(message)) => {
                let queued = HandshakeMessage::Initiation(*message.0);
                self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
            }
            Some(Message::Response(message)) => {
                if self.indices.peer(message.receiver()).is_none() {
                    return self.drop(DropReason::UnknownIndex);
                }
                let queued = HandshakeMessage::Response(*message.0);
                self.admit(now, path, message.sender(), &Macs::of(message.0), queued)
            }
            Some(Message::CookieReply(reply)) => self.handle_cookie_reply(now, reply),
            None => self.drop(DropReason::Malformed),
        }
    }

    #[inline]
    fn handle_data(&mut self, now: Instant, path: &Path, header: DataHeader, datagram: &mut [u8]) -> Inbound {
        let Some(peer) = self.indices.peer(header.receiver).and_then(|place| self.peers.at_mut(place)) else {
            return self.drop(DropReason::UnknownIndex);
        };
        let Some((slot, session)) = peer.session_mut(header.receiver) else {
            // The index of a handshake that has not become a session.
            return self.drop(DropReason::UnknownIndex);
        };
        if session.has_ended(now) || header.counter >= REJECT_AFTER_MESSAGES {
            return self.drop(DropReason::ExpiredSession);
        }
        if !session.replay.is_fresh(header.counter) {
            return self.drop(DropReason::Replayed);
        }
        if session.opener.open(header.counter, &mut datagram[DATA_HEADER_LEN..]).is_err() {
            return self.drop(DropReason::Forged);
        }
        session.replay.accept(header.counter);

        // From here on the packet is the peer's own, so the path is learnt even if its contents are not
        // accepted.
        let id = peer.id;
        let agenda = &mut self.agenda;
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

        let len = datagram.len();
        let plain = &datagram[DATA_HEADER_LEN..len - TAG_LEN];
        if plain.is_empty() {
            peer.rx_bytes += len as u64;
            return Inbound::Keepalive { peer: id };
        }
        peer.data_received(now);
        let Some((source, inner_len)) = inner::source_and_len(plain) else {
            return self.drop(DropReason::NotIp);
        };
        if self.allowed_ips.lookup(source) != Some(id) {
            return self.drop(DropReason::SourceNotAllowed);
        }
        peer.rx_bytes += len as u64;
        Inbound::Packet { peer: id, range: DATA_HEADER_LEN..DATA_HEADER_LEN + inner_len }
    }
}
