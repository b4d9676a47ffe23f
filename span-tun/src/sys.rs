//! The calls to TUN descriptors that no crate offers, and the one that loads a program to steer their flows.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::ioctl::{Getter, IntegerSetter, Ioctl, IoctlOutput, Opcode, Setter, ioctl, opcode};

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

/// One instruction of a program in the kernel, as `struct bpf_insn` has it: its code, two registers, an offset
/// and a constant.
pub(crate) type Instruction = [u8; 8];

/// Loads a program of the type that looks at packets. The kernel checks it and refuses one that could do harm.
pub(crate) fn load_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    /// What `BPF_PROG_LOAD` reads of `union bpf_attr`.
    #[repr(C)]
    struct Load {
        program_type: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    const BPF_PROG_LOAD: libc::c_int = 5;
    const SOCKET_FILTER: u32 = 1;
    // It calls no function of the kernel that asks for another.
    let license = c"MIT OR Apache-2.0";
    let load = Load {
        program_type: SOCKET_FILTER,
        instructions: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        code: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `size_of::<Load>()` bytes at `load`, as many instructions of 8 bytes at `code` as it
    // says, and a string with its zero at `license`; all three outlive the call. Without a log it writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<Load>()) };
    match i32::try_from(result) {
        // SAFETY: a result that is not negative is a new descriptor, which nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets `program` choose the queue of each frame the host sends: what it returns, modulo the number of queues.
pub(crate) fn set_steering(tun: impl AsFd, program: &OwnedFd) -> io::Result<()> {
    const TUNSETSTEERINGEBPF: Opcode = opcode::read::<libc::c_int>(b'T', 224);
    // SAFETY: despite its direction TUNSETSTEERINGEBPF reads one `int`, and `Setter` hands it a pointer to one. The
    // kernel takes a reference of its own to the program.
    Ok(unsafe { ioctl(tun, Setter::<TUNSETSTEERINGEBPF, libc::c_int>::new(program.as_raw_fd())) }?)
}
