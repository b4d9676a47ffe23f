//! The way in, in three steps, so that threads that share a device can decrypt beside each other.
//!
//! 1. *Begin*, with the device: whose session is it, and is the packet worth decrypting?
//! 2. *Open*, without it: decrypt in place. This is where the time goes.
//! 3. *Finish*, with the device: was it received before, who sent it and from where, may they send that?
//!
//! Between the steps anything may happen to the device. What counts is therefore decided in the third step: a
//! counter is accepted once, whoever decrypted it, and a session that has gone meanwhile delivers nothing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::data::MAX_RUN;
use super::{Device, Peers};
use crate::allowed_ips::AllowedIps;
use crate::crypto::TAG_LEN;
use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::agenda::Agenda;
use crate::wireguard::clock::Clock;
use crate::wireguard::constants::REJECT_AFTER_MESSAGES;
use crate::wireguard::counters::DropReason;
use crate::wireguard::event::{Evidence, Inbound, PeerId, Role};
use crate::wireguard::index::IndexTable;
use crate::wireguard::inner;
use crate::wireguard::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader, Message};
use crate::wireguard::peer::{Peer, Slot};
use crate::wireguard::replay::Replay;
use crate::wireguard::session::{Opener, Session};

/// Packets of one session on their way through the device: handed out by
/// [`begin_burst`](Device::begin_burst), decrypted by [`open`](Opening::open) without the device, and judged by
/// [`finish_burst`](Device::finish_burst).
///
/// It keeps the key of its session alive, so it should not be kept for longer than a burst takes.
pub struct Opening {
    peer: PeerId,
    /// The index of the session.
    receiver: u32,
    opener: Arc<Opener>,
    /// Where the messages stand in the burst.
    place: Range<usize>,
    stride: usize,
    run: Run<MAX_RUN>,
}

impl Opening {
    /// Decrypts the packets where they stand. `burst` is the one it was begun with.
    ///
    /// What then stands there must not be used before [`finish_burst`](Device::finish_burst) has said what it
    /// is: a packet may be forged, or a repetition.
    ///
    /// # Panics
    /// If `burst` is shorter than the one it was begun with.
    pub fn open(&mut self, burst: &mut [u8]) {
        self.run.open(&self.opener, &mut burst[self.place.clone()], self.stride);
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening")
            .field("peer", &self.peer)
            .field("packets", &self.run.len())
            .finish_non_exhaustive()
    }
}

impl Device {
    /// The first of three steps that together are [`handle_burst`](Device::handle_burst), for threads that
    /// share the device: they hold it for the first and the third step, not while they decrypt.
    ///
    /// Appends to `openings` what is to be decrypted, in the order of the datagrams. Messages that carry no
    /// packet are taken at once; what became of them, and of packets that are not worth decrypting, is told to
    /// `each`.
    ///
    /// Packets of one sender stay in order if one thread at a time takes all three steps for them.
    pub fn begin_burst(
        &mut self,
        now: Instant,
        path: &Path,
        burst: &[u8],
        stride: usize,
        openings: &mut Vec<Opening>,
        each: &mut impl FnMut(Inbound),
    ) {
        let now = self.clock.observe(now);
        let stride = stride.max(1);
        let mut at = 0;
        while at < burst.len() {
            let rest = &burst[at..];
            let len = stride.min(rest.len());
            let begun = match Message::parse(&rest[..len]) {
                Some(Message::Data(first)) => self.begin(now, first, rest, len, at),
                Some(message) => {
                    each(self.take_other(now, path, &message));
                    at += len;
                    continue;
                }
                None => Err(DropReason::Malformed),
            };
            match begun {
                Ok(opening) => {
                    at = opening.place.end;
                    openings.push(opening);
                }
                Err(reason) => {
                    each(self.drop(reason));
                    at += len;
                }
            }
        }
    }

    /// The run of packets at the front of `rest`, which stands at `at` in the burst.
    fn begin(
        &mut self,
        now: Instant,
        first: DataHeader,
        rest: &[u8],
        stride: usize,
        at: usize,
    ) -> Result<Opening, DropReason> {
        let place = self.indices.peer(first.receiver).ok_or(DropReason::UnknownIndex)?;
        let peer = self.peers.at_mut(place).ok_or(DropReason::UnknownIndex)?;
        let (id, receiver) = (peer.id, first.receiver);
        let (_, session) = peer.session_mut(receiver).ok_or(DropReason::UnknownIndex)?;
        worth_opening(session, now, first.counter)?;
        let run = Run::begin(session, first, rest, stride);
        let place = at..at + run.len() * stride;
        Ok(Opening { peer: id, receiver, opener: Arc::clone(&session.opener), place, stride, run })
    }

    /// The third step, see [`begin_burst`](Device::begin_burst): takes the `openings` of one burst, after they
    /// were opened, and tells `each` what became of their packets, in their order, with ranges within `burst`.
    ///
    /// Packets whose session has gone meanwhile are dropped as [`DropReason::UnknownIndex`], those whose
    /// session has ended as [`DropReason::ExpiredSession`], and of those with the same counter the first that
    /// comes here is taken.
    ///
    /// # Panics
    /// If `burst` is shorter than the one they were begun with.
    pub fn finish_burst(
        &mut self,
        now: Instant,
        path: &Path,
        openings: &mut [Opening],
        burst: &[u8],
        each: &mut impl FnMut(Inbound),
    ) {
        let now = self.clock.observe(now);
        let (peers, mut shared) = self.split();
        for Opening { peer, receiver, opener, place, stride, run } in openings {
            // The index may have been drawn again: the session is the one whose key opened the packets.
            let found = peers.get_mut(*peer).and_then(|peer| {
                let (slot, session) = peer.session_mut(*receiver)?;
                if !Arc::ptr_eq(&session.opener, opener) {
                    return None;
                }
                let verdict = if session.has_ended(now) {
                    Err(DropReason::ExpiredSession)
                } else if run.accept(&mut session.replay) {
                    Ok(slot)
                } else {
                    Err(DropReason::Forged)
                };
                Some((peer, verdict))
            });
            match found {
                Some((peer, Ok(slot))) => {
                    let messages = &burst[place.clone()];
                    shared.finish(now, path, peer, slot, run, messages, *stride, place.start, each);
                }
                Some((_, Err(reason))) => {
                    shared.refuse(reason, run.len(), each);
                }
                None => {
                    shared.refuse(DropReason::UnknownIndex, run.len(), each);
                }
            }
        }
    }

    /// The peers, and what they share.
    #[inline]
    pub(super) fn split(&mut self) -> (&mut Peers, Shared<'_>) {
        let Device { peers, indices, agenda, allowed_ips, clock, .. } = self;
        (peers, Shared { indices, agenda, allowed_ips, clock })
    }
}

/// Whether a packet with this counter is worth decrypting.
#[inline]
pub(super) fn worth_opening(session: &Session, now: Instant, counter: u64) -> Result<(), DropReason> {
    if session.has_ended(now) || counter >= REJECT_AFTER_MESSAGES {
        return Err(DropReason::ExpiredSession);
    }
    if !session.replay.is_fresh(counter) {
        return Err(DropReason::Replayed);
    }
    Ok(())
}

/// Up to `N` data messages of one session that stand side by side.
pub(super) struct Run<const N: usize> {
    len: usize,
    counters: [u64; N],
    /// First whether the message is authentic, then whether it is also received for the first time.
    accepted: [bool; N],
    /// Authentic, but received before.
    repeated: [bool; N],
}

impl<const N: usize> Run<N> {
    /// The data message at the front of `burst`, and those behind it that can be decrypted with it.
    #[inline]
    pub(super) fn begin(session: &Session, first: DataHeader, burst: &[u8], stride: usize) -> Self {
        let mut run =
            Run { len: 1, counters: [first.counter; N], accepted: [false; N], repeated: [false; N] };
        // What does not belong to the run begins the next.
        for message in burst.chunks_exact(stride).take(N).skip(1) {
            match Message::parse(message) {
                Some(Message::Data(header))
                    if header.receiver == first.receiver && session.replay.is_fresh(header.counter) =>
                {
                    run.counters[run.len] = header.counter;
                    run.len += 1;
                }
                Some(_) | None => break,
            }
        }
        run
    }

    /// How many messages it is.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Decrypts the messages in place.
    #[inline]
    pub(super) fn open(&mut self, opener: &Opener, messages: &mut [u8], stride: usize) {
        let len = self.len;
        opener.open_burst(&self.counters[..len], messages, stride, &mut self.accepted[..len]);
    }

    /// Notes the counters of what is authentic. False if nothing is.
    #[inline]
    pub(super) fn accept(&mut self, replay: &mut Replay) -> bool {
        let mut authentic = false;
        let verdicts = self.accepted.iter_mut().zip(&mut self.repeated);
        for (counter, (accepted, repeated)) in self.counters[..self.len].iter().zip(verdicts) {
            if *accepted {
                authentic = true;
                // A counter may also stand in one run twice, or have been received since it was fresh.
                *accepted = replay.accept(*counter);
                *repeated = !*accepted;
            }
        }
        authentic
    }
}

/// What the peers of a device share, on the way in.
pub(super) struct Shared<'a> {
    pub(super) indices: &'a mut IndexTable,
    agenda: &'a mut Agenda,
    allowed_ips: &'a AllowedIps,
    clock: &'a Clock,
}

impl Shared<'_> {
    /// Drops `count` datagrams. Returns how many it is.
    #[inline]
    pub(super) fn refuse(
        &mut self,
        reason: DropReason,
        count: usize,
        each: &mut impl FnMut(Inbound),
    ) -> usize {
        for _ in 0..count {
            self.agenda.drop(reason);
            each(Inbound::Dropped(reason));
        }
        count
    }

    /// Takes packets of which at least one is authentic. `offset` is where `messages` stand in the caller's
    /// buffer.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)] // the packets, where they stand and whose they are
    pub(super) fn finish<const N: usize>(
        &mut self,
        now: Instant,
        path: &Path,
        peer: &mut Peer,
        slot: Slot,
        run: &Run<N>,
        messages: &[u8],
        stride: usize,
        offset: usize,
        each: &mut impl FnMut(Inbound),
    ) {
        let agenda = &mut *self.agenda;
        // From here on the packets are the peer's own, so the path is learnt even if their contents are not
        // accepted.
        let id = peer.id;
        peer.learn_path(path, Evidence::Data, agenda);
        match slot {
            Slot::Current => peer.confirm_current(self.indices),
            Slot::Previous => {}
            Slot::Next => {
                peer.confirm_next(self.indices);
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
        let mut start = offset + DATA_HEADER_LEN;
        let verdicts = run.accepted.iter().zip(&run.repeated);
        for (message, (accepted, repeated)) in messages.chunks_exact(stride).zip(verdicts) {
            let plain = &message[DATA_HEADER_LEN..stride - TAG_LEN];
            let result = if *repeated {
                Err(DropReason::Replayed)
            } else if !*accepted {
                Err(DropReason::Forged)
            } else if plain.is_empty() {
                Ok(Inbound::Keepalive { peer: id })
            } else {
                match inner::source_and_len(plain) {
                    None => Err(DropReason::NotIp),
                    Some((source, len)) => {
                        if known == Some(source) || self.allowed_ips.lookup(source) == Some(id) {
                            known = Some(source);
                            Ok(Inbound::Packet { peer: id, range: start..start + len })
                        } else {
                            Err(DropReason::SourceNotAllowed)
                        }
                    }
                }
            };
            start += stride;
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
    }
}
