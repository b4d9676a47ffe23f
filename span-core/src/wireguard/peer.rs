//! One peer: its sessions, its timers and what it has to send (WireGuard paper, section 6).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use core::time::Duration;

use rand_core::Rng;

use super::agenda::Agenda;
use super::constants::{
    ERASE_AFTER, JITTER_MAX, KEEPALIVE_TIMEOUT, MAX_STAGED, REJECT_AFTER_TIME, REKEY_AFTER_TIME,
    REKEY_ATTEMPT_TIME, REKEY_TIMEOUT,
};
use super::cookie::CookieJar;
use super::counters::DropReason;
use super::event::{Event, Evidence, PeerId, Role};
use super::handshake::{InitiatorState, StaticStatic};
use super::index::IndexTable;
use super::session::Session;
use super::timers::{Timer, Timers};
use crate::crypto::{Suite, Suites};
use crate::key::{PresharedKey, PublicKey};
use crate::path::Path;
use crate::time::{Instant, Tai64N, UnixTime};

/// Initiations that wait for a response at the same time: a response that is overtaken by our next
/// initiation is still welcome.
const MAX_INITIATIONS: usize = 4;

pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) noise: Noise,
    /// The suite of our initiations, as configured.
    suite: Suite,
    /// The suite of the last session that the peer has begun and used since then: it knows best.
    heard_suite: Option<Suite>,
    pub(super) path: Option<Path>,
    /// Initiations are handed to the caller, who sends them over several paths.
    pub(super) raced: bool,
    pub(super) keepalive: Option<NonZeroU16>,

    /// When the last initiation or response was sent: initiations keep their distance from it.
    pub(super) last_handshake_sent: Option<Instant>,
    /// Whether a session near its end has already asked for the next one on receiving.
    asked_at_last_minute: bool,

    current: Option<Box<Session>>,
    /// Whether the peer has used the current session. Until then it may be using the previous one.
    current_used: bool,
    previous: Option<Box<Session>>,
    /// The session before the previous one, while the peer has used neither of those since: handshakes that
    /// cross leave it there.
    older: Option<Box<Session>>,
    /// A session we are the responder of, until its initiator has used it.
    next: Option<Box<Session>>,

    pub(super) timers: Timers,
    pub(super) initiation: Wanted,
    pub(super) wants_keepalive: bool,
    pub(super) staged: VecDeque<Box<[u8]>>,

    pub(super) last_handshake: Option<UnixTime>,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,

    // Whether the peer is on the agenda's list of that name.
    pub(super) touched: bool,
    pub(super) in_transmits: bool,
    pub(super) in_races: bool,
}

/// What only handshakes need. It stands by itself, so that what packets need shares few cache lines.
pub(super) struct Noise {
    pub(super) public_key: PublicKey,
    pub(super) preshared_key: PresharedKey,
    pub(super) static_static: StaticStatic,
    pub(super) cookie: CookieJar,
    /// Newest last.
    pub(super) initiations: Vec<InitiatorState>,
    pub(super) last_timestamp_sent: Tai64N,
    pub(super) last_timestamp_received: Tai64N,
    pub(super) last_initiation_received: Option<Instant>,
}

/// Whether an initiation is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    No,
    /// Unless a handshake message was sent within `REKEY_TIMEOUT`.
    Spaced,
    /// Whatever was sent before.
    AtOnce,
}

/// Which of the sessions a packet came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Current,
    Previous,
    Next,
}

impl Peer {
    pub(super) fn new(id: PeerId, public_key: PublicKey, static_static: StaticStatic) -> Self {
        Peer {
            id,
            noise: Noise {
                public_key,
                preshared_key: PresharedKey::default(),
                static_static,
                cookie: CookieJar::new(&public_key),
                initiations: Vec::new(),
                last_timestamp_sent: Tai64N::default(),
                last_timestamp_received: Tai64N::default(),
                last_initiation_received: None,
            },
            suite: Suite::default(),
            heard_suite: None,
            path: None,
            raced: false,
            keepalive: None,
            last_handshake_sent: None,
            asked_at_last_minute: false,
            current: None,
            current_used: false,
            previous: None,
            older: None,
            next: None,
            timers: Timers::new(),
            initiation: Wanted::No,
            wants_keepalive: false,
            staged: VecDeque::new(),
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
            touched: false,
            in_transmits: false,
            in_races: false,
        }
    }

    // Sessions

    /// The session packets are sealed with, if one may be sealed now.
    #[inline]
    pub(super) fn sealing(&self, now: Instant) -> Option<&Session> {
        self.current.as_deref().filter(|session| session.can_seal(now))
    }

    /// The session with this index of ours.
    #[inline]
    pub(super) fn session_mut(&mut self, index: u32) -> Option<(Slot, &mut Session)> {
        [
            (Slot::Current, &mut self.current),
            (Slot::Previous, &mut self.previous),
            (Slot::Previous, &mut self.older),
            (Slot::Next, &mut self.next),
        ]
        .into_iter()
        .find_map(|(slot, session)| {
            session.as_deref_mut().filter(|session| session.index == index).map(|session| (slot, session))
        })
    }

    /// Takes a session into use that we are the initiator of: the response has confirmed it.
    pub(super) fn install_as_initiator(&mut self, session: Session, now: Instant, indices: &mut IndexTable) {
        let before = self.current.replace(Box::new(session));
        let before_used = core::mem::replace(&mut self.current_used, false);
        if before_used {
            release(indices, self.older.take());
        }
        if let Some(next) = self.next.take() {
            // A session the peer has begun at the same time is not thrown away: the peer may prefer it.
            release(indices, before);
            release(indices, self.previous.replace(next));
            release(indices, self.older.take());
        } else {
            let previous = core::mem::replace(&mut self.previous, before);
            if before_used || self.older.is_some() {
                release(indices, previous);
            } else {
                // Two handshakes of ours in a row: the peer may still be with the session from before them,
                // which may be one it has begun itself.
                self.older = previous;
            }
        }
        self.session_installed(now);
    }

    /// Keeps a session ready that we are the responder of, until the initiator uses it.
    pub(super) fn install_as_responder(&mut self, session: Session, now: Instant, indices: &mut IndexTable) {
        release(indices, self.next.replace(Box::new(session)));
        if self.current_used {
            release(indices, self.previous.take());
            release(indices, self.older.take());
        }
        self.session_installed(now);
    }

    /// The initiator has used the next session: it becomes the current one.
    pub(super) fn confirm_next(&mut self, indices: &mut IndexTable) {
        if let Some(next) = self.next.take() {
            let before = self.current.replace(next);
            release(indices, core::mem::replace(&mut self.previous, before));
            release(indices, self.older.take());
            self.current_used = true;
            // Only now: an initiation by itself may be an old one that somebody has kept.
            self.heard_suite = self.current.as_ref().map(|session| session.suite);
        }
    }

    /// The peer has used the current session.
    #[inline]
    pub(super) fn confirm_current(&mut self, indices: &mut IndexTable) {
        if !self.current_used {
            self.current_used = true;
            release(indices, self.older.take());
        }
    }

    fn session_installed(&mut self, now: Instant) {
        self.asked_at_last_minute = false;
        self.timers.set(Timer::Erase, now + ERASE_AFTER);
        self.arm_session_expiry();
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        [&self.current, &self.previous, &self.older, &self.next]
            .into_iter()
            .filter_map(|session| session.as_deref())
    }

    fn arm_session_expiry(&mut self) {
        match self.sessions().map(Session::end).min() {
            Some(end) => self.timers.set(Timer::SessionExpiry, end),
            None => self.timers.clear(Timer::SessionExpiry),
        }
    }

    /// Erases sessions that have reached their end.
    fn expire_sessions(&mut self, now: Instant, indices: &mut IndexTable) {
        for session in [&mut self.current, &mut self.previous, &mut self.older, &mut self.next] {
            release(indices, session.take_if(|session| session.has_ended(now)));
        }
        self.arm_session_expiry();
    }

    /// Our private key has changed: sessions made with the old one still open packets, but seal no more,
    /// and the next packet begins a new handshake.
    pub(super) fn retire_sessions(&mut self, indices: &mut IndexTable) {
        for session in [&mut self.current, &mut self.next].into_iter().flatten() {
            session.may_seal = false;
        }
        self.forget_initiations(indices);
        self.last_handshake_sent = None;
    }

    /// Erases everything ephemeral.
    pub(super) fn erase(&mut self, indices: &mut IndexTable) {
        for session in [&mut self.current, &mut self.previous, &mut self.older, &mut self.next] {
            release(indices, session.take());
        }
        self.forget_initiations(indices);
        self.noise.cookie.erase();
        self.timers.clear(Timer::SessionExpiry);
        self.timers.clear(Timer::Erase);
    }

    // Handshakes

    /// The suite of our next initiation. Whether initiations are answered plays no part in it: who can make
    /// packets disappear must not choose.
    pub(super) fn suite_to_begin_with(&self) -> Suite {
        self.heard_suite.unwrap_or(self.suite)
    }

    /// Sets the suite of our initiations, whatever the peer was heard to use. A session of another one is
    /// renewed.
    pub(super) fn set_suite(&mut self, suite: Suite, now: Instant, agenda: &mut Agenda) {
        self.suite = suite;
        self.heard_suite = None;
        if self.sealing(now).is_some_and(|session| session.suite != suite) {
            self.request_handshake(now, agenda);
        }
    }

    /// What was heard counts only if it is accepted still.
    pub(super) fn accept_suites(&mut self, accepted: Suites) {
        self.heard_suite = self.heard_suite.filter(|suite| accepted.contains(*suite));
    }

    /// Notes an initiation that was written. Of too many, the oldest gives way.
    pub(super) fn remember_initiation(&mut self, state: InitiatorState, indices: &mut IndexTable) {
        if self.noise.initiations.len() >= MAX_INITIATIONS {
            indices.remove(self.noise.initiations.remove(0).index);
        }
        self.noise.initiations.push(state);
    }

    /// Forgets the initiation at `place`, whose response has come, and those before it. Later ones stay: if
    /// the peer has seen them too, it is their session that it keeps. The index lives on in the session.
    pub(super) fn complete_initiation(&mut self, place: usize, indices: &mut IndexTable) {
        for (other, state) in self.noise.initiations.drain(..=place).enumerate() {
            if other < place {
                indices.remove(state.index);
            }
        }
    }

    fn forget_initiations(&mut self, indices: &mut IndexTable) {
        for state in core::mem::take(&mut self.noise.initiations) {
            indices.remove(state.index);
        }
    }

    /// Asks for a handshake on account of something to send: whatever was tried before is forgotten, and
    /// the peer has another 90 seconds.
    pub(super) fn request_handshake(&mut self, now: Instant, agenda: &mut Agenda) {
        self.timers.set(Timer::GiveUp, now + REKEY_ATTEMPT_TIME);
        self.want_initiation(now, agenda);
        self.touch(agenda);
    }

    /// Sends an initiation as soon as `REKEY_TIMEOUT` has passed since the last handshake message.
    fn want_initiation(&mut self, now: Instant, agenda: &mut Agenda) {
        match self.initiation_allowed_at() {
            Some(allowed) if now < allowed => self.timers.set_if_unarmed(Timer::Initiate, allowed),
            Some(_) | None => {
                self.initiation = self.initiation.max(Wanted::Spaced);
                self.timers.clear(Timer::Initiate);
                self.enqueue(agenda);
            }
        }
    }

    /// Whether the initiation that is wanted may be sent now. One that has to keep its distance is put off.
    pub(super) fn may_initiate(&mut self, now: Instant, agenda: &mut Agenda) -> bool {
        match (self.initiation, self.initiation_allowed_at()) {
            (Wanted::No, _) => false,
            (Wanted::Spaced, Some(allowed)) if now < allowed => {
                self.initiation = Wanted::No;
                self.timers.set_if_unarmed(Timer::Initiate, allowed);
                self.touch(agenda);
                false
            }
            (Wanted::Spaced | Wanted::AtOnce, _) => true,
        }
    }

    /// When the next initiation keeps its distance from the last handshake message.
    fn initiation_allowed_at(&self) -> Option<Instant> {
        self.last_handshake_sent.map(|sent| sent + REKEY_TIMEOUT)
    }

    /// An initiation is about to be sent, or would be if there were a way.
    pub(super) fn initiation_sent(&mut self, now: Instant, rng: &mut impl Rng, agenda: &mut Agenda) {
        self.initiation = Wanted::No;
        self.last_handshake_sent = Some(now);
        self.timers.set(Timer::Initiate, now + REKEY_TIMEOUT + jitter(rng));
        self.timers.set_if_unarmed(Timer::GiveUp, now + REKEY_ATTEMPT_TIME);
        self.authenticated_sent(now);
        self.touch(agenda);
    }

    /// Both sides have the session's keys.
    pub(super) fn handshake_completed(
        &mut self,
        role: Role,
        path: &Path,
        unix: UnixTime,
        agenda: &mut Agenda,
    ) {
        self.timers.clear(Timer::Initiate);
        self.timers.clear(Timer::GiveUp);
        self.initiation = Wanted::No;
        self.asked_at_last_minute = false;
        self.last_handshake = Some(unix);
        agenda.tell(Event::SessionEstablished { peer: self.id, path: *path, role });
        if !self.staged.is_empty() {
            self.enqueue(agenda);
        }
        self.touch(agenda);
    }

    // Traffic

    /// A packet with contents was sealed.
    pub(super) fn data_sent(&mut self, now: Instant, rng: &mut impl Rng) {
        if !self.timers.is_armed(Timer::NoAnswer) {
            self.timers.set(Timer::NoAnswer, now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter(rng));
        }
    }

    /// Any packet that the peer can authenticate was sent.
    pub(super) fn authenticated_sent(&mut self, now: Instant) {
        self.timers.clear(Timer::Keepalive);
        self.put_off_persistent_keepalive(now);
    }

    /// A packet was sealed: a session that is old or much used asks for the next one.
    pub(super) fn keep_fresh_on_send(&mut self, now: Instant, agenda: &mut Agenda) {
        let stale = self.current.as_ref().is_some_and(|session| {
            session.sealer.is_worn()
                || (session.role == Role::Initiator && now >= session.born + REKEY_AFTER_TIME)
        });
        if stale {
            self.request_handshake(now, agenda);
        }
    }

    /// A packet with contents was received.
    pub(super) fn data_received(&mut self, now: Instant) {
        self.timers.set_if_unarmed(Timer::Keepalive, now + KEEPALIVE_TIMEOUT);
    }

    /// Any authentic packet was received.
    pub(super) fn authenticated_received(&mut self, now: Instant) {
        self.timers.clear(Timer::NoAnswer);
        self.put_off_persistent_keepalive(now);
    }

    /// A packet was opened: the initiator of a session that would end before an answer could be missed
    /// asks for the next one, even if it has nothing to send.
    pub(super) fn keep_fresh_on_receive(&mut self, now: Instant, agenda: &mut Agenda) {
        const LAST_MINUTE: Duration =
            REJECT_AFTER_TIME.saturating_sub(KEEPALIVE_TIMEOUT).saturating_sub(REKEY_TIMEOUT);
        let ending = self
            .current
            .as_ref()
            .is_some_and(|session| session.role == Role::Initiator && now >= session.born + LAST_MINUTE);
        if ending && !self.asked_at_last_minute {
            self.asked_at_last_minute = true;
            self.request_handshake(now, agenda);
        }
    }

    pub(super) fn put_off_persistent_keepalive(&mut self, now: Instant) {
        if let Some(seconds) = self.keepalive {
            let interval = Duration::from_secs(u64::from(seconds.get()));
            self.timers.set(Timer::PersistentKeepalive, now + interval);
        }
    }

    /// An authentic message came over `path`: that is where the peer is.
    #[inline]
    pub(super) fn learn_path(&mut self, path: &Path, by: Evidence, agenda: &mut Agenda) {
        if self.path.as_ref() != Some(path) {
            let moved = self.path.as_ref().is_none_or(|before| !before.same_remote(path));
            let lost = self.path.replace(*path).is_none();
            if lost && !self.staged.is_empty() {
                self.enqueue(agenda);
            }
            if moved {
                agenda.tell(Event::PathLearnt { peer: self.id, path: *path, by });
            }
        }
    }

    /// Keeps a packet until there is a session. The oldest gives way; returns its length.
    pub(super) fn stage(&mut self, packet: &[u8]) -> Option<usize> {
        let dropped = if self.staged.len() >= MAX_STAGED { self.staged.pop_front() } else { None };
        self.staged.push_back(packet.into());
        dropped.map(|packet| packet.len())
    }

    /// Drops what is staged; returns how many packets and bytes it was.
    pub(super) fn unstage_all(&mut self) -> (u64, usize) {
        let staged = core::mem::take(&mut self.staged);
        (staged.len() as u64, staged.iter().map(|packet| packet.len()).sum())
    }

    // Timers

    /// Handles every timer that has run out; returns how many bytes were dropped from the stage.
    pub(super) fn handle_timers(
        &mut self,
        now: Instant,
        indices: &mut IndexTable,
        agenda: &mut Agenda,
    ) -> usize {
        let mut unstaged = 0;
        for timer in Timer::ALL {
            if !self.timers.expire(timer, now) {
                continue;
            }
            match timer {
                Timer::GiveUp => unstaged += self.give_up(now, agenda),
                Timer::Initiate => {
                    self.let_host_choose_source();
                    self.initiation = self.initiation.max(Wanted::Spaced);
                    self.enqueue(agenda);
                }
                Timer::NoAnswer => {
                    self.let_host_choose_source();
                    agenda.tell(Event::NoAnswer { peer: self.id });
                    self.request_handshake(now, agenda);
                }
                Timer::Keepalive => self.want_keepalive(now, agenda),
                Timer::PersistentKeepalive => {
                    self.put_off_persistent_keepalive(now);
                    self.want_keepalive(now, agenda);
                }
                Timer::SessionExpiry => self.expire_sessions(now, indices),
                Timer::Erase => self.erase(indices),
            }
        }
        self.touch(agenda);
        unstaged
    }

    fn give_up(&mut self, now: Instant, agenda: &mut Agenda) -> usize {
        self.timers.clear(Timer::Initiate);
        self.timers.clear(Timer::Keepalive);
        self.initiation = Wanted::No;
        self.wants_keepalive = false;
        self.timers.set_if_unarmed(Timer::Erase, now + ERASE_AFTER);
        let (packets, bytes) = self.unstage_all();
        agenda.counters.drop(DropReason::StagedExpired, packets);
        agenda.counters.handshakes_failed += 1;
        agenda.tell(Event::HandshakeFailed { peer: self.id });
        bytes
    }

    /// Sends a packet without contents, or begins the handshake that allows it.
    pub(super) fn want_keepalive(&mut self, now: Instant, agenda: &mut Agenda) {
        if self.sealing(now).is_some() {
            self.wants_keepalive = true;
            self.enqueue(agenda);
        } else {
            self.request_handshake(now, agenda);
        }
    }

    /// The peer did not answer: maybe our own address is not what it was.
    fn let_host_choose_source(&mut self) {
        self.path = self.path.map(Path::without_source);
    }

    // The agenda

    /// Notes that timers have changed.
    #[inline]
    pub(super) fn touch(&mut self, agenda: &mut Agenda) {
        if !self.touched {
            self.touched = true;
            agenda.touched.push(self.id.index);
        }
    }

    /// Notes that there is something to send.
    pub(super) fn enqueue(&mut self, agenda: &mut Agenda) {
        if self.raced && self.initiation != Wanted::No && !self.in_races {
            self.in_races = true;
            agenda.races.push_back(self.id);
        }
        if !self.in_transmits {
            self.in_transmits = true;
            agenda.transmits.push_back(self.id);
        }
    }
}

fn release(indices: &mut IndexTable, session: Option<Box<Session>>) {
    if let Some(session) = session {
        indices.remove(session.index);
    }
}

/// Up to a third of a second, so that two sides do not keep colliding.
fn jitter(rng: &mut impl Rng) -> Duration {
    Duration::from_nanos(rng.next_u64() % (JITTER_MAX.as_nanos() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_packets_need_of_a_peer_is_six_cache_lines() {
        let hot = size_of::<Peer>() - size_of::<Noise>();
        assert!(hot <= 6 * 64, "{hot} of {} bytes", size_of::<Peer>());
    }
}
