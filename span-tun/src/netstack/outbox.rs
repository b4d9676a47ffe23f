use std::collections::VecDeque;

use super::wait::Waiters;
use crate::offload::VirtioHeader;

/// Frames that wait to leave, each whole: datagrams, pings, answers. Bounded.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: VecDeque<(VirtioHeader, Vec<u8>)>,
    /// Buffers of frames that have left, to be filled again.
    spare: Vec<Vec<u8>>,
    limit: usize,
    /// Who waits for room.
    pub(super) room: Waiters,
}

/// Longest buffer that is kept to be filled again, in bytes.
const KEPT: usize = 2048;
/// Most buffers that are kept.
const SPARE: usize = 256;

impl Outbox {
    pub(super) fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), spare: Vec::new(), limit, room: Waiters::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < self.limit
    }

    /// Whether enough room has come for those who wait for it to be woken.
    pub(super) fn is_roomy(&self) -> bool {
        self.frames.len() <= self.limit / 2
    }

    /// Adds the frame that `write` writes. False if there was no room.
    pub(super) fn push(&mut self, header: VirtioHeader, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.has_room() {
            return false;
        }
        let mut frame = self.spare.pop().unwrap_or_default();
        frame.clear();
        write(&mut frame);
        self.frames.push_back((header, frame));
        true
    }

    /// Moves the oldest frame to the beginning of `buf`. Its length is returned.
    pub(super) fn pop(&mut self, buf: &mut [u8]) -> Option<(VirtioHeader, usize)> {
        let (header, frame) = self.frames.pop_front()?;
        let len = frame.len().min(buf.len());
        buf[..len].copy_from_slice(&frame[..len]);
        if frame.capacity() <= KEPT && self.spare.len() < SPARE {
            self.spare.push(frame);
        }
        Some((header, len))
    }
}
