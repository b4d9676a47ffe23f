//! Where packets of the host come from and go to.

pub(crate) mod bell;
#[cfg(target_os = "linux")]
mod linux;
pub mod memory;

use std::io::{self, IoSlice};

use span_core::time::Instant;

use crate::offload::VirtioHeader;

#[cfg(target_os = "linux")]
pub use linux::{OpenError, Tun, TunBuilder};

/// Descriptor to wait on. On systems without file descriptors nobody has one.
#[cfg(unix)]
pub type Descriptor = std::os::fd::RawFd;
/// Descriptor to wait on. On systems without file descriptors nobody has one.
#[cfg(not(unix))]
pub type Descriptor = std::convert::Infallible;

/// Longest frame a device gives or takes, without its [`VirtioHeader`], in bytes: a full IPv6 super-packet.
pub const MAX_FRAME: usize = 65_535 + 40;

/// A source and sink of frames: packets, or super-packets with the [`VirtioHeader`] that says how to cut them.
pub trait Device: Send {
    /// Name of the interface, as far as it has one.
    fn name(&self) -> &str;

    /// Largest packet the interface carries, in bytes. Super-packets are larger and are cut to it.
    ///
    /// Others may change it at any time (`ip link set mtu`); see [`Device::refresh`].
    fn mtu(&self) -> u16;

    /// Index of the interface, zero if it has none.
    fn index(&self) -> u32;

    /// Asks the system again for name, index and MTU. To be called when a link changed, and cheap enough to be
    /// called every second. True if anything was different.
    ///
    /// # Errors
    /// The interface is gone.
    fn refresh(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Asks the host to make its super-packets no longer than `bytes`, as far as it can be asked: so that the
    /// packets of one leave together.
    ///
    /// # Errors
    /// The interface is gone.
    fn limit_frames(&mut self, bytes: u32) -> io::Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Receives one frame to the beginning of `buf`, which is [`MAX_FRAME`] long or loses the ends of frames.
    /// The length of the frame is returned. Does not block.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is waiting; anything else means that the device is gone.
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)>;

    /// Sends one frame, gathered from at most [`crate::offload::MAX_PARTS`] parts. Does not block or allocate.
    ///
    /// A frame the device does not take (interface down, queue full, no memory) is dropped, counted in
    /// [`Device::refused`], and not an error.
    ///
    /// # Errors
    /// The device is gone, or there are too many parts (`InvalidInput`).
    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Another queue of the same interface, for another thread. The host gives each frame to one of the queues,
    /// and all frames of one flow to the same, as long as none is closed; it takes frames from all of them.
    /// `None` if the interface has but this one.
    ///
    /// # Errors
    /// The interface is gone, or the system gives no more queues.
    fn another_queue(&self) -> io::Result<Option<Box<dyn Device>>> {
        Ok(None)
    }

    /// What to wait on (level-triggered) until [`Device::recv`] has something; `None` if there is no such thing.
    fn descriptor(&self) -> Option<Descriptor>;

    /// When [`Device::recv`] is to be called even if the descriptor says nothing, on the clock of the packet
    /// loop; `None` if never. What lies in the past is due now: a frame that was sent here may already have an
    /// answer, and then there is no need to wake anybody.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether [`Device::send`] takes UDP super-packets. TCP is always fine.
    fn accepts_udp_segmentation(&self) -> bool;

    /// Frames dropped so far because the device did not take or could not describe them.
    fn refused(&self) -> u64;
}

impl<D: Device + ?Sized> Device for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn mtu(&self) -> u16 {
        (**self).mtu()
    }
    fn index(&self) -> u32 {
        (**self).index()
    }
    fn refresh(&mut self) -> io::Result<bool> {
        (**self).refresh()
    }
    fn limit_frames(&mut self, bytes: u32) -> io::Result<()> {
        (**self).limit_frames(bytes)
    }
    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        (**self).recv(buf)
    }
    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (**self).send(header, parts)
    }
    fn another_queue(&self) -> io::Result<Option<Box<dyn Device>>> {
        (**self).another_queue()
    }
    fn descriptor(&self) -> Option<Descriptor> {
        (**self).descriptor()
    }
    fn deadline(&self) -> Option<Instant> {
        (**self).deadline()
    }
    fn accepts_udp_segmentation(&self) -> bool {
        (**self).accepts_udp_segmentation()
    }
    fn refused(&self) -> u64 {
        (**self).refused()
    }
}
