use proptest::prelude::*;

use crate::offload::testing::{Packet, cut, internet_checksum};
use crate::offload::{Gso, SplitError, VirtioHeader, split};

/// A super-packet as the kernel hands it out: the headers of the whole, the checksum field holding the folded
/// pseudo-header.
fn super_packet(whole: &Packet, step: u16, ecn: bool) -> (VirtioHeader, Vec<u8>) {
    let mut bytes = whole.bytes();
    let at = whole.transport_at();
    let offset = if whole.udp { 6 } else { 16 };
    let mut pseudo = bytes[if whole.v6 { 8..40 } else { 12..20 }].to_vec();
    pseudo.extend([0, if whole.udp { 17 } else { 6 }]);
    pseudo.extend(((bytes.len() - at) as u16).to_be_bytes());
    let partial = !internet_checksum(&pseudo);
    bytes[at + offset..at + offset + 2].copy_from_slice(&partial.to_be_bytes());
    let gso = match (whole.udp, whole.v6) {
        (true, _) => Gso::Udp,
        (false, false) => Gso::Tcp4,
        (false, true) => Gso::Tcp6,
    };
    let header = VirtioHeader {
        needs_checksum: true,
        gso,
        ecn,
        // What the kernel puts here is often the length of the first segment; it must not matter.
        header_len: 4711,
        segment_size: step,
        checksum_start: at as u16,
        checksum_offset: offset as u16,
    };
    (header, bytes)
}

/// What a sender without offloads would have sent.
fn expected(whole: &Packet, step: usize) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = whole.payload.chunks(step).collect();
    let last = pieces.len() - 1;
    let one = |(index, payload): (usize, &&[u8])| {
        let mut packet = whole.clone();
        packet.payload = payload.to_vec();
        packet.sequence = whole.sequence.wrapping_add((index * step) as u32);
        packet.id = whole.id.wrapping_add(index as u16);
        if index != 0 {
            packet.flags &= !0x80;
        }
        if index != last {
            packet.flags &= !0x09;
        }
        packet.bytes()
    };
    pieces.iter().enumerate().map(one).collect()
}

fn whole() -> impl Strategy<Value = Packet> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>(), any::<u8>(), any::<u8>());
    let kinds = (any::<bool>(), any::<bool>(), any::<bool>(), 0usize..11);
    (kinds, numbers, any::<u8>(), proptest::collection::vec(any::<u8>(), 1..9000)).prop_map(
        |(
            (v6, udp, dont_fragment, options),
            (sequence, acknowledgement, window, id, ttl, tos),
            flags,
            payload,
        )| {
            Packet {
                v6,
                udp,
                flow: 3,
                sequence,
                acknowledgement,
                flags,
                window,
                id,
                dont_fragment,
                ttl,
                tos,
                tcp_options: (0..options * 4).map(|i| i as u8).collect(),
                payload,
            }
        },
    )
}

proptest! {
    #[test]
    fn gives_what_a_sender_without_offloads_would_send(whole in whole(), step in 1u16..2000) {
        let (header, mut frame) = super_packet(&whole, step, whole.flags & 0x80 != 0);
        prop_assert_eq!(cut(&header, &mut frame), expected(&whole, step.into()));
    }

    #[test]
    fn knows_lengths_before_it_writes(whole in whole(), step in 1u16..2000) {
        let (header, mut frame) = super_packet(&whole, step, false);
        let segments = split(&header, &mut frame).unwrap();
        let stride = segments.stride();
        let count = segments.len();
        let lengths: Vec<usize> = segments.map(|segment| segment.len()).collect();
        prop_assert_eq!(lengths.len(), count);
        prop_assert!(lengths[..count - 1].iter().all(|len| *len == stride));
        prop_assert!(lengths[count - 1] <= stride);
    }

    #[test]
    fn completes_a_missing_checksum(whole in whole()) {
        let (header, mut frame) = super_packet(&whole, 1, false);
        let header = VirtioHeader { gso: Gso::None, segment_size: 0, ..header };
        let mut complete = whole.bytes();
        // For TCP, too, the kernel writes the other zero.
        let field = whole.transport_at() + usize::from(header.checksum_offset);
        if complete[field..field + 2] == [0, 0] {
            complete[field..field + 2].fill(0xff);
        }
        prop_assert_eq!(cut(&header, &mut frame), vec![complete]);
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        mut frame in proptest::collection::vec(any::<u8>(), 0..300),
        header: [u8; 10],
        gso in 0u8..4,
        likely: bool,
    ) {
        let mut header = header;
        header[1] = [0, 1, 4, 5][usize::from(gso)];
        if likely && frame.len() >= 60 {
            // Plausible enough to get past the first checks.
            frame[0] = if gso == 2 { 0x60 } else { 0x45 };
            frame[6] = if gso == 2 { 6 } else { 0x40 };
            frame[7] = 0;
            frame[9] = if gso == 3 { 17 } else { 6 };
            header[0] = 1;
            header[6..8].copy_from_slice(&(if gso == 2 { 40u16 } else { 20 }).to_ne_bytes());
            header[8..10].copy_from_slice(&(if gso == 3 { 6u16 } else { 16 }).to_ne_bytes());
        }
        let header = VirtioHeader::decode(&header).unwrap();
        if let Ok(segments) = split(&header, &mut frame) {
            let mut slot = vec![0; 70_000];
            for segment in segments {
                segment.write_to(&mut slot);
            }
        }
    }
}

#[test]
fn contradictions_are_named() {
    let whole = Packet::tcp(1, &[7; 3000]);
    let (good, frame) = super_packet(&whole, 1000, false);
    let refused = |header: VirtioHeader, frame: &[u8]| split(&header, &mut frame.to_vec()).err();
    assert_eq!(refused(good, &frame), None);
    assert_eq!(refused(VirtioHeader { segment_size: 0, ..good }, &frame), Some(SplitError::IncompleteHeader));
    assert_eq!(
        refused(VirtioHeader { needs_checksum: false, ..good }, &frame),
        Some(SplitError::IncompleteHeader)
    );
    for gso in [Gso::Tcp6, Gso::Udp] {
        assert_eq!(refused(VirtioHeader { gso, ..good }, &frame), Some(SplitError::WrongProtocol));
    }
    assert_eq!(refused(VirtioHeader { checksum_start: 24, ..good }, &frame), Some(SplitError::WrongProtocol));
    assert_eq!(refused(VirtioHeader { checksum_offset: 6, ..good }, &frame), Some(SplitError::WrongProtocol));
    assert_eq!(refused(good, &frame[..30]), Some(SplitError::Truncated));
    assert_eq!(refused(good, &[]), Some(SplitError::Truncated));
    let plain = VirtioHeader { gso: Gso::None, ..good };
    assert_eq!(refused(plain, &frame[..37]), Some(SplitError::ChecksumOutside));
    let mut fragment = frame.clone();
    fragment[6] = 0x20;
    assert_eq!(refused(good, &fragment), Some(SplitError::WrongProtocol));
    let huge = Packet::tcp(1, &[7; 65_000]);
    let (header, mut frame) = super_packet(&huge, 1000, false);
    frame.resize(65_700, 0);
    assert_eq!(refused(header, &frame), Some(SplitError::TooLong));
}

#[test]
fn extension_headers_are_carried_along() {
    let whole = Packet { v6: true, ..Packet::tcp(9, &[5; 100]) };
    let (header, frame) = super_packet(&whole, 40, false);
    // Eight bytes of destination options between the IP header and TCP.
    let mut extended = frame[..40].to_vec();
    extended[6] = 60;
    let len = u16::from_be_bytes([frame[4], frame[5]]) + 8;
    extended[4..6].copy_from_slice(&len.to_be_bytes());
    extended.extend([6, 0, 1, 4, 0, 0, 0, 0]);
    extended.extend(&frame[40..]);
    let header = VirtioHeader { checksum_start: 48, ..header };
    let segments = cut(&header, &mut extended);
    for (segment, plain) in segments.iter().zip(expected(&whole, 40)) {
        assert_eq!(segment[40..48], [6, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(u16::from_be_bytes([segment[4], segment[5]]) as usize, segment.len() - 40);
        assert_eq!(segment[48..], plain[40..], "the checksum does not cover extension headers");
    }
    assert_eq!(segments.len(), 3);
}
