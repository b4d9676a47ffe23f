//! What a frame on the switch is: WireGuard, what an underlay needs to work, or a leak.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The traffic that may cross the switch in the open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// The UDP port all nodes listen on.
    pub(super) wireguard_port: u16,
    /// The discovery service. What it carries about members is sealed.
    pub(super) discovery: SocketAddr,
}

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A WireGuard message between two nodes, or the news that one did not arrive.
    WireGuard,
    /// Addresses looked up on the switch itself: ARP, IPv6 neighbour discovery, multicast membership.
    Neighbours,
    /// The connection to the discovery service.
    Discovery,
    /// Anything else.
    Plaintext,
}

/// Tells what `frame` is. It may be cut off after the headers; what cannot be recognised is plaintext.
pub(super) fn classify(frame: &[u8], expected: &Expected) -> Kind {
    match Packet::in_frame(frame) {
        Parsed::Arp => Kind::Neighbours,
        Parsed::Ip(packet) => packet.classify(expected),
        Parsed::Unknown => Kind::Plaintext,
    }
}

/// One line that tells a person what `frame` is.
pub(super) fn describe(frame: &[u8]) -> String {
    match Packet::in_frame(frame) {
        Parsed::Arp => "ARP".to_owned(),
        Parsed::Ip(packet) => packet.to_string(),
        Parsed::Unknown => match frame.get(12..14) {
            Some(ethertype) => format!("a frame of type {:02x}{:02x}", ethertype[0], ethertype[1]),
            None => "a truncated frame".to_owned(),
        },
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// How long the Ethernet header is.
const ETHERNET: usize = 14;

enum Parsed<'a> {
    Arp,
    Ip(Packet<'a>),
    Unknown,
}

/// An IP packet, taken apart as far as is needed to tell what it is.
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// The transport protocol; `None` for a fragment that does not show its ports.
    protocol: Option<u8>,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn in_frame(frame: &'a [u8]) -> Parsed<'a> {
        let (Some(ethertype), Some(body)) = (frame.get(12..ETHERNET), frame.get(ETHERNET..)) else {
            return Parsed::Unknown;
        };
        match ethertype {
            [0x08, 0x06] => return Parsed::Arp,
            [0x08, 0x00] => Packet::v4(body),
            [0x86, 0xdd] => Packet::v6(body),
            _ => None,
        }
        .map_or(Parsed::Unknown, Parsed::Ip)
    }

    fn v4(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; 20] = bytes.first_chunk()?;
        let payload = bytes.get(usize::from(header[0] & 0x0f) * 4..)?;
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        Some(Self {
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: (header[0] >> 4 == 4 && !fragment).then_some(header[9]),
            payload,
        })
    }

    fn v6(bytes: &'a [u8]) -> Option<Self> {
        const HOP_BY_HOP: u8 = 0;
        let header: &[u8; 40] = bytes.first_chunk()?;
        let address = |at: usize| -> Option<Ipv6Addr> {
            Some(Ipv6Addr::from(*header.get(at..at + 16)?.first_chunk::<16>()?))
        };
        let (mut protocol, mut payload) = (header[6], &bytes[40..]);
        // Multicast membership reports carry a router alert in front.
        if protocol == HOP_BY_HOP {
            let options: &[u8; 2] = payload.first_chunk()?;
            protocol = options[0];
            payload = payload.get(8 + usize::from(options[1]) * 8..)?;
        }
        Some(Self {
            source: address(8)?.into(),
            destination: address(24)?.into(),
            protocol: (header[0] >> 4 == 6).then_some(protocol),
            payload,
        })
    }

    fn classify(&self, expected: &Expected) -> Kind {
        match self.protocol {
            Some(UDP) if self.is_wireguard(expected.wireguard_port) => Kind::WireGuard,
            Some(TCP) if self.is_to_or_from(expected.discovery) => Kind::Discovery,
            Some(ICMP) if self.quotes_wireguard(expected.wireguard_port) => Kind::WireGuard,
            Some(ICMPV6) => match self.payload.first() {
                Some(130..=137 | 143) => Kind::Neighbours,
                _ if self.quotes_wireguard(expected.wireguard_port) => Kind::WireGuard,
                _ => Kind::Plaintext,
            },
            _ => Kind::Plaintext,
        }
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let ports: &[u8; 4] = self.payload.first_chunk()?;
        Some((u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])))
    }

    /// Both ports are the mesh's and the datagram begins as one of WireGuard's four messages does.
    fn is_wireguard(&self, port: u16) -> bool {
        self.ports() == Some((port, port)) && matches!(self.payload.get(8..12), Some([1..=4, 0, 0, 0]))
    }

    fn is_to_or_from(&self, service: SocketAddr) -> bool {
        self.ports().is_some_and(|(source, destination)| {
            SocketAddr::new(self.source, source) == service
                || SocketAddr::new(self.destination, destination) == service
        })
    }

    /// An ICMP error about a WireGuard message: it came before the other side listened.
    fn quotes_wireguard(&self, port: u16) -> bool {
        let is_error = match (self.source, self.payload.first()) {
            (IpAddr::V4(_), Some(3 | 11)) | (IpAddr::V6(_), Some(1..=4)) => true,
            (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
        };
        let Some(quoted) = self.payload.get(8..) else { return false };
        let quoted = match self.source {
            IpAddr::V4(_) => Packet::v4(quoted),
            IpAddr::V6(_) => Packet::v6(quoted),
        };
        is_error && quoted.is_some_and(|packet| packet.protocol == Some(UDP) && packet.is_wireguard(port))
    }
}

impl fmt::Display for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, .. } = self;
        match (self.protocol, self.ports()) {
            (Some(protocol @ (TCP | UDP)), Some((from, to))) => {
                let name = if protocol == TCP { "TCP" } else { "UDP" };
                write!(f, "{name} {} > {}", SocketAddr::new(*source, from), SocketAddr::new(*destination, to))
            }
            (Some(ICMP | ICMPV6), _) => {
                let kind = self.payload.first().copied().unwrap_or_default();
                write!(f, "ICMP type {kind} {source} > {destination}")
            }
            (Some(protocol), _) => write!(f, "IP protocol {protocol} {source} > {destination}"),
            (None, _) => write!(f, "an IP fragment {source} > {destination}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const EXPECTED: Expected = Expected {
        wireguard_port: 51820,
        discovery: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1)), 3000),
    };

    pub(crate) fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
        [&[0x02; 12], &ethertype.to_be_bytes()[..], body].concat()
    }

    pub(crate) fn v4(protocol: u8, options: usize, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[10, 99, 0, 11]);
        packet[16..20].copy_from_slice(&[10, 99, 0, 12]);
        [&packet, payload].concat()
    }

    pub(crate) fn v6(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = protocol;
        [&packet, payload].concat()
    }

    pub(crate) fn udp(from: u16, to: u16, contents: &[u8]) -> Vec<u8> {
        [&from.to_be_bytes(), &to.to_be_bytes(), &[0; 4][..], contents].concat()
    }

    /// Frames of every kind, for this module and for the kernel's side of the same question.
    pub(crate) fn samples() -> Vec<(&'static str, Vec<u8>, Kind)> {
        let wg = |kind: u8| udp(51820, 51820, &[&[kind, 0, 0, 0][..], &[0xa5; 60]].concat());
        let mut fragment = v4(UDP, 0, &wg(4));
        fragment[6] = 0x20;
        let mut later_fragment = v4(UDP, 0, &wg(4));
        later_fragment[7] = 0x10;
        let mut to_service = v4(TCP, 0, &udp(40000, 3000, &[0; 20]));
        to_service[16..20].copy_from_slice(&[10, 99, 0, 1]);
        let unreachable = |quoted: Vec<u8>| [&[3, 3, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
        let unreachable6 = |quoted: Vec<u8>| [&[1, 4, 0, 0, 0, 0, 0, 0], &quoted[..]].concat();
        let report = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0], &[143, 0, 0, 0, 0, 0, 0, 0][..]].concat();
        let ip4 = |body: Vec<u8>| ethernet(0x0800, &body);
        let ip6 = |body: Vec<u8>| ethernet(0x86dd, &body);
        vec![
            ("initiation", ip4(v4(UDP, 0, &wg(1))), Kind::WireGuard),
            ("response", ip6(v6(UDP, &wg(2))), Kind::WireGuard),
            ("cookie", ip4(v4(UDP, 8, &wg(3))), Kind::WireGuard),
            ("data", ip6(v6(UDP, &wg(4))), Kind::WireGuard),
            ("no such message", ip4(v4(UDP, 0, &wg(5))), Kind::Plaintext),
            (
                "an IP packet in UDP",
                ip4(v4(UDP, 0, &udp(51820, 51820, &v4(ICMP, 0, &[8; 40])))),
                Kind::Plaintext,
            ),
            ("too short for a message", ip6(v6(UDP, &udp(51820, 51820, &[4, 0, 0]))), Kind::Plaintext),
            ("an empty datagram", ip4(v4(UDP, 0, &udp(51820, 51820, &[]))), Kind::Plaintext),
            ("an empty datagram after options", ip4(v4(UDP, 40, &udp(51820, 51820, &[]))), Kind::Plaintext),
            ("another port", ip4(v4(UDP, 0, &udp(51820, 9, &[4, 0, 0, 0]))), Kind::Plaintext),
            ("from another port", ip6(v6(UDP, &udp(9, 51820, &[4, 0, 0, 0]))), Kind::Plaintext),
            ("first fragment", ip4(fragment), Kind::Plaintext),
            ("later fragment", ip4(later_fragment), Kind::Plaintext),
            ("TCP on WireGuard's port", ip4(v4(TCP, 0, &wg(4))), Kind::Plaintext),
            ("arp", ethernet(0x0806, &[0; 28]), Kind::Neighbours),
            ("neighbour solicitation", ip6(v6(ICMPV6, &[135, 0, 0, 0, 0, 0, 0, 0])), Kind::Neighbours),
            ("membership report", ip6(v6(0, &report)), Kind::Neighbours),
            ("ping", ip4(v4(ICMP, 0, &[8; 64])), Kind::Plaintext),
            ("ping 6", ip6(v6(ICMPV6, &[128; 64])), Kind::Plaintext),
            ("wireguard unreachable", ip4(v4(ICMP, 0, &unreachable(v4(UDP, 0, &wg(1))))), Kind::WireGuard),
            ("wireguard unreachable 6", ip6(v6(ICMPV6, &unreachable6(v6(UDP, &wg(1))))), Kind::WireGuard),
            ("ping unreachable", ip4(v4(ICMP, 0, &unreachable(v4(ICMP, 0, &[8; 64])))), Kind::Plaintext),
            ("to the service", ip4(to_service), Kind::Discovery),
            (
                "to the service's port elsewhere",
                ip4(v4(TCP, 0, &udp(40000, 3000, &[0; 20]))),
                Kind::Plaintext,
            ),
            ("vlan", ethernet(0x8100, &[0; 60]), Kind::Plaintext),
            ("not the version it claims", ip4(v6(UDP, &wg(4))), Kind::Plaintext),
        ]
    }

    #[test]
    fn frames_are_told_apart() {
        for (name, frame, kind) in samples() {
            assert_eq!(classify(&frame, &EXPECTED), kind, "{name}: {}", describe(&frame));
        }
    }

    #[test]
    fn a_cut_frame_is_plaintext_and_never_a_panic() {
        for (name, frame, _) in samples() {
            for len in 0..frame.len() {
                let (kind, _) = (classify(&frame[..len], &EXPECTED), describe(&frame[..len]));
                assert!(len >= 14 || kind == Kind::Plaintext, "{name} cut to {len}");
            }
        }
    }

    #[test]
    fn descriptions_name_the_ends() {
        let frame = ethernet(0x0800, &v4(UDP, 0, &udp(7, 9, b"hello")));
        assert_eq!(describe(&frame), "UDP 10.99.0.11:7 > 10.99.0.12:9");
    }
}
