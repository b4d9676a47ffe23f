//! Whatever arrives, the stack goes on.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use span_tun::device::{Device, MAX_FRAME};
use span_tun::netstack::{Netstack, NetstackDevice, TcpStream};
use span_tun::offload::{VirtioHeader, split};

use crate::link::{Time, addresses, config};

/// Everything the device has to say, cut into packets.
fn drain(device: &mut NetstackDevice) -> Vec<Vec<u8>> {
    let mut frame = vec![0; MAX_FRAME];
    let mut packets = Vec::new();
    while let Ok((header, len)) = device.recv(&mut frame) {
        for segment in split(&header, &mut frame[..len]).unwrap() {
            let mut packet = vec![0; segment.len()];
            segment.write_to(&mut packet);
            assert!(packet.len() <= 1420);
            packets.push(packet);
        }
    }
    packets
}

fn give(device: &mut NetstackDevice, header: &VirtioHeader, packet: &[u8]) {
    device.send(header, &[IoSlice::new(packet)]).unwrap();
}

/// Two stacks with an open connection and a UDP socket each.
struct Pair {
    stacks: [Netstack; 2],
    devices: [NetstackDevice; 2],
    streams: [TcpStream; 2],
    time: Time,
}

fn pair() -> Pair {
    let time = Time::default();
    time.set(span_core::time::Instant::from_secs(5));
    let make = |host| {
        let mut config = config(host);
        config.clock = time.clock();
        config.receive_buffer = 20_000;
        config.send_buffer = 20_000;
        Netstack::new(config).unwrap()
    };
    let ((a, left), (b, right)) = (make(1), make(2));
    let mut devices = [left, right];
    let listener = b.listen("[::]:80".parse().unwrap()).unwrap();
    let near = a.start_connect(SocketAddr::new(addresses(2)[1], 80)).unwrap();
    exchange(&mut devices);
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true);
    far.set_nonblocking(true);
    Pair { stacks: [a, b], devices, streams: [near, far], time }
}

/// Carries packets until there are none.
fn exchange(devices: &mut [NetstackDevice; 2]) {
    loop {
        let mut idle = true;
        for from in [0, 1] {
            for packet in drain(&mut devices[from]) {
                give(&mut devices[1 - from], &VirtioHeader::default(), &packet);
                idle = false;
            }
        }
        if idle {
            return;
        }
    }
}

/// One change to the packets of an honest peer.
#[derive(Clone, Debug)]
struct Change {
    packet: usize,
    at: usize,
    to: u8,
    cut: usize,
}

fn change() -> impl Strategy<Value = Change> {
    (0usize..30, 0usize..80, any::<u8>(), 0usize..1500).prop_map(|(packet, at, to, cut)| Change {
        packet,
        at,
        to,
        cut,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bytes_of_any_kind(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        families in prop::collection::vec(prop::bool::ANY, 20),
    ) {
        let mut pair = pair();
        for (mut frame, v6) in frames.into_iter().zip(families) {
            // As far as they would get: to this host, with lengths that are right.
            if v6 && frame.len() >= 40 {
                frame[0] = 0x60;
                let len = (frame.len() - 40) as u16;
                frame[4..6].copy_from_slice(&len.to_be_bytes());
                frame[6] = [6, 17, 58, 0][usize::from(frame[6] % 4)];
                frame[24..40].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            }
            let header = VirtioHeader { needs_checksum: true, ..VirtioHeader::default() };
            give(&mut pair.devices[1], &header, &frame);
            drain(&mut pair.devices[1]);
        }
    }

    #[test]
    fn packets_of_a_peer_with_bytes_changed(
        changes in prop::collection::vec(change(), 1..40),
        waits in prop::collection::vec(0u64..3000, 30),
    ) {
        let mut pair = pair();
        let mut buf = [0; 5000];
        let mut packet_count = 0;
        for wait in waits {
            for stream in &pair.streams {
                // A connection may be over by now.
                let _ = (&mut &*stream).write(&buf);
            }
            for from in [0, 1] {
                for mut packet in drain(&mut pair.devices[from]) {
                    let mut header = VirtioHeader::default();
                    for change in changes.iter().filter(|change| change.packet == packet_count) {
                        // What is changed is taken for right.
                        header.needs_checksum = true;
                        if let Some(byte) = packet.get_mut(change.at) {
                            *byte = change.to;
                        }
                        if change.cut < 40 {
                            packet.truncate(change.cut);
                        }
                    }
                    packet_count = (packet_count + 1) % 30;
                    give(&mut pair.devices[1 - from], &header, &packet);
                }
            }
            for stream in &pair.streams {
                match (&mut &*stream).read(&mut buf) {
                    Ok(read) => prop_assert!(read <= buf.len()),
                    Err(error) => prop_assert!(matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::ConnectionReset | ErrorKind::TimedOut
                    )),
                }
            }
            pair.time.set(pair.time.now() + Duration::from_millis(wait));
        }
        // Whatever happened, new connections open.
        drop(pair.streams);
        exchange(&mut pair.devices);
        let listener = pair.stacks[1].listen("[::]:0".parse().unwrap()).unwrap();
        let to = SocketAddr::new(addresses(2)[0], listener.local_addr().port());
        let stream = pair.stacks[0].start_connect(to).unwrap();
        exchange(&mut pair.devices);
        prop_assert!(stream.readiness().writable);
        prop_assert!(stream.take_error().is_none());
    }
}

#[test]
fn what_is_damaged_or_meant_for_others_is_counted() {
    let mut pair = pair();
    (&pair.streams[0]).write_all(b"hello").unwrap();
    let packets = drain(&mut pair.devices[0]);
    let mut damaged = packets[0].clone();
    *damaged.last_mut().unwrap() ^= 1;
    give(&mut pair.devices[1], &VirtioHeader::default(), &damaged);
    give(&mut pair.devices[0], &VirtioHeader::default(), &packets[0]);
    give(&mut pair.devices[1], &VirtioHeader::default(), &packets[0][..30]);
    let drops = pair.stacks[1].drops();
    assert_eq!((drops.damaged, drops.malformed), (1, 1));
    assert_eq!(pair.stacks[0].drops().misdirected, 1);
    assert_eq!(pair.devices[1].refused(), 2);
    assert_eq!((&pair.streams[1]).read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    give(&mut pair.devices[1], &VirtioHeader::default(), &packets[0]);
    assert_eq!((&pair.streams[1]).read(&mut [0; 9]).unwrap(), 5);
}
