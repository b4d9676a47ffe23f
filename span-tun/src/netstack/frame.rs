//! What the stack itself reads and writes of packets; the rest is smoltcp's.

use std::net::IpAddr;

use crate::offload::checksum;
use crate::offload::packet::{Ip, Ipv4, Ipv6, Tcp, Udp, protocol};
use crate::offload::{Gso, VirtioHeader};

/// Hop limit of what is built here.
const HOPS: u8 = 64;
/// Length of the header of ICMP echo messages, in bytes.
pub(super) const ECHO_HEADER: usize = 8;

/// A whole packet without options, extension headers or fragmentation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// Where the transport header begins.
    pub(super) at: usize,
    /// Where the packet ends; what follows is padding.
    pub(super) end: usize,
}

impl Packet {
    /// `None` for anything else.
    #[inline]
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let packet = match Ip::parse(frame)? {
            Ip::V4(ip) => {
                let intact = || checksum::is_valid(checksum::add(0, &frame[..ip.header_len()]));
                if ip.is_fragment() || !intact() {
                    return None;
                }
                Self {
                    source: ip.source().into(),
                    destination: ip.destination().into(),
                    protocol: ip.protocol(),
                    at: ip.header_len(),
                    end: ip.total_len(),
                }
            }
            Ip::V6(ip) => {
                let upper = ip.upper_layer()?;
                if upper.fragment_offset.is_some() {
                    return None;
                }
                Self {
                    source: ip.source().into(),
                    destination: ip.destination().into(),
                    protocol: upper.protocol,
                    at: upper.offset,
                    end: ip.total_len(),
                }
            }
        };
        (packet.at <= packet.end && packet.end <= frame.len()).then_some(packet)
    }

    /// Where the transport header of a packet begins that was parsed before.
    pub(super) fn header(frame: &[u8]) -> Option<usize> {
        match Ip::parse(frame)? {
            Ip::V4(ip) => Some(ip.header_len()),
            Ip::V6(ip) => ip.upper_layer().map(|upper| upper.offset),
        }
    }

    /// Whether the checksum of the transport header holds.
    #[inline]
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        let body = &frame[self.at..self.end];
        let sum = pseudo(self.source, self.destination, self.protocol, body.len());
        match self.protocol {
            protocol::UDP if Udp::parse(body).is_some_and(|udp| udp.has_no_checksum()) => {
                // RFC 8200, section 8.1: only IPv4 may leave it out.
                self.source.is_ipv4()
            }
            protocol::ICMP => checksum::is_valid(checksum::add(0, body)),
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => checksum::is_valid(checksum::add(sum, body)),
            _ => true,
        }
    }
}

/// What an ICMP error quotes of a packet that was sent from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// The first eight bytes of the transport header.
    pub(super) transport: [u8; 8],
}

impl Quoted {
    pub(super) fn parse(quote: &[u8]) -> Option<Self> {
        let (source, destination, protocol, at): (IpAddr, IpAddr, _, _) = match Ip::parse(quote)? {
            Ip::V4(ip) => (ip.source().into(), ip.destination().into(), ip.protocol(), ip.header_len()),
            Ip::V6(ip) => (ip.source().into(), ip.destination().into(), ip.next_header(), Ipv6::HEADER_LEN),
        };
        let transport = *quote.get(at..)?.first_chunk()?;
        Some(Self { source, destination, protocol, transport })
    }
}

/// A TCP header, looked at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    /// Length of the header, in bytes.
    pub(super) header: usize,
    /// Length of the payload, in bytes.
    pub(super) payload: usize,
}

impl Segment {
    #[inline]
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let tcp = Tcp::parse(body)?;
        Some(Self {
            source_port: be16(body, 0),
            destination_port: be16(body, 2),
            sequence: tcp.sequence(),
            acknowledgement: be32(body, 8),
            flags: tcp.flags(),
            header: tcp.header_len(),
            payload: body.len() - tcp.header_len(),
        })
    }

    #[inline]
    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// What it takes of the sequence space.
    #[inline]
    pub(super) fn length(&self) -> u32 {
        self.payload as u32 + u32::from(self.has(Tcp::SYN)) + u32::from(self.has(Tcp::FIN))
    }
}

/// Makes of a segment an acknowledgement without payload, as the sender of `frame` could have sent it next, and
/// writes it to `out`.
pub(super) fn acknowledgement_of(packet: &Packet, segment: &Segment, frame: &[u8], out: &mut Vec<u8>) {
    let end = packet.at + segment.header;
    out.clear();
    out.extend_from_slice(&frame[..end]);
    if packet.source.is_ipv4() {
        out[2..4].copy_from_slice(&(end as u16).to_be_bytes());
    } else {
        out[4..6].copy_from_slice(&((end - Ipv6::HEADER_LEN) as u16).to_be_bytes());
    }
    let sequence = segment.sequence.wrapping_add(segment.length());
    out[packet.at + 4..packet.at + 8].copy_from_slice(&sequence.to_be_bytes());
    out[packet.at + 13] = Tcp::ACK;
}

/// The options of a TCP header, as far as they are well-formed: kind and where the option's data stands, counted
/// from the beginning of the header.
pub(super) fn options(header: &[u8]) -> impl Iterator<Item = (u8, std::ops::Range<usize>)> + '_ {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    let mut at = Tcp::HEADER_LEN;
    std::iter::from_fn(move || {
        loop {
            match *header.get(at)? {
                END => return None,
                NOTHING => at += 1,
                kind => {
                    let len = usize::from(*header.get(at + 1)?);
                    let data = at + 2..at + len;
                    if len < 2 || data.end > header.len() {
                        return None;
                    }
                    at += len;
                    return Some((kind, data));
                }
            }
        }
    })
}

/// Where the maximum segment size of a SYN stands.
pub(super) fn maximum_segment_size(header: &[u8]) -> Option<std::ops::Range<usize>> {
    const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    options(header)
        .find(|(kind, data)| *kind == MAXIMUM_SEGMENT_SIZE && data.len() == 2)
        .map(|(_, data)| data)
}

/// Bytes beyond `acknowledgement` that selective acknowledgements (RFC 2018) say have arrived.
pub(super) fn selectively_acknowledged(header: &[u8], acknowledgement: u32) -> u32 {
    const SELECTIVE_ACKNOWLEDGEMENT: u8 = 5;
    let mut bytes = 0u32;
    for (_, data) in options(header).filter(|(kind, _)| *kind == SELECTIVE_ACKNOWLEDGEMENT) {
        for block in header[data].chunks_exact(8) {
            let (left, right) = (be32(block, 0), be32(block, 4));
            // One behind the acknowledgement tells of a duplicate (RFC 2883).
            if is_after(left, acknowledgement) && is_after(right, left) {
                bytes = bytes.saturating_add(right.wrapping_sub(left));
            }
        }
    }
    bytes
}

/// Whether the sequence number `a` comes after `b`.
#[inline]
pub(super) fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Leaves the checksum of a TCP packet to whoever cuts it into segments of `segment` bytes of payload.
pub(super) fn offload_tcp(frame: &mut [u8], at: usize, segment: u16) -> VirtioHeader {
    let body = frame.len() - at;
    let v6 = frame[0] >> 4 == 6;
    let addresses = if v6 { Ipv6::ADDRESSES } else { Ipv4::ADDRESSES };
    let sum = checksum::pseudo(&frame[addresses], protocol::TCP) + checksum::word(body as u16);
    frame[at + Tcp::CHECKSUM..at + Tcp::CHECKSUM + 2].copy_from_slice(&checksum::fold(sum));
    let header = at + usize::from(frame[at + 12] >> 4) * 4;
    let cut = frame.len() - header > usize::from(segment);
    VirtioHeader {
        needs_checksum: true,
        gso: match (cut, v6) {
            (false, _) => Gso::None,
            (true, false) => Gso::Tcp4,
            (true, true) => Gso::Tcp6,
        },
        ecn: false,
        header_len: if cut { header as u16 } else { 0 },
        segment_size: if cut { segment } else { 0 },
        checksum_start: at as u16,
        checksum_offset: Tcp::CHECKSUM as u16,
    }
}

/// Writes a UDP packet, checksum done, to `out`. The caller has seen to its length.
pub(super) fn udp(source: (IpAddr, u16), destination: (IpAddr, u16), payload: &[u8], out: &mut Vec<u8>) {
    let len = Udp::HEADER_LEN + payload.len();
    network(source.0, destination.0, protocol::UDP, len, out);
    let at = out.len();
    out.extend(source.1.to_be_bytes());
    out.extend(destination.1.to_be_bytes());
    out.extend((len as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend(payload);
    let sum = checksum::add(pseudo(source.0, destination.0, protocol::UDP, len), &out[at..]);
    out[at + Udp::CHECKSUM..at + Udp::HEADER_LEN].copy_from_slice(&checksum::finish_nonzero(sum));
}

/// Writes an ICMP echo request with `size` bytes of payload, checksum done, to `out`.
pub(super) fn echo_request(
    source: IpAddr,
    destination: IpAddr,
    identifier: u16,
    sequence: u16,
    size: usize,
    out: &mut Vec<u8>,
) {
    let (protocol, kind) = if source.is_ipv4() { (protocol::ICMP, 8) } else { (protocol::ICMPV6, 128) };
    let len = ECHO_HEADER + size;
    network(source, destination, protocol, len, out);
    let at = out.len();
    out.extend([kind, 0, 0, 0]);
    out.extend(identifier.to_be_bytes());
    out.extend(sequence.to_be_bytes());
    out.extend((0..size).map(|at| at as u8));
    let sum = if source.is_ipv4() { 0 } else { pseudo(source, destination, protocol, len) };
    let sum = checksum::finish(checksum::add(sum, &out[at..]));
    out[at + 2..at + 4].copy_from_slice(&sum);
}

/// Length of the IP header that [`udp`] and [`echo_request`] write, in bytes.
pub(super) fn network_header(address: IpAddr) -> usize {
    if address.is_ipv4() { Ipv4::HEADER_LEN } else { Ipv6::HEADER_LEN }
}

/// Begins a packet with `len` bytes after the IP header. Both addresses are of one family.
fn network(source: IpAddr, destination: IpAddr, protocol: u8, len: usize, out: &mut Vec<u8>) {
    out.clear();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend([0x45, 0]);
            out.extend(((Ipv4::HEADER_LEN + len) as u16).to_be_bytes());
            // May not be fragmented, so the identification means nothing (RFC 6864).
            out.extend([0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            out.extend(source.octets());
            out.extend(destination.octets());
            let sum = checksum::finish(checksum::add(0, out));
            out[10..12].copy_from_slice(&sum);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend((len as u16).to_be_bytes());
            out.extend([protocol, HOPS]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            debug_assert!(false, "one packet has addresses of one family");
        }
    }
}

/// The sum over the pseudo-header.
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u64 {
    let add = |sum, address| match address {
        IpAddr::V4(address) => checksum::add(sum, &address.octets()),
        IpAddr::V6(address) => checksum::add(sum, &address.octets()),
    };
    // RFC 4443 counts no pseudo-header for ICMPv4; nobody asks for one.
    let len = checksum::word((len >> 16) as u16) + checksum::word(len as u16);
    add(add(len + checksum::word(u16::from(protocol)), source), destination)
}

#[inline]
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_whole_and_intact() {
        let pairs = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")];
        for (source, destination) in pairs {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            for size in [0, 1, 56, 1000] {
                let mut frame = Vec::new();
                udp((source, 7), (destination, 9), &vec![3; size], &mut frame);
                let packet = Packet::parse(&frame).unwrap();
                assert_eq!((packet.source, packet.destination), (source, destination));
                assert_eq!((packet.protocol, packet.end), (protocol::UDP, frame.len()));
                assert!(packet.is_intact(&frame));
                echo_request(source, destination, 1, 2, size, &mut frame);
                let packet = Packet::parse(&frame).unwrap();
                assert!(packet.is_intact(&frame));
                *frame.last_mut().unwrap() ^= 1;
                assert!(!packet.is_intact(&frame));
            }
        }
    }

    #[test]
    fn options_are_found_and_broken_ones_end_the_search() {
        let header = |options: &[u8]| [&[0; Tcp::HEADER_LEN][..], options].concat();
        let mss = header(&[1, 3, 3, 7, 2, 4, 0x05, 0x64, 0, 0, 0]);
        assert_eq!(maximum_segment_size(&mss), Some(26..28));
        for broken in [&[2][..], &[2, 4, 5], &[3, 0, 2, 4, 5, 6], &[3, 1, 2, 4, 5, 6], &[0, 2, 4, 5, 6]] {
            assert_eq!(maximum_segment_size(&header(broken)), None, "{broken:?}");
        }
        let mut blocks = vec![5, 18];
        for edge in [1000u32, 1500, 100, 200] {
            blocks.extend(edge.to_be_bytes());
        }
        assert_eq!(selectively_acknowledged(&header(&blocks), 500), 500, "what is behind does not count");
    }
}
