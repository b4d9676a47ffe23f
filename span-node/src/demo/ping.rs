//! ICMP echo, one request at a time.

use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// As much as `ping` sends.
const PAYLOAD: usize = 56;

/// Sends one echo request to `target` and waits for the answer.
///
/// Returns the round-trip time, `None` when no answer came within `patience`. Fails only when this process
/// may not ping at all.
pub(super) fn ping(target: IpAddr, sequence: u16, patience: Duration) -> io::Result<Option<Duration>> {
    let family = Family::of(target);
    let socket = Socket::new(family.domain(), Type::RAW, Some(family.protocol()))?;
    let request = request(family, std::process::id().to_be_bytes(), sequence);
    // An error from here on is the network's way of saying no.
    Ok(exchange(&socket, family, target, &request, patience).ok())
}

fn exchange(
    mut socket: &Socket,
    family: Family,
    target: IpAddr,
    request: &[u8],
    patience: Duration,
) -> io::Result<Duration> {
    // From now on the kernel hands over what this target sends, and nothing else.
    socket.connect(&SocketAddr::new(target, 0).into())?;
    let start = Instant::now();
    socket.send(request)?;
    let mut packet = [0; 2048];
    loop {
        let left = patience.checked_sub(start.elapsed()).ok_or(ErrorKind::TimedOut)?;
        socket.set_read_timeout(Some(left.max(Duration::from_micros(1))))?;
        match socket.read(&mut packet) {
            Ok(len) if is_answer(family, &packet[..len], request) => return Ok(start.elapsed()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    fn domain(self) -> Domain {
        match self {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        }
    }

    fn protocol(self) -> Protocol {
        match self {
            Family::V4 => Protocol::ICMPV4,
            Family::V6 => Protocol::ICMPV6,
        }
    }

    /// The ICMP types of echo request and echo reply.
    fn types(self) -> (u8, u8) {
        match self {
            Family::V4 => (8, 0),
            Family::V6 => (128, 129),
        }
    }
}

/// The identifier spans the ICMP identifier and the beginning of the payload.
fn request(family: Family, identifier: [u8; 4], sequence: u16) -> Vec<u8> {
    let [a, b, c, d] = identifier;
    let [high, low] = sequence.to_be_bytes();
    let mut message = vec![family.types().0, 0, 0, 0, c, d, high, low, a, b];
    message.extend((10..8 + PAYLOAD).map(|at| at as u8));
    // The kernel fills in ICMPv6's checksum, because it covers the addresses.
    if let Family::V4 = family {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether what the kernel handed over is the echo of `request`.
fn is_answer(family: Family, packet: &[u8], request: &[u8]) -> bool {
    // Of IPv4 the whole packet is handed over.
    let message = match family {
        Family::V4 => packet.first().and_then(|first| packet.get(usize::from(first & 0x0f) * 4..)),
        Family::V6 => Some(packet),
    };
    message.is_some_and(|message| {
        message.first() == Some(&family.types().1) && message.get(4..) == request.get(4..)
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_checked_message_is_zero() {
        assert_eq!(checksum(&request(Family::V4, [1, 2, 3, 4], 7)), 0);
        // RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn only_the_own_echo_is_an_answer() {
        let request = request(Family::V6, [1, 2, 3, 4], 7);
        let mut answer = request.clone();
        assert!(!is_answer(Family::V6, &answer, &request), "a request is no answer");
        answer[0] = 129;
        assert!(is_answer(Family::V6, &answer, &request));
        let in_ipv4 = [&[0x46; 24][..], &answer].concat();
        assert!(!is_answer(Family::V4, &in_ipv4, &request), "the other family's type");
        answer[7] += 1;
        assert!(!is_answer(Family::V6, &answer, &request), "another sequence number");
        assert!(!is_answer(Family::V6, &[], &request));
        assert!(!is_answer(Family::V4, &[0x4f], &request));
    }
}
