use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::task::Poll;

use smoltcp::iface::{Context, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::wire::IpListenEndpoint;
use span_core::time::Instant;

use crate::netstack::config::Config;
use crate::netstack::recovery::Recovery;
use crate::netstack::stack::pace;
use crate::netstack::wait::Waiters;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::netstack) struct Flow {
    pub(in crate::netstack) local: SocketAddr,
    pub(in crate::netstack) remote: SocketAddr,
}

/// Who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::netstack) enum Owner {
    /// A listener, until it is accepted.
    Listener(usize),
    /// The application.
    Stream,
    /// Nobody any more; it closes by itself.
    Nobody,
}

/// One TCP connection, with a socket set of its own: packets find it by a table, not by asking every socket.
#[derive(Debug)]
pub(in crate::netstack) struct Connection {
    pub(in crate::netstack) set: SocketSet<'static>,
    handle: SocketHandle,
    pub(in crate::netstack) flow: Flow,
    pub(in crate::netstack) owner: Owner,
    /// Why it ended, if not as it should.
    pub(in crate::netstack) error: Option<ErrorKind>,
    /// In the queue of those that may have something to send.
    pub(in crate::netstack) queued: bool,
    pub(in crate::netstack) timer: Option<Instant>,
    /// When it is given up, unless the peer is heard of.
    pub(in crate::netstack) abort_at: Option<Instant>,
    /// When the peer was last heard of, from when on its silence counts.
    pub(in crate::netstack) heard_at: Option<Instant>,
    /// Payload of a full packet on its way out, in bytes.
    pub(in crate::netstack) segment: u16,
    pub(in crate::netstack) recovery: Recovery,
    /// The last acknowledgement of the peer, without payload; to be repeated to smoltcp.
    pub(in crate::netstack) heard: Vec<u8>,
    /// The application has shut down its reading half.
    pub(in crate::netstack) read_shut: bool,
    pub(in crate::netstack) readers: Waiters,
    pub(in crate::netstack) writers: Waiters,
}

impl Connection {
    pub(in crate::netstack) fn new(config: &Config, flow: Flow, segment: u16, owner: Owner) -> Self {
        let receive = SocketBuffer::new(vec![0; config.receive_buffer]);
        let send = SocketBuffer::new(vec![0; config.send_buffer]);
        let mut socket = Socket::new(receive, send);
        socket.set_congestion_control(CongestionControl::Reno);
        // Packets come and go in bursts already: one acknowledgement for each, and none that waits.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(config.keepalive.map(pace));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Self {
            set,
            handle,
            flow,
            owner,
            error: None,
            queued: false,
            timer: None,
            abort_at: None,
            heard_at: None,
            segment,
            recovery: Recovery::default(),
            heard: Vec::new(),
            read_shut: false,
            readers: Waiters::default(),
            writers: Waiters::default(),
        }
    }

    pub(in crate::netstack) fn socket(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    pub(in crate::netstack) fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(in crate::netstack) fn state(&self) -> State {
        self.socket().state()
    }

    /// Begins to open it from here. False if the addresses do not allow it.
    pub(in crate::netstack) fn open(&mut self, interface: &mut Interface) -> bool {
        let Flow { local, remote } = self.flow;
        let context: &mut Context = interface.context();
        self.socket_mut().connect(context, remote, local).is_ok()
    }

    /// Waits for the peer to open it.
    pub(in crate::netstack) fn expect(&mut self) -> bool {
        let local = IpListenEndpoint::from(self.flow.local);
        self.socket_mut().listen(local).is_ok()
    }

    pub(in crate::netstack) fn is_opening(&self) -> bool {
        matches!(self.state(), State::SynSent | State::SynReceived | State::Listen)
    }

    /// Over, and nothing more to say about it.
    pub(in crate::netstack) fn is_over(&self) -> bool {
        self.state() == State::Closed && self.socket().remote_endpoint().is_none()
    }

    pub(in crate::netstack) fn is_readable(&self) -> bool {
        let socket = self.socket();
        self.read_shut
            || self.error.is_some()
            || socket.can_recv()
            || (!self.is_opening() && !socket.may_recv())
    }

    pub(in crate::netstack) fn is_writable(&self) -> bool {
        self.error.is_some() || (!self.is_opening() && (!self.socket().may_send() || self.room() > 0))
    }

    /// Whether a writer that found no room is to be woken: not for every few bytes.
    pub(in crate::netstack) fn is_roomy(&self) -> bool {
        self.is_writable() && (!self.socket().may_send() || self.room() >= self.socket().send_capacity() / 4)
    }

    fn room(&self) -> usize {
        self.socket().send_capacity() - self.socket().send_queue()
    }

    pub(in crate::netstack) fn opened(&self) -> Poll<io::Result<()>> {
        match self.error {
            Some(error) => Poll::Ready(Err(error.into())),
            None if self.is_opening() => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    pub(in crate::netstack) fn read(&mut self, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() || self.read_shut {
            return Poll::Ready(Ok(0));
        }
        if self.socket().can_recv() {
            return Poll::Ready(
                self.socket_mut().recv_slice(buf).map_err(|_| ErrorKind::NotConnected.into()),
            );
        }
        match self.error {
            Some(error) => Poll::Ready(Err(error.into())),
            None if self.is_readable() => Poll::Ready(Ok(0)),
            None => Poll::Pending,
        }
    }

    pub(in crate::netstack) fn peek(&mut self, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.socket().can_recv() && !self.read_shut {
            return Poll::Ready(
                self.socket_mut().peek_slice(buf).map_err(|_| ErrorKind::NotConnected.into()),
            );
        }
        self.read(buf)
    }

    pub(in crate::netstack) fn write(&mut self, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.error {
            return Poll::Ready(Err(error.into()));
        }
        if self.is_opening() {
            return Poll::Pending;
        }
        match self.socket_mut().send_slice(buf) {
            Err(_) => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            Ok(0) if !buf.is_empty() => Poll::Pending,
            Ok(written) => Poll::Ready(Ok(written)),
        }
    }

    /// Drops what was received and not read.
    pub(in crate::netstack) fn discard(&mut self) {
        while self.socket().can_recv() {
            if self.socket_mut().recv(|bytes| (bytes.len(), ())).is_err() {
                break;
            }
        }
    }

    /// Whether the peer has something to acknowledge.
    pub(in crate::netstack) fn waits(&self) -> bool {
        let closing = matches!(self.state(), State::FinWait1 | State::Closing | State::LastAck);
        closing || self.socket().send_queue() > 0
    }

    /// Whether everything written has been acknowledged.
    pub(in crate::netstack) fn is_flushed(&self) -> bool {
        self.socket().send_queue() == 0 || !self.socket().is_active()
    }
}
