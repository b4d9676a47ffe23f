//! Which packets belong together: the questions the coalescer asks of two packets.

use super::checksum;
use super::packet::{Ipv4, Ipv6, Tcp, Udp, be16, protocol};

/// What a packet is to the coalescer.
pub(super) enum Class {
    /// A part of a TCP or UDP flow.
    Flow(Candidate),
    /// No part of any such flow: it can pass anywhere between them.
    NoFlow,
    /// It may be a part of some flow, but which one cannot be seen: a fragment, options, broken headers.
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(super) fn protocol(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }
}

/// A packet of a flow, without IP options or extension headers, whose lengths agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) transport: Transport,
    /// Where the transport header begins, which also tells the family.
    pub(super) transport_at: usize,
    /// Length of all headers, in bytes.
    pub(super) headers: usize,
    /// Length of the payload, in bytes.
    pub(super) payload: usize,
    /// TCP's; zero for UDP.
    pub(super) sequence: u32,
    /// TCP's; zero for UDP.
    pub(super) flags: u8,
    /// Hash of addresses and ports.
    pub(super) tag: u32,
    /// Whether it can be a part of a super-packet at all.
    pub(super) mergeable: bool,
}

impl Candidate {
    /// Stands in where nobody will ask.
    pub(super) const NONE: Self = Self {
        transport: Transport::Udp,
        transport_at: 0,
        headers: 0,
        payload: 0,
        sequence: 0,
        flags: 0,
        tag: 0,
        mergeable: false,
    };

    /// The sequence number of what comes next.
    #[inline]
    pub(super) fn following(&self) -> u32 {
        match self.transport {
            Transport::Tcp => self.sequence.wrapping_add(self.payload as u32),
            Transport::Udp => 0,
        }
    }
}

#[inline]
pub(super) fn classify(packet: &[u8]) -> Class {
    let (transport_at, carried) = match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let Some(ip) = Ipv4::parse(packet) else { return Class::Unclear };
            if !matches!(ip.protocol(), protocol::TCP | protocol::UDP) {
                return Class::NoFlow;
            }
            if ip.header_len() != Ipv4::HEADER_LEN || ip.is_fragment() || ip.total_len() != packet.len() {
                return Class::Unclear;
            }
            (Ipv4::HEADER_LEN, ip.protocol())
        }
        Some(6) => {
            let Some(ip) = Ipv6::parse(packet) else { return Class::Unclear };
            match ip.next_header() {
                protocol::TCP | protocol::UDP if ip.total_len() == packet.len() => {}
                protocol::ICMPV6 => return Class::NoFlow,
                _ => return Class::Unclear,
            }
            (Ipv6::HEADER_LEN, ip.next_header())
        }
        _ => return Class::NoFlow,
    };
    let body = &packet[transport_at..];
    let candidate = if carried == protocol::TCP {
        tcp(packet, body, transport_at)
    } else {
        udp(packet, body, transport_at)
    };
    candidate.map_or(Class::Unclear, Class::Flow)
}

#[inline]
fn tcp(packet: &[u8], body: &[u8], transport_at: usize) -> Option<Candidate> {
    let tcp = Tcp::parse(body)?;
    let payload = body.len() - tcp.header_len();
    let plain = tcp.flags() & !(Tcp::PSH | Tcp::FIN | Tcp::ECE | Tcp::CWR) == Tcp::ACK;
    Some(Candidate {
        transport: Transport::Tcp,
        transport_at,
        headers: transport_at + tcp.header_len(),
        payload,
        sequence: tcp.sequence(),
        flags: tcp.flags(),
        tag: tag(packet, transport_at),
        mergeable: plain && payload > 0,
    })
}

#[inline]
fn udp(packet: &[u8], body: &[u8], transport_at: usize) -> Option<Candidate> {
    let udp = Udp::parse(body)?;
    if udp.len() != body.len() {
        return None;
    }
    Some(Candidate {
        transport: Transport::Udp,
        transport_at,
        headers: transport_at + Udp::HEADER_LEN,
        payload: body.len() - Udp::HEADER_LEN,
        sequence: 0,
        flags: 0,
        tag: tag(packet, transport_at),
        mergeable: !udp.is_empty() && !udp.has_no_checksum(),
    })
}

/// Addresses and ports, hashed without a key: whoever makes flows collide only makes us compare them.
#[inline]
fn tag(packet: &[u8], transport_at: usize) -> u32 {
    let addresses = addresses(transport_at);
    let mut hash = u64::from(u32::from_ne_bytes(fixed(packet, transport_at)));
    for at in addresses.step_by(8) {
        hash = (hash ^ u64::from_ne_bytes(fixed(packet, at))).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
    }
    hash as u32
}

/// Whether two candidates are of one flow.
#[inline]
pub(super) fn same(a: &Candidate, packet: &[u8], b: &Candidate, head: &[u8]) -> bool {
    a.transport == b.transport
        && a.transport_at == b.transport_at
        && packet[addresses(a.transport_at)] == head[addresses(a.transport_at)]
        && fixed::<4>(packet, a.transport_at) == fixed::<4>(head, a.transport_at)
}

/// Whether `packet`, of the same flow, has the headers that segmentation of a super-packet that begins with
/// `head` would give its segment number `nth`, the sequence number aside.
#[inline]
pub(super) fn continues(a: &Candidate, packet: &[u8], b: &Candidate, head: &[u8], nth: usize) -> bool {
    if a.headers != b.headers {
        return false;
    }
    let network = if a.transport_at == Ipv6::HEADER_LEN {
        // Version, class and label; hop limit.
        fixed::<4>(packet, 0) == fixed::<4>(head, 0) && packet[7] == head[7]
    } else {
        let id = be16(packet, 4).wrapping_sub(be16(head, 4));
        let dont_fragment = head[6] & 0x40 != 0;
        // Type of service; fragment flags, which are all but DF zero here; time to live.
        packet[1] == head[1]
            && packet[6] == head[6]
            && packet[8] == head[8]
            && (id == nth as u16 || (dont_fragment && id == 0))
    };
    let transport = match a.transport {
        Transport::Udp => true,
        Transport::Tcp => {
            let (tcp, first) = (&packet[a.transport_at..a.headers], &head[a.transport_at..a.headers]);
            // Acknowledgement; data offset and reserved bits; flags; window; urgent pointer; options. CWR is for
            // the first segment alone, FIN and PSH for the last.
            let flags = tcp[13] ^ first[13];
            fixed::<5>(tcp, 8) == fixed::<5>(first, 8)
                && a.flags & Tcp::CWR == 0
                && flags & !(Tcp::CWR | Tcp::FIN | Tcp::PSH) == 0
                && fixed::<2>(tcp, 14) == fixed::<2>(first, 14)
                && tcp[18..] == first[18..]
        }
    };
    network && transport
}

/// Whether all checksums of the packet hold.
#[inline]
pub(super) fn is_intact(candidate: &Candidate, packet: &[u8]) -> bool {
    let at = candidate.transport_at;
    let header_holds =
        at == Ipv6::HEADER_LEN || checksum::is_valid(checksum::add(0, &packet[..Ipv4::HEADER_LEN]));
    let pseudo = checksum::pseudo(&packet[addresses(at)], candidate.transport.protocol())
        + checksum::word((packet.len() - at) as u16);
    header_holds && checksum::is_valid(checksum::add(pseudo, &packet[at..]))
}

#[inline]
fn addresses(transport_at: usize) -> std::ops::Range<usize> {
    if transport_at == Ipv6::HEADER_LEN { Ipv6::ADDRESSES } else { Ipv4::ADDRESSES }
}

#[inline]
fn fixed<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
