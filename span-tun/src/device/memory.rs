//! Two devices back to back, without an operating system in between: what one sends, the other receives.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bell::Bell;
use super::{Descriptor, Device};
use crate::offload::{MAX_PARTS, VirtioHeader};

/// A connected pair. At most `capacity` frames wait on either side; more are refused, as by a full queue.
///
/// # Errors
/// On Linux, when no descriptor to wait on can be made.
pub fn pair(mtu: u16, capacity: usize) -> io::Result<(Memory, Memory)> {
    let (left, right) = (Queue::new(capacity)?, Queue::new(capacity)?);
    let end = |name, incoming: &Arc<Queue>, outgoing: &Arc<Queue>| Memory {
        name,
        mtu,
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
        refused: 0,
    };
    Ok((end("memory0", &left, &right), end("memory1", &right, &left)))
}

/// One end of a [`pair`].
#[derive(Debug)]
pub struct Memory {
    name: &'static str,
    mtu: u16,
    incoming: Arc<Queue>,
    outgoing: Arc<Queue>,
    refused: u64,
}

impl Memory {
    /// Changes the MTU this end reports. Frames are not measured against it.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    /// Frames waiting to be received here.
    pub fn waiting(&self) -> usize {
        self.incoming.lock().waiting.len()
    }
}

impl Device for Memory {
    fn name(&self) -> &str {
        self.name
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn index(&self) -> u32 {
        0
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        let mut frames = self.incoming.lock();
        let Some((header, frame)) = frames.waiting.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let len = frame.len().min(buf.len());
        buf[..len].copy_from_slice(&frame[..len]);
        frames.spare.push(frame);
        if frames.waiting.is_empty() {
            self.incoming.bell.clear();
        }
        Ok((header, len))
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if parts.len() > MAX_PARTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut frames = self.outgoing.lock();
        if frames.waiting.len() >= self.outgoing.capacity {
            self.refused += 1;
            return Ok(());
        }
        let mut frame = frames.spare.pop().unwrap_or_default();
        frame.clear();
        for part in parts {
            frame.extend_from_slice(part);
        }
        frames.waiting.push_back((*header, frame));
        self.outgoing.bell.ring();
        Ok(())
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.incoming.bell.descriptor()
    }

    fn accepts_udp_segmentation(&self) -> bool {
        true
    }

    fn refused(&self) -> u64 {
        self.refused
    }
}

#[derive(Debug)]
struct Queue {
    frames: Mutex<Frames>,
    capacity: usize,
    bell: Bell,
}

#[derive(Debug, Default)]
struct Frames {
    waiting: VecDeque<(VirtioHeader, Vec<u8>)>,
    /// Buffers of frames already received, to be filled again.
    spare: Vec<Vec<u8>>,
}

impl Queue {
    fn new(capacity: usize) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { frames: Mutex::default(), capacity, bell: Bell::new()? }))
    }

    fn lock(&self) -> MutexGuard<'_, Frames> {
        // A queue is consistent after every statement that could panic.
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_order_and_whole() {
        let (mut a, mut b) = pair(1420, 2).unwrap();
        let mut buf = [0; 16];
        assert_eq!(b.recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let header = VirtioHeader { segment_size: 7, ..VirtioHeader::default() };
        a.send(&header, &[IoSlice::new(b"one"), IoSlice::new(b"two")]).unwrap();
        a.send(&VirtioHeader::default(), &[IoSlice::new(b"three")]).unwrap();
        a.send(&header, &[IoSlice::new(b"over the capacity")]).unwrap();
        assert_eq!(a.refused(), 1);
        assert_eq!(b.recv(&mut buf).unwrap(), (header, 6));
        assert_eq!(&buf[..6], b"onetwo");
        assert_eq!(b.recv(&mut buf).unwrap(), (VirtioHeader::default(), 5));
        assert_eq!(b.recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_descriptor_is_readable_exactly_while_frames_wait() {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use std::os::fd::BorrowedFd;
        let (mut a, mut b) = pair(1420, 4).unwrap();
        let readable = |memory: &Memory| {
            let fd: BorrowedFd<'_> = memory.incoming.bell.as_fd();
            poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
        };
        assert!(!readable(&b));
        a.send(&VirtioHeader::default(), &[IoSlice::new(b"x")]).unwrap();
        a.send(&VirtioHeader::default(), &[IoSlice::new(b"y")]).unwrap();
        assert!(readable(&b) && !readable(&a));
        b.recv(&mut [0; 4]).unwrap();
        assert!(readable(&b));
        b.recv(&mut [0; 4]).unwrap();
        assert!(!readable(&b));
    }
}
