//! Much data over ways that lose it.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use span_tun::netstack::{TcpListener, TcpStream};

use crate::link::{Simulation, Way, addresses};

/// What is sent: the same bytes again and again, as many as no power of two is near, so that any two pieces that
/// change places are found.
struct Pattern(Vec<u8>);

impl Pattern {
    const PERIOD: usize = 99_991;

    fn new() -> Self {
        let byte = |at: usize| ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        Self((0..Self::PERIOD).map(byte).collect())
    }

    /// What is at `at`, as far as one period goes.
    fn from(&self, at: usize) -> &[u8] {
        &self.0[at % Self::PERIOD..]
    }
}

/// One direction of one connection.
struct Transfer {
    from: TcpStream,
    to: TcpStream,
    total: usize,
    written: usize,
    read: usize,
    ended: bool,
}

impl Transfer {
    fn new(from: TcpStream, to: TcpStream, total: usize) -> Self {
        from.set_nonblocking(true);
        to.set_nonblocking(true);
        Self { from, to, total, written: 0, read: 0, ended: false }
    }

    /// Does what can be done. True when all has arrived.
    fn go_on(&mut self, pattern: &Pattern, buf: &mut [u8]) -> bool {
        while self.written < self.total {
            let next = pattern.from(self.written);
            match (&self.from).write(&next[..next.len().min(self.total - self.written)]) {
                Ok(written) => self.written += written,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
            if self.written == self.total {
                self.from.shutdown(Shutdown::Write).unwrap();
            }
        }
        while !self.ended {
            let next = pattern.from(self.read);
            let len = next.len().min(buf.len());
            match (&self.to).read(&mut buf[..len]) {
                Ok(0) => self.ended = true,
                Ok(read) => {
                    assert!(buf[..read] == next[..read], "other bytes than were sent, at {}", self.read);
                    self.read += read;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        self.ended
    }
}

fn connect(simulation: &mut Simulation, listener: &TcpListener, ip: IpAddr) -> (TcpStream, TcpStream) {
    let address = SocketAddr::new(ip, listener.local_addr().port());
    let from = simulation.a.start_connect(address).unwrap();
    let to = simulation.until("a connection", |_| listener.accept().ok()).0;
    (from, to)
}

/// Moves `total` bytes over each of `streams` connections; how long it took, and what was lost.
fn transfer(way: Way, streams: usize, total: usize) -> (Duration, u64) {
    let mut simulation = Simulation::new(way, |_| {});
    let listener = simulation.b.listen("[::]:9".parse().unwrap()).unwrap();
    listener.set_nonblocking(true);
    let began = simulation.time.now();
    let mut transfers: Vec<_> = (0..streams)
        .map(|nth| {
            let (from, to) = connect(&mut simulation, &listener, addresses(2)[nth % 2]);
            Transfer::new(from, to, total)
        })
        .collect();
    let (pattern, mut buf) = (Pattern::new(), vec![0; 64 << 10]);
    simulation.until("the end", |_| {
        let open = transfers
            .iter_mut()
            .filter_map(|transfer| (!transfer.go_on(&pattern, &mut buf)).then_some(()))
            .count();
        (open == 0).then_some(())
    });
    let took = simulation.time.now().since(began);
    assert!(transfers.iter().all(|transfer| transfer.read == total));
    drop(transfers);
    assert!(simulation.link.longest <= 1420, "{} bytes in a packet", simulation.link.longest);
    let lost = simulation.link.lost();
    // Everything is given back, TIME-WAIT included.
    simulation.pass(Duration::from_secs(70));
    assert_eq!((simulation.a.connections(), simulation.b.connections()), (0, 0));
    println!("{way:?}, {streams} streams of {total}: {took:?}, {lost} lost");
    (took, lost)
}

const WAY: Way = Way { loss: 0, reorder: 0, delay: Duration::from_millis(1), seed: 1 };

#[test]
fn everything_arrives_over_a_way_that_loses_nothing() {
    let (_, lost) = transfer(WAY, 1, 64 << 20);
    assert_eq!(lost, 0);
}

#[test]
fn everything_arrives_though_one_packet_of_a_hundred_is_lost() {
    let (took, lost) = transfer(Way { loss: 10_000, ..WAY }, 1, 64 << 20);
    assert!(lost > 300);
    // By the clock of the simulation: repairs do not wait for timers.
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn everything_arrives_though_one_packet_of_twenty_is_lost() {
    let (took, lost) = transfer(Way { loss: 50_000, ..WAY }, 1, 64 << 20);
    assert!(lost > 1500);
    assert!(took < Duration::from_secs(16), "{took:?}");
}

#[test]
fn everything_arrives_out_of_order() {
    transfer(Way { reorder: 50_000, ..WAY }, 1, 16 << 20);
}

#[test]
fn twenty_connections_share_a_bad_way() {
    transfer(Way { loss: 10_000, reorder: 10_000, ..WAY }, 20, 1 << 20);
}
