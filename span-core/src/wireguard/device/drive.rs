//! The machine's own motion: timers, and what it has to send and to tell.

use super::Device;
use super::handshakes::{Reply, ReplyMessage};
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::event::{Event, PeerId, Reason, Reserve, Transmit, TransmitKind};
use crate::wireguard::message::{COOKIE_REPLY_LEN, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use crate::wireguard::peer::Wanted;
use crate::wireguard::session::Sealer;

impl Device {
    /// Does what is due: runs out timers, and works on a bounded number of handshake messages (about a
    /// millisecond and a half), so that a flood of them does not hold up packets.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.observe(now);
        self.work_on_handshakes(now);
        self.settle();
        while let Some((deadline, place)) = self.deadlines.first()
            && deadline <= now
        {
            let Some(peer) = self.peers.at_mut(place) else {
                self.deadlines.set(place, None);
                continue;
            };
            self.staged_bytes -= peer.handle_timers(now, &mut self.indices, &mut self.agenda);
            self.settle();
        }
    }

    /// Writes the next datagram the device has to send into a slot of `out`: handshake messages, cookie
    /// replies, keepalives, packets that were staged. `None` when there is nothing more, or no room; in
    /// the latter case [`poll_timeout`](Device::poll_timeout) still says [`Reason::Transmits`].
    pub fn poll_transmit(&mut self, now: Instant, out: &mut impl Reserve) -> Option<Transmit> {
        let now = self.clock.observe(now);
        if let Some(reply) = self.replies.front() {
            let transmit = write_reply(reply, out)?;
            match transmit.kind {
                TransmitKind::Response => {
                    if let Some(peer) = transmit.peer.and_then(|peer| self.peers.get_mut(peer)) {
                        peer.tx_bytes += RESPONSE_LEN as u64;
                    }
                }
                TransmitKind::CookieReply => self.agenda.counters.cookies_sent += 1,
                TransmitKind::Initiation | TransmitKind::Keepalive | TransmitKind::Data => {}
            }
            self.replies.pop_front();
            return Some(transmit);
        }
        while let Some(id) = self.agenda.transmits.front().copied() {
            match self.next_transmit(now, id, out) {
                Next::Sent(transmit) => return Some(transmit),
                Next::NoRoom => return None,
                Next::Nothing => {
                    self.agenda.transmits.pop_front();
                    if let Some(peer) = self.peers.get_mut(id) {
                        peer.in_transmits = false;
                    }
                }
            }
        }
        None
    }

    /// The next initiation to race, see [`set_race`](Device::set_race). The caller sends the same bytes to
    /// any number of paths; the first valid response decides which becomes the peer's.
    pub fn poll_initiation(&mut self, now: Instant) -> Option<(PeerId, [u8; INITIATION_LEN])> {
        let now = self.clock.observe(now);
        while let Some(id) = self.agenda.races.pop_front() {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            peer.in_races = false;
            if !peer.raced || !peer.may_initiate(now, &mut self.agenda) {
                continue;
            }
            peer.initiation_sent(now, &mut self.rng, &mut self.agenda);
            if let Some(message) = self.write_initiation(now, id) {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.tx_bytes += INITIATION_LEN as u64;
                }
                return Some((id, message));
            }
        }
        None
    }

    /// Asks for a fresh handshake, as soon as `REKEY_TIMEOUT` has passed since the last handshake message.
    pub fn initiate(&mut self, now: Instant, peer: PeerId) {
        let now = self.clock.observe(now);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.request_handshake(now, &mut self.agenda);
        }
    }

    /// Asks for a fresh handshake at once. Peers refuse initiations less than 20 ms apart.
    pub fn initiate_now(&mut self, now: Instant, peer: PeerId) {
        let now = self.clock.observe(now);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.initiation = Wanted::AtOnce;
            peer.request_handshake(now, &mut self.agenda);
            peer.enqueue(&mut self.agenda);
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.agenda.next_event()
    }

    /// When the device wants attention next, and why. An instant that has passed means now. Exact: before
    /// it nothing changes by itself, at it something does.
    pub fn poll_timeout(&mut self) -> Option<(Instant, Reason)> {
        self.settle();
        let queued = if !self.replies.is_empty() || !self.agenda.transmits.is_empty() {
            Some(Reason::Transmits)
        } else if !self.agenda.races.is_empty() {
            Some(Reason::Initiations)
        } else if self.agenda.has_events() {
            Some(Reason::Events)
        } else if !self.handshakes.is_empty() {
            Some(Reason::Handshakes)
        } else {
            None
        };
        if let Some(reason) = queued {
            return Some((self.clock.to_caller(self.clock.last()), reason));
        }
        let (deadline, place) = self.deadlines.first()?;
        let peer = self.peers.at(place)?;
        let (_, timer) = peer.timers.next()?;
        Some((self.clock.to_caller(deadline), Reason::Timer(peer.id, timer)))
    }

    /// Looks again at the deadlines of peers whose timers have changed.
    fn settle(&mut self) {
        while let Some(place) = self.agenda.touched.pop() {
            if let Some(peer) = self.peers.at_mut(place) {
                peer.touched = false;
                self.deadlines.set(place, peer.timers.next().map(|(deadline, _)| deadline));
            }
        }
    }

    /// The next datagram of one peer: an initiation, then what is staged, then a keepalive.
    fn next_transmit(&mut self, now: Instant, id: PeerId, out: &mut impl Reserve) -> Next {
        let Some(peer) = self.peers.get_mut(id) else { return Next::Nothing };
        let path = peer.path;
        if !peer.raced && peer.may_initiate(now, &mut self.agenda) {
            if let Some(path) = path.filter(|_| peer.noise.static_static.is_some()) {
                let Some(slot) = out.reserve(&path, INITIATION_LEN) else { return Next::NoRoom };
                peer.initiation_sent(now, &mut self.rng, &mut self.agenda);
                let Some(message) = self.write_initiation(now, id) else {
                    out.release();
                    return Next::Nothing;
                };
                slot.copy_from_slice(&message);
                return self.sent_by_itself(id, path, INITIATION_LEN, TransmitKind::Initiation);
            }
            // No way to send it, but the attempt ends as if it had been.
            peer.initiation_sent(now, &mut self.rng, &mut self.agenda);
        }
        let (Some(path), Some(session)) = (path, peer.sealing(now)) else {
            peer.wants_keepalive = false;
            return Next::Nothing;
        };
        let Some(packet) = peer.staged.front() else {
            if !peer.wants_keepalive {
                return Next::Nothing;
            }
            let Some(slot) = out.reserve(&path, DATA_OVERHEAD) else { return Next::NoRoom };
            if session.sealer.seal(slot).is_err() {
                out.release();
                return Next::Nothing;
            }
            peer.wants_keepalive = false;
            peer.authenticated_sent(now);
            peer.keep_fresh_on_send(now, &mut self.agenda);
            peer.touch(&mut self.agenda);
            return self.sent_by_itself(id, path, DATA_OVERHEAD, TransmitKind::Keepalive);
        };
        let len = Sealer::slot_len(packet.len(), self.mtu);
        let Some(slot) = out.reserve(&path, len) else { return Next::NoRoom };
        let plain = &mut slot[Sealer::PLAINTEXT_AT..];
        plain[..packet.len()].copy_from_slice(packet);
        plain[packet.len()..].fill(0);
        if session.sealer.seal(slot).is_err() {
            out.release();
            return Next::Nothing;
        }
        self.staged_bytes -= packet.len();
        peer.staged.pop_front();
        peer.wants_keepalive = false;
        peer.data_sent(now, &mut self.rng);
        peer.authenticated_sent(now);
        peer.keep_fresh_on_send(now, &mut self.agenda);
        peer.touch(&mut self.agenda);
        self.sent_by_itself(id, path, len, TransmitKind::Data)
    }

    fn sent_by_itself(&mut self, id: PeerId, path: Path, len: usize, kind: TransmitKind) -> Next {
        if let Some(peer) = self.peers.get_mut(id) {
            peer.tx_bytes += len as u64;
        }
        Next::Sent(Transmit { peer: Some(id), path, len, kind })
    }
}

enum Next {
    Sent(Transmit),
    NoRoom,
    Nothing,
}

fn write_reply(reply: &Reply, out: &mut impl Reserve) -> Option<Transmit> {
    let path = reply.path;
    Some(match &reply.message {
        ReplyMessage::Response(peer, message) => {
            out.reserve(&path, RESPONSE_LEN)?.copy_from_slice(message);
            Transmit { peer: Some(*peer), path, len: RESPONSE_LEN, kind: TransmitKind::Response }
        }
        ReplyMessage::Cookie(message) => {
            out.reserve(&path, COOKIE_REPLY_LEN)?.copy_from_slice(message);
            Transmit { peer: None, path, len: COOKIE_REPLY_LEN, kind: TransmitKind::CookieReply }
        }
    })
}
