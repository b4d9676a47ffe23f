//! Packets of the inner side.

use span_tun::offload::{Gso, VirtioHeader, checksum, split};

/// Segments of a full super-packet at an MTU of 1420 bytes.
pub const SEGMENTS: usize = 47;

/// The MTU everything is made for.
pub const MTU: usize = 1420;

/// An IPv4 packet of `len` bytes from 10.0.0.1 to 10.0.0.2.
///
/// # Panics
/// If `len` is not the length of an IPv4 packet.
#[must_use]
pub fn ipv4(len: usize) -> Vec<u8> {
    ipv4_from([10, 0, 0, 1], len)
}

/// An IPv4 packet of `len` bytes from `source` to 10.0.0.2.
///
/// # Panics
/// If `len` is not the length of an IPv4 packet.
#[must_use]
pub fn ipv4_from(source: [u8; 4], len: usize) -> Vec<u8> {
    assert!((20..=0xffff).contains(&len), "an IPv4 packet has 20 to 65535 bytes");
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
    packet
}

/// What a super-packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP over IPv4, with timestamps.
    Tcp4,
    /// TCP over IPv6, with timestamps.
    Tcp6,
    /// UDP over IPv4.
    Udp4,
}

/// A frame as a TUN device with offloads gives it: `segments` packets of [`MTU`] bytes in one.
///
/// # Panics
/// If they do not fit into 64 KiB.
#[must_use]
pub fn super_packet(kind: Kind, segments: usize) -> (VirtioHeader, Vec<u8>) {
    let (network, transport, checksum_at, gso) = match kind {
        Kind::Tcp4 => (20, 32, 16, Gso::Tcp4),
        Kind::Tcp6 => (40, 32, 16, Gso::Tcp6),
        Kind::Udp4 => (20, 8, 6, Gso::Udp),
    };
    let headers = network + transport;
    let payload = MTU - headers;
    let len = headers + segments * payload;
    assert!(len <= 0xffff, "a frame has at most 65535 bytes");
    let mut packet: Vec<u8> = (0..len).map(|at| at as u8).collect();
    let protocol = if kind == Kind::Udp4 { 17 } else { 6 };
    if network == 20 {
        packet[..20].copy_from_slice(&ipv4(len)[..20]);
        packet[6] = 0x40;
        packet[9] = protocol;
    } else {
        packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        packet[8..40].fill(0xfd);
    }
    let body = &mut packet[network..headers];
    body.fill(0);
    body[..4].copy_from_slice(&[0x10, 0x92, 0x14, 0x51]);
    if kind == Kind::Udp4 {
        body[4..6].copy_from_slice(&((len - 20) as u16).to_be_bytes());
    } else {
        body[4..16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 8 << 4, 0x10, 2, 0]);
        // Two no-operations and a timestamp.
        body[20..24].copy_from_slice(&[1, 1, 8, 10]);
    }
    // As the kernel hands it over: the field holds the sum over the pseudo-header.
    let addresses = if network == 20 { 12..20 } else { 8..40 };
    let sum = checksum::pseudo(&packet[addresses], protocol) + checksum::word((len - network) as u16);
    let field = network + usize::from(checksum_at);
    packet[field..field + 2].copy_from_slice(&checksum::fold(sum));
    let header = VirtioHeader {
        needs_checksum: true,
        gso,
        ecn: false,
        header_len: headers as u16,
        segment_size: payload as u16,
        checksum_start: network as u16,
        checksum_offset: checksum_at,
    };
    (header, packet)
}

/// The packets a super-packet stands for, `gap` bytes before each, and where each of them is: an arena as the
/// coalescer finds it.
///
/// # Panics
/// If the frame is not valid.
#[must_use]
pub fn burst(kind: Kind, segments: usize, gap: usize) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
    let (header, mut frame) = super_packet(kind, segments);
    let (mut arena, mut ranges) = (Vec::new(), Vec::new());
    for segment in split(&header, &mut frame).expect("a valid frame") {
        let at = arena.len() + gap;
        arena.resize(at + segment.len(), 0);
        segment.write_to(&mut arena[at..]);
        ranges.push(at..arena.len());
    }
    (arena, ranges)
}

#[cfg(test)]
mod tests {
    use span_tun::offload::Coalescer;

    use super::*;

    #[test]
    fn a_burst_is_one_frame_again() {
        for kind in [Kind::Tcp4, Kind::Tcp6, Kind::Udp4] {
            let (mut arena, ranges) = burst(kind, 40, 16);
            assert_eq!(ranges.len(), 40);
            assert!(ranges.iter().all(|range| range.len() == MTU));
            let mut coalescer = Coalescer::new(true);
            for range in ranges {
                coalescer.push(&arena, range);
            }
            let mut parts = Vec::new();
            coalescer
                .flush(&mut arena, &mut |_, frame| {
                    parts.push(frame.len());
                    Ok(())
                })
                .expect("this sink takes everything");
            assert_eq!(parts, [40], "{kind:?}");
        }
    }

    #[test]
    fn the_largest_super_packet_fits() {
        for kind in [Kind::Tcp4, Kind::Tcp6, Kind::Udp4] {
            let (header, mut frame) = super_packet(kind, if kind == Kind::Udp4 { 46 } else { SEGMENTS });
            assert!(split(&header, &mut frame).is_ok());
        }
    }
}
