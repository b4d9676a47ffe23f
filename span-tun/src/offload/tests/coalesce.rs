use std::io::{self, IoSlice};

use proptest::prelude::*;

use crate::offload::testing::{Packet, coalesce, cut, internet_checksum};
use crate::offload::{Coalescer, Gso, MAX_PARTS, VirtioHeader};

/// A burst of one flow as segmentation makes it.
fn burst(first: &Packet, count: usize, step: usize) -> Vec<Packet> {
    let one = |index: usize| Packet {
        sequence: first.sequence.wrapping_add((index * step) as u32),
        id: first.id.wrapping_add(index as u16),
        payload: (0..step).map(|i| (i * 7 + index) as u8).collect(),
        ..first.clone()
    };
    (0..count).map(one).collect()
}

fn bytes(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(Packet::bytes).collect()
}

/// How many packets each frame that comes out was made from.
fn merged(packets: &[Vec<u8>]) -> Vec<usize> {
    let mut frames = coalesce(&mut Coalescer::new(true), packets);
    frames.iter_mut().map(|(header, frame)| cut(header, frame).len()).collect()
}

#[test]
fn a_burst_becomes_one_super_packet() {
    for (v6, udp) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut packets = burst(&Packet { v6, udp, ..Packet::tcp(u32::MAX - 2000, &[]) }, 40, 1000);
        packets[39].payload.truncate(7);
        let input = bytes(&packets);
        let mut frames = coalesce(&mut Coalescer::new(true), &input);
        assert_eq!(frames.len(), 1);
        let (header, frame) = &mut frames[0];
        let gso = if udp {
            Gso::Udp
        } else if v6 {
            Gso::Tcp6
        } else {
            Gso::Tcp4
        };
        assert_eq!(
            *header,
            VirtioHeader {
                needs_checksum: true,
                gso,
                ecn: false,
                header_len: packets[0].headers() as u16,
                segment_size: 1000,
                checksum_start: packets[0].transport_at() as u16,
                checksum_offset: if udp { 6 } else { 16 },
            }
        );
        let restored = cut(header, frame);
        assert_eq!(restored, input);
    }
}

#[test]
fn psh_and_fin_end_a_frame_and_cwr_begins_one() {
    let mut packets = burst(&Packet::tcp(1, &[]), 6, 100);
    packets[2].flags |= 0x08;
    packets[3].flags |= 0x80;
    packets[5].flags |= 0x01;
    let input = bytes(&packets);
    let mut frames = coalesce(&mut Coalescer::new(true), &input);
    assert_eq!(frames.len(), 2);
    assert!(!frames[0].0.ecn && frames[1].0.ecn);
    let restored: Vec<_> = frames.iter_mut().flat_map(|(header, frame)| cut(header, frame)).collect();
    assert_eq!(restored, input);
}

#[test]
fn what_differs_stays_apart() {
    type Change = fn(&mut Packet);
    let changes: [(&str, Change); 14] = [
        ("a gap", |packet| packet.sequence += 1),
        ("another acknowledgement", |packet| packet.acknowledgement += 1),
        ("another window", |packet| packet.window += 1),
        ("a time to live", |packet| packet.ttl -= 1),
        ("a congestion mark", |packet| packet.tos = 3),
        ("fragmentation allowed", |packet| packet.dont_fragment = false),
        ("another identification", |packet| packet.id += 9),
        ("SYN", |packet| packet.flags |= 0x02),
        ("RST", |packet| packet.flags |= 0x04),
        ("URG", |packet| packet.flags |= 0x20),
        ("ECE", |packet| packet.flags |= 0x40),
        ("no ACK", |packet| packet.flags = 0),
        ("options", |packet| packet.tcp_options = vec![1; 4]),
        ("more payload", |packet| packet.payload.push(0)),
    ];
    for (what, change) in changes {
        let mut packets = burst(&Packet::tcp(1, &[]), 2, 100);
        change(&mut packets[1]);
        assert_eq!(merged(&bytes(&packets)), [1, 1], "{what}");
    }
    let mut labels = burst(&Packet { v6: true, ..Packet::tcp(1, &[]) }, 2, 100);
    labels[1].tos = 1;
    assert_eq!(merged(&bytes(&labels)), [1, 1], "another ECN codepoint in IPv6");
    let label = |packet: &mut Vec<u8>| packet[3] ^= 0x40;
    let mut packets = bytes(&burst(&Packet { v6: true, ..Packet::tcp(1, &[]) }, 2, 100));
    label(&mut packets[1]);
    assert_eq!(merged(&packets), [1, 1], "another flow label");
}

#[test]
fn a_damaged_packet_goes_on_as_it_came() {
    for at in [11, 36, 45] {
        for damaged in 0..3 {
            let mut input = bytes(&burst(&Packet::tcp(1, &[]), 3, 100));
            input[damaged][at] ^= 0x10;
            let mut frames = coalesce(&mut Coalescer::new(true), &input);
            let restored: Vec<_> = frames.iter_mut().flat_map(|(header, frame)| cut(header, frame)).collect();
            assert_eq!(restored, input, "byte {at} of packet {damaged}");
            let expected: &[usize] = [&[1, 2][..], &[1, 1, 1], &[2, 1]][damaged];
            assert_eq!(merged(&input), expected, "byte {at} of packet {damaged}");
        }
    }
}

#[test]
fn identifications_that_mean_nothing_may_be_constant() {
    let mut packets = burst(&Packet { id: 0, ..Packet::tcp(1, &[]) }, 3, 100);
    packets.iter_mut().for_each(|packet| packet.id = 0);
    assert_eq!(merged(&bytes(&packets)), [3]);
    packets.iter_mut().for_each(|packet| packet.dont_fragment = false);
    assert_eq!(merged(&bytes(&packets)), [1, 1, 1]);
}

#[test]
fn nothing_overtakes_within_a_flow() {
    // Data, a bare acknowledgement of the same flow, and the data that would have fitted before it.
    let data = burst(&Packet::tcp(1, &[]), 2, 100);
    let bare = Packet { id: 50, ..Packet::tcp(101, &[]) };
    assert_eq!(merged(&bytes(&[data[0].clone(), bare, data[1].clone()])), [1, 1, 1]);
    // What cannot be told to belong to another flow is a barrier as well.
    let mut fragment = data[0].bytes();
    fragment[6] = 0x20;
    let mut optioned = data[0].bytes();
    optioned.splice(20..20, [1; 4]);
    optioned[0] = 0x46;
    optioned[3] += 4;
    for unclear in [fragment, optioned] {
        assert_eq!(merged(&[data[0].bytes(), unclear, data[1].bytes()]), [1, 1, 1]);
    }
    // Another protocol is none.
    let mut icmp = data[0].bytes();
    icmp[9] = 1;
    assert_eq!(merged(&[data[0].bytes(), icmp, data[1].bytes()]), [2, 1]);
}

#[test]
fn flows_are_merged_side_by_side() {
    let flows: Vec<_> =
        (0..10).map(|flow| bytes(&burst(&Packet { flow, ..Packet::tcp(1, &[]) }, 5, 50))).collect();
    let mixed: Vec<_> = (0..5).flat_map(|nth| flows.iter().map(move |flow| flow[nth].clone())).collect();
    assert_eq!(merged(&mixed), [5; 10]);
    // More flows than can be kept open still come out whole and in order.
    let many: Vec<_> =
        (0..40).map(|flow| bytes(&burst(&Packet { flow, ..Packet::tcp(1, &[]) }, 2, 50))).collect();
    let mixed: Vec<_> = (0..2).flat_map(|nth| many.iter().map(move |flow| flow[nth].clone())).collect();
    assert_eq!(merged(&mixed).iter().sum::<usize>(), 80);
}

#[test]
fn limits_hold() {
    let tiny = burst(&Packet::tcp(1, &[]), MAX_PARTS + 1, 1);
    assert_eq!(merged(&bytes(&tiny)), [MAX_PARTS, 1]);
    let datagrams = burst(&Packet { udp: true, ..Packet::tcp(1, &[]) }, 65, 1);
    assert_eq!(merged(&bytes(&datagrams)), [64, 1]);
    let large = burst(&Packet::tcp(1, &[]), 8, 9000);
    assert_eq!(merged(&bytes(&large)), [7, 1]);
    let jumbo = burst(&Packet { v6: true, ..Packet::tcp(1, &[]) }, 2, 40_000);
    assert_eq!(merged(&bytes(&jumbo)), [1, 1]);
}

#[test]
fn udp_waits_for_the_device() {
    let input = bytes(&burst(&Packet::udp(1, &[]), 4, 100));
    let frames = coalesce(&mut Coalescer::new(false), &input);
    assert_eq!(frames.len(), 4);
    assert!(frames.iter().all(|(header, _)| *header == VirtioHeader::default()));
    // Without a checksum there is nothing to restore it from.
    let mut bare = input.clone();
    bare.iter_mut().for_each(|packet| packet[26..28].fill(0));
    assert_eq!(merged(&bare), [1; 4]);
    let empty = bytes(&burst(&Packet::udp(1, &[]), 3, 0));
    assert_eq!(merged(&empty), [1; 3]);
}

#[test]
fn a_sink_that_fails_leaves_nothing_behind() {
    let mut arena = Packet::tcp(1, &[1; 10]).bytes();
    let mut coalescer = Coalescer::new(true);
    let all = 0..arena.len();
    coalescer.push(&arena, all.clone());
    coalescer.push(&arena, all);
    let mut calls = 0;
    let outcome = coalescer.flush(&mut arena, &mut |_: &VirtioHeader, _: &[IoSlice<'_>]| {
        calls += 1;
        Err(io::ErrorKind::NotConnected.into())
    });
    assert_eq!((outcome.unwrap_err().kind(), calls), (io::ErrorKind::NotConnected, 1));
    assert!(coalescer.is_empty());
}

/// A packet of a flow in a burst: mostly the expected next one, now and then something else.
#[derive(Clone, Debug)]
enum Step {
    Next { flow: u8, len: usize, flags: u8 },
    Odd { flow: u8, what: u8, at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..20, prop_oneof![9 => Just(60usize), 1 => 0usize..61], prop_oneof![9 => Just(0x10u8), 1 => any::<u8>()])
            .prop_map(|(flow, len, flags)| Step::Next { flow, len, flags }),
        1 => (0u8..20, any::<u8>(), 0usize..100).prop_map(|(flow, what, at)| Step::Odd { flow, what, at }),
    ]
}

fn packets(steps: &[Step], kinds: u32) -> Vec<Vec<u8>> {
    let mut flows: Vec<Packet> = (0..20u8)
        .map(|flow| Packet {
            flow,
            v6: kinds >> flow & 1 != 0,
            udp: flow % 3 == 0,
            dont_fragment: flow % 2 == 0,
            ..Packet::tcp(u32::from(flow) * 1000, &[])
        })
        .collect();
    let mut out = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Next { flow, len, flags } => {
                let state = &mut flows[usize::from(flow)];
                let flags = if state.udp { 0x10 } else { flags };
                out.push(Packet { payload: vec![number as u8; len], flags, ..state.clone() }.bytes());
                state.sequence = state.sequence.wrapping_add(len as u32);
                state.id = state.id.wrapping_add(1);
            }
            Step::Odd { flow, what, at } => {
                let mut packet = Packet { payload: vec![9; 60], ..flows[usize::from(flow)].clone() }.bytes();
                let at = at % packet.len();
                packet[at] ^= what;
                out.push(packet);
            }
        }
    }
    out
}

/// What tells flows apart when order is judged: version, protocol, addresses and ports.
fn flow_of(packet: &[u8]) -> (u8, u8, Vec<u8>) {
    let (protocol, range) = if packet[0] >> 4 == 6 { (6, 8..44) } else { (9, 12..24) };
    (packet[0] >> 4, packet[protocol], packet[range].to_vec())
}

/// The same packet without the identification where it means nothing, which may have been renumbered. A damaged
/// header is compared as it is.
fn meant(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let plain = packet[0] == 0x45 && packet[6] == 0x40 && packet[7] == 0;
    if plain && internet_checksum(&packet[..20]) == 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn merging_and_cutting_gives_every_flow_back(steps in proptest::collection::vec(step(), 1..200), kinds: u32) {
        let input = packets(&steps, kinds);
        let mut coalescer = Coalescer::new(true);
        for _ in 0..2 {
            let mut frames = coalesce(&mut coalescer, &input);
            let output = frames.iter_mut().flat_map(|(header, frame)| cut(header, frame));
            let output: Vec<_> = output.map(|packet| meant(&packet)).collect();
            let input: Vec<_> = input.iter().map(|packet| meant(packet)).collect();
            let mut sorted = (input.clone(), output.clone());
            sorted.0.sort();
            sorted.1.sort();
            prop_assert_eq!(sorted.0, sorted.1, "packets were lost, made up or changed");
            let ports: std::collections::BTreeSet<_> = input.iter().map(|packet| flow_of(packet)).collect();
            for flow in ports {
                let of = |packets: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    packets.iter().filter(|packet| flow_of(packet) == flow).cloned().collect()
                };
                prop_assert_eq!(of(&input), of(&output), "a flow was reordered");
            }
        }
    }

    #[test]
    fn frames_leave_in_the_order_of_their_first_packets(
        steps in proptest::collection::vec(step(), 1..100),
        kinds: u32,
    ) {
        let input = packets(&steps, kinds);
        let mut frames = coalesce(&mut Coalescer::new(true), &input);
        let mut from = vec![false; input.len()];
        let mut last = 0;
        for (header, frame) in &mut frames {
            let first = cut(header, frame).swap_remove(0);
            let at = (0..input.len()).find(|at| !from[*at] && input[*at] == first).unwrap();
            prop_assert!(at >= last, "frame of packet {} after that of packet {}", at, last);
            from[at] = true;
            last = at;
        }
    }

    #[test]
    fn garbage_never_panics(packets in proptest::collection::vec(
        (proptest::collection::vec(any::<u8>(), 0..120), 0u8..6), 0..20)
    ) {
        let packets: Vec<_> = packets
            .into_iter()
            .map(|(mut packet, kind)| {
                if packet.len() > 10 {
                    packet[0] = [packet[0], 0x45, 0x45, 0x60, 0x60, 0x4f][usize::from(kind)];
                    match kind {
                        1 | 2 => { packet[6] = 0x40; packet[7] = 0; packet[9] = 17 - 11 * (kind - 1); }
                        3 | 4 => packet[6] = 17 - 11 * (kind - 3),
                        _ => {}
                    }
                    let len = packet.len();
                    if kind < 3 { packet[2..4].copy_from_slice(&(len as u16).to_be_bytes()); }
                    if (3..5).contains(&kind) {
                        packet[4..6].copy_from_slice(&(len.saturating_sub(40) as u16).to_be_bytes());
                    }
                }
                packet
            })
            .collect();
        let frames = coalesce(&mut Coalescer::new(true), &packets);
        let bytes: usize = frames.iter().map(|(_, frame)| frame.len()).sum();
        prop_assert!(bytes <= packets.iter().map(Vec::len).sum());
    }
}
