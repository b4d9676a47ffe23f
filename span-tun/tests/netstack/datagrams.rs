//! UDP and ping.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::link::{Mesh, Simulation, Way, addresses};

fn any() -> SocketAddr {
    "[::]:0".parse().unwrap()
}

#[test]
fn datagrams_of_both_families_come_and_go() {
    let mesh = Mesh::new(Way::default());
    let (near, far) = (mesh.a.bind_udp(any()).unwrap(), mesh.b.bind_udp(any()).unwrap());
    let mut buf = [0; 2000];
    for family in [0, 1] {
        let to = SocketAddr::new(addresses(2)[family], far.local_addr().port());
        let longest = 1420 - [28, 48][family];
        for len in [0, 1, 100, longest] {
            assert_eq!(near.send_to(&vec![9; len], to).unwrap(), len);
            let (received, from) = far.recv_from(&mut buf).unwrap();
            assert_eq!(from, SocketAddr::new(addresses(1)[family], near.local_addr().port()));
            assert!(received == len && buf[..len].iter().all(|&byte| byte == 9));
        }
        let too_long = near.send_to(&vec![9; longest + 1], to).unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::InvalidInput);
        // What does not fit the buffer is cut off, and the next begins afresh.
        near.send_to(b"abcdef", to).unwrap();
        near.send_to(b"next", to).unwrap();
        assert_eq!(far.recv_from(&mut buf[..3]).unwrap().0, 3);
        assert_eq!(far.recv_from(&mut buf).unwrap().0, 4);
    }
}

#[test]
fn sockets_are_found_by_address_and_then_by_family() {
    let mesh = Mesh::new(Way::default());
    let one = mesh.b.bind_udp(SocketAddr::new(addresses(2)[0], 53)).unwrap();
    let family = mesh.b.bind_udp("0.0.0.0:54".parse().unwrap()).unwrap();
    let all = mesh.b.bind_udp("[::]:53".parse().unwrap()).unwrap();
    assert_eq!(mesh.b.bind_udp("[::]:53".parse().unwrap()).unwrap_err().kind(), ErrorKind::AddrInUse);
    let near = mesh.a.bind_udp(any()).unwrap();
    let mut buf = [0; 9];
    for (family_of, port, socket) in [(0, 53, &one), (0, 54, &family), (1, 53, &all)] {
        near.send_to(b"x", SocketAddr::new(addresses(2)[family_of], port)).unwrap();
        assert_eq!(socket.recv_from(&mut buf).unwrap().0, 1);
    }
    drop(one);
    near.send_to(b"y", SocketAddr::new(addresses(2)[0], 53)).unwrap();
    assert_eq!(all.recv_from(&mut buf).unwrap().0, 1);
}

#[test]
fn a_datagram_that_does_not_come_is_waited_for_in_vain() {
    let mesh = Mesh::new(Way::default());
    let socket = mesh.a.bind_udp(any()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    socket.set_nonblocking(true);
    assert_eq!(socket.recv_from(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(socket.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn full_queues_are_said_and_counted() {
    let mut simulation = Simulation::new(Way::default(), |config| {
        config.queue = 10;
        config.datagram_buffer = 1000;
    });
    let far = simulation.b.bind_udp(any()).unwrap();
    let near = simulation.a.bind_udp(any()).unwrap();
    near.set_nonblocking(true);
    let to = SocketAddr::new(addresses(2)[1], far.local_addr().port());
    for _ in 0..10 {
        near.send_to(&[0; 100], to).unwrap();
    }
    assert_eq!(near.send_to(&[0; 100], to).unwrap_err().kind(), ErrorKind::WouldBlock);
    simulation.pass(Duration::from_millis(1));
    assert_eq!(simulation.b.drops().socket_full, 4);
    far.set_nonblocking(true);
    assert_eq!((0..).take_while(|_| far.recv_from(&mut [0; 200]).is_ok()).count(), 6);
    assert!(near.send_to(&[0; 100], to).is_ok());
}

#[test]
fn pings_are_sent_and_answered() {
    let mesh = Mesh::new(Way::default());
    for ip in addresses(2) {
        let mut ping = mesh.a.ping(ip).unwrap();
        assert!(ping.send().is_ok() && ping.send().is_ok());
        let headers = if ip.is_ipv4() { 28 } else { 48 };
        assert!(mesh.a.ping(ip).unwrap().size(1420 - headers).send().is_ok());
        let too_long = mesh.a.ping(ip).unwrap().size(1421 - headers).send().unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::InvalidInput);
    }
    for ip in addresses(9) {
        let lost = mesh.a.ping(ip).unwrap().timeout(Duration::from_millis(20)).send().unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn a_round_trip_is_as_long_as_the_way() {
    let way = Way { delay: Duration::from_millis(30), ..Way::default() };
    let mut simulation = Simulation::new(way, |_| {});
    let mut ping = simulation.a.ping(addresses(2)[1]).unwrap();
    ping.begin().unwrap();
    simulation.pass(Duration::from_millis(100));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(took)) = ping.poll_reply(&mut context) else { panic!("no reply") };
    assert_eq!(took, Duration::from_millis(60));
}
