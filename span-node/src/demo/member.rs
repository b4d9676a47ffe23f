//! The node of the library, as the demo uses it.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use span_core::time::Instant;

use crate::clock;
use crate::config::{Cluster, NodeConfig};
use crate::control::{PeerState, Status};
use crate::node::Node;
use crate::token::Token;

/// A node that has joined. Dropping it leaves.
pub(super) struct Member(Node);

/// A tunnel that stands.
pub(super) struct Link {
    /// The number of the node at the other end.
    pub(super) peer: u16,
    /// Since when.
    pub(super) since: Instant,
}

impl Member {
    /// Joins as node `number`, keeping what it has to keep in `scratch`.
    pub(super) fn join(number: u16, token: &Token, listen_port: u16, scratch: &Path) -> io::Result<Self> {
        let mut config = NodeConfig {
            cluster: Some(Cluster { id: token.id().clone(), secret: token.secret().clone() }),
            hostname: Some(name(number)),
            listen_port,
            state_dir: scratch.join("state"),
            control_socket: Some(scratch.join("control")),
            ..NodeConfig::default()
        };
        config.discovery.services = token.services().to_vec();
        Node::start(config).map(Self).map_err(io::Error::other)
    }

    /// Its address in the overlay.
    pub(super) fn overlay(&self) -> io::Result<IpAddr> {
        Ok(self.status()?.node.overlay_address)
    }

    /// The tunnels that stand.
    pub(super) fn links(&self) -> io::Result<Vec<Link>> {
        let (status, now) = (self.status()?, clock::now());
        let up = status.peers.iter().filter(|peer| peer.state == PeerState::Up);
        let links = up.filter_map(|peer| {
            let age = Duration::try_from_secs_f64(peer.path_since_seconds_ago?).ok()?;
            Some(Link { peer: number(&peer.name)?, since: now - age })
        });
        Ok(links.collect())
    }

    fn status(&self) -> io::Result<Status> {
        self.0.status().map_err(io::Error::other)
    }
}

fn name(number: u16) -> String {
    format!("node-{number}")
}

fn number(name: &str) -> Option<u16> {
    name.strip_prefix("node-")?.parse().ok()
}
