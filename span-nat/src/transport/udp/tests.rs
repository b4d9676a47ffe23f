use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use span_core::path::Source;
use span_core::wireguard::Reserve;

use super::*;
use crate::transport::{Ecn, FlushOutcome, Received, SendBatch};

fn loopback() -> Config {
    Config { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: Some(Ipv6Addr::LOCALHOST), ..Config::default() }
}

fn paths_to(udp: &Udp) -> Vec<Path> {
    udp.local_addresses().map(Path::udp).collect()
}

fn send(udp: &mut Udp, path: &Path, count: u8, len: usize) -> FlushOutcome {
    let mut batch = SendBatch::default();
    for mark in 0..count {
        batch.reserve(path, len).unwrap().fill(mark);
    }
    batch.flush(udp)
}

/// Receives until `count` datagrams are there.
fn receive(udp: &mut Udp, count: usize) -> RecvBatch {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut batch = RecvBatch::new(64);
    let arrived = |batch: &RecvBatch| batch.entries().iter().map(|it| it.datagrams().len()).sum::<usize>();
    while arrived(&batch) < count && Instant::now() < deadline {
        if udp.recv(&mut batch).unwrap() == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(arrived(&batch), count);
    batch
}

#[test]
fn a_burst_is_one_call_on_either_side() {
    let mut sender = Udp::bind(loopback()).unwrap();
    let mut receiver = Udp::bind(loopback()).unwrap();
    assert_eq!(sender.max_segments(), 64, "this kernel cuts bursts");
    for path in paths_to(&receiver) {
        let before = *receiver.counters();
        let outcome = send(&mut sender, &path, 40, 1452);
        assert_eq!((outcome.datagrams, outcome.bytes, outcome.calls), (40, 40 * 1452, 1));
        let mut batch = receive(&mut receiver, 40);
        let (arena, entries) = batch.split_mut();
        for (mark, range) in entries.iter().flat_map(Received::datagrams).enumerate() {
            assert_eq!(range.len(), 1452);
            assert!(arena[range].iter().all(|byte| usize::from(*byte) == mark));
        }
        let calls = receiver.counters().receive_calls - before.receive_calls;
        assert!(calls < 8, "40 datagrams took {calls} calls");
        assert_eq!(receiver.counters().received - before.received, 40);
    }
    assert_eq!((sender.counters().sent, sender.counters().send_calls), (80, 2));
}

#[test]
fn several_datagrams_that_were_not_sent_together_are_one_call_too() {
    let mut sender = Udp::bind(loopback()).unwrap();
    let mut receiver = Udp::bind(loopback()).unwrap();
    let path = paths_to(&receiver)[0];
    for len in 100..108 {
        assert_eq!(send(&mut sender, &path, 1, len).datagrams, 1);
    }
    let mut batch = RecvBatch::new(4);
    assert_eq!(receiver.recv(&mut batch).unwrap(), 4);
    assert_eq!(receiver.recv(&mut batch).unwrap(), 0, "a full batch takes no more");
    batch.clear();
    assert_eq!(receiver.recv(&mut batch).unwrap(), 4);
    assert_eq!(receiver.counters().receive_calls, 2);
    batch.clear();
    assert_eq!(receiver.recv(&mut batch).unwrap(), 0);
}

#[test]
fn neither_family_starves_the_other() {
    let mut sender = Udp::bind(loopback()).unwrap();
    let mut receiver = Udp::bind(loopback()).unwrap();
    for path in paths_to(&receiver) {
        for len in 100..140 {
            assert_eq!(send(&mut sender, &path, 1, len).datagrams, 1);
        }
    }
    let mut families = [0, 0];
    for _ in 0..40 {
        let mut batch = RecvBatch::new(1);
        assert_eq!(receiver.recv(&mut batch).unwrap(), 1);
        families[usize::from(batch.entries()[0].path.remote().unwrap().is_ipv6())] += 1;
    }
    assert!(families.iter().all(|received| *received >= 16), "{families:?}");
    receive(&mut receiver, 40);
    assert_eq!(receiver.recv(&mut RecvBatch::new(1)).unwrap(), 0);
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    let mut asked = Udp::bind(Config::default()).unwrap();
    let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
    asking.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    for last in [2, 3, 77] {
        let address = SocketAddr::from(([127, 0, 0, last], asked.local_port()));
        asking.send_to(b"question", address).unwrap();
        let path = receive(&mut asked, 1).entries()[0].path;
        let Path::Udp(udp) = path else { panic!("{path}") };
        assert_eq!(udp.source.map(|source| source.ip), Some(address.ip()));
        assert_eq!(send(&mut asked, &path, 1, 100).datagrams, 1);
        assert_eq!(asking.recv_from(&mut [0; 200]).unwrap(), (100, address));
    }
    assert_eq!(asked.counters().sources_lost, 0);
}

#[test]
fn a_source_of_no_use_costs_neither_the_datagram_nor_the_bursts() {
    let mut sender = Udp::bind(Config::default()).unwrap();
    let mut receiver = Udp::bind(loopback()).unwrap();
    let [ipv4, ipv6] = [0, 1].map(|at| receiver.local_addresses().nth(at).unwrap());
    // The kernel answers ENETUNREACH, EINVAL (older ones for any foreign address) and EINVAL.
    for (remote, source) in [(ipv4, "192.0.2.1"), (ipv4, "224.0.0.1"), (ipv6, "2001:db8::1")] {
        let source = Source { ip: source.parse::<IpAddr>().unwrap(), interface: 0 };
        let path = Path::udp_from(remote, source);
        let mut batch = SendBatch::default();
        batch.reserve_burst(&path, 30, 1452).unwrap().fill(1);
        let outcome = batch.flush(&mut sender);
        assert_eq!((outcome.datagrams, outcome.calls, outcome.drops.total()), (30, 1, 0));
        assert_eq!(batch.lost_sources(), [path]);
        receive(&mut receiver, 30);
        assert_eq!(send(&mut sender, &path.without_source(), 30, 1452).calls, 1);
        receive(&mut receiver, 30);
        let path = path.without_source();
        let transmit = Transmit { path, contents: b"marked", segment_size: None, ecn: Ecn::Ce };
        assert_eq!(sender.send(&transmit), Ok(Sent::Done));
        assert_eq!(receive(&mut receiver, 1).entries()[0].ecn, Ecn::Ce, "marks are not given up");
    }
    assert_eq!((sender.counters().sources_lost, sender.counters().unsegmented), (3, 0));
}

#[test]
fn congestion_marks_arrive() {
    let mut sender = Udp::bind(loopback()).unwrap();
    let mut receiver = Udp::bind(loopback()).unwrap();
    for path in paths_to(&receiver) {
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
            let transmit = Transmit { path, contents: b"marked", segment_size: None, ecn };
            assert_eq!(sender.send(&transmit), Ok(Sent::Done));
            assert_eq!(receive(&mut receiver, 1).entries()[0].ecn, ecn);
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    for ipv6 in [false, true] {
        let ip = if ipv6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
        let taken = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let _taken = UdpSocket::bind(taken).unwrap();
        let error = Udp::bind(Config { port: taken.port(), ..loopback() }).unwrap_err();
        assert!(matches!(error, BindError::PortInUse(address) if address == taken), "{error}");
        let text = error.to_string();
        assert!(text.contains(&taken.port().to_string()) && text.contains(&ip.to_string()), "{text}");
    }
}

#[test]
fn what_cannot_be_bound_is_said() {
    let foreign = Config { ipv4: Some([192, 0, 2, 1].into()), ..loopback() };
    let error = Udp::bind(foreign).unwrap_err();
    assert_eq!(error.to_string(), "cannot listen at 192.0.2.1: it is not an address of this host");
    let nothing = Config { ipv4: None, ipv6: None, ..loopback() };
    assert!(matches!(Udp::bind(nothing), Err(BindError::NoFamily)));
}

#[test]
fn moving_to_another_port_under_traffic() {
    let mut receiver = Udp::bind(loopback()).unwrap();
    let first = paths_to(&receiver)[0];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = Udp::bind(loopback()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                assert!(!send(&mut sender, &first, 10, 1000).blocked);
            }
        });
        for _ in 0..20 {
            let (old, descriptors) = (receiver.local_port(), receiver.descriptors().to_vec());
            let mut batch = RecvBatch::new(8);
            receiver.recv(&mut batch).unwrap();
            receiver.rebind(0).unwrap();
            assert_ne!(receiver.local_port(), old);
            assert!(receiver.local_addresses().all(|address| address.port() == receiver.local_port()));
            assert!(receiver.descriptors().iter().all(|new| !descriptors.contains(new)), "new ones first");
            receiver.recv(&mut batch).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut sender = Udp::bind(loopback()).unwrap();
    let path = paths_to(&receiver)[0];
    assert_eq!(send(&mut sender, &path, 20, 1000).datagrams, 20);
    receive(&mut receiver, 20);
}

#[test]
fn a_port_that_cannot_be_had_changes_nothing() {
    let mut receiver = Udp::bind(loopback()).unwrap();
    let mut sender = Udp::bind(loopback()).unwrap();
    let (path, descriptors) = (paths_to(&receiver)[0], receiver.descriptors().to_vec());
    assert!(matches!(receiver.rebind(sender.local_port()), Err(BindError::PortInUse(_))));
    receiver.rebind(receiver.local_port()).unwrap();
    assert_eq!(receiver.descriptors(), descriptors);
    assert_eq!(send(&mut sender, &path, 1, 100).datagrams, 1);
    receive(&mut receiver, 1);
}

#[test]
fn paths_it_cannot_use_are_losses() {
    let mut udp = Udp::bind(Config { ipv6: None, ..loopback() }).unwrap();
    let paths = [
        Path::Custom(1),
        Path::udp("127.0.0.1:0".parse().unwrap()),
        Path::udp("0.0.0.0:51820".parse().unwrap()),
        Path::udp("[::1]:51820".parse().unwrap()),
    ];
    for path in paths {
        let outcome = send(&mut udp, &path, 2, 100);
        assert_eq!((outcome.drops.get(DropReason::Unsupported), outcome.calls), (2, 0), "{path}");
    }
    assert_eq!(udp.counters().drops.total(), 8);
    // One byte more than IPv4 can say.
    let path = Path::udp("127.0.0.1:9".parse().unwrap());
    let transmit = Transmit { path, contents: &[0; 65_508], segment_size: None, ecn: Ecn::NotEct };
    assert_eq!(udp.send(&transmit), Err(SendError::Dropped(DropReason::TooLong)));
}

#[test]
fn empty_datagrams_disturb_nothing() {
    let mut receiver = Udp::bind(loopback()).unwrap();
    let address = receiver.local_addresses().next().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"", address).unwrap();
    stranger.send_to(b"x", address).unwrap();
    let batch = receive(&mut receiver, 1);
    assert_eq!(batch.entries().len(), 2);
}

#[test]
fn sockets_that_are_brought_along_carry_datagrams_and_stay_where_they_are() {
    let given = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = given.local_addr().unwrap();
    let mut receiver = Udp::from_sockets(Some(given), None, Config::default()).unwrap();
    let mut sender = Udp::bind(loopback()).unwrap();
    let outcome = send(&mut sender, &Path::udp(address), 3, 100);
    assert_eq!(outcome.datagrams, 3);
    receive(&mut receiver, 3);
    assert_eq!(receiver.local_port(), address.port());
    assert!(matches!(receiver.rebind(0), Err(BindError::Given)));
    assert_eq!(receiver.local_port(), address.port());
}

#[test]
fn sockets_that_do_not_fit_are_refused() {
    let v4 = || Some(UdpSocket::bind("127.0.0.1:0").unwrap());
    let v6 = || Some(UdpSocket::bind("[::1]:0").unwrap());
    let adopt = |v4, v6| Udp::from_sockets(v4, v6, Config::default()).err();
    assert!(matches!(adopt(v6(), None), Some(BindError::WrongSocket { family: "IPv4" })));
    assert!(matches!(adopt(None, v4()), Some(BindError::WrongSocket { family: "IPv6" })));
    assert!(matches!(adopt(v4(), v6()), Some(BindError::PortsDiffer { .. })));
    assert!(matches!(adopt(None, None), Some(BindError::NoFamily)));
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = UdpSocket::from(std::os::fd::OwnedFd::from(stream));
    assert!(matches!(adopt(Some(stream), None), Some(BindError::WrongSocket { .. })));
}

/// Datagrams of each sender come to one of the siblings, and all siblings answer from the one port.
#[test]
fn siblings_share_a_port_by_sender() {
    let first = Udp::bind(Config { shared: true, ..loopback() }).unwrap();
    let mut all: Vec<Box<dyn Transport>> = (1..4).map(|_| first.sibling().unwrap().unwrap()).collect();
    let (port, paths) = (first.local_port(), paths_to(&first));
    all.push(Box::new(first));
    let mut used = [0; 4];
    let mut batch = RecvBatch::new(64);
    for path in paths {
        for _ in 0..16 {
            let mut sender = Udp::bind(loopback()).unwrap();
            let mut arrived = [0; 4];
            for count in [1, 30, 1] {
                assert_eq!(send(&mut sender, &path, count, 100).datagrams, u64::from(count));
            }
            let deadline = Instant::now() + Duration::from_secs(2);
            while arrived.iter().sum::<usize>() < 32 && Instant::now() < deadline {
                for (sibling, arrived) in all.iter_mut().zip(&mut arrived) {
                    batch.clear();
                    sibling.recv(&mut batch).unwrap();
                    *arrived += batch.entries().iter().map(|entry| entry.datagrams().len()).sum::<usize>();
                }
            }
            let place = arrived.iter().position(|count| *count == 32);
            used[place.unwrap_or_else(|| panic!("one sender, {arrived:?}"))] += 1;
        }
    }
    assert!(used.iter().filter(|senders| **senders > 0).count() > 1, "{used:?}");

    let mut listener = Udp::bind(loopback()).unwrap();
    let to = paths_to(&listener)[0];
    for sibling in &mut all {
        let mut out = SendBatch::default();
        out.reserve(&to, 10).unwrap().fill(1);
        assert_eq!(out.flush(&mut **sibling).datagrams, 1);
    }
    let batch = receive(&mut listener, 4);
    assert!(batch.entries().iter().all(|entry| entry.path.remote().unwrap().port() == port));
}

#[test]
fn a_shared_port_is_nobody_elses() {
    let shared = Udp::bind(Config { shared: true, ..loopback() }).unwrap();
    let port = shared.local_port();
    let sibling = shared.sibling().unwrap();
    for other in [true, false] {
        let taken = Udp::bind(Config { shared: other, port, ..loopback() });
        assert!(matches!(taken, Err(BindError::PortInUse(_))), "shared: {other}");
    }
    drop((shared, sibling));
    let alone = Udp::bind(Config { port, ..loopback() }).unwrap();
    assert!(alone.sibling().unwrap().is_none());
}
