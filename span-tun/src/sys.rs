//! The three calls to TUN descriptors that no crate offers.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::ioctl::{Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, ioctl, opcode};

/// Flags of a TUN interface, as `TUNGETIFF` reports them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TunFlags(u16);

impl TunFlags {
    /// Whole IP packets, not Ethernet frames.
    pub(crate) fn is_tun(self) -> bool {
        self.0 & 0x0001 != 0
    }

    /// Every frame is preceded by a virtio header.
    pub(crate) fn has_virtio_header(self) -> bool {
        self.0 & 0x4000 != 0
    }
}

/// `TUN_F_*`: what the reader of the descriptor can finish itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offloads(usize);

impl Offloads {
    /// Checksums and TCP segmentation of both families, with ECN.
    pub(crate) const TCP: Self = Self(0x01 | 0x02 | 0x04 | 0x08);
    /// The same and UDP segmentation (since Linux 6.2).
    pub(crate) const TCP_AND_UDP: Self = Self(Self::TCP.0 | 0x20 | 0x40);
}

/// Name and flags of the interface behind a TUN descriptor, wherever it was moved.
pub(crate) fn interface(tun: impl AsFd) -> io::Result<(String, TunFlags)> {
    // `struct ifreq`: a name of 16 bytes and a union of 16 or 24 bytes that begins with the flags.
    type IfReq = [u8; 40];
    const TUNGETIFF: Opcode = opcode::read::<u32>(b'T', 210);
    // SAFETY: the kernel writes one `struct ifreq`, at most 40 bytes on every architecture, and every bit
    // pattern is a valid byte array.
    let request: IfReq = unsafe { ioctl(tun, Getter::<TUNGETIFF, IfReq>::new()) }?;
    let name = request[..16].split(|byte| *byte == 0).next().unwrap_or_default();
    let flags = u16::from_ne_bytes([request[16], request[17]]);
    Ok((String::from_utf8_lossy(name).into_owned(), TunFlags(flags)))
}

/// Tells the kernel what it may leave to the reader of the descriptor.
pub(crate) fn set_offloads(tun: impl AsFd, offloads: Offloads) -> io::Result<()> {
    const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
    Ok(unsafe { ioctl(tun, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads.0)) }?)
}

/// The network namespace the interface is in now (since Linux 5.8), which need not be ours.
pub(crate) fn namespace(tun: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: see `GetNamespace`.
    Ok(unsafe { ioctl(tun, GetNamespace) }?)
}

/// `TUNGETDEVNETNS` returns a new descriptor as its result.
struct GetNamespace;

// SAFETY: the call takes no argument, so a null pointer is never followed; a result that is not an error is a
// new descriptor, which nobody else knows.
unsafe impl Ioctl for GetNamespace {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(b'T', 227)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: as above, `output` is a descriptor that was just made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(output) })
    }
}
