//! What a device has yet to do: peers whose deadlines changed, datagrams to send, events to tell.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::constants::MAX_EVENTS;
use super::counters::{Counters, DropReason};
use super::event::{Event, PeerId};

/// Lists of peers that want something. A peer is on each of them at most once, which it keeps note of
/// itself; ids of removed peers may stay and are skipped.
#[derive(Default)]
pub(super) struct Agenda {
    /// Places of peers whose timers have changed since their deadline was last looked at.
    pub(super) touched: Vec<u32>,
    /// Peers that have a datagram to send.
    pub(super) transmits: VecDeque<PeerId>,
    /// Peers whose initiation is to be raced.
    pub(super) races: VecDeque<PeerId>,
    pub(super) counters: Counters,
    events: VecDeque<Event>,
}

impl Agenda {
    /// Tells an event. If nobody reads them, the oldest is forgotten.
    pub(super) fn tell(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
            self.drop(DropReason::EventOverflow);
        }
        self.events.push_back(event);
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        self.counters.drop(reason, 1);
    }
}
