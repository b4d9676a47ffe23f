//! Handshake messages that wait to be worked on. Data never waits behind them.

use alloc::collections::VecDeque;

use super::constants::{LOAD_MEMORY, LOADED_HANDSHAKES, MAX_HANDSHAKES};
use super::message::{INITIATION_LEN, RESPONSE_LEN};
use crate::path::Path;
use crate::time::Instant;

/// A bounded queue, which is also the measure of load (WireGuard paper, section 5.3).
pub(super) struct HandshakeQueue {
    waiting: VecDeque<Waiting>,
    loaded_until: Instant,
}

/// A message whose MACs have been checked.
pub(super) struct Waiting {
    pub(super) path: Path,
    pub(super) message: HandshakeMessage,
}

/// Those messages that cost key agreements.
pub(super) enum HandshakeMessage {
    Initiation([u8; INITIATION_LEN]),
    Response([u8; RESPONSE_LEN]),
}

impl HandshakeQueue {
    pub(super) const fn new() -> Self {
        HandshakeQueue { waiting: VecDeque::new(), loaded_until: Instant::ORIGIN }
    }

    /// Whether sources must prove that they can receive before they get any work done: while an eighth of
    /// the queue is full, and for a second after.
    pub(super) fn is_loaded(&mut self, now: Instant) -> bool {
        if self.waiting.len() >= LOADED_HANDSHAKES {
            self.loaded_until = now + LOAD_MEMORY;
        }
        now < self.loaded_until
    }

    /// False if there is no room.
    pub(super) fn push(&mut self, path: Path, message: HandshakeMessage) -> bool {
        let room = self.waiting.len() < MAX_HANDSHAKES;
        if room {
            self.waiting.push_back(Waiting { path, message });
        }
        room
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        let next = self.waiting.pop_front();
        if self.waiting.is_empty() && self.waiting.capacity() > LOADED_HANDSHAKES {
            // What a flood has made large is given back after it.
            self.waiting = VecDeque::new();
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    #[test]
    fn load_begins_at_512_and_is_forgotten_a_second_after_the_burst() {
        let (mut queue, now) = (HandshakeQueue::new(), Instant::from_secs(100));
        for _ in 0..511 {
            assert!(queue.push(Path::Custom(0), HandshakeMessage::Response([0; 92])));
        }
        assert!(!queue.is_loaded(now));
        assert!(queue.push(Path::Custom(0), HandshakeMessage::Response([0; 92])));
        assert!(queue.is_loaded(now));
        while queue.pop().is_some() {}
        assert!(queue.is_loaded(now + Duration::from_millis(999)));
        assert!(!queue.is_loaded(now + Duration::from_secs(1)));
    }

    #[test]
    fn it_is_bounded_and_shrinks() {
        let mut queue = HandshakeQueue::new();
        let pushed = (0..10_000)
            .filter(|_| queue.push(Path::Custom(0), HandshakeMessage::Initiation([0; 148])))
            .count();
        assert_eq!(pushed, MAX_HANDSHAKES);
        while queue.pop().is_some() {}
        assert_eq!(queue.waiting.capacity(), 0);
    }
}
