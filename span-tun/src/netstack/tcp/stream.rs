use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use span_core::time::Instant;

use super::connection::Owner;
use super::{Connection, Flow};
use crate::netstack::shared::{Patience, Shared};
use crate::netstack::stack::Stack;
use crate::netstack::wait::Waiters;

/// Bytes that are copied before others get their turn.
const PORTION: usize = 128 << 10;

/// A TCP connection over the mesh, with the ways of [`std::net::TcpStream`].
///
/// Reading and writing need only `&TcpStream`, so one thread can read while another writes; several handles are
/// had by [`TcpStream::try_clone`]. With the last of them the connection is closed: what was written still
/// arrives, unless something was received and not read, which resets it.
///
/// Small writes are not held back (there is no Nagle's algorithm), but leave together if they are made together.
#[derive(Debug)]
pub struct TcpStream {
    inner: Arc<Inner>,
    nonblocking: AtomicBool,
    /// Nanoseconds; zero is for ever.
    read_timeout: AtomicU64,
    write_timeout: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    id: usize,
    local: SocketAddr,
    remote: SocketAddr,
}

/// What a connection is ready for, without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Reading gives bytes, the end or an error.
    pub readable: bool,
    /// Writing takes bytes or gives an error.
    pub writable: bool,
    /// The connection is over in both directions.
    pub closed: bool,
}

impl TcpStream {
    pub(in crate::netstack) fn adopt(
        shared: &Arc<Shared>,
        id: usize,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Self {
        Self::of(Arc::new(Inner { shared: Arc::clone(shared), id, local, remote }))
    }

    fn of(inner: Arc<Inner>) -> Self {
        Self {
            inner,
            nonblocking: AtomicBool::new(false),
            read_timeout: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
        }
    }

    /// Begins to open a connection.
    pub(in crate::netstack) fn open(
        shared: &Arc<Shared>,
        remote: SocketAddr,
        timeout: Option<Duration>,
    ) -> io::Result<Self> {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let (id, local) = shared.with(|stack, now| {
            stack.check_open()?;
            if stack.connections.len() >= stack.config.max_connections {
                return Err(ErrorKind::QuotaExceeded.into());
            }
            let ip = stack.source_for(remote.ip())?;
            let flow = |port| Flow { local: SocketAddr::new(ip, port), remote };
            let port = stack.free_port(|stack, port| stack.flows.contains_key(&flow(port)))?;
            let flow = flow(port);
            let segment = stack.segment(ip);
            let mut connection = Connection::new(&stack.config, flow, segment, Owner::Stream);
            if !connection.open(&mut stack.interface) {
                return Err(ErrorKind::InvalidInput.into());
            }
            connection.abort_at = Some(now + timeout.unwrap_or(stack.config.connect_timeout));
            let id = stack.connections.insert(connection);
            stack.flows.insert(flow, id);
            stack.touch(id);
            io::Result::Ok((id, flow.local))
        })?;
        Ok(Self::adopt(shared, id, local, remote))
    }

    /// Waits until the connection is open.
    pub(in crate::netstack) fn wait_open(&self) -> io::Result<()> {
        self.inner.wait(Patience::Blocking(None), Side::Writing, |connection, _| connection.opened())
    }

    /// Ready when a connection begun with [`super::super::Netstack::start_connect`] is open.
    ///
    /// # Errors
    /// Those of [`super::super::Netstack::connect`].
    pub fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll(context, Side::Writing, |connection, _| connection.opened())
    }

    /// The peer's address and port.
    pub fn peer_addr(&self) -> SocketAddr {
        self.inner.remote
    }

    /// The address and port on this side.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// Whether reading and writing return `WouldBlock` instead of waiting. Each handle has its own mode.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// How long reading waits before it returns `TimedOut`; `None` is for ever. Each handle has its own.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        store(&self.read_timeout, timeout)
    }

    /// How long writing waits before it returns `TimedOut`; `None` is for ever. Each handle has its own.
    ///
    /// # Errors
    /// `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        store(&self.write_timeout, timeout)
    }

    /// What the connection is ready for.
    pub fn readiness(&self) -> Readiness {
        self.inner.shared.with(|stack, _| match stack.connections.get(self.inner.id) {
            Some(connection) => Readiness {
                readable: connection.is_readable(),
                writable: connection.is_writable(),
                closed: !connection.socket().is_open(),
            },
            None => Readiness { readable: true, writable: true, closed: true },
        })
    }

    /// Ready when reading gives bytes, the end or an error.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll(context, Side::Reading, |connection, _| match connection.is_readable() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        })
    }

    /// Ready when writing takes bytes or gives an error.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll(context, Side::Writing, |connection, _| match connection.is_writable() {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        })
    }

    /// Another handle to the same connection.
    ///
    /// # Errors
    /// None; it has the form of the standard library's.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::of(Arc::clone(&self.inner)))
    }

    /// Reads without taking anything away.
    ///
    /// # Errors
    /// As reading does.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.wait(self.reading(), Side::Reading, |connection, _| connection.peek(buf))
    }

    /// The error that ended the connection, if one did.
    pub fn take_error(&self) -> Option<io::Error> {
        self.inner.shared.with(|stack, _| {
            stack.connections.get(self.inner.id).and_then(|connection| connection.error).map(Into::into)
        })
    }

    /// Ends one half of the connection or both. The peer reads the end after what was written before; what it
    /// writes after the reading half is shut down is taken and dropped.
    ///
    /// # Errors
    /// `NotConnected` if it was never open.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.inner.shared.with(|stack, now| {
            let Some(connection) = stack.connections.get_mut(self.inner.id) else {
                return Err(ErrorKind::NotConnected.into());
            };
            if connection.is_opening() {
                return Err(ErrorKind::NotConnected.into());
            }
            let before = connection.state();
            if matches!(how, Shutdown::Read | Shutdown::Both) {
                connection.read_shut = true;
                connection.discard();
            }
            if matches!(how, Shutdown::Write | Shutdown::Both) {
                connection.socket_mut().close();
                connection.abort_at.get_or_insert(now + stack.config.patience);
            }
            stack.review(now, self.inner.id, before, false);
            stack.prod(now, self.inner.id);
            Ok(())
        })
    }

    fn reading(&self) -> Patience {
        patience(&self.nonblocking, &self.read_timeout)
    }

    fn writing(&self) -> Patience {
        patience(&self.nonblocking, &self.write_timeout)
    }

    /// Reads for a task.
    pub(in crate::netstack) fn poll_read(
        &self,
        context: &Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll(context, Side::Reading, |connection, _| connection.read(portion_mut(buf)))
    }

    /// Writes for a task.
    pub(in crate::netstack) fn poll_write(
        &self,
        context: &Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll(context, Side::Writing, |connection, times| write(connection, times, buf))
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let patience = self.reading();
        self.inner.wait(patience, Side::Reading, |connection, _| connection.read(portion_mut(buf)))
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let patience = self.writing();
        self.inner.wait(patience, Side::Writing, |connection, times| write(connection, times, buf))
    }

    /// Returns at once: nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self).flush()
    }
}

/// Which waiters a call waits with.
#[derive(Clone, Copy)]
enum Side {
    Reading,
    Writing,
}

/// What a call may need to know of time.
struct Times {
    now: Instant,
    patience: Duration,
}

impl Inner {
    fn wait<R>(
        &self,
        patience: Patience,
        side: Side,
        mut call: impl FnMut(&mut Connection, &Times) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        self.shared.wait(
            patience,
            |stack, now| self.attempt(stack, now, &mut call),
            |stack| self.waiters(stack, side),
        )
    }

    fn poll<R>(
        &self,
        context: &Context<'_>,
        side: Side,
        call: impl FnOnce(&mut Connection, &Times) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        self.shared.poll(
            context,
            |stack, now| self.attempt(stack, now, call),
            |stack| self.waiters(stack, side),
        )
    }

    /// Does something with the connection, and sees whether it has something to send then.
    fn attempt<R>(
        &self,
        stack: &mut Stack,
        now: Instant,
        call: impl FnOnce(&mut Connection, &Times) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let times = Times { now, patience: stack.config.patience };
        let Some(connection) = stack.connections.get_mut(self.id) else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let outcome = call(connection, &times);
        if outcome.is_ready() {
            stack.prod(now, self.id);
        }
        outcome
    }

    fn waiters<'a>(&self, stack: &'a mut Stack, side: Side) -> Option<&'a mut Waiters> {
        stack.connections.get_mut(self.id).map(|connection| match side {
            Side::Reading => &mut connection.readers,
            Side::Writing => &mut connection.writers,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.with(|stack, now| stack.let_go(now, self.id));
    }
}

fn write(connection: &mut Connection, times: &Times, buf: &[u8]) -> Poll<io::Result<usize>> {
    let outcome = connection.write(&buf[..buf.len().min(PORTION)]);
    if matches!(outcome, Poll::Ready(Ok(written)) if written > 0) && connection.abort_at.is_none() {
        connection.abort_at = Some(times.now + times.patience);
    }
    outcome
}

fn portion_mut(buf: &mut [u8]) -> &mut [u8] {
    let len = buf.len().min(PORTION);
    &mut buf[..len]
}

fn patience(nonblocking: &AtomicBool, timeout: &AtomicU64) -> Patience {
    if nonblocking.load(Ordering::Relaxed) {
        return Patience::Nonblocking;
    }
    let nanos = timeout.load(Ordering::Relaxed);
    Patience::Blocking((nanos != 0).then(|| Duration::from_nanos(nanos)))
}

fn store(timeout: &AtomicU64, value: Option<Duration>) -> io::Result<()> {
    let nanos = match value {
        Some(Duration::ZERO) => return Err(ErrorKind::InvalidInput.into()),
        Some(value) => u64::try_from(value.as_nanos()).unwrap_or(u64::MAX),
        None => 0,
    };
    timeout.store(nanos, Ordering::Relaxed);
    Ok(())
}
