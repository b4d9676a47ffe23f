use thiserror::Error;

use super::checksum;
use super::packet::{Ipv4, Ipv6, Tcp, Udp, protocol};
use super::{Gso, VirtioHeader};

/// Cuts a frame as it came from a device into the packets it stands for, as a network card with TSO and USO
/// would. Nothing is copied yet: each [`Segment`] writes itself to the place it is wanted at.
///
/// A frame without segmentation yields one segment; a missing checksum is completed in place first.
///
/// # Errors
/// Header and packet contradict each other. The frame is to be dropped and counted.
pub fn split<'a>(header: &VirtioHeader, packet: &'a mut [u8]) -> Result<Segments<'a>, SplitError> {
    let plan = match header.gso {
        Gso::None => {
            if header.needs_checksum {
                complete_checksum(header, packet)?;
            }
            Plan::whole(packet.len())
        }
        Gso::Tcp4 | Gso::Tcp6 | Gso::Udp => Plan::cut(header, packet)?,
    };
    Ok(Segments { packet, plan, next: 0 })
}

/// Why a frame could not be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SplitError {
    /// The checksum range lies outside the packet.
    #[error("the checksum to complete lies outside the packet")]
    ChecksumOutside,
    /// Segmentation without a segment size or without a partial checksum.
    #[error("segmentation is asked for without a segment size or a partial checksum")]
    IncompleteHeader,
    /// The packet is not of the family and protocol the header speaks of.
    #[error("the packet is not what its segmentation type says")]
    WrongProtocol,
    /// A header of the packet is cut off.
    #[error("a header of the packet is cut off")]
    Truncated,
    /// A segment, or the whole, would exceed the length an IP packet can have.
    #[error("the packet is longer than its headers can say")]
    TooLong,
}

/// The packets of one frame, in order.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    packet: &'a [u8],
    plan: Plan,
    next: usize,
}

impl<'a> Segments<'a> {
    /// Length in bytes of every segment but the last, which may be shorter.
    #[inline]
    pub fn stride(&self) -> usize {
        self.plan.headers + self.plan.step.min(self.packet.len() - self.plan.headers)
    }

    /// Length in bytes of the last segment.
    #[inline]
    pub fn last_len(&self) -> usize {
        let before = self.plan.count.saturating_sub(1) * self.plan.step;
        self.packet.len() - before
    }

    /// The whole frame, as it came.
    #[inline]
    pub fn frame(&self) -> &'a [u8] {
        self.packet
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline]
    fn next(&mut self) -> Option<Segment<'a>> {
        if self.next == self.plan.count {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let start = self.plan.headers + index * self.plan.step;
        let end = (start + self.plan.step).min(self.packet.len());
        Some(Segment { packet: self.packet, payload: &self.packet[start..end], plan: self.plan, index })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.plan.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Segments<'_> {}

/// One packet of a frame, not yet written anywhere.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    packet: &'a [u8],
    payload: &'a [u8],
    plan: Plan,
    index: usize,
}

impl Segment<'_> {
    /// Length of the packet, in bytes.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a packet has at least its headers")]
    pub fn len(&self) -> usize {
        self.plan.headers + self.payload.len()
    }

    /// Writes the packet, headers rewritten and checksums done, to the beginning of `slot`. The payload is copied
    /// here and nowhere else.
    ///
    /// # Panics
    /// If `slot` is shorter than [`Segment::len`].
    #[inline]
    pub fn write_to(&self, slot: &mut [u8]) {
        let slot = &mut slot[..self.len()];
        let (headers, payload) = slot.split_at_mut(self.plan.headers);
        headers.copy_from_slice(&self.packet[..self.plan.headers]);
        payload.copy_from_slice(self.payload);
        let first = self.index == 0;
        let last = self.index + 1 == self.plan.count;
        match self.plan.transport {
            Transport::Whole => return,
            Transport::Tcp { sequence, flags } => {
                let sequence = sequence.wrapping_add((self.index * self.plan.step) as u32);
                let mut flags = flags;
                if !first {
                    flags &= !Tcp::CWR;
                }
                if !last {
                    flags &= !(Tcp::FIN | Tcp::PSH);
                }
                let tcp = &mut headers[self.plan.transport_at..];
                tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
                tcp[13] = flags;
                tcp[Tcp::CHECKSUM..Tcp::CHECKSUM + 2].fill(0);
                // The copy is still in the cache, and in one piece: cheaper to sum than the source.
                let sum = self.transport_sum(tcp, payload);
                tcp[Tcp::CHECKSUM..Tcp::CHECKSUM + 2].copy_from_slice(&checksum::finish(sum));
            }
            Transport::Udp => {
                let udp = &mut headers[self.plan.transport_at..];
                udp[4..6].copy_from_slice(&((Udp::HEADER_LEN + payload.len()) as u16).to_be_bytes());
                udp[Udp::CHECKSUM..Udp::HEADER_LEN].fill(0);
                let sum = self.transport_sum(udp, payload);
                udp[Udp::CHECKSUM..Udp::HEADER_LEN].copy_from_slice(&checksum::finish_nonzero(sum));
            }
        }
        match self.plan.network {
            Network::V4 { id, sum } => {
                let total = (headers.len() + payload.len()) as u16;
                let id = id.wrapping_add(self.index as u16);
                headers[2..4].copy_from_slice(&total.to_be_bytes());
                headers[4..6].copy_from_slice(&id.to_be_bytes());
                let sum = sum + checksum::word(total) + checksum::word(id);
                headers[10..12].copy_from_slice(&checksum::finish(sum));
            }
            Network::V6 => {
                let len = (headers.len() - Ipv6::HEADER_LEN + payload.len()) as u16;
                headers[4..6].copy_from_slice(&len.to_be_bytes());
            }
        }
    }

    #[inline]
    fn transport_sum(&self, header: &[u8], payload: &[u8]) -> u64 {
        let len = checksum::word((header.len() + payload.len()) as u16);
        checksum::add(checksum::add(self.plan.pseudo + len, header), payload)
    }
}

/// What all segments of one frame share.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Length of all headers; zero when the packet is passed on whole.
    headers: usize,
    /// Payload bytes per segment.
    step: usize,
    count: usize,
    /// Where the transport header begins.
    transport_at: usize,
    /// Sum over the pseudo-header without its length.
    pseudo: u64,
    network: Network,
    transport: Transport,
}

#[derive(Clone, Copy, Debug)]
enum Network {
    /// `sum` covers the header without total length, identification and checksum.
    V4 {
        id: u16,
        sum: u64,
    },
    V6,
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Whole,
    Tcp { sequence: u32, flags: u8 },
    Udp,
}

impl Plan {
    fn whole(len: usize) -> Self {
        Self {
            headers: 0,
            step: len,
            count: 1,
            transport_at: 0,
            pseudo: 0,
            network: Network::V6,
            transport: Transport::Whole,
        }
    }

    fn cut(header: &VirtioHeader, packet: &[u8]) -> Result<Self, SplitError> {
        let step = usize::from(header.segment_size);
        if step == 0 || !header.needs_checksum {
            return Err(SplitError::IncompleteHeader);
        }
        let transport_at = usize::from(header.checksum_start);
        let (carried, network) = network(packet, transport_at)?;
        let body = packet.get(transport_at..).ok_or(SplitError::Truncated)?;
        let (transport_len, field, transport) = match (header.gso, carried, packet[0] >> 4) {
            (Gso::Tcp4, protocol::TCP, 4) | (Gso::Tcp6, protocol::TCP, 6) => {
                let tcp = Tcp::parse(body).ok_or(SplitError::Truncated)?;
                let transport = Transport::Tcp { sequence: tcp.sequence(), flags: tcp.flags() };
                (tcp.header_len(), Tcp::CHECKSUM, transport)
            }
            (Gso::Udp, protocol::UDP, _) => {
                Udp::parse(body).ok_or(SplitError::Truncated)?;
                (Udp::HEADER_LEN, Udp::CHECKSUM, Transport::Udp)
            }
            (Gso::None | Gso::Tcp4 | Gso::Tcp6 | Gso::Udp, ..) => return Err(SplitError::WrongProtocol),
        };
        if usize::from(header.checksum_offset) != field {
            return Err(SplitError::WrongProtocol);
        }
        let headers = transport_at + transport_len;
        let payload = packet.len() - headers;
        let longest = usize::from(u16::MAX) + if packet[0] >> 4 == 6 { Ipv6::HEADER_LEN } else { 0 };
        if headers + step.min(payload) > longest || body.len() > usize::from(u16::MAX) {
            return Err(SplitError::TooLong);
        }
        // The field holds the folded pseudo-header with the length of the whole. Taking that length out again
        // (adding its complement) is what the kernel's own segmentation does, and stays right with a routing
        // header, where the last destination is not in the fixed header.
        let partial = u64::from(u16::from_ne_bytes([body[field], body[field + 1]]));
        let pseudo = partial + checksum::word(!(body.len() as u16));
        Ok(Self {
            headers,
            step,
            count: payload.div_ceil(step).max(1),
            transport_at,
            pseudo,
            network,
            transport,
        })
    }
}

/// The protocol that begins at `transport_at`, and what a segment's network header is made from.
fn network(packet: &[u8], transport_at: usize) -> Result<(u8, Network), SplitError> {
    match packet.first().ok_or(SplitError::Truncated)? >> 4 {
        4 => {
            let ip = Ipv4::parse(packet).ok_or(SplitError::Truncated)?;
            if ip.is_fragment() || ip.header_len() != transport_at {
                return Err(SplitError::WrongProtocol);
            }
            let sum = [&packet[..2], &packet[6..10], &packet[12..transport_at]];
            let sum = sum.iter().fold(0, |sum, piece| checksum::add(sum, piece));
            Ok((ip.protocol(), Network::V4 { id: ip.id(), sum }))
        }
        6 => {
            let ip = Ipv6::parse(packet).ok_or(SplitError::Truncated)?;
            let upper = ip.upper_layer().ok_or(SplitError::Truncated)?;
            if upper.fragment_offset.is_some() || upper.offset != transport_at {
                return Err(SplitError::WrongProtocol);
            }
            Ok((upper.protocol, Network::V6))
        }
        _ => Err(SplitError::WrongProtocol),
    }
}

/// Finishes what `NEEDS_CSUM` left open: sums from `checksum_start` to the end, the field included, which
/// already holds the pseudo-header.
fn complete_checksum(header: &VirtioHeader, packet: &mut [u8]) -> Result<(), SplitError> {
    let start = usize::from(header.checksum_start);
    let field = start + usize::from(header.checksum_offset);
    if packet.len() < field + 2 {
        return Err(SplitError::ChecksumOutside);
    }
    // An odd field offset would swap the bytes of the field against those of the sum.
    if !header.checksum_offset.is_multiple_of(2) {
        return Err(SplitError::ChecksumOutside);
    }
    let sum = checksum::add(0, &packet[start..]);
    packet[field..field + 2].copy_from_slice(&checksum::finish_nonzero(sum));
    Ok(())
}
