//! The kernel's share of the capture: a classic BPF program that lets everything pass but WireGuard.
//!
//! WireGuard is all but a few of the frames. Turned away by the kernel it costs next to nothing, so that
//! the rest can be counted exactly however fast the mesh is. The program only turns away what is WireGuard
//! beyond doubt; [`frame::classify`](super::frame::classify) judges the rest.

use socket2::SockFilter;

use Target::{Drop, Ipv4, Ipv6, Keep, Next, Udp};

/// Builds the program for a mesh on `port`. Frames this host sends and frames on the interface `ignored`
/// (the bridge itself, where frames show up a second time) are turned away too.
pub(super) fn all_but_wireguard(port: u16, ignored: u32) -> Vec<SockFilter> {
    let mut program = Program::default();

    program.step(LOAD_PACKET_TYPE);
    program.branch(EQUAL, PACKET_OUTGOING, Drop, Next);
    program.step(LOAD_INTERFACE);
    program.branch(EQUAL, ignored, Drop, Next);

    // A load past the end would turn the frame away: nothing is loaded before it is known to be there.
    program.step(LOAD_LENGTH);
    program.branch(AT_LEAST, ETHERNET + 20 + UDP_HEADER + MESSAGE_TYPE, Next, Keep);
    program.step(LOAD_HALF.at(12));
    program.branch(EQUAL, 0x86dd, Ipv6, Next);
    program.branch(EQUAL, 0x0800, Ipv4, Keep);

    program.label(Ipv4);
    program.step(LOAD_BYTE.at(ETHERNET));
    program.step(AND.at(0xf0));
    program.branch(EQUAL, 0x40, Next, Keep);
    program.step(LOAD_BYTE.at(ETHERNET + 9));
    program.branch(EQUAL, PROTOCOL_UDP, Next, Keep);
    program.step(LOAD_HALF.at(ETHERNET + 6));
    program.branch(ANY_BIT, FRAGMENT, Keep, Next);
    program.step(INDEX_IPV4_HEADER_LENGTH.at(ETHERNET));
    program.branch(AT_LEAST, 0, Udp, Udp);

    program.label(Ipv6);
    program.step(LOAD_BYTE.at(ETHERNET));
    program.step(AND.at(0xf0));
    program.branch(EQUAL, 0x60, Next, Keep);
    program.step(LOAD_BYTE.at(ETHERNET + 6));
    program.branch(EQUAL, PROTOCOL_UDP, Next, Keep);
    program.step(SET_INDEX.at(40));

    // The index register holds the length of the IP header.
    program.label(Udp);
    program.step(LOAD_LENGTH);
    program.step(SUBTRACT_INDEX);
    program.branch(AT_LEAST, ETHERNET + UDP_HEADER + MESSAGE_TYPE, Next, Keep);
    program.step(LOAD_HALF_INDEXED.at(ETHERNET));
    program.branch(EQUAL, u32::from(port), Next, Keep);
    program.step(LOAD_HALF_INDEXED.at(ETHERNET + 2));
    program.branch(EQUAL, u32::from(port), Next, Keep);
    program.step(LOAD_WORD_INDEXED.at(ETHERNET + UDP_HEADER));
    for message_type in 1..=4 {
        program.branch(EQUAL, message_type << 24, Drop, Next);
    }

    program.label(Keep);
    program.step(RETURN.at(SNAP_LENGTH));
    program.label(Drop);
    program.step(RETURN.at(0));
    program.assemble()
}

/// As much of a frame as is needed to judge it: an ICMP error quotes a packet after three headers.
const SNAP_LENGTH: u32 = 256;
const ETHERNET: u32 = 14;
const UDP_HEADER: u32 = 8;
/// WireGuard's message type and its three reserved bytes.
const MESSAGE_TYPE: u32 = 4;
const PROTOCOL_UDP: u32 = 17;
/// "More fragments" and the offset.
const FRAGMENT: u32 = 0x3fff;
const PACKET_OUTGOING: u32 = 4;

/// An instruction: the operation and its operand. Numbers as in `linux/filter.h`.
#[derive(Clone, Copy)]
struct Step(u16, u32);

impl Step {
    const fn at(self, operand: u32) -> Step {
        Step(self.0, operand)
    }
}

/// Where the kernel's ancillary data begin; the packet's kind and interface are among them.
const ANCILLARY: u32 = 0xffff_f000;
const LOAD_PACKET_TYPE: Step = Step(0x20, ANCILLARY + 4);
const LOAD_INTERFACE: Step = Step(0x20, ANCILLARY + 8);
const LOAD_LENGTH: Step = Step(0x80, 0);
const LOAD_BYTE: Step = Step(0x30, 0);
const LOAD_HALF: Step = Step(0x28, 0);
const LOAD_HALF_INDEXED: Step = Step(0x48, 0);
const LOAD_WORD_INDEXED: Step = Step(0x40, 0);
const INDEX_IPV4_HEADER_LENGTH: Step = Step(0xb1, 0);
const SET_INDEX: Step = Step(0x01, 0);
const SUBTRACT_INDEX: Step = Step(0x1c, 0);
const AND: Step = Step(0x54, 0);
const RETURN: Step = Step(0x06, 0);
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const ANY_BIT: u16 = 0x45;

/// Where a branch goes on. The language knows forward jumps only.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Next,
    Ipv4,
    Ipv6,
    Udp,
    Keep,
    Drop,
}

#[derive(Default)]
struct Program {
    steps: Vec<(Step, Target, Target)>,
    labels: Vec<(Target, usize)>,
}

impl Program {
    fn step(&mut self, step: Step) {
        self.steps.push((step, Next, Next));
    }

    fn branch(&mut self, test: u16, operand: u32, yes: Target, no: Target) {
        self.steps.push((Step(test, operand), yes, no));
    }

    fn label(&mut self, label: Target) {
        self.labels.push((label, self.steps.len()));
    }

    fn assemble(&self) -> Vec<SockFilter> {
        let distance = |from: usize, target: Target| {
            let label = self.labels.iter().find(|(label, _)| *label == target);
            let distance = label.map_or(0, |(_, at)| at - from - 1);
            u8::try_from(distance).expect("the program is short")
        };
        let steps = self.steps.iter().enumerate();
        steps
            .map(|(at, (Step(code, operand), yes, no))| {
                SockFilter::new(*code, distance(at, *yes), distance(at, *no), *operand)
            })
            .collect()
    }
}
