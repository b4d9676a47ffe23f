//! What can keep a node from starting, and what can end it.

use std::io;
use std::path::PathBuf;

use span_nat::transport::udp;
use span_tun::device::OpenError;
use span_tun::route::RouteError;

use crate::packet;
use crate::state::StateError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No cluster.
    #[error(
        "no cluster to join: give a token (`span cluster new` makes one), or a configuration with \
         cluster.id and cluster.secret"
    )]
    NoCluster,
    /// Nobody to learn of other members from.
    #[error(
        "no source of members: name a discovery service with --discovery, serve one with --serve-discovery, \
         or list the members in a file with --members"
    )]
    NoSource,
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A source of members.
    #[error("{0}")]
    Source(String),
    /// No hardware address for the overlay address.
    #[error("no physical interface to take the overlay address from: set `overlayAddress: key`")]
    NoHardwareAddress,
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] OpenError),
    /// The UDP sockets.
    #[error(transparent)]
    Bind(#[from] udp::BindError),
    /// A device or transport that was brought along and cannot be waited for.
    #[error("the {0} that was brought along has no descriptor to wait on")]
    NotPollable(&'static str),
    /// Addresses, routes and rules.
    #[error("setting up addresses and routes: {0}")]
    Routes(#[from] RouteError),
    /// The control socket.
    #[error("control socket {}: {source}", path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What it answered.
        source: io::Error,
    },
}

/// Why a running node ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The interface was removed, or a socket broke.
    #[error("carrying packets: {0}")]
    Packets(#[source] io::Error),
    /// The system gave discovery no runtime.
    #[error("starting discovery: {0}")]
    Runtime(#[source] io::Error),
    /// The discovery service this node serves failed.
    #[error("serving discovery: {0}")]
    Service(String),
    /// A defect.
    #[error("thread {0} panicked: please report this")]
    Panicked(&'static str),
}

/// Why a running node cannot become what a new configuration says. It is as it was then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The field stays as it is as long as the node runs.
    #[error("{field} cannot change while the node runs: {why}")]
    Fixed {
        /// The field, as [`NodeConfig`](crate::config::NodeConfig) names it.
        field: &'static str,
        /// Why, and what would do.
        why: &'static str,
    },
    /// The value will not do.
    #[error("{field} {why}")]
    Invalid {
        /// The field, as [`NodeConfig`](crate::config::NodeConfig) names it.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The other port cannot be had.
    #[error("listen_port: {0}")]
    Port(#[from] udp::BindError),
    /// A source of members cannot be used.
    #[error("discovery: {0}")]
    Source(String),
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

impl From<packet::Stopped> for Stopped {
    fn from(_: packet::Stopped) -> Self {
        Stopped
    }
}
