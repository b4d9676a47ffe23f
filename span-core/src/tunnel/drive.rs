//! The tunnel's own motion.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use super::event::{Event, PathReason, Reason};
use super::{Entry, Slot, Tunnel, place, slot_mut};
use crate::endpoint::{Cause, SelectionEvent};
use crate::time::Instant;
use crate::wireguard::{self, Evidence, INITIATION_LEN, PeerId, Reserve, Transmit, TransmitKind};

/// Events nobody has read yet.
const MAX_EVENTS: usize = 1 << 15;

impl Tunnel {
    /// Does what is due: timers, and a bounded number of waiting handshake messages.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.device.handle_timeout(now);
        let here = self.clock.observe(now);
        self.take_device_events(here);
        while let Some((deadline, place)) = self.deadlines.first()
            && deadline <= here
        {
            self.deadlines.set(place, None);
            let Some(slot) = self.slots.get_mut(place as usize) else { continue };
            let Some(peer) = slot.as_ref().map(|slot| slot.id) else { continue };
            if self.device.peer(now, peer).is_none() {
                // Removed behind our back: setting a private key removes the peer of that name.
                *slot = None;
                self.skip_settled();
            } else if let Some(slot) = slot {
                slot.selection.handle_timeout(here);
                self.settle(peer);
            }
        }
    }

    /// Writes the next datagram into a slot of `out`: what the device has to send, and the copies of
    /// initiations that are due. `None` when there is nothing more, or no room; in the latter case
    /// [`poll_timeout`](Self::poll_timeout) still names a time that has come.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut impl Reserve) -> Option<Transmit> {
        let here = self.clock.observe(now);
        if let Some(transmit) = self.device.poll_transmit(now, out) {
            match (transmit.kind, transmit.peer) {
                (TransmitKind::Data, Some(peer)) => self.expect_answer(here, peer),
                (
                    TransmitKind::Data
                    | TransmitKind::Keepalive
                    | TransmitKind::Initiation
                    | TransmitKind::Response
                    | TransmitKind::CookieReply,
                    _,
                ) => {}
            }
            return Some(transmit);
        }
        loop {
            match self.next_probe(now, here, out) {
                Next::Sent(transmit) => return Some(transmit),
                Next::NoRoom => return None,
                Next::Nothing => {}
            }
            if let Some((peer, initiation)) = self.device.poll_initiation(now) {
                self.launch(here, peer, &initiation);
            } else if !self.ask(now, here) {
                return None;
            }
        }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When the tunnel wants attention next, and why. An instant that has passed means now. Exact: before
    /// it nothing changes by itself, at it something does.
    pub fn poll_timeout(&mut self) -> Option<(Instant, Reason)> {
        let queued = if !self.events.is_empty() {
            Some((self.clock.last(), Reason::Events))
        } else if !self.probing.is_empty() {
            Some((self.clock.last(), Reason::Probes))
        } else if !self.asking.is_empty() {
            Some((self.pace.next(), Reason::Initiations))
        } else {
            None
        };
        let selection = self.deadlines.first().map(|(at, place)| {
            let reason = self.slots[place as usize].as_ref().and_then(|slot| {
                let (_, reason) = slot.selection.poll_timeout()?;
                Some(Reason::Selection(slot.id, reason))
            });
            // A slot without a reason is one that was emptied: looking at it is all there is to do.
            (at, reason.unwrap_or(Reason::Probes))
        });
        let own = [queued, selection].into_iter().flatten().min_by_key(|(at, _)| *at);
        let own = own.map(|(at, reason)| (self.clock.to_caller(at), reason));
        let device = self.device.poll_timeout().map(|(at, reason)| (at, Reason::Device(reason)));
        [own, device].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Takes note of what the device has to tell.
    pub(super) fn take_device_events(&mut self, now: Instant) {
        while let Some(event) = self.device.poll_event() {
            match event {
                wireguard::Event::SessionEstablished { peer, path, role } => {
                    self.tell(Event::Established { peer, path, role });
                    if let Some(slot) = slot_mut(&mut self.slots, peer) {
                        let (cause, moved) = slot.selection.established(now, &path);
                        if moved {
                            let why = PathReason::Answered(cause.unwrap_or(Cause::Renewal));
                            self.tell(Event::PathChanged { peer, path, why });
                        }
                        self.settle(peer);
                    }
                }
                wireguard::Event::PathLearnt { peer, path, by } => {
                    match (by, slot_mut(&mut self.slots, peer)) {
                        // The session it completes comes next, and says more.
                        (Evidence::Response, Some(_)) => continue,
                        (Evidence::Initiation | Evidence::Data, Some(slot)) => {
                            slot.selection.learnt(now, &path);
                        }
                        (Evidence::Initiation | Evidence::Response | Evidence::Data, None) => {}
                    }
                    self.tell(Event::PathChanged { peer, path, why: PathReason::Roamed(by) });
                    self.settle(peer);
                }
                wireguard::Event::Answered { peer, .. } => {
                    if let Some(slot) = slot_mut(&mut self.slots, peer) {
                        slot.selection.answered(now);
                        self.settle(peer);
                    }
                }
                wireguard::Event::HandshakeFailed { peer } => self.tell(Event::HandshakeFailed { peer }),
                // The selection has long asked.
                wireguard::Event::NoAnswer { .. } => {}
            }
        }
    }

    /// Puts a peer on the lists it belongs to after something happened to its selection.
    pub(super) fn settle(&mut self, peer: PeerId) {
        let now = self.clock.last();
        let Some(slot) = slot_mut(&mut self.slots, peer) else { return };
        let event = slot.selection.poll_event();
        enlist(&mut self.asking, peer, &mut slot.asking, slot.selection.wants_initiation());
        let probing = slot.selection.next_probe(now).is_some();
        enlist(&mut self.probing, peer, &mut slot.probing, probing);
        // One that has something to send comes back here when it is sent.
        let timeout = slot.selection.poll_timeout().filter(|_| !probing);
        self.deadlines.set(place(peer), timeout.map(|(at, _)| at));
        match event {
            Some(SelectionEvent::Up) => self.tell(Event::PeerUp { peer }),
            Some(SelectionEvent::Down) => self.tell(Event::PeerDown { peer }),
            None => {}
        }
        self.skip_settled();
    }

    /// Takes peers off the lists that want nothing of them any more, up to the first that does: a list is empty
    /// if and only if there is nothing to do.
    pub(super) fn skip_settled(&mut self) {
        skip(&mut self.asking, &mut self.slots, |slot| &mut slot.asking);
        skip(&mut self.probing, &mut self.slots, |slot| &mut slot.probing);
    }

    /// Sends the next copy of an initiation that is due.
    fn next_probe(&mut self, now: Instant, here: Instant, out: &mut impl Reserve) -> Next {
        while let Some(peer) = self.probing.front().copied() {
            let Some(slot) = slot_mut(&mut self.slots, peer) else {
                self.probing.pop_front();
                continue;
            };
            let Some(path) = slot.selection.next_probe(here) else {
                self.settle(peer);
                continue;
            };
            let Some(datagram) = out.reserve(path, INITIATION_LEN) else { return Next::NoRoom };
            let Some(probe) = slot.selection.poll_probe(here) else {
                out.release();
                continue;
            };
            datagram.copy_from_slice(probe.initiation);
            let path = probe.path;
            if !probe.first {
                // The device has counted the first one.
                self.device.sent(now, peer, 0, INITIATION_LEN as u64);
            }
            self.counters.probes += 1;
            self.settle(peer);
            let kind = TransmitKind::Initiation;
            return Next::Sent(Transmit { peer: Some(peer), path, len: INITIATION_LEN, kind });
        }
        Next::Nothing
    }

    fn launch(&mut self, now: Instant, peer: PeerId, initiation: &[u8; INITIATION_LEN]) {
        if let Some(slot) = slot_mut(&mut self.slots, peer) {
            slot.selection.launch(now, initiation, &mut self.random);
            self.settle(peer);
        }
    }

    /// Asks the device for the initiation of the next peer that wants one. Whether there was one.
    fn ask(&mut self, now: Instant, here: Instant) -> bool {
        while let Some(peer) = self.asking.front().copied() {
            match slot_mut(&mut self.slots, peer) {
                Some(slot) if slot.selection.wants_initiation() => {
                    if !self.pace.take(here) {
                        return false;
                    }
                    slot.selection.asked(here);
                    self.device.initiate_now(now, peer);
                    self.settle(peer);
                    return true;
                }
                Some(_) => self.settle(peer),
                None => {
                    self.asking.pop_front();
                }
            }
        }
        false
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.counters.events_lost += 1;
        }
        self.events.push_back(event);
    }
}

/// Puts the peer on a list if it is not there, and notes whether it is there for nothing.
fn enlist(list: &mut VecDeque<PeerId>, peer: PeerId, entry: &mut Entry, wanted: bool) {
    if wanted && !entry.listed {
        list.push_back(peer);
        entry.listed = true;
    }
    entry.wanted = wanted;
}

fn skip(list: &mut VecDeque<PeerId>, slots: &mut [Option<Box<Slot>>], entry: fn(&mut Slot) -> &mut Entry) {
    while let Some(peer) = list.front().copied() {
        if let Some(slot) = slot_mut(slots, peer) {
            let entry = entry(slot);
            if entry.wanted {
                return;
            }
            entry.listed = false;
        }
        list.pop_front();
    }
}

enum Next {
    Sent(Transmit),
    NoRoom,
    Nothing,
}
