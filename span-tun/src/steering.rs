//! Which queue of an interface a flow goes to.
//!
//! A kernel left alone remembers through which queue the last packet of a flow came in and sends the flow's other
//! direction there: a flow changes queues in the middle, and packets that wait in the one before are overtaken.
//! The program here looks at nothing but the packet, so that a flow stays where it is.
//!
//! A flow is a TCP connection, or everything else between two addresses: packets without ports, such as the
//! fragments of a datagram, must not part from those with ports. TCP over IPv4 is told apart by its ports only
//! where it must not be fragmented.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::{self, Instruction};

/// The program, in the kernel.
#[derive(Debug)]
pub(crate) struct Steering(OwnedFd);

impl Steering {
    /// Loads the program.
    pub(crate) fn load() -> io::Result<Self> {
        sys::load_program(&program()).map(Self)
    }

    /// Lets it choose the queues of an interface from now on.
    pub(crate) fn attach(&self, tun: impl AsFd) -> io::Result<()> {
        sys::set_steering(tun, &self.0)
    }
}

/// Registers: where the kernel hands over the packet and takes the result, and three that survive loads.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
/// Loads from the packet want it here.
const PACKET: u8 = 6;
const HASH: u8 = 7;
const PROTOCOL: u8 = 8;
const HEADER: u8 = 9;

const MULTIPLY: u8 = 0x24;
const XOR: u8 = 0xac;
const ADD: u8 = 0x0c;
const AND: u8 = 0x54;
const SHIFT_LEFT: u8 = 0x64;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const JUMP: u8 = 0x05;
const JUMP_IF: u8 = 0x15;
const JUMP_UNLESS: u8 = 0x55;
const LOAD_BYTE: u8 = 0x30;
const LOAD_HALF: u8 = 0x28;
const LOAD_WORD: u8 = 0x20;
/// At the place the register says.
const LOAD_WORD_BEHIND: u8 = 0x40;
const EXIT: u8 = 0x95;

const TCP: i32 = 6;
/// "Don't fragment" alone: neither more fragments nor an offset.
const WHOLE: i32 = 0x4000;
const IPV6_HEADER: i32 = 40;
/// 2^32 divided by the golden ratio.
const GOLDEN: i32 = 0x9e37_79b9_u32.cast_signed();

fn program() -> Vec<Instruction> {
    let ipv4 = ipv4();
    let ipv6 = ipv6();
    let mut code = vec![
        registers(COPY, PACKET, CONTEXT),
        constant(SET, HASH, 0),
        load(LOAD_BYTE, 0),
        constant(SHIFT_RIGHT, RESULT, 4),
        jump(JUMP_IF, RESULT, 4, 3),
        jump(JUMP_IF, RESULT, 6, 3 + ipv4.len()),
        constant(SET, RESULT, 0),
        constant(EXIT, 0, 0),
    ];
    code.extend(ipv4);
    // Over IPv6, to the same end.
    code.push(jump(JUMP, 0, 0, ipv6.len()));
    code.extend(ipv6);
    code.extend(ports());
    // The high bits have seen everything.
    code.extend([constant(SHIFT_RIGHT, HASH, 16), registers(COPY, RESULT, HASH), constant(EXIT, 0, 0)]);
    code
}

/// Hashes the addresses; leaves in [`PROTOCOL`] whether there are ports to hash and in [`HEADER`] where.
fn ipv4() -> Vec<Instruction> {
    let mut code: Vec<_> = [12, 16].into_iter().flat_map(mix).collect();
    code.extend([
        load(LOAD_BYTE, 0),
        constant(AND, RESULT, 15),
        constant(SHIFT_LEFT, RESULT, 2),
        registers(COPY, HEADER, RESULT),
        load(LOAD_BYTE, 9),
        registers(COPY, PROTOCOL, RESULT),
        load(LOAD_HALF, 6),
        jump(JUMP_IF, RESULT, WHOLE, 1),
        constant(SET, PROTOCOL, 0),
    ]);
    code
}

/// As [`ipv4`]. What has headers between, as fragments do, is hashed without ports.
fn ipv6() -> Vec<Instruction> {
    let mut code: Vec<_> = (8..IPV6_HEADER).step_by(4).flat_map(mix).collect();
    code.extend([load(LOAD_BYTE, 6), registers(COPY, PROTOCOL, RESULT), constant(SET, HEADER, IPV6_HEADER)]);
    code
}

fn ports() -> Vec<Instruction> {
    let mut mix = mix(0);
    mix[0] = instruction(LOAD_WORD_BEHIND, 0, HEADER, 0, 0);
    let mut code = vec![jump(JUMP_UNLESS, PROTOCOL, TCP, mix.len())];
    code.extend(mix);
    code
}

/// Adds the word at `at` to the hash.
fn mix(at: i32) -> [Instruction; 6] {
    [
        load(LOAD_WORD, at),
        registers(ADD, HASH, RESULT),
        constant(MULTIPLY, HASH, GOLDEN),
        // Multiplying carries nothing down.
        registers(COPY, RESULT, HASH),
        constant(SHIFT_RIGHT, RESULT, 15),
        registers(XOR, HASH, RESULT),
    ]
}

fn load(code: u8, at: i32) -> Instruction {
    instruction(code, 0, 0, 0, at)
}

fn constant(code: u8, to: u8, value: i32) -> Instruction {
    instruction(code, to, 0, 0, value)
}

fn registers(code: u8, to: u8, from: u8) -> Instruction {
    instruction(code, to, from, 0, 0)
}

/// Jumps over the next `over` instructions.
fn jump(code: u8, register: u8, value: i32, over: usize) -> Instruction {
    instruction(code, register, 0, over as i16, value)
}

/// `struct bpf_insn`. Of the byte with both registers, which comes first depends on the byte order.
fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let [o0, o1] = offset.to_ne_bytes();
    let [v0, v1, v2, v3] = value.to_ne_bytes();
    [code, registers, o0, o1, v0, v1, v2, v3]
}
