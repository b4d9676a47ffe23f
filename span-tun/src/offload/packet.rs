//! Checked, zero-copy views of the headers the data path looks at. A view exists only if its header is whole;
//! what it says about what follows is still the sender's word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

/// IP protocol numbers the data path knows.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// The source address of an IP packet, or `None` if it is not one.
#[inline]
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    match Ip::parse(packet)? {
        Ip::V4(ip) => Some(ip.source().into()),
        Ip::V6(ip) => Some(ip.source().into()),
    }
}

/// The congestion mark of an IP packet: the low two bits of its traffic class. Zero for what is no IP packet.
#[inline]
pub fn ecn(packet: &[u8]) -> u8 {
    match packet {
        [first, tos, ..] if first >> 4 == 4 => tos & 0b11,
        // The traffic class lies across the first two bytes.
        [first, second, ..] if first >> 4 == 6 => second >> 4 & 0b11,
        _ => 0,
    }
}

/// Gives an IP packet another congestion mark, the low two bits of `mark`, and its header's checksum what it
/// needs for that. What holds no whole header is left alone.
pub fn set_ecn(packet: &mut [u8], mark: u8) {
    let mark = mark & 0b11;
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= Ipv4::HEADER_LEN => {
            let before = be16(packet, 0);
            packet[1] = packet[1] & !0b11 | mark;
            // RFC 1624, equation 3.
            let sum = u64::from(!be16(packet, 10)) + u64::from(!before) + u64::from(be16(packet, 0));
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        Some(6) if packet.len() >= Ipv6::HEADER_LEN => packet[1] = packet[1] & !0b11_0000 | mark << 4,
        _ => {}
    }
}

/// The destination address of an IP packet, or `None` if it is not one.
#[inline]
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    match Ip::parse(packet)? {
        Ip::V4(ip) => Some(ip.destination().into()),
        Ip::V6(ip) => Some(ip.destination().into()),
    }
}

/// A packet of either family.
#[derive(Clone, Copy, Debug)]
pub enum Ip<'a> {
    /// IPv4.
    V4(Ipv4<'a>),
    /// IPv6.
    V6(Ipv6<'a>),
}

impl<'a> Ip<'a> {
    /// Looks at the version; `None` if it is neither 4 nor 6 or the header is not whole.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Ipv4::parse(packet).map(Self::V4),
            6 => Ipv6::parse(packet).map(Self::V6),
            _ => None,
        }
    }

    /// The length the header gives for the whole packet, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        match self {
            Self::V4(ip) => ip.total_len(),
            Self::V6(ip) => ip.total_len(),
        }
    }
}

/// An IPv4 packet whose header, options included, is whole.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<'a>(&'a [u8]);

impl<'a> Ipv4<'a> {
    /// Length of a header without options, in bytes.
    pub const HEADER_LEN: usize = 20;
    /// Where the two addresses stand.
    pub const ADDRESSES: Range<usize> = 12..20;

    /// `None` if the version is not 4 or the header is not whole.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let view = Self(packet);
        (packet.len() >= Self::HEADER_LEN
            && packet[0] >> 4 == 4
            && view.header_len() >= Self::HEADER_LEN
            && view.header_len() <= packet.len())
        .then_some(view)
    }

    /// Length of the header with its options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    /// Type of service: DSCP and ECN.
    #[inline]
    pub fn tos(&self) -> u8 {
        self.0[1]
    }

    /// Length of the whole packet as the header says, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.0, 2))
    }

    /// Identification.
    #[inline]
    pub fn id(&self) -> u16 {
        be16(self.0, 4)
    }

    /// Whether the packet must not be fragmented.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.0[6] & 0x40 != 0
    }

    /// Whether this is a part of a fragmented packet, the first included.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        be16(self.0, 6) & 0x3fff != 0
    }

    /// Offset of this fragment in units of eight bytes; zero for the first and for whole packets.
    #[inline]
    pub fn fragment_offset(&self) -> u16 {
        be16(self.0, 6) & 0x1fff
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.0[8]
    }

    /// Protocol of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.0[9]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.0, 12))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.0, 16))
    }
}

/// An IPv6 packet whose fixed header is whole.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a>(&'a [u8]);

impl<'a> Ipv6<'a> {
    /// Length of the fixed header, in bytes.
    pub const HEADER_LEN: usize = 40;
    /// Where the two addresses stand.
    pub const ADDRESSES: Range<usize> = 8..40;

    /// `None` if the version is not 6 or the fixed header is not whole.
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        (packet.len() >= Self::HEADER_LEN && packet[0] >> 4 == 6).then_some(Self(packet))
    }

    /// Length of the whole packet as the header says, in bytes.
    #[inline]
    pub fn total_len(&self) -> usize {
        Self::HEADER_LEN + usize::from(be16(self.0, 4))
    }

    /// The first four bytes: version, traffic class and flow label.
    #[inline]
    pub fn class_and_label(&self) -> [u8; 4] {
        array(self.0, 0)
    }

    /// Kind of the header that follows.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.0[6]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.0, 8))
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.0, 24))
    }

    /// Walks the extension headers. `None` if one is cut off or there are more than eight.
    pub fn upper_layer(&self) -> Option<UpperLayer> {
        let mut found =
            UpperLayer { protocol: self.next_header(), offset: Self::HEADER_LEN, fragment_offset: None };
        for _ in 0..8 {
            let here = self.0.get(found.offset..)?;
            let len = match found.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                    (usize::from(*here.get(1)?) + 1) * 8
                }
                protocol::FRAGMENT => {
                    let offset = be16(here.get(..8)?, 2) >> 3;
                    found.fragment_offset = Some(offset);
                    8
                }
                _ => return Some(found),
            };
            found.protocol = *here.get(..len)?.first()?;
            found.offset += len;
            // Behind a later fragment's header stands the middle of something, not a header.
            if found.fragment_offset.is_some_and(|offset| offset != 0) {
                return Some(found);
            }
        }
        None
    }
}

/// What the extension headers of an IPv6 packet lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Protocol of the payload.
    pub protocol: u8,
    /// Where the payload begins, in bytes from the start of the packet.
    pub offset: usize,
    /// Offset in units of eight bytes, if a fragment header was found.
    pub fragment_offset: Option<u16>,
}

/// A TCP segment whose header, options included, is whole.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a>(&'a [u8]);

impl<'a> Tcp<'a> {
    /// Length of a header without options, in bytes.
    pub const HEADER_LEN: usize = 20;
    /// Where the checksum field is.
    pub const CHECKSUM: usize = 16;
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Aborts a connection.
    pub const RST: u8 = 0x04;
    /// Deliver at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;

    /// `None` if the header is not whole.
    #[inline]
    pub fn parse(segment: &'a [u8]) -> Option<Self> {
        let view = Self(segment);
        (segment.len() >= Self::HEADER_LEN
            && view.header_len() >= Self::HEADER_LEN
            && view.header_len() <= segment.len())
        .then_some(view)
    }

    /// Length of the header with its options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.0[12] >> 4) * 4
    }

    /// Sequence number of the first payload byte.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(array(self.0, 4))
    }

    /// The eight flags that fit one byte.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.0[13]
    }
}

/// A UDP datagram whose header is whole.
#[derive(Clone, Copy, Debug)]
pub struct Udp<'a>(&'a [u8]);

impl<'a> Udp<'a> {
    /// Length of the header, in bytes.
    pub const HEADER_LEN: usize = 8;
    /// Where the checksum field is.
    pub const CHECKSUM: usize = 6;

    /// `None` if the header is not whole.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        (datagram.len() >= Self::HEADER_LEN).then_some(Self(datagram))
    }

    /// Length of header and payload as the header says, in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(be16(self.0, 4))
    }

    /// Whether there is no payload.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() <= Self::HEADER_LEN
    }

    /// Whether the sender left the checksum out.
    #[inline]
    pub fn has_no_checksum(&self) -> bool {
        self.0[Self::CHECKSUM..Self::HEADER_LEN] == [0, 0]
    }
}

#[inline]
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::checksum;
    use crate::offload::testing::Packet;

    #[test]
    fn a_mark_is_read_where_it_was_set_and_the_checksum_holds() {
        for v6 in [false, true] {
            for tos in 0..=255 {
                let original = Packet { v6, tos, ..Packet::tcp(9, b"payload") }.bytes();
                assert_eq!(ecn(&original), tos & 0b11);
                for mark in 0..4 {
                    let expected =
                        Packet { v6, tos: tos & !0b11 | mark, ..Packet::tcp(9, b"payload") }.bytes();
                    let mut packet = original.clone();
                    set_ecn(&mut packet, mark);
                    assert!(v6 || checksum::is_valid(checksum::add(0, &packet[..Ipv4::HEADER_LEN])));
                    assert_eq!(packet, expected, "{tos} marked {mark}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_packet_has_no_mark() {
        for mut bytes in [vec![], vec![0x45], vec![0x60], vec![0x4f, 3], vec![0xf0; 60]] {
            let before = bytes.clone();
            let _ = ecn(&bytes);
            set_ecn(&mut bytes, 3);
            assert_eq!(bytes, before);
        }
    }
}
