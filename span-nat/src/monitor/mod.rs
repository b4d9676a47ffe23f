//! The host's interfaces, addresses and routes, and when they change.
//!
//! A [`Monitor`] is polled by the packet loop beside its sockets: [`poll`](Monitor::poll) says which of
//! the three changed, [`snapshot`](Monitor::snapshot) reads them anew, and
//! [`route_to`](Monitor::route_to) asks the kernel for its way to one address.

mod interfaces;
mod message;
mod request;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use span_core::path::UdpPath;

use self::request::Requests;

pub use interfaces::{Address, DefaultRoute, Interfaces, Link, Scope};
pub use request::Route;

/// Watches the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Monitor {
    events: Socket,
    requests: Requests,
}

/// What changed since the last poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A link came, went, or changed its state, name, MTU or hardware address.
    pub links: bool,
    /// An address came, went, or changed its state.
    pub addresses: bool,
    /// A route came or went.
    pub routes: bool,
    /// A policy rule came or went.
    pub rules: bool,
    /// The kernel had more to tell than fits its buffer: anything may have changed. All others are set.
    pub resync: bool,
    /// There is more to read: poll again before waiting.
    pub more: bool,
}

impl Monitor {
    /// Starts watching. What the host has at this moment, [`snapshot`](Self::snapshot) tells.
    ///
    /// # Errors
    /// If netlink cannot be spoken here.
    pub fn new() -> io::Result<Self> {
        let mut events = Socket::new(NETLINK_ROUTE)?;
        events.bind_auto()?;
        events.set_non_blocking(true)?;
        for group in [
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
        ] {
            events.add_membership(group)?;
        }
        Ok(Monitor { events, requests: Requests::new()? })
    }

    /// What to poll for reading.
    pub fn descriptor(&self) -> RawFd {
        self.events.as_raw_fd()
    }

    /// Reads what the kernel reported, without blocking, and forgets the details: one answer stands for
    /// any number of changes.
    ///
    /// # Errors
    /// Only what makes the monitor unusable; events lost on the way are [`Changes::resync`].
    pub fn poll(&mut self) -> io::Result<Changes> {
        /// Work per call; a host whose routes never stand still must not stop the packets.
        const LIMIT: usize = 1024;
        // One message per datagram, and its header says all that is asked here; the rest is cut off.
        let mut buffer = [0; 64];
        let mut changes = Changes::default();
        for _ in 0..LIMIT {
            let (len, sender) = match self.events.recv_from(&mut &mut buffer[..], 0) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    changes = Changes::everything();
                    continue;
                }
                Err(error) => return Err(error),
            };
            if is_kernel(&sender)
                && let Some(kind) = message::kind(&buffer[..len.min(buffer.len())])
            {
                changes.note(kind);
            }
        }
        changes.more = true;
        Ok(changes)
    }

    /// Reads links, addresses and default routes from the kernel. Waits for the kernel, two seconds at
    /// most.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after that time, else what the kernel answered.
    pub fn snapshot(&mut self) -> io::Result<Interfaces> {
        self.requests.snapshot()
    }

    /// The route the kernel takes to `remote` for packets with this source address and firewall mark
    /// (0 for none); `None` if there is none, or `source` is no address of this host.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn route_to(
        &mut self,
        remote: IpAddr,
        source: Option<IpAddr>,
        mark: u32,
    ) -> io::Result<Option<Route>> {
        self.requests.route_to(remote, source, mark)
    }

    /// Whether what leaves from the path's source still takes the interface the peer was heard on. Ask
    /// after a change of addresses, routes or rules; if not, the path should forget its source, so that
    /// the better route can choose another.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn source_holds(&mut self, path: &UdpPath, mark: u32) -> io::Result<bool> {
        let Some(source) = path.source else { return Ok(true) };
        let route = self.route_to(path.remote.ip(), Some(source.ip), mark)?;
        Ok(route.is_some_and(|route| source.interface == 0 || route.interface == source.interface))
    }
}

impl Changes {
    /// Whether anything changed.
    pub fn any(&self) -> bool {
        self.links || self.addresses || self.routes || self.rules || self.resync
    }

    /// Both sets of changes.
    #[must_use]
    pub fn and(self, other: Changes) -> Changes {
        Changes {
            links: self.links || other.links,
            addresses: self.addresses || other.addresses,
            routes: self.routes || other.routes,
            rules: self.rules || other.rules,
            resync: self.resync || other.resync,
            more: self.more || other.more,
        }
    }

    fn everything() -> Self {
        Changes { links: true, addresses: true, routes: true, rules: true, resync: true, more: false }
    }

    fn note(&mut self, kind: u16) {
        match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => self.links = true,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => self.addresses = true,
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => self.routes = true,
            libc::RTM_NEWRULE | libc::RTM_DELRULE => self.rules = true,
            _ => {}
        }
    }
}

/// Any process may send to a netlink socket; only the kernel is believed.
fn is_kernel(sender: &SocketAddr) -> bool {
    sender.port_number() == 0
}
