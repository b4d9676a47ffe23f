//! What a node is started from.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use span_discovery::tier::Tier;
use span_nat::transport::Transport;
use span_tun::device::Device;

use super::error::StartError;
use super::events::Queue;
use super::{Node, start};
use crate::clock::{Clock, SystemClock};
use crate::config::NodeConfig;
use crate::state::Identity;

/// A node that is not started yet: its configuration, and what an embedder brings in place of what the node
/// would open by itself.
///
/// Told nothing more than a configuration it is what `span up` runs: it creates a TUN interface, sets addresses
/// and routes, binds UDP sockets, keeps its identity in the state directory and answers at a control socket.
/// Each of these can be replaced or left out; without all of them a node needs no privileges and touches
/// nothing outside of the process but its sockets, and any number of nodes can live in one process.
#[must_use = "a node begins with `start`"]
pub struct Builder {
    pub(super) config: NodeConfig,
    pub(super) tiers: Vec<Box<dyn Tier>>,
    pub(super) inner: Inner,
    pub(super) outer: Outer,
    /// Given one, the node keeps nothing on disk.
    pub(super) identity: Option<Identity>,
    pub(super) control: bool,
    pub(super) clock: Arc<dyn Clock>,
    /// The clock is not that of the machine.
    pub(super) own_clock: bool,
    pub(super) events: usize,
}

/// Where the packets of the host come from.
pub(super) enum Inner {
    Create,
    Device(Box<dyn Device>),
    Descriptor(OwnedFd),
    #[cfg(feature = "netstack")]
    Netstack(Tune),
}

/// Changes what a network stack is made of.
#[cfg(feature = "netstack")]
pub(super) type Tune = Box<dyn FnOnce(&mut span_tun::netstack::Config) + Send>;

impl Inner {
    /// Whether the packets are those of the host the node runs on, and not of one inside the process.
    pub(super) fn is_of_the_host(&self) -> bool {
        match self {
            Inner::Create | Inner::Descriptor(_) => true,
            Inner::Device(device) => device.index() != 0,
            #[cfg(feature = "netstack")]
            Inner::Netstack(_) => false,
        }
    }
}

/// What carries datagrams to peers.
pub(super) enum Outer {
    Bind,
    Sockets { ipv4: Option<UdpSocket>, ipv6: Option<UdpSocket> },
    Transport(Box<dyn Transport>),
}

impl Builder {
    pub(super) fn new(config: NodeConfig) -> Self {
        Builder {
            config,
            tiers: Vec::new(),
            inner: Inner::Create,
            outer: Outer::Bind,
            identity: None,
            control: true,
            clock: Arc::new(SystemClock),
            own_clock: false,
            events: Queue::CAPACITY,
        }
    }

    /// Adds a source of members besides those the configuration names. It has the last word over them.
    pub fn tier(mut self, tier: Box<dyn Tier>) -> Self {
        self.tiers.push(tier);
        self
    }

    /// Carries the packets of `device` and creates no interface. The device must have a
    /// [descriptor](Device::descriptor).
    ///
    /// The node sets no addresses and routes then: the embedder gives the device the overlay address that
    /// [`Node::status`] tells. With a device that is no interface of the host (its
    /// [index](Device::index) is 0), the node does not offer the host's own addresses to the others either.
    pub fn device(mut self, device: Box<dyn Device>) -> Self {
        self.inner = Inner::Device(device);
        self
    }

    /// Carries the packets of the TUN interface behind `fd`, opened with `IFF_TUN | IFF_NO_PI | IFF_VNET_HDR`,
    /// and creates none. As with [`device`](Self::device), its addresses and routes are the embedder's affair.
    ///
    /// Needs no privileges. If the process has CAP_NET_ADMIN and [`NodeConfig::routes`] is set, what the node itself
    /// sends carries the mark 0x20, by which the embedder's routes can tell it from what is to enter the mesh.
    pub fn tun_fd(mut self, fd: OwnedFd) -> Self {
        self.inner = Inner::Descriptor(fd);
        self
    }

    /// Is a host of its own inside this process, and creates no interface: [`Node::netstack`] opens and accepts
    /// connections over the mesh. Its addresses are the overlay address and the
    /// [configured ones](NodeConfig::addresses), its MTU the configured one.
    #[cfg(feature = "netstack")]
    pub fn netstack(self) -> Self {
        self.netstack_with(|_| {})
    }

    /// As [`netstack`](Self::netstack), and lets `tune` change the buffers and limits of the stack. Its addresses,
    /// MTU and clock are set already and must stay.
    #[cfg(feature = "netstack")]
    pub fn netstack_with(
        mut self,
        tune: impl FnOnce(&mut span_tun::netstack::Config) + Send + 'static,
    ) -> Self {
        self.inner = Inner::Netstack(Box::new(tune));
        self
    }

    /// Sends and receives over these sockets, one of each family or one alone, bound to the same port, and the
    /// IPv6 socket to IPv6 only. The configured listen port is of no account then.
    pub fn sockets(mut self, ipv4: Option<UdpSocket>, ipv6: Option<UdpSocket>) -> Self {
        self.outer = Outer::Sockets { ipv4, ipv6 };
        self
    }

    /// Sends and receives over `transport` instead of UDP. It must have a
    /// [descriptor](Transport::descriptors).
    ///
    /// Members are tried at the endpoints they publish, as [`Path::Udp`](span_core::path::Path::Udp) with that
    /// endpoint as the remote address; what an address means is up to the transport. This node publishes its
    /// [extra endpoints](NodeConfig::extra_endpoints), and the host's addresses only if the transport has a
    /// [port](Transport::local_port).
    pub fn transport(mut self, transport: Box<dyn Transport>) -> Self {
        self.outer = Outer::Transport(transport);
        self
    }

    /// Is this node, and keeps nothing on disk: neither its identity, nor the members it knew, nor how far the
    /// clock of its handshakes got. Peers take a node whose wall clock was set back since it last ran for a
    /// replay until the clock is past the old time.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Answers at no control socket: `span status` cannot ask this node.
    pub fn without_control_socket(mut self) -> Self {
        self.control = false;
        self
    }

    /// Reads time from `clock`. After it has jumped ahead, [`Node::wake`] makes the node look at it.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.own_clock = true;
        self
    }

    /// Keeps up to `capacity` events that nobody has read, at least one; 1024 unless told otherwise. Of more,
    /// the oldest are lost, and [`Event::Lagged`](super::Event::Lagged) tells how many.
    pub fn event_capacity(mut self, capacity: usize) -> Self {
        self.events = capacity.max(1);
        self
    }

    /// Starts the node.
    ///
    /// # Errors
    /// See [`StartError`]: each says what is wrong and what to do. Nothing of the node is left then.
    pub fn start(self) -> Result<Node, StartError> {
        start::start(self)
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}
