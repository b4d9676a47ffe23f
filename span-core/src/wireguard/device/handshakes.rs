//! The way of handshakes: admission, the work on them, initiations of our own.

use super::Device;
use crate::crypto::Forged;
use crate::path::Path;
use crate::time::{Instant, Tai64N};
use crate::wireguard::constants::{HANDSHAKE_BUDGET, INITIATION_SPACING, MAX_REPLIES};
use crate::wireguard::counters::DropReason;
use crate::wireguard::event::{Event, Evidence, Inbound, PeerId, Role};
use crate::wireguard::handshake::{InitiatorState, ReceivedInitiation};
use crate::wireguard::message::{
    COOKIE_REPLY_LEN, CookieReply, INITIATION_LEN, Initiation, Macs, RESPONSE_LEN, Response,
};
use crate::wireguard::queue::HandshakeMessage;
use crate::wireguard::session::Session;

/// An answer that waits for a slot.
pub(super) struct Reply {
    pub(super) path: Path,
    pub(super) message: ReplyMessage,
}

pub(super) enum ReplyMessage {
    Response(PeerId, [u8; RESPONSE_LEN]),
    Cookie([u8; COOKIE_REPLY_LEN]),
}

impl Device {
    /// Lets a handshake message into the queue if its sender knows our public key and, under load, can
    /// receive at its address and keeps to its allowance. Checking costs two hashes, no key agreement.
    #[cold]
    pub(super) fn admit(
        &mut self,
        now: Instant,
        path: &Path,
        sender: u32,
        macs: &Macs<'_>,
        message: HandshakeMessage,
    ) -> Inbound {
        let Some(identity) = &mut self.identity else { return self.drop(DropReason::NoPrivateKey) };
        if !identity.checker.has_valid_mac1(macs) {
            return self.drop(DropReason::InvalidMac1);
        }
        if self.handshakes.is_loaded(now) {
            if !identity.checker.has_valid_mac2(&mut self.rng, now, path, macs) {
                if self.replies.len() >= MAX_REPLIES {
                    return self.drop(DropReason::CookieQueueFull);
                }
                let cookie = identity.checker.reply(&mut self.rng, now, path, sender, macs.mac1);
                self.replies.push_back(Reply { path: *path, message: ReplyMessage::Cookie(cookie) });
                return Inbound::Handshake;
            }
            if !self.limiter.allows(now, path) {
                return self.drop(DropReason::RateLimited);
            }
        }
        if self.handshakes.push(*path, message) {
            Inbound::Handshake
        } else {
            self.drop(DropReason::HandshakeQueueFull)
        }
    }

    /// A cookie reply proves nothing about where the peer is: no path is learnt from it.
    #[cold]
    pub(super) fn handle_cookie_reply(&mut self, now: Instant, reply: CookieReply<'_>) -> Inbound {
        let peer = self.indices.peer(reply.receiver()).and_then(|place| self.peers.at_mut(place));
        let Some(peer) = peer else { return self.drop(DropReason::UnknownIndex) };
        if peer.noise.cookie.accept(now, reply) == Err(Forged) {
            return self.drop(DropReason::InvalidHandshake);
        }
        self.agenda.counters.cookies_accepted += 1;
        Inbound::Handshake
    }

    /// Works on some of the waiting handshake messages, as long as there is room for answers.
    pub(super) fn work_on_handshakes(&mut self, now: Instant) {
        for _ in 0..HANDSHAKE_BUDGET {
            if self.replies.len() >= MAX_REPLIES {
                return;
            }
            let Some(waiting) = self.handshakes.pop() else { break };
            let result = match &waiting.message {
                HandshakeMessage::Initiation(bytes) => self.answer(now, &waiting.path, Initiation(bytes)),
                HandshakeMessage::Response(bytes) => self.complete(now, &waiting.path, Response(bytes)),
            };
            if let Err(reason) = result {
                self.agenda.drop(reason);
            }
        }
        if self.handshakes.is_empty() && !self.handshakes.is_loaded(now) {
            self.limiter.clear();
        }
    }

    /// Answers an initiation.
    fn answer(&mut self, now: Instant, path: &Path, message: Initiation<'_>) -> Result<(), DropReason> {
        let identity = self.identity.as_ref().ok_or(DropReason::NoPrivateKey)?;
        let received = ReceivedInitiation::open(&identity.private, &identity.public, self.accepted, message)?;
        let place = *self.by_key.get(&received.peer).ok_or(DropReason::UnknownPeer)?;
        let peer = self.peers.at_mut(place).ok_or(DropReason::UnknownPeer)?;
        // A peer of low order has no shared secret: nothing it sends is authentic.
        let static_static = peer.noise.static_static.as_ref().ok_or(DropReason::InvalidHandshake)?;
        let opened = received.open_timestamp(static_static)?;
        if opened.timestamp <= peer.noise.last_timestamp_received {
            return Err(DropReason::StaleInitiation);
        }
        if peer.noise.last_initiation_received.is_some_and(|last| now < last + INITIATION_SPACING) {
            return Err(DropReason::InitiationFlood);
        }
        peer.noise.last_timestamp_received = opened.timestamp;
        peer.noise.last_initiation_received = Some(now);

        let index = self.indices.insert(&mut self.rng, place);
        let answer = opened.respond(&mut self.rng, index, &peer.noise.preshared_key);
        self.rng.move_on();
        let (keys, mut response) = match answer {
            Ok(answer) => answer,
            Err(forged) => {
                self.indices.remove(index);
                return Err(forged.into());
            }
        };
        peer.noise.cookie.sign(now, &mut response);
        let session = Session::new(Role::Responder, index, &keys, now);
        peer.install_as_responder(session, now, &mut self.indices);
        peer.learn_path(path, Evidence::Initiation, &mut self.agenda);
        peer.last_handshake_sent = Some(now);
        peer.rx_bytes += INITIATION_LEN as u64;
        peer.authenticated_received(now);
        peer.authenticated_sent(now);
        peer.touch(&mut self.agenda);
        self.agenda.tell(Event::Answered { peer: peer.id, path: *path });
        let message = ReplyMessage::Response(peer.id, response);
        self.replies.push_back(Reply { path: *path, message });
        self.agenda.counters.initiations_accepted += 1;
        Ok(())
    }

    /// Completes a handshake of ours.
    fn complete(&mut self, now: Instant, path: &Path, message: Response<'_>) -> Result<(), DropReason> {
        let identity = self.identity.as_ref().ok_or(DropReason::NoPrivateKey)?;
        let index = message.receiver();
        let place = self.indices.peer(index).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.at_mut(place).ok_or(DropReason::UnknownIndex)?;
        let state = peer.noise.initiations.iter().position(|state| state.index == index);
        let state = state.ok_or(DropReason::UnknownIndex)?;
        let keys =
            peer.noise.initiations[state].finish(&identity.private, &peer.noise.preshared_key, message)?;
        peer.complete_initiation(state, &mut self.indices);
        let session = Session::new(Role::Initiator, index, &keys, now);
        peer.install_as_initiator(session, now, &mut self.indices);
        peer.learn_path(path, Evidence::Response, &mut self.agenda);
        peer.rx_bytes += RESPONSE_LEN as u64;
        peer.authenticated_received(now);
        peer.handshake_completed(Role::Initiator, path, self.clock.unix(now), &mut self.agenda);
        // The responder may send only after it has heard from us.
        if peer.staged.is_empty() {
            peer.want_keepalive(now, &mut self.agenda);
        }
        self.agenda.counters.responses_accepted += 1;
        Ok(())
    }

    /// Writes an initiation to `peer`; `None` if no handshake with it is possible.
    pub(super) fn write_initiation(&mut self, now: Instant, peer: PeerId) -> Option<[u8; INITIATION_LEN]> {
        let unix = self.clock.unix(now);
        let identity = self.identity.as_ref()?;
        let peer = self.peers.get_mut(peer)?;
        let static_static = peer.noise.static_static.as_ref()?;
        // Two initiations within one grain of the timestamp must not look alike.
        let timestamp = Tai64N::new(unix).max(peer.noise.last_timestamp_sent.next());
        let index = self.indices.insert(&mut self.rng, peer.id.index);
        let begun = InitiatorState::begin(
            &mut self.rng,
            peer.suite_to_begin_with(),
            index,
            &identity.public,
            &peer.noise.public_key,
            static_static,
            timestamp,
        );
        self.rng.move_on();
        let Ok((state, mut message)) = begun else {
            self.indices.remove(index);
            return None;
        };
        peer.noise.cookie.sign(now, &mut message);
        peer.noise.last_timestamp_sent = timestamp;
        peer.remember_initiation(state, &mut self.indices);
        self.agenda.counters.initiations_sent += 1;
        Some(message)
    }
}

impl From<Forged> for DropReason {
    fn from(Forged: Forged) -> Self {
        DropReason::InvalidHandshake
    }
}
