//! The node's place in the host's network: address, routes and rules, and what to log about them.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use socket2::{Domain, Socket, Type};
use span_tun::route::{Changes, Desired, Net, Policy, Problem, RouteError};
use tracing::{debug, info, warn};

use crate::config::NodeConfig;

/// The mark of what is encrypted already and of connections to discovery: it never enters the mesh. That of
/// [`Policy::default`].
pub(super) const MARK: u32 = 0x20;

/// Whether this process may mark what it sends.
pub(super) fn may_mark() -> bool {
    // The kernel asks the same of sockets of every family, and this one is there without a network.
    Socket::new(Domain::UNIX, Type::DGRAM, None).is_ok_and(|socket| socket.set_mark(MARK).is_ok())
}

/// What the kernel should have, and the way to get it there.
pub(super) struct Routing {
    net: Net,
    desired: Desired,
    /// Told once, not with every comparison.
    problems: Vec<Problem>,
    /// The failure told last.
    failure: Option<String>,
}

impl Routing {
    pub(super) fn new(
        interface: u32,
        address: Ipv6Addr,
        overlay: Ipv6Net,
        config: &NodeConfig,
    ) -> Result<Self, RouteError> {
        // The whole overlay is on the link: traffic to overlay addresses needs no policy.
        let on_link = Ipv6Net::new_assert(address, overlay.prefix_len());
        let desired = Desired { addresses: vec![IpNet::V6(on_link)], mtu: config.mtu, routed: Vec::new() };
        let net = match config.routes {
            true => Net::new(interface, Policy::default())?,
            false => Net::interface_only(interface)?,
        };
        Ok(Routing { net, desired, problems: Vec::new(), failure: None })
    }

    /// The first time: what goes wrong now keeps the node from starting.
    pub(super) fn set_up(&mut self) -> Result<(), RouteError> {
        let changes = self.net.reconcile(&self.desired)?;
        self.report(&changes, false);
        Ok(())
    }

    /// Wants another MTU from the next comparison on.
    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.desired.mtu = mtu;
    }

    /// Repairs what others changed, and routes `routed` into the mesh from now on.
    pub(super) fn reconcile(&mut self, routed: Vec<IpNet>) {
        let expected = self.desired.routed != routed;
        self.desired.routed = routed;
        match self.net.reconcile(&self.desired) {
            Ok(changes) => {
                self.failure = None;
                self.report(&changes, expected);
            }
            Err(error) => {
                let error = error.to_string();
                if self.failure.as_ref() != Some(&error) {
                    warn!("{error}; trying again");
                }
                self.failure = Some(error);
            }
        }
    }

    pub(super) fn remove(&mut self) {
        if let Err(error) = self.net.remove() {
            warn!("{error}; the next start does");
        }
    }

    fn report(&mut self, changes: &Changes, expected: bool) {
        for change in &changes.made {
            if expected {
                debug!("{change}");
            } else {
                info!("{change}");
            }
        }
        for problem in &changes.problems {
            if !self.problems.contains(problem) {
                warn!("{problem}");
            }
        }
        self.problems.clone_from(&changes.problems);
    }
}
