//! What a node is made from.

use std::ffi::{c_char, c_int};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

use span_core::mesh::overlay;
use span_node::config::{self, OverlayHost};
use span_node::state::{Identity, State};
use span_node::{Node, clock};
use span_tun::netstack::{Config, Netstack};
use zeroize::Zeroizing;

use super::endpoint::Endpoint;
use crate::key::Key;
use crate::pointer::{self, Versioned};
use crate::status::Status;

/// What a node does otherwise than `span up`. Bits of span_node_config.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFlag {
    /// No interface is created: the program itself is the host, and talks by span_node_connect and the like. Needs no
    /// privileges.
    Netstack = 1,
    /// No interface is created: packets come from and go to `tun_fd`, a TUN opened with IFF_TUN | IFF_NO_PI |
    /// IFF_VNET_HDR, whose addresses and routes are the caller's affair. Needs no privileges.
    TunFd = 2,
    /// No socket is bound for IPv4: `udp4_fd` is one. If only one of the two is given, there is no other.
    Udp4Fd = 4,
    /// No socket is bound for IPv6: `udp6_fd` is one, for IPv6 only, bound to the same port.
    Udp6Fd = 8,
    /// Nothing is kept on disk: the node is `private_key`, or a new one if that is all zeros.
    Ephemeral = 16,
    /// `span status` cannot ask this node.
    NoControlSocket = 32,
}

const ALL_FLAGS: u32 = 63;

/// What a node is made from. Begin with all zeros and set `size`, and one of `configuration` and `token` or both.
/// Descriptors are duplicated: the caller closes its own whenever it likes after span_node_new.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NodeConfig {
    /// sizeof(span_node_config).
    pub size: u32,
    /// SPAN_NODE_FLAG_ bits.
    pub flags: u32,
    /// The text of a configuration file as span up takes it; NULL for none.
    pub configuration: *const c_char,
    /// A token as span cluster new or span_token_generate makes it; NULL for none.
    pub token: *const c_char,
    /// The node's short name, in place of the configured one; NULL for that.
    pub name: *const c_char,
    /// Where others shall try to reach the node, besides the endpoints it finds out by itself.
    pub endpoints: *const Endpoint,
    /// How many there are.
    pub endpoints_count: usize,
    /// SPAN_NODE_FLAG_TUN_FD: the TUN.
    pub tun_fd: c_int,
    /// SPAN_NODE_FLAG_UDP4_FD: the socket.
    pub udp4_fd: c_int,
    /// SPAN_NODE_FLAG_UDP6_FD: the socket.
    pub udp6_fd: c_int,
    /// Events that are kept until they are taken; 1024 if zero.
    pub events: u32,
    /// SPAN_NODE_FLAG_EPHEMERAL: who the node is.
    pub private_key: Key,
}

// SAFETY: numbers, bytes and pointers, which may be anything until they are used; the first is the size.
unsafe impl Versioned for NodeConfig {
    const FIRST_SIZE: usize = std::mem::offset_of!(NodeConfig, private_key) + size_of::<Key>();
}

/// A configuration that was checked, and what was brought along.
pub(crate) struct Plan {
    config: span_node::NodeConfig,
    identity: Option<Identity>,
    netstack: bool,
    tun: Option<OwnedFd>,
    sockets: Option<[Option<UdpSocket>; 2]>,
    control: bool,
    events: u32,
}

/// What is wrong with a configuration.
pub(super) struct Problem {
    pub(super) status: Status,
    pub(super) text: String,
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        Problem { status, text: String::new() }
    }
}

fn problem(error: &impl ToString) -> Problem {
    Problem { status: Status::Config, text: error.to_string() }
}

fn invalid(text: &str) -> Problem {
    Problem { status: Status::Invalid, text: text.to_owned() }
}

/// Reads a configuration.
///
/// # Safety
/// The promise of the module `pointer`, for the texts and lists in it.
pub(super) unsafe fn plan(given: &NodeConfig) -> Result<Plan, Problem> {
    let flag = |flag: NodeFlag| given.flags & flag as u32 != 0;
    if given.flags & !ALL_FLAGS != 0 {
        return Err(invalid("a flag that does not exist"));
    }
    if flag(NodeFlag::Netstack) && flag(NodeFlag::TunFd) {
        return Err(invalid("a network stack or a TUN, not both"));
    }
    let text = |text: *const c_char| {
        // SAFETY: the caller's promise.
        if text.is_null() { Ok(None) } else { unsafe { pointer::text(text) }.map(Some) }
    };
    let mut config = match text(given.configuration)? {
        Some(configuration) => config::parse(configuration).map_err(|error| problem(&error))?,
        None => span_node::NodeConfig::default(),
    };
    if let Some(token) = text(given.token)? {
        config.join(&token.parse().map_err(|error| problem(&error))?);
    }
    if let Some(name) = text(given.name)? {
        config.name = Some(name.to_owned());
    }
    // SAFETY: the caller's promise.
    for endpoint in unsafe { pointer::slice(given.endpoints, given.endpoints_count) }? {
        config.extra_endpoints.push(endpoint.to_std()?);
    }
    if flag(NodeFlag::Netstack) && config.overlay_host == OverlayHost::Mac {
        return Err(problem(
            &"a node with a network stack of its own has no hardware address: set `overlayAddress: key`",
        ));
    }
    let descriptor = |wanted: NodeFlag, fd: c_int| flag(wanted).then(|| duplicate(fd)).transpose();
    let tun = descriptor(NodeFlag::TunFd, given.tun_fd)?;
    let sockets =
        [descriptor(NodeFlag::Udp4Fd, given.udp4_fd)?, descriptor(NodeFlag::Udp6Fd, given.udp6_fd)?];
    let sockets = sockets.map(|socket| socket.map(UdpSocket::from));
    let identity = if flag(NodeFlag::Ephemeral) {
        Some(match given.private_key.private() {
            Some(key) => Identity::from_key(key),
            None => Identity::generate().map_err(|_| Status::Entropy)?,
        })
    } else {
        None
    };
    Ok(Plan {
        config,
        identity,
        netstack: flag(NodeFlag::Netstack),
        tun,
        sockets: sockets.iter().any(Option::is_some).then_some(sockets),
        control: !flag(NodeFlag::NoControlSocket),
        events: given.events,
    })
}

/// A descriptor of our own for the file behind one of the caller's.
fn duplicate(fd: c_int) -> Result<OwnedFd, Problem> {
    if fd < 0 {
        return Err(invalid("a descriptor that is not open"));
    }
    // SAFETY: it is not −1. Whether it is open the kernel says; it is borrowed for this call alone.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned().map_err(|_| invalid("a descriptor that is not open"))
}

impl Plan {
    /// Starts the node, and its network stack if it is to have one.
    pub(super) fn start(self) -> Result<(Node, Option<Netstack>), String> {
        let Plan { config, identity, netstack, tun, sockets, control, events } = self;
        let mut builder = None;
        let mut stack = None;
        if netstack {
            let identity = match &identity {
                Some(identity) => identity.clone(),
                None => kept_identity(&config)?,
            };
            let mut stack_config = Config::new(addresses(&config, &identity)?);
            stack_config.mtu = config.mtu;
            let (netstack, device) = Netstack::new(stack_config).map_err(|error| error.to_string())?;
            stack = Some(netstack);
            builder = Some(Node::builder(config.clone()).device(Box::new(device)));
        }
        let mut builder = builder.unwrap_or_else(|| Node::builder(config));
        if let Some(tun) = tun {
            builder = builder.tun_fd(tun);
        }
        if let Some([ipv4, ipv6]) = sockets {
            builder = builder.sockets(ipv4, ipv6);
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        if !control {
            builder = builder.without_control_socket();
        }
        if events > 0 {
            builder = builder.event_capacity(events as usize);
        }
        Ok((builder.start().map_err(|error| error.to_string())?, stack))
    }
}

/// The identity that the node will find in its state directory, or that is made there now.
fn kept_identity(config: &span_node::NodeConfig) -> Result<Identity, String> {
    let random = Zeroizing::new(clock::entropy().map_err(|error| error.to_string())?);
    let state = State::open(&config.state_dir, &random).map_err(|error| error.to_string())?;
    Ok(state.identity().clone())
}

/// The addresses of a host that is the node alone.
fn addresses(config: &span_node::NodeConfig, identity: &Identity) -> Result<Vec<IpAddr>, String> {
    let cluster =
        config.cluster.as_ref().ok_or("no cluster to join: give a token, or a configuration with one")?;
    let prefix = overlay::prefix(cluster.id.as_str());
    let own = overlay::address_from_key(prefix, &identity.private_key.public_key());
    Ok([IpAddr::from(own)].into_iter().chain(config.addresses.iter().copied()).collect())
}
