//! Connections as an application sees them, blocking, over a thread that carries packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::thread;
use std::time::Duration;

use span_tun::netstack::TcpStream;

use crate::link::{Mesh, Simulation, Way, addresses};

/// Anywhere on the second stack.
fn any() -> SocketAddr {
    "[::]:0".parse().unwrap()
}

fn at(host: u8, family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(addresses(host)[family], port)
}

/// A connection from the first stack to the second.
fn pair(mesh: &Mesh) -> (TcpStream, TcpStream) {
    let listener = mesh.b.listen(any()).unwrap();
    let near = mesh.a.connect(at(2, 1, listener.local_addr().port())).unwrap();
    let (far, from) = listener.accept().unwrap();
    assert_eq!(from, near.local_addr());
    (near, far)
}

#[test]
fn both_families_connect_and_talk() {
    let mesh = Mesh::new(Way::default());
    let listener = mesh.b.listen(any()).unwrap();
    for family in [0, 1] {
        let address = at(2, family, listener.local_addr().port());
        let mut near = mesh.a.connect(address).unwrap();
        let (mut far, from) = listener.accept().unwrap();
        assert_eq!((near.peer_addr(), near.local_addr().ip()), (address, addresses(1)[family]));
        assert_eq!(
            (far.peer_addr(), far.local_addr(), from),
            (near.local_addr(), address, near.local_addr())
        );
        let mut buf = [0; 16];
        near.write_all(b"question").unwrap();
        far.read_exact(&mut buf[..8]).unwrap();
        far.write_all(b"answer").unwrap();
        assert_eq!(near.peek(&mut buf).unwrap(), 6);
        assert_eq!(near.read(&mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"answer");
    }
}

#[test]
fn half_a_connection_can_be_closed() {
    let mesh = Mesh::new(Way::default());
    let (mut near, mut far) = pair(&mesh);
    near.write_all(b"all").unwrap();
    near.shutdown(Shutdown::Write).unwrap();
    assert_eq!(near.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
    let mut received = String::new();
    far.read_to_string(&mut received).unwrap();
    assert_eq!(received, "all");
    far.write_all(b"the other half").unwrap();
    drop(far);
    received.clear();
    near.read_to_string(&mut received).unwrap();
    assert_eq!(received, "the other half");
}

#[test]
fn nobody_listens_and_nobody_is_there() {
    let mesh = Mesh::new(Way::default());
    for family in [0, 1] {
        let refused = mesh.a.connect(at(2, family, 7)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let lost = mesh.a.connect_timeout(at(9, family, 7), Duration::from_millis(50)).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn addresses_and_ports_have_to_be_ones_own() {
    let mesh = Mesh::new(Way::default());
    let foreign = mesh.a.listen(at(2, 0, 80)).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
    let listener = mesh.a.listen(at(1, 0, 80)).unwrap();
    assert_eq!(mesh.a.listen(at(1, 0, 80)).unwrap_err().kind(), ErrorKind::AddrInUse);
    mesh.a.listen(at(1, 1, 80)).unwrap();
    drop(listener);
    mesh.a.listen(at(1, 0, 80)).unwrap();
    let mesh = Mesh::with(Way::default(), |config| config.addresses.truncate(1));
    assert_eq!(mesh.a.connect(at(2, 1, 80)).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_stack_talks_to_itself() {
    let mesh = Mesh::new(Way::default());
    let listener = mesh.a.listen(any()).unwrap();
    let mut near = mesh.a.connect(at(1, 1, listener.local_addr().port())).unwrap();
    let (mut far, _) = listener.accept().unwrap();
    let sent = vec![7; 3 << 20];
    let reader = thread::spawn(move || {
        let mut received = Vec::new();
        far.read_to_end(&mut received).unwrap();
        received
    });
    near.write_all(&sent).unwrap();
    drop(near);
    assert!(reader.join().unwrap() == sent);
    assert!(mesh.a.ping(addresses(1)[0]).unwrap().send().is_ok());
}

#[test]
fn reading_and_writing_can_time_out() {
    let mesh = Mesh::new(Way::default());
    let (near, _far) = pair(&mesh);
    let timeout = Some(Duration::from_millis(20));
    near.set_read_timeout(timeout).unwrap();
    near.set_write_timeout(timeout).unwrap();
    assert_eq!((&near).read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::TimedOut);
    let stuck = loop {
        if let Err(error) = (&near).write(&[0; 100_000]) {
            break error;
        }
    };
    assert_eq!(stuck.kind(), ErrorKind::TimedOut);
    near.set_nonblocking(true);
    assert_eq!((&near).read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!((&near).write(&[0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(near.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    let readiness = near.readiness();
    assert!(!readiness.readable && !readiness.writable && !readiness.closed);
}

#[test]
fn what_was_not_read_resets_the_connection() {
    let mesh = Mesh::new(Way::default());
    let (mut near, far) = pair(&mesh);
    near.write_all(b"never read").unwrap();
    while !far.readiness().readable {
        thread::yield_now();
    }
    drop(far);
    assert_eq!(near.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.write(b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(near.take_error().map(|error| error.kind()), Some(ErrorKind::ConnectionReset));
}

fn down(error: &std::io::Error) {
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
}

#[test]
fn closing_the_stack_wakes_everybody() {
    let mesh = Mesh::new(Way::default());
    let (near, mut far) = pair(&mesh);
    let listener = mesh.a.listen(any()).unwrap();
    let socket = mesh.a.bind_udp(any()).unwrap();
    let mut ping = mesh.a.ping(addresses(9)[0]).unwrap().timeout(Duration::from_secs(600));
    let stack = mesh.a.clone();
    thread::scope(|scope| {
        scope.spawn(move || down(&(&near).read(&mut [0]).unwrap_err()));
        scope.spawn(|| down(&listener.accept().unwrap_err()));
        scope.spawn(|| down(&socket.recv_from(&mut [0]).unwrap_err()));
        scope.spawn(move || down(&ping.send().unwrap_err()));
        let connecting = stack.clone();
        scope.spawn(move || down(&connecting.connect(at(9, 0, 1)).unwrap_err()));
        while stack.connections() < 2 {
            thread::yield_now();
        }
        stack.close();
    });
    assert_eq!(far.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(mesh.a.connect(at(2, 0, 1)).unwrap_err().kind(), ErrorKind::NetworkDown);
    assert_eq!(mesh.a.listen(any()).unwrap_err().kind(), ErrorKind::NetworkDown);
}

#[test]
fn a_full_backlog_lets_others_wait() {
    let mut simulation = Simulation::new(Way::default(), |_| {});
    let listener = simulation.b.listen_with_backlog(any(), 2).unwrap();
    listener.set_nonblocking(true);
    let address = at(2, 1, listener.local_addr().port());
    let streams: Vec<_> = (0..3).map(|_| simulation.a.start_connect(address).unwrap()).collect();
    let open = |streams: &[TcpStream]| streams.iter().filter(|stream| stream.readiness().writable).count();
    simulation.pass(Duration::from_millis(100));
    assert_eq!((open(&streams), simulation.b.drops().backlog), (2, 1));
    assert!(listener.accept().is_ok());
    // The one that was not answered asks again.
    simulation.until("the third", |_| (open(&streams) == 3).then_some(()));
    simulation.pass(Duration::from_millis(10));
    assert!(listener.accept().is_ok() && listener.accept().is_ok());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_listener_that_goes_takes_its_connections_along() {
    let mut simulation = Simulation::new(Way::default(), |_| {});
    let listener = simulation.b.listen(any()).unwrap();
    let stream = simulation.a.start_connect(at(2, 0, listener.local_addr().port())).unwrap();
    simulation.pass(Duration::from_millis(10));
    assert!(stream.readiness().writable);
    drop(listener);
    simulation.pass(Duration::from_millis(10));
    stream.set_nonblocking(true);
    assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(stream);
    simulation.pass(Duration::from_millis(10));
    assert_eq!((simulation.a.connections(), simulation.b.connections()), (0, 0));
}

#[test]
fn the_number_of_connections_is_bounded_on_both_sides() {
    let mut simulation = Simulation::new(Way::default(), |config| config.max_connections = 2);
    let listener = simulation.b.listen(any()).unwrap();
    let address = at(2, 1, listener.local_addr().port());
    let streams =
        [simulation.a.start_connect(address).unwrap(), simulation.a.start_connect(address).unwrap()];
    assert_eq!(simulation.a.start_connect(address).unwrap_err().kind(), ErrorKind::QuotaExceeded);
    drop(streams);
    simulation.pass(Duration::from_secs(70));
    assert!(simulation.a.start_connect(address).is_ok());
}

#[test]
fn a_peer_that_falls_silent_is_given_up() {
    // Everything after the first moments is lost.
    let mut simulation = Simulation::new(Way::default(), |config| config.patience = Duration::from_secs(9));
    let listener = simulation.b.listen(any()).unwrap();
    listener.set_nonblocking(true);
    let near = simulation.a.start_connect(at(2, 1, listener.local_addr().port())).unwrap();
    let _far = simulation.until("a connection", |_| listener.accept().ok()).0;
    near.set_nonblocking(true);
    simulation.pass(Duration::from_secs(1000));
    (&near).write_all(b"an idle connection lives on").unwrap();
    simulation.pass(Duration::from_secs(1000));
    assert!(near.take_error().is_none());
    simulation.link.cut();
    (&near).write_all(b"into the void").unwrap();
    simulation.pass(Duration::from_secs(8));
    assert!(near.take_error().is_none());
    simulation.pass(Duration::from_secs(2));
    assert_eq!(near.take_error().map(|error| error.kind()), Some(ErrorKind::TimedOut));
    drop(near);
    simulation.pass(Duration::from_secs(10));
    assert_eq!(simulation.a.connections(), 0);
}

#[test]
fn a_peer_that_is_gone_is_noticed_without_a_word_to_it() {
    for keepalive in [Some(Duration::from_secs(20)), None] {
        let mut simulation = Simulation::new(Way::default(), |config| config.keepalive = keepalive);
        let listener = simulation.b.listen(any()).unwrap();
        listener.set_nonblocking(true);
        let near = simulation.a.start_connect(at(2, 1, listener.local_addr().port())).unwrap();
        let far = simulation.until("a connection", |_| listener.accept().ok()).0;
        near.set_nonblocking(true);
        far.set_nonblocking(true);
        simulation.pass(Duration::from_secs(1000));
        assert!(near.take_error().is_none(), "answers keep it alive");
        // Silence does not get into the way of what is said.
        (&near).write_all(b"still there").unwrap();
        simulation.pass(Duration::from_secs(1));
        assert_eq!((&far).read(&mut [0; 20]).unwrap(), 11);
        simulation.pass(Duration::from_secs(99));
        simulation.link.cut();
        simulation.pass(Duration::from_secs(170));
        assert!(near.take_error().is_none() && far.take_error().is_none());
        simulation.pass(Duration::from_secs(60));
        let errors = [&near, &far].map(|end| end.take_error().map(|error| error.kind()));
        let expected = keepalive.map(|_| ErrorKind::TimedOut);
        assert_eq!(errors, [expected, expected]);
    }
}

#[test]
fn many_threads_and_connections_at_once() {
    let mesh = Mesh::new(Way { loss: 2000, ..Way::default() });
    let listener = mesh.b.listen(any()).unwrap();
    let address = at(2, 0, listener.local_addr().port());
    thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming().take(50) {
                let mut stream = stream.unwrap();
                scope.spawn(move || {
                    let mut received = Vec::new();
                    stream.read_to_end(&mut received).unwrap();
                    received.reverse();
                    stream.write_all(&received).unwrap();
                });
            }
        });
        for nth in 0..50u8 {
            let mesh = &mesh;
            scope.spawn(move || {
                let mut stream = mesh.a.connect(address).unwrap();
                let sent: Vec<u8> = (0..20_000u32).map(|at| (at as u8).wrapping_mul(nth)).collect();
                stream.write_all(&sent).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                received.reverse();
                assert!(received == sent);
            });
        }
    });
}

#[test]
fn one_thread_reads_while_another_writes() {
    let mesh = Mesh::new(Way::default());
    let (near, far) = pair(&mesh);
    let total = 4 << 20;
    thread::scope(|scope| {
        for stream in [&near, &far] {
            scope.spawn(move || {
                let mut stream = stream;
                stream.write_all(&vec![3; total]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut stream = stream.try_clone().unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                assert!(received.len() == total && received.iter().all(|&byte| byte == 3));
            });
        }
    });
}

#[test]
fn an_unreachable_host_is_reported_at_once() {
    use span_tun::device::{Device, MAX_FRAME};
    use span_tun::netstack::Netstack;
    use span_tun::offload::{VirtioHeader, icmp, split};
    for family in [0, 1] {
        let (stack, mut device) = Netstack::new(crate::link::config(1)).unwrap();
        let stream = stack.start_connect(at(2, family, 80)).unwrap();
        let mut ping = stack.ping(addresses(3)[family]).unwrap();
        ping.begin().unwrap();
        let mut frame = vec![0; MAX_FRAME];
        while let Ok((header, len)) = device.recv(&mut frame) {
            split(&header, &mut frame[..len]).unwrap();
            let mut answer = [0; icmp::MAX_LEN];
            let len = icmp::unreachable(&frame[..len], icmp::Unreachable::Host, None, &mut answer).unwrap();
            device.send(&VirtioHeader::default(), &[std::io::IoSlice::new(&answer[..len])]).unwrap();
        }
        let error = stream.take_error().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::HostUnreachable));
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let std::task::Poll::Ready(Err(error)) = ping.poll_reply(&mut context) else { panic!("no news") };
        assert_eq!(error.kind(), ErrorKind::HostUnreachable);
    }
}

/// What the addresses are is up to the caller.
#[test]
fn mapped_addresses_mean_what_they_map() {
    let mesh = Mesh::new(Way::default());
    let listener = mesh.b.listen(any()).unwrap();
    let IpAddr::V4(ip) = addresses(2)[0] else { panic!("the first address is of IPv4") };
    let mapped = SocketAddr::new(ip.to_ipv6_mapped().into(), listener.local_addr().port());
    let near = mesh.a.connect(mapped).unwrap();
    assert_eq!(near.peer_addr().ip(), addresses(2)[0]);
}
