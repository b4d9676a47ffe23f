use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use span_core::time::Instant;

use super::frame::{self, Packet, be16};
use super::shared::{Patience, Shared};
use super::stack::Stack;
use super::wait::Waiters;
use crate::offload::VirtioHeader;
use crate::offload::packet::Udp;

/// What the stack has of a UDP socket: the datagrams that wait to be received, one after the other.
#[derive(Debug)]
pub(super) struct Datagrams {
    local: SocketAddr,
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Bytes that wait, headers included.
    bytes: usize,
    /// Buffers of datagrams already received, to be filled again.
    spare: Vec<Vec<u8>>,
    pub(super) readers: Waiters,
}

/// What a waiting datagram costs beyond its payload, in bytes.
const COST: usize = 64;
/// Most buffers that are kept to be filled again.
const SPARE: usize = 64;

/// Sends and receives datagrams over the mesh, with the ways of [`std::net::UdpSocket`]. Made by
/// [`super::Netstack::bind_udp`].
///
/// A datagram has to fit the MTU: there is no fragmentation.
#[derive(Debug)]
pub struct UdpSocket {
    shared: Arc<Shared>,
    id: usize,
    local: SocketAddr,
    nonblocking: AtomicBool,
    read_timeout: Mutex<Option<Duration>>,
}

impl UdpSocket {
    pub(super) fn bind(shared: &Arc<Shared>, local: SocketAddr) -> io::Result<Self> {
        let (id, local) = shared.with(|stack, _| {
            stack.check_open()?;
            if stack.datagrams.len() >= stack.config.max_sockets {
                return Err(ErrorKind::QuotaExceeded.into());
            }
            let local = stack.place(local, |stack, place| stack.bound.contains_key(&place))?;
            let id = stack.datagrams.insert(Datagrams {
                local,
                waiting: VecDeque::new(),
                bytes: 0,
                spare: Vec::new(),
                readers: Waiters::default(),
            });
            stack.bound.insert(local, id);
            io::Result::Ok((id, local))
        })?;
        Ok(Self {
            shared: Arc::clone(shared),
            id,
            local,
            nonblocking: AtomicBool::new(false),
            read_timeout: Mutex::new(None),
        })
    }

    /// Sends one datagram, and waits for room in the queue of the stack unless the socket is non-blocking.
    ///
    /// # Errors
    /// `InvalidInput` if it does not fit the MTU or the port is zero, `AddrNotAvailable` if there is no address
    /// to send from, `WouldBlock` if there is no room and it must not wait, `NetworkDown` when the stack is
    /// closed.
    pub fn send_to(&self, payload: &[u8], remote: SocketAddr) -> io::Result<usize> {
        let patience = if self.nonblocking.load(Ordering::Relaxed) {
            Patience::Nonblocking
        } else {
            Patience::Blocking(None)
        };
        self.shared.wait(
            patience,
            |stack, _| send(stack, self.local, remote, payload),
            |stack| Some(&mut stack.outbox.room),
        )
    }

    /// Receives one datagram to the beginning of `buf` and returns its length and sender. What does not fit is
    /// cut off.
    ///
    /// # Errors
    /// `WouldBlock` if there is none and it must not wait, `TimedOut`, `NetworkDown` when the stack is closed.
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let patience = if self.nonblocking.load(Ordering::Relaxed) {
            Patience::Nonblocking
        } else {
            Patience::Blocking(*self.read_timeout.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.shared.wait(
            patience,
            |stack, _| receive(stack, self.id, buf),
            |stack| stack.datagrams.get_mut(self.id).map(|socket| &mut socket.readers),
        )
    }

    /// As [`UdpSocket::send_to`], for a task instead of a thread.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`], without `WouldBlock`.
    pub fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        payload: &[u8],
        remote: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.shared.poll(
            context,
            |stack, _| send(stack, self.local, remote, payload),
            |stack| Some(&mut stack.outbox.room),
        )
    }

    /// As [`UdpSocket::recv_from`], for a task instead of a thread.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`], without `WouldBlock` and `TimedOut`.
    pub fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.shared.poll(
            context,
            |stack, _| receive(stack, self.id, buf),
            |stack| stack.datagrams.get_mut(self.id).map(|socket| &mut socket.readers),
        )
    }

    /// Where it is bound; with the port it was given if it asked for none.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether calls return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// How long [`UdpSocket::recv_from`] waits before it returns `TimedOut`; `None` is for ever.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            return Err(ErrorKind::InvalidInput.into());
        }
        *self.read_timeout.lock().unwrap_or_else(PoisonError::into_inner) = timeout;
        Ok(())
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.shared.with(|stack, _| {
            if let Some(socket) = stack.datagrams.remove(self.id) {
                stack.bound.remove(&socket.local);
            }
        });
    }
}

fn send(stack: &mut Stack, local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> Poll<io::Result<usize>> {
    stack.check_open()?;
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    let source = if local.ip().is_unspecified() { stack.source_for(remote.ip())? } else { local.ip() };
    if source.is_ipv4() != remote.is_ipv4() || (local.is_ipv4() && remote.is_ipv6()) {
        return Poll::Ready(Err(ErrorKind::AddrNotAvailable.into()));
    }
    let len = frame::network_header(source) + Udp::HEADER_LEN + payload.len();
    if remote.port() == 0 || remote.ip().is_unspecified() || len > usize::from(stack.config.mtu) {
        return Poll::Ready(Err(ErrorKind::InvalidInput.into()));
    }
    let (from, to) = ((source, local.port()), (remote.ip(), remote.port()));
    let sent = stack.outbox.push(VirtioHeader::default(), |out| frame::udp(from, to, payload, out));
    if sent { Poll::Ready(Ok(payload.len())) } else { Poll::Pending }
}

fn receive(stack: &mut Stack, id: usize, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
    stack.check_open()?;
    let Some(socket) = stack.datagrams.get_mut(id) else {
        return Poll::Ready(Err(ErrorKind::NotConnected.into()));
    };
    let Some((sender, datagram)) = socket.waiting.pop_front() else { return Poll::Pending };
    socket.bytes -= datagram.len() + COST;
    let len = datagram.len().min(buf.len());
    buf[..len].copy_from_slice(&datagram[..len]);
    if socket.spare.len() < SPARE {
        socket.spare.push(datagram);
    }
    Poll::Ready(Ok((len, sender)))
}

impl Stack {
    /// Takes a UDP packet.
    pub(super) fn take_datagram(&mut self, now: Instant, packet: &Packet, frame: &[u8]) {
        let body = &frame[packet.at..];
        let Some(len) = Udp::parse(body).map(|udp| udp.len()) else {
            self.drops.malformed += 1;
            return;
        };
        let Some(payload) = body.get(Udp::HEADER_LEN..len) else {
            self.drops.malformed += 1;
            return;
        };
        let sender = SocketAddr::new(packet.source, be16(body, 0));
        let local = SocketAddr::new(packet.destination, be16(body, 2));
        let Some(socket) = Self::bound_to(&self.bound, local).and_then(|id| self.datagrams.get_mut(id))
        else {
            self.refuse(now, frame);
            return;
        };
        if socket.bytes + payload.len() + COST > self.config.datagram_buffer {
            self.drops.socket_full += 1;
            return;
        }
        let mut datagram = socket.spare.pop().unwrap_or_default();
        datagram.clear();
        datagram.extend_from_slice(payload);
        socket.bytes += datagram.len() + COST;
        socket.waiting.push_back((sender, datagram));
        socket.readers.wake(&mut self.wakers);
    }
}
