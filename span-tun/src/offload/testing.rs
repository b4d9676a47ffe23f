//! Packets for tests, built byte by byte and checksummed by the letter of RFC 1071, independently of the code
//! under test.

use std::io::IoSlice;

use super::{Coalescer, VirtioHeader, split};

#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) v6: bool,
    pub(super) udp: bool,
    pub(super) flow: u8,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// Multiple of four.
    pub(super) tcp_options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Packet {
    pub(super) fn tcp(sequence: u32, payload: &[u8]) -> Self {
        Self {
            v6: false,
            udp: false,
            flow: 1,
            sequence,
            acknowledgement: 77,
            flags: 0x10,
            window: 512,
            id: 100,
            dont_fragment: true,
            ttl: 64,
            tos: 0,
            tcp_options: Vec::new(),
            payload: payload.to_vec(),
        }
    }

    pub(super) fn udp(id: u16, payload: &[u8]) -> Self {
        Self { udp: true, id, ..Self::tcp(0, payload) }
    }

    pub(super) fn transport_at(&self) -> usize {
        if self.v6 { 40 } else { 20 }
    }

    pub(super) fn headers(&self) -> usize {
        self.transport_at() + if self.udp { 8 } else { 20 + self.tcp_options.len() }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let protocol = if self.udp { 17 } else { 6 };
        let mut body = vec![0x10, self.flow, 0x20, 0x30];
        if self.udp {
            body.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            body.extend([0, 0]);
        } else {
            body.extend(self.sequence.to_be_bytes());
            body.extend(self.acknowledgement.to_be_bytes());
            body.extend([((20 + self.tcp_options.len()) as u8) << 2, self.flags]);
            body.extend(self.window.to_be_bytes());
            body.extend([0; 4]);
            body.extend(&self.tcp_options);
        }
        body.extend(&self.payload);
        let len = body.len() as u16;
        let mut packet;
        let mut pseudo = Vec::new();
        if self.v6 {
            packet = vec![0x60 | self.tos >> 4, self.tos << 4, 0, self.flow];
            packet.extend(len.to_be_bytes());
            packet.extend([protocol, self.ttl]);
            packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            pseudo.extend(&packet[8..40]);
        } else {
            packet = vec![0x45, self.tos];
            packet.extend((20 + len).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
            packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = internet_checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            pseudo.extend(&packet[12..20]);
        }
        pseudo.extend([0, protocol]);
        pseudo.extend(len.to_be_bytes());
        let field = if self.udp { 6 } else { 16 };
        let sum = match internet_checksum(&[&pseudo[..], &body[..]].concat()) {
            0 if self.udp => 0xffff,
            sum => sum,
        };
        body[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        packet.extend(body);
        packet
    }
}

/// RFC 1071, one word at a time.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Pushes packets as one burst and gives the frames that come out, gathered.
pub(super) fn coalesce(coalescer: &mut Coalescer, packets: &[Vec<u8>]) -> Vec<(VirtioHeader, Vec<u8>)> {
    // Gaps between the packets, as sealed datagrams leave them.
    let mut arena = Vec::new();
    let mut ranges = Vec::new();
    for packet in packets {
        arena.extend([0xee; 16]);
        ranges.push(arena.len()..arena.len() + packet.len());
        arena.extend(packet);
    }
    for range in ranges {
        coalescer.push(&arena, range);
    }
    let mut frames = Vec::new();
    coalescer
        .flush(&mut arena, &mut |header: &VirtioHeader, parts: &[IoSlice<'_>]| {
            frames.push((*header, parts.iter().flat_map(|part| part.to_vec()).collect()));
            Ok(())
        })
        .unwrap();
    assert!(coalescer.is_empty());
    frames
}

/// Cuts one frame into its packets.
pub(super) fn cut(header: &VirtioHeader, frame: &mut [u8]) -> Vec<Vec<u8>> {
    let segments = split(header, frame).unwrap();
    segments
        .map(|segment| {
            let mut slot = vec![0xcc; segment.len() + 5];
            segment.write_to(&mut slot);
            assert_eq!(slot[segment.len()..], [0xcc; 5], "wrote behind its end");
            slot.truncate(segment.len());
            slot
        })
        .collect()
}
