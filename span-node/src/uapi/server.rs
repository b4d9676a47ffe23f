use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::fs::inotify;
use zeroize::Zeroizing;

use crate::interface::InterfaceName;

use super::clients::{Client, Clients, MAX_CLIENTS, Then};
use super::socket::{BindError, Socket};
use super::{Errno, Operation, Snapshot, parse_set_with};

/// The interface behind the socket.
pub trait Handler {
    /// Carries out a request; [`apply`](super::apply) says how.
    fn set(&self, operations: Vec<Operation>) -> Result<(), Errno>;
    /// Shows the interface.
    fn get(&self) -> Result<Snapshot, Errno>;
}

/// Why [`Server::run`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// [`Stopper::stop`] was called.
    Stopped,
    /// Someone removed the socket: the sign for a userspace WireGuard to take its interface down.
    Removed,
}

/// Serves the configuration socket of one interface.
///
/// A client may send any number of requests, one after the other. One that stalls in the middle of a
/// request or does not read its answer is dropped after 5 s; of more than 16 clients the one that has
/// been silent longest is dropped. The socket goes when the server is dropped.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
    listener: UnixListener,
    /// Tells of the socket's removal; `None` where the system has no watch left to give.
    watch: Option<OwnedFd>,
    poll: Poll,
    stopper: Stopper,
}

/// Ends a [`Server::run`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    waker: Arc<Waker>,
    stopped: Arc<AtomicBool>,
}

impl Stopper {
    /// Lets the server come back, now or as soon as it runs.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        // Fails only without the server.
        let _ = self.waker.wake();
    }
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const WATCH: Token = Token(2);
const FIRST_CLIENT: usize = 3;

impl Server {
    /// Opens `directory/interface.sock`; `directory` is [`DIRECTORY`](super::DIRECTORY) but for tests.
    pub fn bind(directory: &Path, interface: &InterfaceName) -> Result<Self, BindError> {
        let socket = Socket::bind(directory, interface)?;
        Self::new(socket, directory)
            .map_err(|(socket, source)| BindError::Socket { path: socket.path().into(), source })
    }

    fn new(socket: Socket, directory: &Path) -> Result<Self, (Socket, io::Error)> {
        let parts = || -> io::Result<_> {
            let poll = Poll::new()?;
            let mut listener = UnixListener::from_std(socket.listener().try_clone()?);
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
            let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
            let watch = watch(directory).ok();
            if let Some(watch) = &watch {
                poll.registry().register(&mut SourceFd(&watch.as_raw_fd()), WATCH, Interest::READABLE)?;
            }
            Ok((poll, listener, waker, watch))
        };
        match parts() {
            Ok((poll, listener, waker, watch)) => {
                let stopper = Stopper { waker, stopped: Arc::new(AtomicBool::new(false)) };
                Ok(Server { socket, listener, watch, poll, stopper })
            }
            Err(error) => Err((socket, error)),
        }
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// A handle to end [`run`](Server::run) with.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves clients on this thread until stopped, or until the socket is removed.
    ///
    /// Fails only if the system cannot poll.
    pub fn run(&mut self, handler: &impl Handler) -> io::Result<Ended> {
        let mut events = Events::with_capacity(MAX_CLIENTS + FIRST_CLIENT);
        let mut clients = Clients::default();
        if !self.socket.is_in_place() {
            return Ok(Ended::Removed);
        }
        loop {
            match self.poll.poll(&mut events, clients.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            if self.stopper.stopped.load(Ordering::Acquire) {
                return Ok(Ended::Stopped);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(&mut clients),
                    WAKER => {}
                    WATCH => {
                        if !self.socket_is_in_place() {
                            return Ok(Ended::Removed);
                        }
                    }
                    Token(token) => clients.wake(token - FIRST_CLIENT),
                }
            }
            clients.serve(&mut |request| self.answer(handler, request));
        }
    }

    fn accept(&self, clients: &mut Clients) {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!("a client of {} was lost: {error}", self.path().display());
                    return;
                }
            };
            let slot = clients.free_slot();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(FIRST_CLIENT + slot);
            match self.poll.registry().register(&mut stream, token, interest) {
                Ok(()) => clients.put(slot, Client::new(stream)),
                Err(error) => tracing::warn!("a client of {} was lost: {error}", self.path().display()),
            }
        }
    }

    fn socket_is_in_place(&self) -> bool {
        if let Some(watch) = &self.watch {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(watch, &mut buffer);
            while reader.next().is_ok() {}
        }
        self.socket.is_in_place()
    }

    /// The answer to a request, and whether more may follow on the connection.
    fn answer(&self, handler: &impl Handler, request: &[u8]) -> (Zeroizing<String>, Then) {
        let (result, then) = match request {
            [b's', b'e', b't', b'=', b'1', b'\n', body @ ..] => (self.set(handler, body), Then::Go),
            b"get=1\n\n" => match handler.get() {
                Ok(snapshot) => {
                    let mut text = snapshot.write();
                    text.push_str("errno=0\n\n");
                    return (text, Then::Go);
                }
                Err(errno) => (Err(errno), Then::Go),
            },
            [b'g', b'e', b't', b'=', b'1', b'\n', ..] => (Err(Errno::INVALID), Then::Go),
            // Not our protocol: nothing that follows can be understood either.
            _ => (Err(Errno::PROTOCOL), Then::Close),
        };
        (Zeroizing::new(status(result)), then)
    }

    fn set(&self, handler: &impl Handler, body: &[u8]) -> Result<(), Errno> {
        let set = parse_set_with(body, &mut |name| {
            rustix::net::netdevice::name_to_index(self.socket.listener(), name).ok()
        });
        handler.set(set.operations)?;
        match set.failure {
            None => Ok(()),
            Some(failure) => {
                tracing::debug!("{}: {failure}", self.path().display());
                Err(failure.errno())
            }
        }
    }
}

/// The line that closes every answer.
pub(super) fn status(result: Result<(), Errno>) -> String {
    match result {
        Ok(()) => "errno=0\n\n".into(),
        Err(errno) => format!("errno=-{}\n\n", errno.number()),
    }
}

fn watch(directory: &Path) -> io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let gone = inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVE | inotify::WatchFlags::DELETE_SELF;
    inotify::add_watch(&watch, directory, gone)?;
    Ok(watch)
}

#[cfg(test)]
mod tests;
