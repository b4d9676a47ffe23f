//! TCP, UDP and ping over the mesh in an unprivileged process, without a TUN.
//!
//! A [`Netstack`] is a host of its own: it has addresses, and sockets that look like those of the standard
//! library. The packet thread of a node has the other end, a [`NetstackDevice`], where it would have a TUN; the
//! stack has no thread of its own. [`Netstack::new`] makes both.
//!
//! TCP is smoltcp's (with NewReno), and does not see packets. It sends super-packets of up to 64 KiB with the
//! virtio header that says how to cut them, as a kernel does with a network card that can, and it receives bursts
//! already merged. Windows are scaled, the segment size is that of the mesh's MTU. What a peer's acknowledgements
//! say about losses is read here, selective ones too, and repaired before a timer strikes.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::SocketAddr;
//! use span_tun::device::Device;
//! use span_tun::netstack::{Config, Netstack};
//!
//! # fn main() -> std::io::Result<()> {
//! let ip = "fd00::1".parse().map_err(std::io::Error::other)?;
//! let (netstack, device) = Netstack::new(Config::new([ip]))?;
//! // The device goes to the packet thread of a node, as a TUN would.
//! let device: Box<dyn Device> = Box::new(device);
//! # let packets = std::thread::spawn(move || carry(device));
//!
//! let listener = netstack.listen(SocketAddr::new(ip, 80))?;
//! let address = listener.local_addr();
//! # let server =
//! std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut stream, _) = listener.accept()?;
//!     stream.write_all(b"hello")
//! });
//!
//! let mut stream = netstack.connect(address)?;
//! let mut greeting = String::new();
//! stream.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, "hello");
//! # server.join().unwrap()?;
//! # netstack.close();
//! # packets.join().unwrap();
//! # Ok(())
//! # }
//! #
//! # fn carry(mut device: Box<dyn Device>) {
//! #     let mut frame = vec![0; span_tun::device::MAX_FRAME];
//! #     for _ in 0..2000 {
//! #         let _ = device.recv(&mut frame);
//! #         std::thread::sleep(std::time::Duration::from_millis(1));
//! #     }
//! # }
//! ```
//!
//! A packet loop of one's own polls [`Device::descriptor`](crate::device::Device::descriptor) and looks at
//! [`Device::deadline`](crate::device::Device::deadline) before it sleeps; [`Config::clock`] is the clock it
//! compares with.
//!
//! [`TcpStream`] implements [`Read`](std::io::Read) and [`Write`](std::io::Write), the `AsyncRead` and
//! `AsyncWrite` of `futures-io`, and with the feature `tokio` those of tokio; everything else that waits has a
//! `poll_` method next to it.
//!
//! Errors are [`std::io::Error`]s with these kinds: `ConnectionRefused`, `ConnectionReset`, `HostUnreachable`,
//! `NetworkUnreachable`, `TimedOut`, `AddrInUse`, `AddrNotAvailable`, `QuotaExceeded` (the limits of [`Config`]),
//! `InvalidInput`, `BrokenPipe` (writing after [`TcpStream::shutdown`]), `WouldBlock`, and `NetworkDown` once the
//! stack is closed.

mod async_io;
mod config;
mod device;
mod frame;
mod icmp;
mod outbox;
mod ping;
mod port;
mod recovery;
mod shared;
mod slab;
mod stack;
mod tcp;
mod udp;
mod wait;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use config::{Clock, Config, MAX_ADDRESSES, MIN_MTU};
pub use device::NetstackDevice;
pub use ping::Ping;
pub use tcp::{Incoming, Readiness, TcpListener, TcpStream};
pub use udp::UdpSocket;

use shared::Shared;
use stack::Stack;

/// Connections that may wait to be accepted unless [`Netstack::listen_with_backlog`] says otherwise.
const BACKLOG: usize = 128;

/// A host on the mesh inside this process. Cloning gives another handle to the same.
#[derive(Clone, Debug)]
pub struct Netstack {
    shared: Arc<Shared>,
}

/// Frames that were not taken or did not leave, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drops {
    /// No whole packet, or a fragment.
    pub malformed: u64,
    /// Not to an address of the stack, or from none.
    pub misdirected: u64,
    /// A checksum did not hold.
    pub damaged: u64,
    /// A connection that a listener had no room for.
    pub backlog: u64,
    /// A datagram that its socket had no room for.
    pub socket_full: u64,
    /// An answer that the queue had no room for.
    pub queue_full: u64,
}

impl Drops {
    /// All of them.
    pub fn total(&self) -> u64 {
        let Self { malformed, misdirected, damaged, backlog, socket_full, queue_full } = self;
        malformed + misdirected + damaged + backlog + socket_full + queue_full
    }
}

impl Netstack {
    /// A stack, and the device that connects it.
    ///
    /// # Errors
    /// `InvalidInput` if the configuration cannot work, and what the system says if it has no descriptor to wait
    /// on.
    pub fn new(config: Config) -> io::Result<(Self, NetstackDevice)> {
        config.check()?;
        let (clock, mtu) = (config.clock.clone(), config.mtu);
        let shared = Arc::new(Shared::new(Stack::new(config), clock)?);
        Ok((Self { shared: Arc::clone(&shared) }, NetstackDevice::new(shared, mtu)))
    }

    /// Opens a TCP connection, and waits for it as long as [`Config::connect_timeout`] says.
    ///
    /// # Errors
    /// `ConnectionRefused` if nobody listens there, `TimedOut`, `HostUnreachable` and its like if somebody on the
    /// way says so, `AddrNotAvailable` if the stack has no address of this family, `QuotaExceeded`,
    /// `NetworkDown` when the stack is closed.
    pub fn connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::open(&self.shared, remote, None)?;
        stream.wait_open()?;
        Ok(stream)
    }

    /// As [`Netstack::connect`], with another timeout.
    ///
    /// # Errors
    /// As [`Netstack::connect`].
    pub fn connect_timeout(&self, remote: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::open(&self.shared, remote, Some(timeout))?;
        stream.wait_open()?;
        Ok(stream)
    }

    /// Begins to open a TCP connection and does not wait; [`TcpStream::poll_connected`] does, and so do reading
    /// and writing.
    ///
    /// # Errors
    /// As [`Netstack::connect`], as far as it is known at once.
    pub fn start_connect(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::open(&self.shared, remote, None)
    }

    /// As [`Netstack::connect`], for a task instead of a thread.
    ///
    /// # Errors
    /// As [`Netstack::connect`].
    pub async fn connect_async(&self, remote: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.start_connect(remote)?;
        std::future::poll_fn(|context| stream.poll_connected(context)).await?;
        Ok(stream)
    }

    /// Listens for TCP connections, with room for 128 that wait to be accepted. `[::]` stands for all addresses
    /// of the stack, `0.0.0.0` for those of IPv4, port 0 for a free one.
    ///
    /// # Errors
    /// `AddrInUse`, `AddrNotAvailable` if it is no address of the stack, `QuotaExceeded`, `NetworkDown` when the
    /// stack is closed.
    pub fn listen(&self, local: SocketAddr) -> io::Result<TcpListener> {
        self.listen_with_backlog(local, BACKLOG)
    }

    /// As [`Netstack::listen`], with room for `backlog` connections, those that are being opened included. What
    /// comes then is not answered, and tries again.
    ///
    /// # Errors
    /// As [`Netstack::listen`].
    pub fn listen_with_backlog(&self, local: SocketAddr, backlog: usize) -> io::Result<TcpListener> {
        TcpListener::bind(&self.shared, local, backlog)
    }

    /// A UDP socket; addresses as for [`Netstack::listen`].
    ///
    /// # Errors
    /// As [`Netstack::listen`].
    pub fn bind_udp(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(&self.shared, local)
    }

    /// Pings an address. Pings to the stack are answered by itself.
    ///
    /// # Errors
    /// `AddrNotAvailable` if the stack has no address of this family, `NetworkDown` when it is closed.
    pub fn ping(&self, peer: IpAddr) -> io::Result<Ping> {
        Ping::new(&self.shared, peer)
    }

    /// The addresses of the stack.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.shared.with(|stack, _| stack.config.addresses.clone())
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.shared.with(|stack, _| stack.drops)
    }

    /// TCP connections at the moment, those that are being opened or closed included.
    pub fn connections(&self) -> usize {
        self.shared.with(|stack, _| stack.connections.len())
    }

    /// Closes the stack: every connection is reset, and every call returns `NetworkDown`, those that wait too.
    pub fn close(&self) {
        self.shared.with(Stack::close);
    }
}
