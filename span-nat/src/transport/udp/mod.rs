//! UDP on the host's sockets: one per address family, on the same port.
//!
//! Bursts go out and come in through segmentation offload where the kernel has it. The address a
//! datagram was sent to is reported as the path's source and used for the answer, so that a host with
//! several addresses answers from the one it was asked at. Fragments are allowed, as for the kernel's
//! own WireGuard.

mod bind;
mod errno;
mod socket;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod options;
#[cfg(not(target_os = "linux"))]
#[path = "other.rs"]
mod options;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use span_core::path::Path;

use self::socket::Socket;
use super::{DropReason, Drops, RecvBatch, SendError, Sent, Transmit, Transport};

pub use bind::BindError;

/// What to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The port of both families; 0 lets the host choose one that is free in both.
    pub port: u16,
    /// The IPv4 address to listen at; `None` leaves the family out.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address to listen at; `None` leaves the family out.
    pub ipv6: Option<Ipv6Addr>,
    /// The firewall mark of all datagrams sent; 0 for none.
    pub mark: u32,
    /// Lets [`sibling`](Transport::sibling) open more sockets on the port. Nobody else gets the port for it: the
    /// first sockets are bound as if it were not set.
    pub shared: bool,
    /// Bytes the kernel may hold for this program to read; it grants itself twice as much for its own
    /// bookkeeping. What waits longer than this program needs to wake up is delay and nothing gained: 768 KiB
    /// are a millisecond and a quarter at 5 Gbit/s.
    pub receive_buffer: usize,
    /// Bytes the kernel may hold before sending blocks, counted likewise. Some bursts of 64 KiB keep a link
    /// busy; more would only wait in front of it.
    pub send_buffer: usize,
}

/// The UDP transport.
#[derive(Debug)]
pub struct Udp {
    config: Config,
    /// The sockets were brought along, and are not to be replaced.
    given: bool,
    sockets: Sockets,
    descriptors: Vec<RawFd>,
    /// Which family is read first.
    ipv6_first: bool,
    counters: Counters,
}

/// What a [`Udp`] did since it was bound; survives rebinding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// System calls that received something.
    pub receive_calls: u64,
    /// Datagrams they received.
    pub received: u64,
    /// Errors on receiving, such as an ICMP answer to something sent. None of them is fatal.
    pub receive_errors: u64,
    /// Calls that sent something.
    pub send_calls: u64,
    /// Datagrams they sent.
    pub sent: u64,
    /// Bursts the kernel or the device refused to cut, so that they had to be sent singly.
    pub unsegmented: u64,
    /// Sends for which the source address was of no use any more.
    pub sources_lost: u64,
    /// Datagrams lost at sending.
    pub drops: Drops,
}

/// The bound sockets; at least one is there.
#[derive(Debug)]
struct Sockets {
    ipv4: Option<Socket>,
    ipv6: Option<Socket>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            port: 0,
            ipv4: Some(Ipv4Addr::UNSPECIFIED),
            ipv6: Some(Ipv6Addr::UNSPECIFIED),
            mark: 0,
            shared: false,
            receive_buffer: 768 << 10,
            send_buffer: 512 << 10,
        }
    }
}

impl Udp {
    /// Binds a socket per wanted family. A family the host does not have is left out.
    ///
    /// # Errors
    /// See [`BindError`]; it names the address and what to do.
    pub fn bind(config: Config) -> Result<Self, BindError> {
        let sockets = bind::bind(&config)?;
        Ok(Self::new(config, sockets, false))
    }

    /// Takes over sockets that a program has bound itself: one of each family or one alone, both on one port,
    /// and that of IPv6 for IPv6 only. Of `config`, mark and buffers are set on them and the rest is not used.
    /// They become non-blocking, and cannot be [rebound](Self::rebind).
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn from_sockets(
        ipv4: Option<UdpSocket>,
        ipv6: Option<UdpSocket>,
        config: Config,
    ) -> Result<Self, BindError> {
        let sockets = bind::adopt(ipv4, ipv6, &config)?;
        Ok(Self::new(config, sockets, true))
    }

    fn new(config: Config, sockets: Sockets, given: bool) -> Self {
        let mut udp = Udp {
            config,
            given,
            sockets,
            descriptors: Vec::with_capacity(2),
            ipv6_first: false,
            counters: Counters::default(),
        };
        udp.list_descriptors();
        udp
    }

    /// Moves to another port, 0 for one the host chooses. The old sockets are closed only once the new
    /// ones are bound, so after an error everything is as before; datagrams that still wait in them are
    /// lost. Moving to the port already in use does nothing.
    ///
    /// The descriptors change: those that were polled are closed, and
    /// [`descriptors`](Transport::descriptors) are to be registered anew.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn rebind(&mut self, port: u16) -> Result<(), BindError> {
        if port != 0 && port == self.local_port() {
            return Ok(());
        }
        if self.given {
            return Err(BindError::Given);
        }
        let config = Config { port, ..self.config.clone() };
        self.sockets = bind::bind(&config)?;
        self.config = config;
        self.list_descriptors();
        Ok(())
    }

    /// Changes the firewall mark of everything sent from now on; 0 for none.
    ///
    /// # Errors
    /// [`BindError::MarkDenied`] without the capability CAP_NET_ADMIN; no socket is changed then.
    pub fn set_mark(&mut self, mark: u32) -> Result<(), BindError> {
        for socket in self.sockets.iter() {
            socket.set_mark(mark)?;
        }
        self.config.mark = mark;
        Ok(())
    }

    /// The firewall mark of everything sent; 0 for none.
    pub fn mark(&self) -> u32 {
        self.config.mark
    }

    /// The port both families are bound to.
    pub fn local_port(&self) -> u16 {
        self.sockets.iter().map(|socket| socket.local.port()).next().unwrap_or(0)
    }

    /// The addresses bound, IPv4 first.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|socket| socket.local)
    }

    /// Whether the host lets it send to addresses of IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.sockets.ipv6.is_some()
    }

    /// Whether the host lets it send to addresses of IPv4.
    pub fn has_ipv4(&self) -> bool {
        self.sockets.ipv4.is_some()
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn list_descriptors(&mut self) {
        self.descriptors.clear();
        self.descriptors.extend(self.sockets.iter().map(Socket::as_raw_fd));
    }
}

impl Transport for Udp {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        self.recv_readable(u64::MAX, batch)
    }

    fn recv_readable(&mut self, readable: u64, batch: &mut RecvBatch) -> io::Result<usize> {
        let before = batch.entries().len();
        let Sockets { ipv4, ipv6 } = &self.sockets;
        // In the order of the descriptors.
        let first = readable & 1 != 0;
        let second = if ipv4.is_some() { readable & 2 != 0 } else { first };
        let (ipv4, ipv6) = (ipv4.as_ref().filter(|_| first), ipv6.as_ref().filter(|_| second));
        let order = if self.ipv6_first { [ipv6, ipv4] } else { [ipv4, ipv6] };
        for socket in order.into_iter().flatten() {
            socket.recv(batch, &mut self.counters)?;
        }
        // Whoever fills the batch alone lets the other go first.
        self.ipv6_first ^= batch.spare_len() == 0;
        Ok(batch.entries().len() - before)
    }

    fn send(&mut self, transmit: &Transmit<'_>) -> Result<Sent, SendError> {
        let Path::Udp(udp) = transmit.path else {
            return Err(self.counters.dropped(transmit, DropReason::Unsupported));
        };
        let socket = match udp.remote {
            SocketAddr::V4(_) => &mut self.sockets.ipv4,
            SocketAddr::V6(_) => &mut self.sockets.ipv6,
        };
        match socket {
            Some(socket) if udp.remote.port() != 0 && !udp.remote.ip().is_unspecified() => {
                socket.send(&udp, transmit, &mut self.counters)
            }
            Some(_) | None => Err(self.counters.dropped(transmit, DropReason::Unsupported)),
        }
    }

    fn max_segments(&self) -> usize {
        self.sockets.iter().map(Socket::max_segments).max().unwrap_or(1)
    }

    fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }

    fn local_port(&self) -> u16 {
        Udp::local_port(self)
    }

    fn rebind(&mut self, port: u16) -> Result<(), BindError> {
        Udp::rebind(self, port)
    }

    fn mark(&self) -> u32 {
        Udp::mark(self)
    }

    fn set_mark(&mut self, mark: u32) -> Result<(), BindError> {
        Udp::set_mark(self, mark)
    }

    fn drops(&self) -> Drops {
        self.counters.drops
    }

    fn sibling(&self) -> Result<Option<Box<dyn Transport>>, BindError> {
        if self.given || !self.config.shared {
            return Ok(None);
        }
        let sockets = bind::bind_beside(&self.config, &self.sockets)?;
        Ok(Some(Box::new(Self::new(self.config.clone(), sockets, false))))
    }
}

impl Sockets {
    fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.ipv4.iter().chain(&self.ipv6)
    }
}

impl Counters {
    fn dropped(&mut self, transmit: &Transmit<'_>, reason: DropReason) -> SendError {
        self.drops.add(reason, transmit.datagrams());
        SendError::Dropped(reason)
    }
}

#[cfg(test)]
mod tests;
