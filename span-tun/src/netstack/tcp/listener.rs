use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use span_core::time::Instant;

use super::TcpStream;
use super::connection::Owner;
use crate::netstack::shared::{Patience, Shared};
use crate::netstack::stack::Stack;
use crate::netstack::wait::Waiters;

/// What the stack has of a listener.
#[derive(Debug)]
pub(in crate::netstack) struct Listener {
    local: SocketAddr,
    pub(in crate::netstack) backlog: usize,
    /// Connections that are being opened or wait to be accepted.
    pub(in crate::netstack) pending: usize,
    /// Those that wait to be accepted, oldest first.
    pub(in crate::netstack) opened: VecDeque<usize>,
    pub(in crate::netstack) waiters: Waiters,
}

/// Takes TCP connections of peers. Made by [`super::super::Netstack::listen`]; dropped, it resets those that were
/// not accepted.
#[derive(Debug)]
pub struct TcpListener {
    shared: Arc<Shared>,
    id: usize,
    local: SocketAddr,
    nonblocking: AtomicBool,
}

impl TcpListener {
    pub(in crate::netstack) fn bind(
        shared: &Arc<Shared>,
        local: SocketAddr,
        backlog: usize,
    ) -> io::Result<Self> {
        let (id, local) = shared.with(|stack, _| {
            stack.check_open()?;
            if stack.listeners.len() >= stack.config.max_sockets {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let local = stack.place(local, |stack, place| stack.listening.contains_key(&place))?;
            let listener = Listener {
                local,
                backlog: backlog.max(1),
                pending: 0,
                opened: VecDeque::new(),
                waiters: Waiters::default(),
            };
            let id = stack.listeners.insert(listener);
            stack.listening.insert(local, id);
            io::Result::Ok((id, local))
        })?;
        Ok(Self { shared: Arc::clone(shared), id, local, nonblocking: AtomicBool::new(false) })
    }

    /// Takes the next connection, and waits for one unless the listener is non-blocking.
    ///
    /// # Errors
    /// `WouldBlock` if there is none and it must not wait, `NetworkDown` when the stack is closed.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let patience = if self.nonblocking.load(Ordering::Relaxed) {
            Patience::Nonblocking
        } else {
            Patience::Blocking(None)
        };
        let taken = self.shared.wait(
            patience,
            |stack, now| take(stack, now, self.id),
            |stack| stack.listeners.get_mut(self.id).map(|listener| &mut listener.waiters),
        );
        taken.map(|(id, local, remote)| self.stream(id, local, remote))
    }

    /// As [`TcpListener::accept`], for a task instead of a thread.
    ///
    /// # Errors
    /// As [`TcpListener::accept`], without `WouldBlock`.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let taken = self.shared.poll(
            context,
            |stack, now| take(stack, now, self.id),
            |stack| stack.listeners.get_mut(self.id).map(|listener| &mut listener.waiters),
        );
        taken.map_ok(|(id, local, remote)| self.stream(id, local, remote))
    }

    /// The connections as they come, without end.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming(self)
    }

    /// Where it listens; with the port it was given if it asked for none.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether [`TcpListener::accept`] returns `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    fn stream(&self, id: usize, local: SocketAddr, remote: SocketAddr) -> (TcpStream, SocketAddr) {
        (TcpStream::adopt(&self.shared, id, local, remote), remote)
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.shared.with(|stack, now| {
            let Some(listener) = stack.listeners.remove(self.id) else { return };
            stack.listening.remove(&listener.local);
            for id in stack.connections.ids() {
                if let Some(connection) = stack.connections.get_mut(id)
                    && connection.owner == Owner::Listener(self.id)
                {
                    connection.owner = Owner::Nobody;
                    stack.reset(now, id, io::ErrorKind::ConnectionAborted);
                }
            }
        });
    }
}

/// See [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a>(&'a TcpListener);

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.accept().map(|(stream, _)| stream))
    }
}

fn take(stack: &mut Stack, _: Instant, id: usize) -> Poll<io::Result<(usize, SocketAddr, SocketAddr)>> {
    stack.check_open()?;
    let Some(listener) = stack.listeners.get_mut(id) else {
        return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
    };
    let Some(taken) = listener.opened.pop_front() else { return Poll::Pending };
    listener.pending -= 1;
    let Some(connection) = stack.connections.get_mut(taken) else {
        return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
    };
    connection.owner = Owner::Stream;
    Poll::Ready(Ok((taken, connection.flow.local, connection.flow.remote)))
}
