//! Questions to the kernel, with a limit on how long an answer may take.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink_packet_core::{ErrorBuffer, NetlinkBuffer};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::{Interfaces, is_kernel, message};

/// The way the kernel takes to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The link it leads out of; 0 where it names none.
    pub interface: u32,
    /// The address packets leave from unless told otherwise.
    pub source: Option<IpAddr>,
    /// The next router; `None` if the address is on the link.
    pub gateway: Option<IpAddr>,
    /// The table it was found in; 254 is the main one.
    pub table: u32,
    /// Whether the address is this host's own.
    pub local: bool,
    pub(super) metric: u32,
}

#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// Answer with the table the route really stands in. (linux/rtnetlink.h; not in every libc.)
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;

/// How a dump ended.
enum Dump {
    Whole,
    /// Something changed meanwhile: it may hold what never was together.
    Torn,
}

impl Requests {
    /// The kernel answers at once; this is for one that does not.
    const PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Requests { socket, sequence: 0, buffer: Vec::new() })
    }

    pub(super) fn snapshot(&mut self) -> io::Result<Interfaces> {
        /// On a host whose network never stands still, the last answer has to do.
        const ATTEMPTS: usize = 4;
        let deadline = Instant::now() + Self::PATIENCE;
        let mut found = Interfaces::default();
        for _ in 0..ATTEMPTS {
            found = Interfaces::default();
            let (links, addresses, routes) =
                (&mut found.links, &mut found.addresses, &mut found.default_routes);
            let dumps = [
                self.dump(libc::RTM_GETLINK, 16, deadline, |it| links.extend(message::link(it)))?,
                self.dump(libc::RTM_GETADDR, 8, deadline, |it| addresses.extend(message::address(it)))?,
                self.dump(libc::RTM_GETROUTE, 12, deadline, |it| routes.extend(message::default_route(it)))?,
            ];
            if dumps.iter().all(|dump| matches!(dump, Dump::Whole)) {
                break;
            }
        }
        found.links.sort_by_key(|link| link.index);
        self.buffer = Vec::new();
        Ok(found)
    }

    pub(super) fn route_to(
        &mut self,
        remote: IpAddr,
        source: Option<IpAddr>,
        mark: u32,
    ) -> io::Result<Option<Route>> {
        let (family, bits) = match remote {
            IpAddr::V4(_) => (libc::AF_INET as u8, 32),
            IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
        };
        let source = source.filter(|source| source.is_ipv4() == remote.is_ipv4());
        // `struct rtmsg`: family, length of destination and source, flags.
        let mut body = vec![family, bits, source.map_or(0, |_| bits), 0, 0, 0, 0, 0];
        body.extend_from_slice(&RTM_F_LOOKUP_TABLE.to_ne_bytes());
        let mut address = |kind, ip: IpAddr| match ip {
            IpAddr::V4(ip) => message::attribute(&mut body, kind, &ip.octets()),
            IpAddr::V6(ip) => message::attribute(&mut body, kind, &ip.octets()),
        };
        address(libc::RTA_DST, remote);
        if let Some(source) = source {
            address(libc::RTA_SRC, source);
        }
        if mark != 0 {
            message::attribute(&mut body, libc::RTA_MARK, &mark.to_ne_bytes());
        }
        let mut route = None;
        let deadline = Instant::now() + Self::PATIENCE;
        match self.ask(libc::RTM_GETROUTE, 0, &body, deadline, |it| route = message::route(it)) {
            Ok(_) => Ok(route),
            Err(error) if says_no_route(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for everything of a kind; `fixed` is the length of its fixed part, zero for "all".
    fn dump(
        &mut self,
        kind: u16,
        fixed: usize,
        deadline: Instant,
        each: impl FnMut(&[u8]),
    ) -> io::Result<Dump> {
        self.ask(kind, libc::NLM_F_DUMP, &vec![0; fixed], deadline, each)
    }

    /// Sends a request and hands every answer to `each`.
    fn ask(
        &mut self,
        kind: u16,
        flags: i32,
        body: &[u8],
        deadline: Instant,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Dump> {
        /// What the kernel fills at a time with the parts of a dump.
        const BUFFER: usize = 32 << 10;
        self.buffer.resize(BUFFER, 0);
        self.sequence = self.sequence.wrapping_add(1);
        let request = message::request(kind, flags, self.sequence, body);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        let mut dump = Dump::Whole;
        loop {
            let len = self.receive(deadline)?;
            let mut rest = &self.buffer[..len];
            while !rest.is_empty() {
                let answer = NetlinkBuffer::new_checked(rest).map_err(invalid)?;
                let length = (answer.length() as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                // What is left of a request that was given up.
                if answer.sequence_number() != self.sequence {
                    continue;
                }
                if i32::from(answer.flags()) & libc::NLM_F_DUMP_INTR != 0 {
                    dump = Dump::Torn;
                }
                match i32::from(answer.message_type()) {
                    libc::NLMSG_DONE => return Ok(dump),
                    libc::NLMSG_ERROR => {
                        let error = ErrorBuffer::new_checked(answer.payload()).map_err(invalid)?;
                        return error
                            .code()
                            .map_or(Ok(dump), |code| Err(io::Error::from_raw_os_error(code.get().abs())));
                    }
                    libc::NLMSG_NOOP | libc::NLMSG_OVERRUN => {}
                    _ => {
                        each(answer.payload());
                        if flags & libc::NLM_F_DUMP == 0 {
                            return Ok(dump);
                        }
                    }
                }
            }
        }
    }

    /// One datagram of the kernel into the buffer.
    fn receive(&mut self, deadline: Instant) -> io::Result<usize> {
        loop {
            let patience = deadline.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            set_socket_timeout(&self.socket, Timeout::Recv, Some(patience))?;
            match self.socket.recv_from(&mut &mut self.buffer[..], 0) {
                Ok((len, sender)) if is_kernel(&sender) => return Ok(len),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// The kernel's ways to say that packets would not leave: no route, one that forbids, a link that is
/// down, a source that is not ours.
fn says_no_route(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EACCES
                | libc::EINVAL
                | libc::EADDRNOTAVAIL
                | libc::ENODEV
        )
    )
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
