use std::io::{self, IoSlice};
use std::ops::Range;

use super::checksum;
use super::flow::{self, Candidate, Class, Transport};
use super::packet::{Ipv4, Ipv6, Tcp, Udp};
use super::{Gso, VirtioHeader};

/// Most pieces a frame is gathered from, and so the most [`Coalescer::flush`] hands to its sink at once.
pub const MAX_PARTS: usize = 128;

/// Most datagrams in a UDP super-packet: what every kernel with USO takes.
const MAX_DATAGRAMS: usize = 64;

/// Flows that can be added to at the same time. A burst from one peer rarely has more, and with more the oldest
/// only loses its chance to grow.
const MAX_OPEN: usize = 16;

/// Longest super-packet, in bytes.
const MAX_LEN: usize = u16::MAX as usize;

/// Puts the packets of a burst together again, as GRO does in the kernel: fewer, larger frames, one system call
/// each.
///
/// All packets lie in one buffer, the arena, where they were received and opened; they are named by their range
/// and are not moved. [`Coalescer::flush`] rewrites headers in place and gives gather lists over the arena.
///
/// * A packet joins only the newest frame of its flow, so packets of a flow keep their order by construction.
///   Frames leave in the order of their first packets.
/// * What joins is what segmentation would give back, byte for byte: same headers, contiguous sequence, equal
///   lengths but for the last. (One exception: the identification of IPv4 packets that may not be fragmented
///   means nothing, RFC 6864, and may be renumbered.)
/// * Checksums of packets that join are verified first. A damaged packet goes on alone, as damaged as it came.
///
/// Reuse one value: its tables keep their capacity.
#[derive(Debug)]
pub struct Coalescer {
    udp: bool,
    frames: Vec<Frame>,
    /// Payloads behind the first packet of each frame, chained by index.
    parts: Vec<Part>,
    open: OpenFlows,
}

impl Coalescer {
    /// `udp`: whether the device accepts UDP super-packets (see
    /// [`crate::device::Device::accepts_udp_segmentation`]).
    pub fn new(udp: bool) -> Self {
        Self { udp, frames: Vec::new(), parts: Vec::new(), open: OpenFlows::default() }
    }

    /// Takes the packet at `range` of the arena. Until [`Coalescer::flush`] the caller leaves that range alone.
    ///
    /// What cannot be merged, including what is no IP packet at all, is passed on unchanged.
    ///
    /// # Panics
    /// If `range` lies outside the arena.
    #[inline]
    pub fn push(&mut self, arena: &[u8], range: Range<usize>) {
        let packet = &arena[range.clone()];
        let candidate = match flow::classify(packet) {
            Class::Flow(candidate) => candidate,
            Class::NoFlow => {
                self.frames.push(Frame::alone(range));
                return;
            }
            Class::Unclear => {
                self.open.clear();
                self.frames.push(Frame::alone(range));
                return;
            }
        };
        let slot = self.open.find(&candidate, |index| {
            let head = &self.frames[index];
            flow::same(&candidate, packet, &head.candidate, &arena[head.range.clone()])
        });
        if !candidate.mergeable || (candidate.transport == Transport::Udp && !self.udp) {
            // It stays between what came before and what comes after it.
            if let Some(slot) = slot {
                self.open.close(slot);
            }
            self.frames.push(Frame::alone(range));
            return;
        }
        let mut verified = Verified::NotYet;
        if let Some(slot) = slot {
            match self.join(arena, self.open.frame(slot), &candidate, range.clone()) {
                Joined::Open => return,
                Joined::Closed => {
                    self.open.close(slot);
                    return;
                }
                Joined::No { verified: known } => verified = known,
            }
            self.open.close(slot);
        }
        // FIN and PSH end a frame, so what carries them is never added to.
        if candidate.flags & (Tcp::FIN | Tcp::PSH) == 0 && verified != Verified::Bad {
            self.open.insert(&candidate, self.frames.len());
        }
        self.frames.push(Frame { verified, ..Frame::new(range, candidate) });
    }

    /// Hands every frame to `sink`, oldest first, and forgets them. Each comes in at most [`MAX_PARTS`] parts.
    ///
    /// # Errors
    /// The first error of `sink`; frames not yet handed out are dropped.
    pub fn flush(
        &mut self,
        arena: &mut [u8],
        sink: &mut impl FnMut(&VirtioHeader, &[IoSlice<'_>]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.open.clear();
        let mut outcome = Ok(());
        for frame in &self.frames {
            if frame.packets == 1 {
                // By far the most common frame under light load; no gather list to lay out.
                outcome = sink(&VirtioHeader::default(), &[IoSlice::new(&arena[frame.range.clone()])]);
            } else {
                let header = frame.finish(&mut arena[frame.range.clone()]);
                let mut gathered = [IoSlice::new(&[]); MAX_PARTS];
                gathered[0] = IoSlice::new(&arena[frame.range.clone()]);
                let mut next = frame.first_part;
                for slice in &mut gathered[1..frame.packets] {
                    let part = &self.parts[next];
                    *slice = IoSlice::new(&arena[part.range.clone()]);
                    next = part.next;
                }
                outcome = sink(&header, &gathered[..frame.packets]);
            }
            if outcome.is_err() {
                break;
            }
        }
        self.frames.clear();
        self.parts.clear();
        outcome
    }

    /// Whether nothing waits to be flushed.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds the packet to the frame if segmentation would give both back.
    #[inline]
    fn join(&mut self, arena: &[u8], index: usize, candidate: &Candidate, range: Range<usize>) -> Joined {
        let frame = &mut self.frames[index];
        let packet = &arena[range.clone()];
        let head = &arena[frame.range.clone()];
        let most = match candidate.transport {
            Transport::Tcp => MAX_PARTS,
            Transport::Udp => MAX_DATAGRAMS,
        };
        let fits = candidate.payload <= frame.candidate.payload
            && frame.len + candidate.payload <= MAX_LEN
            && frame.packets < most
            && candidate.sequence == frame.next_sequence
            && flow::continues(candidate, packet, &frame.candidate, head, frame.packets);
        if !fits {
            return Joined::No { verified: Verified::NotYet };
        }
        if !flow::is_intact(candidate, packet) {
            return Joined::No { verified: Verified::Bad };
        }
        if frame.verified == Verified::NotYet {
            frame.verified =
                if flow::is_intact(&frame.candidate, head) { Verified::Good } else { Verified::Bad };
        }
        if frame.verified == Verified::Bad {
            return Joined::No { verified: Verified::Good };
        }
        let part = self.parts.len();
        self.parts.push(Part { range: range.start + candidate.headers..range.end, next: usize::MAX });
        if frame.packets == 1 {
            frame.first_part = part;
        } else {
            self.parts[frame.last_part].next = part;
        }
        frame.last_part = part;
        frame.packets += 1;
        frame.len += candidate.payload;
        frame.next_sequence = candidate.following();
        frame.last_flags = candidate.flags;
        let last =
            candidate.payload < frame.candidate.payload || candidate.flags & (Tcp::FIN | Tcp::PSH) != 0;
        if last { Joined::Closed } else { Joined::Open }
    }
}

enum Joined {
    /// Taken, and more may follow.
    Open,
    /// Taken as the last.
    Closed,
    /// Not taken; what is known of its checksum by now.
    No { verified: Verified },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    NotYet,
    Good,
    Bad,
}

/// What will become one write.
#[derive(Debug)]
struct Frame {
    /// The first packet, whole.
    range: Range<usize>,
    candidate: Candidate,
    verified: Verified,
    packets: usize,
    /// Length of headers and all payloads, in bytes.
    len: usize,
    next_sequence: u32,
    last_flags: u8,
    first_part: usize,
    last_part: usize,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    next: usize,
}

impl Frame {
    fn new(range: Range<usize>, candidate: Candidate) -> Self {
        Self {
            len: range.len(),
            range,
            verified: Verified::NotYet,
            packets: 1,
            next_sequence: candidate.following(),
            last_flags: candidate.flags,
            candidate,
            first_part: usize::MAX,
            last_part: usize::MAX,
        }
    }

    fn alone(range: Range<usize>) -> Self {
        Self::new(range, Candidate::NONE)
    }

    /// Makes the headers of the first packet those of the whole.
    fn finish(&self, head: &mut [u8]) -> VirtioHeader {
        let Candidate { transport, transport_at, headers, payload, flags, .. } = self.candidate;
        let v6 = head[0] >> 4 == 6;
        let addresses = if v6 {
            head[4..6].copy_from_slice(&((self.len - Ipv6::HEADER_LEN) as u16).to_be_bytes());
            Ipv6::ADDRESSES
        } else {
            head[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
            head[10..12].fill(0);
            let sum = checksum::finish(checksum::add(0, &head[..transport_at]));
            head[10..12].copy_from_slice(&sum);
            Ipv4::ADDRESSES
        };
        let body = (self.len - transport_at) as u16;
        let (gso, field) = match transport {
            Transport::Tcp => {
                head[transport_at + 13] |= self.last_flags & (Tcp::FIN | Tcp::PSH);
                (if v6 { Gso::Tcp6 } else { Gso::Tcp4 }, Tcp::CHECKSUM)
            }
            Transport::Udp => {
                head[transport_at + 4..transport_at + 6].copy_from_slice(&body.to_be_bytes());
                (Gso::Udp, Udp::CHECKSUM)
            }
        };
        let pseudo = checksum::pseudo(&head[addresses], transport.protocol()) + checksum::word(body);
        head[transport_at + field..transport_at + field + 2].copy_from_slice(&checksum::fold(pseudo));
        VirtioHeader {
            needs_checksum: true,
            gso,
            ecn: transport == Transport::Tcp && flags & Tcp::CWR != 0,
            header_len: headers as u16,
            segment_size: payload as u16,
            checksum_start: transport_at as u16,
            checksum_offset: field as u16,
        }
    }
}

/// The newest frame of each flow that may still grow.
#[derive(Debug, Default)]
struct OpenFlows {
    slots: [Slot; MAX_OPEN],
    used: usize,
    /// Whose turn it is to make room.
    oldest: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Hash of the flow: most others are told apart without looking at their packets.
    tag: u32,
    frame: usize,
}

impl OpenFlows {
    #[inline]
    fn find(&self, candidate: &Candidate, mut is_same: impl FnMut(usize) -> bool) -> Option<usize> {
        self.slots[..self.used].iter().position(|slot| slot.tag == candidate.tag && is_same(slot.frame))
    }

    #[inline]
    fn frame(&self, slot: usize) -> usize {
        self.slots[slot].frame
    }

    #[inline]
    fn insert(&mut self, candidate: &Candidate, frame: usize) {
        let slot = if self.used < MAX_OPEN {
            self.used += 1;
            self.used - 1
        } else {
            self.oldest = (self.oldest + 1) % MAX_OPEN;
            self.oldest
        };
        self.slots[slot] = Slot { tag: candidate.tag, frame };
    }

    #[inline]
    fn close(&mut self, slot: usize) {
        self.used -= 1;
        self.slots[slot] = self.slots[self.used];
    }

    #[inline]
    fn clear(&mut self) {
        self.used = 0;
    }
}
