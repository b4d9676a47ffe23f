use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

use span_core::time::Instant;

use super::shared::Shared;
use super::stack::Stack;
use crate::device::{Descriptor, Device, MAX_FRAME};
use crate::offload::{MAX_PARTS, VirtioHeader};

/// The packet thread's side of a [`super::Netstack`]. Dropped, it closes the stack.
#[derive(Debug)]
pub struct NetstackDevice {
    shared: Arc<Shared>,
    mtu: u16,
    /// Where frames are put together.
    frame: Vec<u8>,
}

impl NetstackDevice {
    pub(super) fn new(shared: Arc<Shared>, mtu: u16) -> Self {
        Self { shared, mtu, frame: Vec::with_capacity(MAX_FRAME) }
    }
}

impl Device for NetstackDevice {
    fn name(&self) -> &str {
        "netstack"
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn index(&self) -> u32 {
        0
    }

    fn limit_frames(&mut self, bytes: u32) -> io::Result<()> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.shared.carry(|stack, now| stack.limit_frames(now, bytes));
        Ok(())
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        // A buffer that does not hold every frame loses the ends of some.
        let short = buf.len() < MAX_FRAME;
        if short {
            self.frame.resize(MAX_FRAME, 0);
        }
        let room = if short { &mut self.frame[..] } else { &mut *buf };
        let emitted = self.shared.carry(|stack, now| {
            let emitted = stack.emit(now, room);
            if emitted.is_none() {
                if std::mem::take(&mut stack.rung) {
                    self.shared.bell.clear();
                }
                stack.asleep = true;
            }
            emitted
        });
        let (header, len) = emitted.ok_or(ErrorKind::WouldBlock)?;
        if !short {
            return Ok((header, len));
        }
        let len = len.min(buf.len());
        buf[..len].copy_from_slice(&self.frame[..len]);
        Ok((header, len))
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if parts.len() > MAX_PARTS {
            return Err(ErrorKind::InvalidInput.into());
        }
        self.frame.clear();
        for part in parts {
            self.frame.extend_from_slice(part);
        }
        let frame = &mut self.frame;
        self.shared.carry(|stack, now| stack.ingest(now, header, frame));
        Ok(())
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.shared.bell.descriptor()
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.due()
    }

    fn accepts_udp_segmentation(&self) -> bool {
        false
    }

    fn refused(&self) -> u64 {
        self.shared.carry(|stack, _| stack.drops.total())
    }
}

impl Drop for NetstackDevice {
    fn drop(&mut self) {
        self.shared.carry(Stack::close);
    }
}
