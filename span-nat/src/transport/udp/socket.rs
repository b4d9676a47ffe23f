//! One socket: its options, and how its errors are read.

use std::array;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use span_core::path::{Path, Source, UdpPath};

use super::errno::{self, is_about_a_datagram, is_missing_family, is_without_offload};
use super::{BindError, Config, Counters, options};
use crate::transport::{Ecn, RecvBatch, SendBatch, SendError, Sent, Transmit};

#[derive(Debug)]
pub(super) struct Socket {
    socket: socket2::Socket,
    state: UdpSocketState,
    pub(super) local: SocketAddr,
    max_segments: usize,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        match self {
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// Whether other sockets of this program may have the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// None may.
    No,
    /// Others may, later: for now it must be free.
    Offer,
    /// One has it, and has offered it.
    Join,
}

impl Share {
    pub(super) fn of(config: &Config) -> Self {
        if config.shared { Share::Offer } else { Share::No }
    }
}

impl Socket {
    /// Binds to `address`; `None` if the host does not have its family.
    pub(super) fn bind(
        address: SocketAddr,
        config: &Config,
        share: Share,
    ) -> Result<Option<Self>, BindError> {
        let failed = |what| move |source| BindError::Socket { what, source };
        let domain = Domain::for_address(address);
        let socket = match socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)) {
            Ok(socket) => socket,
            Err(error) if is_missing_family(&error) => return Ok(None),
            Err(error) => return Err(failed("open a UDP socket")(error)),
        };
        if address.is_ipv6() {
            socket.set_only_v6(true).map_err(failed("keep IPv4 out of an IPv6 socket"))?;
        }
        if config.mark != 0 {
            options::set_mark(&socket, config.mark)?;
        }
        options::set_buffers(&socket, config.receive_buffer, config.send_buffer);
        // From what is set before it is bound on, any program of this user could join in.
        if share == Share::Join {
            options::share(&socket).map_err(failed("share a UDP port"))?;
        }
        match socket.bind(&address.into()) {
            Ok(()) => {}
            Err(error) => match error.kind() {
                io::ErrorKind::AddrInUse => return Err(BindError::PortInUse(address)),
                io::ErrorKind::PermissionDenied => return Err(BindError::PortDenied(address)),
                io::ErrorKind::AddrNotAvailable if address.ip().is_unspecified() => return Ok(None),
                io::ErrorKind::AddrNotAvailable => return Err(BindError::NotLocal(address.ip())),
                _ => return Err(failed("bind a UDP socket")(error)),
            },
        }
        if share == Share::Offer {
            options::share(&socket).map_err(failed("share a UDP port"))?;
        }
        let local = socket
            .local_addr()
            .and_then(|local| local.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into()))
            .map_err(failed("read a socket's own address"))?;
        Ok(Some(Self::new(socket, local)?))
    }

    /// Takes over a socket of `family` that is bound already.
    pub(super) fn adopt(socket: UdpSocket, config: &Config, family: Family) -> Result<Self, BindError> {
        // The descriptor may have been anything.
        let local = socket.local_addr().ok().filter(|local| local.port() != 0 && family.has(local));
        let socket = socket2::Socket::from(socket);
        let Some(local) = local.filter(|_| matches!(socket.r#type(), Ok(Type::DGRAM))) else {
            return Err(BindError::WrongSocket { family: family.name() });
        };
        if config.mark != 0 {
            options::set_mark(&socket, config.mark)?;
        }
        options::set_buffers(&socket, config.receive_buffer, config.send_buffer);
        Self::new(socket, local)
    }

    fn new(socket: socket2::Socket, local: SocketAddr) -> Result<Self, BindError> {
        let state =
            prepare(&socket).map_err(|source| BindError::Socket { what: "set up a UDP socket", source })?;
        let max_segments = state.max_gso_segments().min(SendBatch::MAX_SEGMENTS);
        Ok(Socket { socket, state, local, max_segments })
    }

    pub(super) fn set_mark(&self, mark: u32) -> Result<(), BindError> {
        options::set_mark(&self.socket, mark)
    }

    pub(super) fn max_segments(&self) -> usize {
        self.max_segments
    }

    /// Appends what waits, in one system call.
    pub(super) fn recv(&self, batch: &mut RecvBatch, counters: &mut Counters) -> io::Result<usize> {
        /// More slots per call save little: the cost is in the datagrams, not in the call.
        const SLOTS: usize = 4;
        let room = batch.spare_len().min(SLOTS);
        if room == 0 {
            return Ok(0);
        }
        let mut meta = [RecvMeta::default(); SLOTS];
        let mut spare = batch.spare();
        let mut slots: [_; SLOTS] = array::from_fn(|_| IoSliceMut::new(spare.next().unwrap_or_default()));
        let filled = loop {
            match self.state.recv((&self.socket).into(), &mut slots[..room], &mut meta) {
                Ok(filled) => break filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                // An answer to something sent earlier; reading it took it away.
                Err(error) if is_about_a_datagram(&error) => counters.receive_errors += 1,
                Err(error) => return Err(error),
            }
        };
        for meta in &meta[..filled] {
            let path = match meta.dst_ip {
                Some(ip) if !ip.is_multicast() && !ip.is_unspecified() => {
                    Path::udp_from(meta.addr, Source { ip, interface: meta.interface_index.unwrap_or(0) })
                }
                Some(_) | None => Path::udp(meta.addr),
            };
            let ecn = meta.ecn.map_or(Ecn::NotEct, |ecn| Ecn::from_bits(ecn as u8));
            batch.commit(meta.len, meta.stride, path, ecn);
            counters.received += meta.len.div_ceil(meta.stride.max(1)) as u64;
        }
        counters.receive_calls += 1;
        Ok(filled)
    }

    /// Sends from the path's source; should that be of no use any more, from any.
    pub(super) fn send(
        &mut self,
        udp: &UdpPath,
        transmit: &Transmit<'_>,
        counters: &mut Counters,
    ) -> Result<Sent, SendError> {
        let burst = transmit.datagrams() > 1;
        if burst && self.max_segments == 1 {
            return Err(SendError::Unsegmented);
        }
        let result = match self.attempt(udp, transmit, udp.source) {
            Err(error) if udp.source.is_some() && errno::may_be_the_source(&error) => {
                self.attempt(udp, transmit, None).map(|()| Sent::SourceLost)
            }
            result => result.map(|()| Sent::Done),
        };
        match result {
            Ok(sent) => {
                counters.send_calls += 1;
                counters.sent += transmit.datagrams();
                counters.sources_lost += u64::from(sent == Sent::SourceLost);
                Ok(sent)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SendError::Blocked),
            Err(error) if burst && errno::may_be_the_burst(&error) => {
                counters.unsegmented += 1;
                if is_without_offload(&error) {
                    self.max_segments = 1;
                }
                Err(SendError::Unsegmented)
            }
            Err(error) => Err(counters.dropped(transmit, errno::reason(&error))),
        }
    }

    /// One try.
    fn attempt(&mut self, udp: &UdpPath, transmit: &Transmit<'_>, source: Option<Source>) -> io::Result<()> {
        let message = quinn_udp::Transmit {
            destination: udp.remote,
            ecn: EcnCodepoint::from_bits(transmit.ecn as u8),
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: source.map(|source| source.ip),
        };
        let sent = self.state.try_send((&self.socket).into(), &message);
        if let Err(error) = &sent
            && self.local.is_ipv4()
            && errno::makes_state_forget(error)
        {
            self.state = prepare(&self.socket)?;
        }
        sent
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Offloads, source addresses and ECN on; fragments allowed.
fn prepare(socket: &socket2::Socket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(socket.into())?;
    options::allow_fragments(socket)?;
    options::disable_timestamps(socket)?;
    Ok(state)
}
