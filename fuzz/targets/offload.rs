//! Packets of the host and of peers: cutting, merging, and ICMP errors about them.
//!
//! The first byte chooses. Either a frame as a device gives it, virtio header first, is cut; or a burst of
//! packets is merged, cut again, and must be what it was.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use span_tun::offload::packet::{self, Ip};
use span_tun::offload::{Coalescer, Gso, VirtioHeader, checksum, icmp, split};

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((choice, bytes)) if choice & 1 == 0 => cut(bytes),
        Some((choice, bytes)) => merge(bytes, choice & 2 != 0),
        None => {}
    }
});

fn cut(bytes: &[u8]) {
    let Some((header, packet)) = bytes.split_first_chunk::<{ VirtioHeader::LEN }>() else { return };
    let Ok(header) = VirtioHeader::decode(header) else { return };
    assert_eq!(VirtioHeader::decode(&header.encode()), Ok(header));
    answer(packet);

    let mut packet = packet.to_vec();
    let whole = packet.len();
    let Ok(segments) = split(&header, &mut packet) else { return };
    let (stride, count) = (segments.stride(), segments.len());
    let mut total = 0;
    for (at, segment) in segments.enumerate() {
        assert!(segment.len() <= stride && (at + 1 == count || segment.len() == stride), "{at} of {count}");
        // One byte more than it may touch.
        let mut slot = vec![0x5a; segment.len() + 1];
        segment.write_to(&mut slot);
        assert_eq!(slot.pop(), Some(0x5a));
        total += segment.len();
        if header.gso != Gso::None {
            let Some(ip) = Ip::parse(&slot) else { panic!("a segment is an IP packet") };
            assert_eq!(ip.total_len(), slot.len());
        }
    }
    assert!(total >= whole, "{total} of {whole} bytes written");
}

/// An ICMP error about a packet is a whole packet, and there is none about an error.
fn answer(packet: &[u8]) {
    let mut out = [0; icmp::MAX_LEN];
    for len in [
        icmp::unreachable(packet, icmp::Unreachable::Host, None, &mut out),
        icmp::too_big(packet, 1280, None, &mut out),
    ]
    .into_iter()
    .flatten()
    {
        let error = out[..len].to_vec();
        let Some(ip) = Ip::parse(&error) else { panic!("an error is an IP packet") };
        assert_eq!(ip.total_len(), len);
        assert_eq!(packet::destination(&error), packet::source(packet));
        assert_eq!(icmp::unreachable(&error, icmp::Unreachable::Host, None, &mut out), None);
    }
}

fn merge(mut bytes: &[u8], udp: bool) {
    let mut coalescer = Coalescer::new(udp);
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    let mut flows = Flows::default();
    while let Some((packet, rest)) = next_packet(bytes, &mut flows) {
        bytes = rest;
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
    }
    for range in &ranges {
        coalescer.push(&arena, range.clone());
    }
    let pushed: Vec<Vec<u8>> = ranges.iter().map(|range| arena[range.clone()].to_vec()).collect();

    let mut came = Vec::new();
    let outcome = coalescer.flush(&mut arena, &mut |header, parts| {
        let mut frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        assert!(frame.len() <= usize::from(u16::MAX));
        let segments = split(header, &mut frame).expect("a frame made here can be cut here");
        for segment in segments {
            let mut slot = vec![0; segment.len()];
            segment.write_to(&mut slot);
            came.push(slot);
        }
        Ok(())
    });
    assert!(outcome.is_ok() && coalescer.is_empty());
    assert_eq!(came.len(), pushed.len(), "packets lost or made");
    assert_eq!(by_flow(&came), by_flow(&pushed));
}

/// The packets of each flow in order, without what means nothing.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows = BTreeMap::<_, Vec<_>>::new();
    for packet in packets {
        let mut packet = packet.clone();
        let flow = match Ip::parse(&packet) {
            Some(Ip::V4(ip)) => {
                let fixed = ip.dont_fragment() && ip.header_len() == 20 && !ip.is_fragment();
                let key = [&[4, ip.protocol()], packet.get(12..24).unwrap_or_default()].concat();
                if fixed {
                    // RFC 6864: the identification of what may not be fragmented means nothing.
                    packet[4..6].fill(0);
                    packet[10..12].fill(0);
                }
                key
            }
            Some(Ip::V6(ip)) => [&[6, ip.next_header()], packet.get(8..44).unwrap_or_default()].concat(),
            None => vec![0],
        };
        flows.entry(flow).or_default().push(packet);
    }
    flows
}

/// Where each of the made-up flows is in its sequence.
#[derive(Default)]
struct Flows {
    sequence: [u32; 4],
    id: u16,
}

/// One packet from the input: raw bytes, or a segment of one of four flows with a few things wrong at will.
fn next_packet<'a>(bytes: &'a [u8], flows: &mut Flows) -> Option<(Vec<u8>, &'a [u8])> {
    let (&[kind, oddity, len], rest) = bytes.split_first_chunk::<3>()?;
    if kind & 7 == 7 {
        let (raw, rest) = rest.split_at(usize::from(len).min(rest.len()));
        return Some((raw.to_vec(), rest));
    }
    let flow = usize::from(kind & 1);
    let (tcp, v6) = (kind & 2 == 0, kind & 4 != 0);
    let payload = vec![kind ^ oddity; usize::from(len) * if kind & 8 == 0 { 1 } else { 6 }];
    let position = &mut flows.sequence[flow * 2 + usize::from(v6)];
    let port = [0x1f, 0x90 + kind % 2];
    let mut transport = if tcp {
        let flags = if oddity & 7 == 0 { 0x10 } else { 0x10 | oddity >> 3 };
        let mut header =
            [&port[..], &[0, 80], &position.to_be_bytes(), &[0, 0, 0, 9, 0x50, flags, 1, 0, 0, 0, 0, 0]]
                .concat();
        *position = position
            .wrapping_add(u32::try_from(payload.len()).unwrap_or(0))
            .wrapping_add(u32::from(oddity & 7 == 3));
        header.extend(payload);
        header
    } else {
        let total = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
        [&port[..], &[0, 80], &total.to_be_bytes(), &[0, 0], &payload].concat()
    };
    let protocol = if tcp { 6 } else { 17 };
    let total = transport.len();
    let (mut header, addresses) = if v6 {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        header[4..6].copy_from_slice(&u16::try_from(total).unwrap_or(u16::MAX).to_be_bytes());
        header.extend([0xfd; 16]);
        header.extend([0xfe; 16]);
        (header, 8..40)
    } else {
        flows.id = flows.id.wrapping_add(if oddity & 7 == 4 { 5 } else { 1 });
        let mut header = vec![
            0x45,
            0,
            0,
            0,
            0,
            0,
            if oddity & 8 == 0 { 0x40 } else { 0 },
            0,
            64,
            protocol,
            0,
            0,
            10,
            0,
            0,
            1,
            10,
            0,
            0,
            2,
        ];
        header[2..4].copy_from_slice(&u16::try_from(20 + total).unwrap_or(u16::MAX).to_be_bytes());
        header[4..6].copy_from_slice(&flows.id.to_be_bytes());
        let sum = checksum::finish(checksum::add(0, &header));
        header[10..12].copy_from_slice(&sum);
        (header, 12..20)
    };
    let length = u16::try_from(total).unwrap_or(u16::MAX);
    let sum =
        checksum::add(checksum::pseudo(&header[addresses], protocol) + checksum::word(length), &transport);
    let at = if tcp { 16 } else { 6 };
    let sum = if tcp { checksum::finish(sum) } else { checksum::finish_nonzero(sum) };
    transport[at..at + 2].copy_from_slice(&sum);
    if oddity & 7 == 5 {
        transport[at] ^= 1;
    }
    header.extend(transport);
    Some((header, rest))
}
