//! Datagrams between transports of one process, for tests: no socket, no clock, no chance.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use span_core::path::{Path, Source};
use thiserror::Error;

use super::{DropReason, Ecn, RecvBatch, SendBatch, SendError, Sent, Transmit, Transport};

/// A network without loss, delay or routes: a datagram sent to an attached address is received there,
/// in order. What is not attached is unreachable; a full queue loses what comes, as a socket does.
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Mutex<BTreeMap<SocketAddr, Queue>>>);

/// A transport attached to a [`Hub`] at one or more addresses. Dropping it detaches it.
#[derive(Debug)]
pub struct Memory {
    hub: Hub,
    addresses: Vec<SocketAddr>,
}

/// The address is already attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} is already attached to this hub")]
pub struct AddressTaken(pub SocketAddr);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Burst>,
    bytes: usize,
}

/// What one `send` carried.
#[derive(Debug)]
struct Burst {
    from: SocketAddr,
    contents: Box<[u8]>,
    stride: usize,
    ecn: Ecn,
}

impl Hub {
    /// Bytes a queue holds before it loses datagrams.
    pub const QUEUE: usize = 1 << 20;

    /// A hub nothing is attached to.
    pub fn new() -> Self {
        Hub::default()
    }

    /// A transport at `address`.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn attach(&self, address: SocketAddr) -> Result<Memory, AddressTaken> {
        let mut memory = Memory { hub: self.clone(), addresses: Vec::new() };
        memory.add_address(address)?;
        Ok(memory)
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Queue>> {
        // A test that panicked elsewhere leaves the queues as they were.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Attaches the transport at a further address.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn add_address(&mut self, address: SocketAddr) -> Result<(), AddressTaken> {
        let mut queues = self.hub.queues();
        if queues.contains_key(&address) {
            return Err(AddressTaken(address));
        }
        queues.insert(address, Queue::default());
        self.addresses.push(address);
        Ok(())
    }

    /// Gives an address up, with what waits there: datagrams to it are unreachable from now on.
    pub fn remove_address(&mut self, address: SocketAddr) {
        if let Some(at) = self.addresses.iter().position(|own| *own == address) {
            self.addresses.remove(at);
            self.hub.queues().remove(&address);
        }
    }

    /// Where it is attached; datagrams of a path without source leave from the first of the remote's
    /// family.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn own(&self, path: &span_core::path::UdpPath) -> Option<(SocketAddr, Sent)> {
        let asked = |own: &&SocketAddr| path.source.is_some_and(|source| source.ip == own.ip());
        let any = |own: &&SocketAddr| own.is_ipv4() == path.remote.is_ipv4();
        match self.addresses.iter().find(asked) {
            Some(own) => Some((*own, Sent::Done)),
            None => {
                let sent = if path.source.is_some() { Sent::SourceLost } else { Sent::Done };
                self.addresses.iter().find(any).map(|own| (*own, sent))
            }
        }
    }
}

impl Transport for Memory {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let before = batch.entries().len();
        let mut queues = self.hub.queues();
        for address in &self.addresses {
            let Some(queue) = queues.get_mut(address) else { continue };
            while batch.spare_len() > 0
                && let Some(burst) = queue.waiting.pop_front()
            {
                queue.bytes -= burst.contents.len();
                if let Some(slot) = batch.spare().next() {
                    slot[..burst.contents.len()].copy_from_slice(&burst.contents);
                }
                let path = Path::udp_from(burst.from, Source { ip: address.ip(), interface: 0 });
                batch.commit(burst.contents.len(), burst.stride, path, burst.ecn);
            }
        }
        Ok(batch.entries().len() - before)
    }

    fn send(&mut self, transmit: &Transmit<'_>) -> Result<Sent, SendError> {
        let Path::Udp(udp) = transmit.path else {
            return Err(SendError::Dropped(DropReason::Unsupported));
        };
        let (from, sent) = self.own(&udp).ok_or(SendError::Dropped(DropReason::Unreachable))?;
        if transmit.contents.len() > SendBatch::max_datagram(&transmit.path) {
            return Err(SendError::Dropped(DropReason::TooLong));
        }
        let mut queues = self.hub.queues();
        let queue = queues.get_mut(&udp.remote).ok_or(SendError::Dropped(DropReason::Unreachable))?;
        if queue.bytes + transmit.contents.len() > Hub::QUEUE {
            return Err(SendError::Dropped(DropReason::NoBuffers));
        }
        queue.bytes += transmit.contents.len();
        queue.waiting.push_back(Burst {
            from,
            contents: transmit.contents.into(),
            stride: transmit.segment_size.unwrap_or(transmit.contents.len()),
            ecn: transmit.ecn,
        });
        Ok(sent)
    }

    fn max_segments(&self) -> usize {
        SendBatch::MAX_SEGMENTS
    }

    #[cfg(unix)]
    fn descriptors(&self) -> &[RawFd] {
        &[]
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut queues = self.hub.queues();
        for address in &self.addresses {
            queues.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use span_core::wireguard::Reserve;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Everything that waits: sender, asked address, lengths of the datagrams.
    fn drain(memory: &mut Memory) -> Vec<(SocketAddr, String, Vec<usize>)> {
        let mut batch = RecvBatch::new(16);
        let mut drained = Vec::new();
        while memory.recv(&mut batch).unwrap() > 0 {
            drained.extend(batch.entries().iter().map(|entry| {
                let Path::Udp(udp) = entry.path else { panic!("{:?}", entry.path) };
                let asked = udp.source.map(|source| source.ip.to_string()).unwrap_or_default();
                (udp.remote, asked, entry.datagrams().map(|range| range.len()).collect())
            }));
            batch.clear();
        }
        drained
    }

    #[test]
    fn bursts_arrive_whole_in_order_and_can_be_answered() {
        let hub = Hub::new();
        let (a, b) = (address("192.0.2.1:1"), address("192.0.2.2:2"));
        let (mut alice, mut bob) = (hub.attach(a).unwrap(), hub.attach(b).unwrap());
        let mut batch = SendBatch::default();
        for len in [1000, 1000, 30, 1200] {
            batch.reserve(&Path::udp(b), len).unwrap().fill(7);
        }
        assert_eq!(batch.flush(&mut alice).datagrams, 4);
        let asked = b.ip().to_string();
        assert_eq!(drain(&mut bob), [(a, asked.clone(), vec![1000, 1000, 30]), (a, asked, vec![1200])]);
        assert_eq!(drain(&mut bob), []);
    }

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked_while_it_is_there() {
        let hub = Hub::new();
        let (a, b, c) = (address("192.0.2.1:1"), address("192.0.2.2:2"), address("192.0.2.3:3"));
        let (mut alice, mut bob) = (hub.attach(a).unwrap(), hub.attach(b).unwrap());
        bob.add_address(c).unwrap();
        assert_eq!(hub.attach(c).unwrap_err(), AddressTaken(c));
        let source = Source { ip: c.ip(), interface: 0 };
        let mut batch = SendBatch::default();
        batch.reserve(&Path::udp_from(a, source), 10).unwrap().fill(1);
        let _ = batch.flush(&mut bob);
        assert_eq!(drain(&mut alice)[0].0, c);
        bob.remove_address(c);
        batch.reserve(&Path::udp_from(a, source), 10).unwrap().fill(1);
        let _ = batch.flush(&mut bob);
        assert_eq!(batch.lost_sources().len(), 1);
        assert_eq!(drain(&mut alice)[0].0, b);
    }

    #[test]
    fn what_is_not_there_is_unreachable_and_a_full_queue_loses() {
        let hub = Hub::new();
        let (a, b) = (address("192.0.2.1:1"), address("192.0.2.2:2"));
        let mut alice = hub.attach(a).unwrap();
        let contents = vec![0; 60_000];
        let transmit =
            Transmit { path: Path::udp(b), contents: &contents, segment_size: None, ecn: Ecn::Ect0 };
        assert_eq!(alice.send(&transmit), Err(SendError::Dropped(DropReason::Unreachable)));
        let bob = hub.attach(b).unwrap();
        let taken = (0..100).take_while(|_| alice.send(&transmit).is_ok()).count();
        assert_eq!(taken, Hub::QUEUE / 60_000);
        assert_eq!(alice.send(&transmit), Err(SendError::Dropped(DropReason::NoBuffers)));
        drop(bob);
        assert_eq!(alice.send(&transmit), Err(SendError::Dropped(DropReason::Unreachable)));
        assert!(hub.attach(b).is_ok(), "a dropped transport frees its address");
    }

    #[test]
    fn the_same_sends_give_the_same_batches() {
        let run = || {
            let hub = Hub::new();
            let addresses: Vec<_> = (1..=4).map(|n| SocketAddr::from(([192, 0, 2, n], 51820))).collect();
            let mut hosts: Vec<_> = addresses.iter().map(|it| hub.attach(*it).unwrap()).collect();
            let mut log = Vec::new();
            for round in 0..50usize {
                for (from, host) in hosts.iter_mut().enumerate() {
                    let mut batch = SendBatch::new(2);
                    for (to, address) in addresses.iter().enumerate() {
                        let len = 50 + (round * 7 + from * 3 + to) % 40;
                        batch.reserve(&Path::udp(*address), len).unwrap().fill(1);
                    }
                    let _ = batch.flush(host);
                }
                log.push(drain(&mut hosts[round % 4]));
            }
            log
        };
        assert_eq!(run(), run());
    }
}
