//! ICMP errors about packets that cannot go on: "destination unreachable" and "packet too big", built for the
//! sender of the packet and to be written back to the device it came from (RFC 792, RFC 1812 section 4.3.2,
//! RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::checksum;
use super::packet::{Ip, Ipv4, Ipv6, protocol};

/// Longest error this module builds, in bytes: the least MTU of IPv6.
pub const MAX_LEN: usize = 1280;

/// Longest ICMPv4 error (RFC 1812, section 4.3.2.3).
const MAX_LEN_V4: usize = 576;
/// All errors have an eight-byte header before what they quote.
const HEADER_LEN: usize = 8;
/// Hop limit of what is built here.
const HOPS: u8 = 64;

/// Why a destination cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route leads there.
    Network,
    /// The host, or the way to it, is down.
    Host,
    /// Policy forbids it.
    Prohibited,
}

/// Builds "destination unreachable" about `packet` at the beginning of `out` and returns its length in bytes.
///
/// The error comes from `source`, or from the packet's own destination if that is `None`: a host drops what
/// claims to come from an address of its own, and often there is no other address to speak from.
///
/// `None` if no error may be sent: about ICMP errors, later fragments, and packets to or from anything but a
/// single host (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e), or if `source` is of the other family.
///
/// The caller limits the rate; see [`Limiter`].
pub fn unreachable(
    packet: &[u8],
    why: Unreachable,
    source: Option<IpAddr>,
    out: &mut [u8; MAX_LEN],
) -> Option<usize> {
    let (v4, v6) = match why {
        Unreachable::Network => ((3, 0), (1, 0)),
        Unreachable::Host => ((3, 1), (1, 3)),
        Unreachable::Prohibited => ((3, 13), (1, 1)),
    };
    build(packet, Message { v4, v6, parameter: 0 }, source, out)
}

/// Builds "fragmentation needed" (IPv4) or "packet too big" (IPv6) about `packet`; otherwise as [`unreachable()`].
///
/// `mtu` is what would fit, in bytes. `None` also for an IPv4 packet that may be fragmented.
pub fn too_big(packet: &[u8], mtu: u16, source: Option<IpAddr>, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    if let Ip::V4(ip) = Ip::parse(packet)?
        && !ip.dont_fragment()
    {
        return None;
    }
    // IPv4 has the MTU in the lower half of the word (RFC 1191), IPv6 in all of it: the same bytes.
    build(packet, Message { v4: (3, 4), v6: (2, 0), parameter: mtu.into() }, source, out)
}

/// A token bucket for ICMP errors, with the kernel's own figures: 1000 a second, 50 at once.
#[derive(Clone, Debug)]
pub struct Limiter {
    tokens: u32,
    refilled: Duration,
}

impl Limiter {
    const BURST: u32 = 50;
    const INTERVAL: Duration = Duration::from_millis(1);

    /// A full bucket. Times are counted from any fixed moment.
    pub fn new(now: Duration) -> Self {
        Self { tokens: Self::BURST, refilled: now }
    }

    /// Whether one more error may be sent now.
    pub fn allow(&mut self, now: Duration) -> bool {
        let due = now.saturating_sub(self.refilled).as_nanos() / Self::INTERVAL.as_nanos();
        if due >= u128::from(Self::BURST - self.tokens) {
            self.tokens = Self::BURST;
            self.refilled = self.refilled.max(now);
        } else {
            // Smaller than BURST, so it fits; the part of an interval that is over stays to the credit.
            self.tokens += due as u32;
            self.refilled += Self::INTERVAL * due as u32;
        }
        let allowed = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        allowed
    }
}

#[derive(Clone, Copy)]
struct Message {
    /// Type and code.
    v4: (u8, u8),
    /// Type and code.
    v6: (u8, u8),
    /// The second word of the header.
    parameter: u32,
}

fn build(packet: &[u8], message: Message, source: Option<IpAddr>, out: &mut [u8; MAX_LEN]) -> Option<usize> {
    match Ip::parse(packet)? {
        Ip::V4(ip) => {
            let source = match source {
                None => ip.destination(),
                Some(IpAddr::V4(source)) => source,
                Some(IpAddr::V6(_)) => return None,
            };
            let deserves = is_host_v4(ip.source())
                && is_host_v4(ip.destination())
                && ip.fragment_offset() == 0
                && !(ip.protocol() == protocol::ICMP && is_error_v4(packet.get(ip.header_len())));
            deserves.then(|| build_v4(packet, ip, message, source, out))
        }
        Ip::V6(ip) => {
            let source = match source {
                None => ip.destination(),
                Some(IpAddr::V6(source)) => source,
                Some(IpAddr::V4(_)) => return None,
            };
            let upper = ip.upper_layer()?;
            let deserves = is_host_v6(ip.source())
                && is_host_v6(ip.destination())
                && upper.fragment_offset.unwrap_or(0) == 0
                && !(upper.protocol == protocol::ICMPV6 && is_error_v6(packet.get(upper.offset)));
            deserves.then(|| build_v6(packet, ip, message, source, out))
        }
    }
}

fn build_v4(
    packet: &[u8],
    ip: Ipv4<'_>,
    message: Message,
    source: Ipv4Addr,
    out: &mut [u8; MAX_LEN],
) -> usize {
    let quoted = packet.len().min(MAX_LEN_V4 - Ipv4::HEADER_LEN - HEADER_LEN);
    let len = Ipv4::HEADER_LEN + HEADER_LEN + quoted;
    let (header, body) = out[..len].split_at_mut(Ipv4::HEADER_LEN);
    // Precedence "internetwork control", as RFC 1812 section 4.3.2.5 wants of errors.
    header[..2].copy_from_slice(&[0x45, 0xc0]);
    header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    // Complete in itself, so the identification says nothing and is left out (RFC 6864).
    header[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
    header[8..12].copy_from_slice(&[HOPS, protocol::ICMP, 0, 0]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&ip.source().octets());
    let sum = checksum::finish(checksum::add(0, header));
    header[10..12].copy_from_slice(&sum);
    fill(body, message.v4, message.parameter, &packet[..quoted]);
    let sum = checksum::finish(checksum::add(0, body));
    body[2..4].copy_from_slice(&sum);
    len
}

fn build_v6(
    packet: &[u8],
    ip: Ipv6<'_>,
    message: Message,
    source: Ipv6Addr,
    out: &mut [u8; MAX_LEN],
) -> usize {
    let quoted = packet.len().min(MAX_LEN - Ipv6::HEADER_LEN - HEADER_LEN);
    let len = Ipv6::HEADER_LEN + HEADER_LEN + quoted;
    let (header, body) = out[..len].split_at_mut(Ipv6::HEADER_LEN);
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[4..6].copy_from_slice(&(body.len() as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[protocol::ICMPV6, HOPS]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&ip.source().octets());
    fill(body, message.v6, message.parameter, &packet[..quoted]);
    let pseudo =
        checksum::pseudo(&header[Ipv6::ADDRESSES], protocol::ICMPV6) + checksum::word(body.len() as u16);
    let sum = checksum::finish(checksum::add(pseudo, body));
    body[2..4].copy_from_slice(&sum);
    len
}

/// Everything but the checksum, which is left zero.
fn fill(body: &mut [u8], (kind, code): (u8, u8), parameter: u32, quoted: &[u8]) {
    body[..4].copy_from_slice(&[kind, code, 0, 0]);
    body[4..HEADER_LEN].copy_from_slice(&parameter.to_be_bytes());
    body[HEADER_LEN..].copy_from_slice(quoted);
}

fn is_host_v4(address: Ipv4Addr) -> bool {
    // 240.0.0.0/4 is reserved and ends in the broadcast address.
    !address.is_unspecified() && !address.is_multicast() && address.octets()[0] < 240
}

fn is_host_v6(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

/// A cut-off ICMP message might be an error, so it counts as one.
fn is_error_v4(kind: Option<&u8>) -> bool {
    !matches!(kind, Some(0 | 8..=10 | 13..=18))
}

fn is_error_v6(kind: Option<&u8>) -> bool {
    kind.is_none_or(|kind| *kind < 128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(protocol: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, (20 + body.len()) as u8, 0, 7, 0x40, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 9, 9, 9]);
        packet.extend(body);
        packet
    }

    fn v6(next: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, body.len() as u8, next, 64];
        packet.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00::9".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(body);
        packet
    }

    fn about(packet: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xaa; MAX_LEN];
        unreachable(packet, Unreachable::Host, None, &mut out).map(|len| out[..len].to_vec())
    }

    #[test]
    fn host_unreachable_over_ipv4() {
        let packet = v4(protocol::UDP, &[1; 30]);
        let error = about(&packet).unwrap();
        assert_eq!(error.len(), 28 + 50);
        let ip = Ipv4::parse(&error).unwrap();
        assert_eq!((ip.source(), ip.destination()), ([10, 9, 9, 9].into(), [10, 0, 0, 1].into()));
        assert_eq!((ip.total_len(), ip.protocol()), (78, protocol::ICMP));
        assert!(checksum::is_valid(checksum::add(0, &error[..20])));
        assert!(checksum::is_valid(checksum::add(0, &error[20..])));
        assert_eq!(error[20..22], [3, 1]);
        assert_eq!(error[28..], packet);
    }

    #[test]
    fn address_unreachable_over_ipv6() {
        let packet = v6(protocol::UDP, &[1; 30]);
        let error = about(&packet).unwrap();
        let ip = Ipv6::parse(&error).unwrap();
        assert_eq!(ip.destination(), "fd00::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(ip.total_len(), error.len());
        let pseudo = checksum::pseudo(&error[8..40], protocol::ICMPV6) + checksum::word(78);
        assert!(checksum::is_valid(checksum::add(pseudo, &error[40..])));
        assert_eq!(error[40..42], [1, 3]);
        assert_eq!(error[48..], packet);
    }

    #[test]
    fn too_big_carries_the_mtu_and_respects_df() {
        let mut out = [0; MAX_LEN];
        let mut packet = v4(protocol::UDP, &[1; 30]);
        assert_eq!(too_big(&packet, 1400, None, &mut out), Some(78));
        assert_eq!((&out[20..22], &out[24..28]), (&[3, 4][..], &[0, 0, 5, 120][..]));
        packet[6] = 0;
        assert_eq!(too_big(&packet, 1400, None, &mut out), None);
        let packet = v6(protocol::UDP, &[1; 30]);
        assert!(too_big(&packet, 1400, None, &mut out).is_some());
        assert_eq!((&out[40..42], &out[44..48]), (&[2, 0][..], &[0, 0, 5, 120][..]));
    }

    #[test]
    fn long_packets_are_quoted_in_part() {
        let mut packet = v4(protocol::UDP, &[1; 30]);
        packet.resize(9000, 7);
        assert_eq!(about(&packet).unwrap().len(), 576);
        let mut packet = v6(protocol::UDP, &[1; 30]);
        packet.resize(9000, 7);
        assert_eq!(about(&packet).unwrap().len(), 1280);
    }

    #[test]
    fn never_about_what_rfc_1122_forbids() {
        let good = v4(protocol::UDP, &[0; 8]);
        let altered = |at: usize, value: u8| {
            let mut packet = good.clone();
            packet[at] = value;
            about(&packet)
        };
        assert!(altered(19, 8).is_some());
        assert_eq!(altered(16, 224), None, "multicast destination");
        assert_eq!(altered(16, 255), None, "broadcast destination");
        assert_eq!(altered(12, 239), None, "multicast source");
        assert_eq!(altered(7, 1), None, "later fragment");
        let mut unspecified = good.clone();
        unspecified[12..16].fill(0);
        assert_eq!(about(&unspecified), None);
        assert_eq!(about(&v4(protocol::ICMP, &[3, 1, 0, 0])), None);
        assert_eq!(about(&v4(protocol::ICMP, &[11, 0, 0, 0])), None);
        assert_eq!(about(&v4(protocol::ICMP, &[])), None);
        assert!(about(&v4(protocol::ICMP, &[8, 0, 0, 0])).is_some());
        assert_eq!(about(&v6(protocol::ICMPV6, &[1, 0, 0, 0])), None);
        assert!(about(&v6(protocol::ICMPV6, &[128, 0, 0, 0])).is_some());
        // An error hidden behind an extension header is still an error.
        assert_eq!(about(&v6(protocol::DESTINATION_OPTIONS, &[58, 0, 1, 4, 0, 0, 0, 0, 1, 0, 0, 0])), None);
    }

    #[test]
    fn the_rate_is_the_kernels() {
        let mut limiter = Limiter::new(Duration::ZERO);
        let burst = (0..200).filter(|_| limiter.allow(Duration::ZERO)).count();
        assert_eq!(burst, 50);
        let second = (0..100_000u64).filter(|i| limiter.allow(Duration::from_micros(i * 10))).count();
        assert!((999..=1001).contains(&second), "{second}");
        assert!(limiter.allow(Duration::from_secs(9)));
        assert!(
            limiter.allow(Duration::from_secs(1)),
            "a clock that steps back must not stop errors for good"
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..3, mtu: u16) {
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = match version { 0 => *first, 1 => 0x45, _ => 0x60 };
            }
            let mut out = [0; MAX_LEN];
            let _ = unreachable(&packet, Unreachable::Network, None, &mut out);
            let _ = too_big(&packet, mtu, None, &mut out);
        }
    }
}
