//! Real TUN interfaces in network namespaces, with the kernel on both sides. Needs root; see `span_tests::ready`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should not")]

use std::io::{self, ErrorKind, IoSlice};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use span_tests::{Namespace, eventually, holds, ready};
use span_tun::device::{Device, MAX_FRAME, OpenError, Tun};
use span_tun::offload::{Coalescer, Gso, VirtioHeader, split};

const MTU: u16 = 1420;
const SOON: Duration = Duration::from_secs(10);

/// What went from one TUN to the other.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    tcp_super_packets_in: u64,
    udp_super_packets_in: u64,
    super_packets_out: u64,
    packets: u64,
    oversize: u64,
    malformed: u64,
}

/// Carries frames from one TUN to another as the packet loop does, until told to stop: cut, written to slots of
/// one arena, merged, sent.
fn carry(
    from: BorrowedFd<'_>,
    mut recv: impl FnMut(&mut [u8]) -> io::Result<(VirtioHeader, usize)>,
    mut send: impl FnMut(&VirtioHeader, &[IoSlice<'_>]) -> io::Result<()>,
    stop: &AtomicBool,
) -> Seen {
    let mut seen = Seen::default();
    let mut frame = vec![0; MAX_FRAME];
    let mut arena = vec![0; 4 * MAX_FRAME];
    let mut coalescer = Coalescer::new(true);
    while !stop.load(Ordering::Relaxed) {
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        poll(&mut [PollFd::from_borrowed_fd(from, PollFlags::IN)], Some(&wait)).unwrap();
        let mut at = 0;
        while at < MAX_FRAME {
            let (header, len) = match recv(&mut frame) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            };
            match header.gso {
                Gso::None => {}
                Gso::Tcp4 | Gso::Tcp6 => seen.tcp_super_packets_in += 1,
                Gso::Udp => seen.udp_super_packets_in += 1,
            }
            let Ok(segments) = split(&header, &mut frame[..len]) else {
                seen.malformed += 1;
                continue;
            };
            for segment in segments {
                at += 32;
                seen.packets += 1;
                seen.oversize += u64::from(segment.len() > usize::from(MTU));
                segment.write_to(&mut arena[at..]);
                coalescer.push(&arena, at..at + segment.len());
                at += segment.len();
            }
        }
        let sink = &mut |header: &VirtioHeader, parts: &[IoSlice<'_>]| {
            seen.super_packets_out += u64::from(header.gso != Gso::None);
            send(header, parts)
        };
        coalescer.flush(&mut arena, sink).unwrap();
    }
    seen
}

/// Two namespaces joined by nothing but two TUNs and this process.
struct Joined {
    a: Namespace,
    b: Namespace,
    stop: AtomicBool,
}

fn tun(namespace: &Namespace, name: &str) -> Tun {
    namespace.inside(|| Tun::builder(name).mtu(MTU).open().unwrap())
}

impl Joined {
    /// Runs `work` while packets flow, and says what flowed from `a` to `b`.
    fn run(work: impl FnOnce(&Namespace, &Namespace)) -> Seen {
        let joined = Self { a: Namespace::new("a"), b: Namespace::new("b"), stop: AtomicBool::new(false) };
        let tuns = (tun(&joined.a, "tun0"), tun(&joined.b, "tun0"));
        for (namespace, host) in [(&joined.a, 1), (&joined.b, 2)] {
            namespace.ip(&format!(
                "addr add 10.9.0.{host}/24 dev tun0\naddr add fd09::{host}/64 dev tun0 nodad\nlink set tun0 up\n"
            ));
        }
        assert!(tuns.0.accepts_udp_segmentation(), "this kernel has USO");
        std::thread::scope(|scope| {
            // Each direction reads one descriptor and writes the other, so a second handle on each is enough.
            let again = |tun: &Tun| Tun::from_fd(tun.as_fd().try_clone_to_owned().unwrap()).unwrap();
            let (mut a_out, mut b_out) = (again(&tuns.0), again(&tuns.1));
            assert_eq!((a_out.name(), a_out.mtu()), ("tun0", MTU), "found from outside its namespace");
            let (mut a, mut b) = tuns;
            let stop = &joined.stop;
            let forth = scope.spawn(move || {
                let poll_on = a.as_fd().try_clone_to_owned().unwrap();
                carry(poll_on.as_fd(), |buf| a.recv(buf), |header, parts| b_out.send(header, parts), stop)
            });
            let back = scope.spawn(move || {
                let poll_on = b.as_fd().try_clone_to_owned().unwrap();
                carry(poll_on.as_fd(), |buf| b.recv(buf), |header, parts| a_out.send(header, parts), stop)
            });
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&joined.a, &joined.b)));
            stop.store(true, Ordering::Relaxed);
            let (forth, _) = (forth.join().unwrap(), back.join().unwrap());
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            forth
        })
    }
}

/// Gbit/s of one TCP stream of three seconds.
fn iperf(a: &Namespace, b: &Namespace, address: &str) -> f64 {
    let _server = b.spawn("iperf3", ["-s", "-1"]);
    eventually(SOON, "iperf3 listens", || holds(b.run("ss -Hltn").contains(":5201")));
    let said = a.run(&format!("iperf3 -c {address} -t 3 -J"));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
}

#[test]
fn tcp_flows_in_super_packets_both_ways() {
    if !ready() {
        return;
    }
    for address in ["10.9.0.2", "fd09::2"] {
        let seen = Joined::run(|a, b| {
            eventually(SOON, "an answer", || a.attempt(&format!("ping -c 1 -W 1 {address}")).ok());
            let rate = iperf(a, b, address);
            println!("{address}: {rate:.2} Gbit/s");
            assert!(rate > 0.05, "{rate}");
        });
        println!("{seen:?}");
        assert!(seen.tcp_super_packets_in > 100 && seen.super_packets_out > 100, "{seen:?}");
        assert_eq!((seen.oversize, seen.malformed), (0, 0), "{seen:?}");
    }
}

#[test]
fn udp_super_packets_arrive_as_the_datagrams_they_were() {
    if !ready() {
        return;
    }
    for address in ["10.9.0.2", "[fd09::2]"] {
        let seen = Joined::run(|a, b| {
            // The kernel makes IPv6 addresses usable a moment after it has them.
            let host = address.trim_matches(['[', ']']);
            eventually(SOON, "an answer", || a.attempt(&format!("ping -c 1 -W 1 {host}")).ok());
            let receiver = b.inside(|| UdpSocket::bind(format!("{address}:7000")).unwrap());
            receiver.set_read_timeout(Some(SOON)).unwrap();
            let sender = a.inside(|| {
                let socket =
                    UdpSocket::bind(if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
                socket.connect(format!("{address}:7000")).unwrap();
                socket
            });
            setsockopt(&sender, sockopt::UdpGsoSegment, &1000).unwrap();
            let sent: Vec<u8> = (0..20_500u32).map(|i| (i / 3) as u8).collect();
            for _ in 0..10 {
                sender.send(&sent).unwrap();
                // A socket without UDP_GRO must see single datagrams, whatever crossed the TUN.
                for expected in sent.chunks(1000) {
                    let mut datagram = [0; 2000];
                    let len = receiver.recv(&mut datagram).unwrap();
                    assert_eq!(&datagram[..len], expected);
                }
            }
        });
        println!("{seen:?}");
        assert!(seen.udp_super_packets_in >= 10 && seen.super_packets_out >= 10, "{seen:?}");
        assert_eq!((seen.oversize, seen.malformed), (0, 0), "{seen:?}");
    }
}

/// The kernel as the second opinion: a super-packet goes in at one TUN, is routed, and comes out of a TUN that
/// cannot segment, so the kernel cuts it itself. Our own cut of the same super-packet must be the same but for
/// what routing changes.
#[test]
fn the_kernel_cuts_as_we_do() {
    if !ready() {
        return;
    }
    let router = Namespace::new("router");
    let mut inner = tun(&router, "tun0");
    let outer = router.inside(|| tun_rs::DeviceBuilder::new().name("plain0").mtu(MTU).build_sync().unwrap());
    outer.set_nonblocking(true).unwrap();
    router.ip("addr add 10.1.0.1/24 dev tun0\naddr add fd01::1/64 dev tun0 nodad\nlink set tun0 up\n\
         addr add 10.2.0.1/24 dev plain0\naddr add fd02::1/64 dev plain0 nodad\nlink set plain0 up\n");
    router
        .run("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0");

    for (v6, udp, flags) in [(false, false, 0x99), (true, false, 0x18), (false, true, 0), (true, true, 0)] {
        let (header, mut frame) = super_packet(v6, udp, flags);
        inner.send(&header, &[IoSlice::new(&frame)]).unwrap();
        assert_eq!(inner.refused(), 0);
        let mut expected: Vec<Vec<u8>> = split(&header, &mut frame)
            .unwrap()
            .map(|segment| {
                let mut packet = vec![0; segment.len()];
                segment.write_to(&mut packet);
                packet
            })
            .collect();
        expected.iter_mut().for_each(|packet| routed(packet));
        for (nth, expected) in expected.iter().enumerate() {
            let packet = eventually(SOON, "the kernel forwards", || {
                let mut packet = vec![0; 2000];
                let len = outer.recv(&mut packet).ok()?;
                packet.truncate(len);
                // Router advertisements and the like of the kernel itself.
                (packet[if v6 { 39 } else { 19 }] == 77).then_some(packet)
            });
            assert_eq!(packet, *expected, "segment {nth}, IPv6 {v6}, UDP {udp}");
        }
    }
}

/// What a hop does to a packet.
fn routed(packet: &mut [u8]) {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return;
    }
    packet[8] -= 1;
    packet[10..12].fill(0);
    let sum = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// A super-packet to host 77 behind the router, merged by the coalescer from packets it can trust.
fn super_packet(v6: bool, udp: bool, flags: u8) -> (VirtioHeader, Vec<u8>) {
    let payload: Vec<u8> = (0..5000u32).map(|i| (i * i / 7) as u8).collect();
    let at = if v6 { 40 } else { 20 };
    let headers = at + if udp { 8 } else { 32 };
    let mut frame = vec![0; headers];
    frame.extend(&payload);
    let body = (frame.len() - at) as u16;
    let protocol = if udp { 17 } else { 6 };
    if v6 {
        frame[0] = 0x60;
        frame[4..6].copy_from_slice(&body.to_be_bytes());
        frame[6..8].copy_from_slice(&[protocol, 64]);
        frame[8..10].copy_from_slice(&[0xfd, 1]);
        frame[23] = 9;
        frame[24..26].copy_from_slice(&[0xfd, 2]);
        frame[39] = 77;
    } else {
        frame[0] = 0x45;
        let len = frame.len() as u16;
        frame[2..4].copy_from_slice(&len.to_be_bytes());
        frame[4..10].copy_from_slice(&[0xff, 0xfe, 0x40, 0, 64, protocol]);
        frame[12..20].copy_from_slice(&[10, 1, 0, 9, 10, 2, 0, 77]);
        // The one field the router checks: the header checksum, undone and redone as a hop would.
        frame[8] += 1;
        routed(&mut frame);
    }
    frame[at..at + 4].copy_from_slice(&[0x30, 0x39, 0x1b, 0x58]);
    if udp {
        frame[at + 4..at + 6].copy_from_slice(&body.to_be_bytes());
    } else {
        frame[at + 4..at + 8].copy_from_slice(&0xffff_f000u32.to_be_bytes());
        frame[at + 12..at + 14].copy_from_slice(&[0x80, flags | 0x10]);
        frame[at + 20..at + 32].copy_from_slice(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    let offset = if udp { 6 } else { 16 };
    let addresses = &frame[if v6 { 8..40 } else { 12..20 }];
    let sum: u32 = addresses.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = sum + u32::from(protocol) + u32::from(body);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = ((sum & 0xffff) + (sum >> 16)) as u16;
    frame[at + offset..at + offset + 2].copy_from_slice(&sum.to_be_bytes());
    let header = VirtioHeader {
        needs_checksum: true,
        gso: if udp {
            Gso::Udp
        } else if v6 {
            Gso::Tcp6
        } else {
            Gso::Tcp4
        },
        ecn: flags & 0x80 != 0,
        header_len: headers as u16,
        segment_size: 1200,
        checksum_start: at as u16,
        checksum_offset: offset as u16,
    };
    (header, frame)
}

#[test]
fn names_are_chosen_and_refused() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("names");
    let open = |name: &str| namespace.inside(|| Tun::builder(name).open());
    let (first, second) = (open("wg%d").unwrap(), open("wg%d").unwrap());
    assert_eq!((first.name(), second.name()), ("wg0", "wg1"));
    assert_eq!(first.mtu(), 1500);
    let error = open("wg0").unwrap_err();
    assert!(matches!(&error, OpenError::InUse { name } if name == "wg0"), "{error}");
    namespace.ip("link add br7 type bridge\ntuntap add mode tap tap7\ntuntap add mode tun ours vnet_hdr\n");
    let error = open("br7").unwrap_err();
    assert!(matches!(&error, OpenError::NameTaken { kind, .. } if kind == "bridge"), "{error}");
    assert!(matches!(open("tap7"), Err(OpenError::NameTaken { .. })));
    assert_eq!(open("ours").unwrap().name(), "ours", "one that was made for us");
    for name in ["", "a/b", "a b", "sixteen-bytes-xx", ".."] {
        assert!(matches!(open(name), Err(OpenError::BadName { .. })), "{name:?}");
    }
    drop(first);
    assert!(!namespace.has_link("wg0") && namespace.has_link("wg1"));
}

#[test]
fn leaves_no_trace_of_ipv6_on_the_link() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("quiet");
    let mut tun = tun(&namespace, "tun0");
    namespace.ip("link set tun0 up\n");
    assert!(!namespace.run("ip -6 addr show dev tun0").contains("fe80"));
    std::thread::sleep(Duration::from_millis(300));
    let mut buf = vec![0; MAX_FRAME];
    let error = tun.recv(&mut buf).map(|(_, len)| buf[..len].to_vec()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "no router solicitation, no multicast report");
}

#[test]
fn follows_changes_by_others_even_into_another_namespace() {
    if !ready() {
        return;
    }
    let (here, there) = (Namespace::new("here"), Namespace::new("there"));
    let mut tun = tun(&here, "tun0");
    assert!(!tun.refresh().unwrap());
    here.ip("link set tun0 mtu 9000\n");
    assert!(tun.refresh().unwrap());
    assert_eq!(tun.mtu(), 9000);
    here.ip("link set tun0 name wg5\n");
    assert!(tun.refresh().unwrap());
    assert_eq!(tun.name(), "wg5");
    here.ip(&format!("link set wg5 netns {}\n", there.pid()));
    there.ip("link set wg5 mtu 1300\n");
    assert!(tun.refresh().unwrap());
    assert_eq!((tun.name(), tun.mtu()), ("wg5", 1300));
    // A namesake where it was must not be taken for it.
    here.ip("link add wg5 type bridge\nlink set wg5 mtu 1234\n");
    there.ip("link set wg5 mtu 1301\n");
    assert!(tun.refresh().unwrap());
    assert_eq!(tun.mtu(), 1301);
    there.ip("link del wg5\n");
    assert!(tun.refresh().is_err(), "gone for good");
    assert!(tun.recv(&mut [0; 64]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock));
}

#[test]
fn a_frame_that_cannot_go_is_counted() {
    if !ready() {
        return;
    }
    let namespace = Namespace::new("down");
    let mut tun = tun(&namespace, "tun0");
    tun.send(&VirtioHeader::default(), &[IoSlice::new(&[0x45; 40])]).unwrap();
    assert_eq!(tun.refused(), 1, "the interface is down");
    namespace.ip("link set tun0 up\n");
    let broken = VirtioHeader { gso: Gso::Tcp4, ..VirtioHeader::default() };
    tun.send(&broken, &[IoSlice::new(&[0x45; 40])]).unwrap();
    assert_eq!(tun.refused(), 2, "the kernel finds fault with the header");
    assert!(tun.send(&broken, &[IoSlice::new(&[]); 129]).is_err());
}

#[test]
fn a_descriptor_of_another_kind_is_refused() {
    if !ready() {
        return;
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(matches!(Tun::from_fd(file.into()), Err(OpenError::WrongDescriptor)));
    let namespace = Namespace::new("descriptors");
    let plain = namespace.inside(|| tun_rs::DeviceBuilder::new().name("plain0").build_sync().unwrap());
    let fd = plain.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(namespace.inside(|| Tun::from_fd(fd)), Err(OpenError::WrongDescriptor)));
}

/// Packets of the host per queue, by their destination and, for TCP, ports.
fn read_all(queues: &mut [Box<dyn Device>]) -> Vec<(usize, Vec<u8>)> {
    let mut frame = vec![0; MAX_FRAME];
    let mut read = Vec::new();
    for (number, queue) in queues.iter_mut().enumerate() {
        while let Ok((_, len)) = queue.recv(&mut frame) {
            read.push((number, frame[..len].to_vec()));
        }
    }
    read
}

/// Flows spread over the queues, and each stays on its own: whatever comes in through another queue, and however
/// long its packets are.
#[test]
fn a_flow_stays_on_its_queue() {
    if !ready() {
        return;
    }
    let host = Namespace::new("queues");
    let mut queues: Vec<Box<dyn Device>> = host.inside(|| {
        let first = Tun::builder("tun0").mtu(MTU).many_queues(true).open().unwrap();
        let others: Vec<_> = (1..4).map(|_| first.another_queue().unwrap()).collect();
        let others: Option<Vec<_>> = others.into_iter().collect();
        let first: Box<dyn Device> = Box::new(first);
        std::iter::once(first).chain(others.expect("this host lets us steer")).collect()
    });
    host.ip("addr add 10.9.0.1/16 dev tun0\naddr add fd09::1/64 dev tun0 nodad\nlink set tun0 up\n");
    let mut places = std::collections::BTreeMap::new();
    for round in 0..3 {
        host.inside(|| {
            let v4 = UdpSocket::bind("10.9.0.1:5000").unwrap();
            let v6 = UdpSocket::bind("[fd09::1]:5000").unwrap();
            for other in 2..34 {
                // The second is cut into fragments.
                for len in [10, 4000, 20] {
                    v4.send_to(&vec![0; len], (format!("10.9.0.{other}").as_str(), 7)).unwrap();
                    v6.send_to(&vec![0; len], (format!("fd09::{other:x}").as_str(), 7)).unwrap();
                }
            }
        });
        let read = read_all(&mut queues);
        assert!(read.len() >= 2 * 32 * 3, "{} packets", read.len());
        for (queue, packet) in read {
            let destination = match packet[0] >> 4 {
                4 => packet[16..20].to_vec(),
                _ => packet[24..40].to_vec(),
            };
            let place = *places.entry(destination.clone()).or_insert(queue);
            assert_eq!(place, queue, "{destination:?} in round {round}");
            // Its answer comes in through the next queue.
            if packet[0] >> 4 == 4 && packet.len() < 100 {
                let mut answer = packet.clone();
                answer.copy_within(12..16, 16);
                answer[12..16].copy_from_slice(&packet[16..20]);
                let next = (queue + 1) % 4;
                queues[next].send(&VirtioHeader::default(), &[IoSlice::new(&answer)]).unwrap();
            }
        }
    }
    assert_eq!(places.len(), 64);
    for queue in 0..4 {
        let flows = places.values().filter(|place| **place == queue).count();
        assert!((6..=32).contains(&flows), "{flows} of 64 flows on queue {queue}");
    }
}

/// Connections between two addresses are told apart by their ports.
#[test]
fn connections_spread_over_the_queues() {
    if !ready() {
        return;
    }
    let host = Namespace::new("ports");
    let mut queues: Vec<Box<dyn Device>> = host.inside(|| {
        let first = Tun::builder("tun0").mtu(MTU).many_queues(true).open().unwrap();
        let second = first.another_queue().unwrap().expect("this host lets us steer");
        vec![Box::new(first) as Box<dyn Device>, second]
    });
    host.ip("addr add 10.9.0.1/24 dev tun0\naddr add fd09::1/64 dev tun0 nodad\nlink set tun0 up\n");
    for target in ["10.9.0.2:80", "[fd09::2]:80"] {
        host.inside(|| {
            for _ in 0..24 {
                let to: std::net::SocketAddr = target.parse().unwrap();
                let socket = rustix::net::socket(
                    if to.is_ipv4() {
                        rustix::net::AddressFamily::INET
                    } else {
                        rustix::net::AddressFamily::INET6
                    },
                    rustix::net::SocketType::STREAM,
                    None,
                )
                .unwrap();
                rustix::io::ioctl_fionbio(&socket, true).unwrap();
                let _ = rustix::net::connect(&socket, &to);
            }
        });
        let mut counts = [0; 2];
        for (queue, _) in read_all(&mut queues) {
            counts[queue] += 1;
        }
        assert!(counts[0] + counts[1] >= 24 && counts.iter().all(|count| *count > 3), "{target}: {counts:?}");
    }
}

#[test]
fn an_interface_has_one_queue_unless_told_otherwise() {
    if !ready() {
        return;
    }
    let host = Namespace::new("one");
    assert!(tun(&host, "tun0").another_queue().unwrap().is_none());
}
