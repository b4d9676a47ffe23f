use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use span_core::mesh::{Filter, MachineType};
use span_discovery::seal::{ClusterId, ClusterSecret};
use span_discovery::url::ServiceUrl;

use super::problem::Warning;
use crate::cipher::Cipher;
use crate::interface::InterfaceName;
use crate::token::Token;

/// Everything a node can be told, checked. [`Default`] is what it does when told nothing; the fields'
/// documentation gives those values.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster to join. Default: none, which is enough for nothing.
    pub cluster: Option<Cluster>,
    /// The node's short name, by which others show it and Kubernetes knows it. Default: the first part of
    /// `hostname`.
    pub name: Option<String>,
    /// The node's full host name. Default: the machine's.
    pub hostname: Option<String>,
    /// The node's role. Default: worker.
    pub machine_type: MachineType,
    /// The interface to create. Default: `span0`.
    pub interface: InterfaceName,
    /// The interface's MTU, at least 1280. Default: 1420, which fits underlays of 1500 over IPv6.
    pub mtu: u16,
    /// The UDP port to listen on; 0 takes any. Default: 51820.
    pub listen_port: u16,
    /// What links are encrypted with. Default: AES-256-GCM where both ends have instructions for it, else
    /// WireGuard's ChaCha20-Poly1305.
    pub cipher: Cipher,
    /// How many threads carry packets, as far as the host lets flows be steered to them. Default: one.
    pub threads: NonZeroU8,
    /// Where the host part of the overlay address comes from. Default: the key.
    pub overlay_host: OverlayHost,
    /// Whether to set routes, policy rules and nftables. Default: yes. A node whose device is no interface of the
    /// host, a [network stack](crate::node::Builder::netstack) for one, does not whatever this says.
    pub routes: bool,
    /// Where the node keeps its identity. Default: `/var/lib/span`.
    pub state_dir: PathBuf,
    /// Where `span status` and others ask. Default: see [`NodeConfig::control_socket`].
    pub control_socket: Option<PathBuf>,
    /// Addresses of this node besides those of its interfaces, which others shall reach through the mesh.
    pub addresses: Vec<IpAddr>,
    /// Networks behind this node that others shall reach through it.
    pub advertised_networks: Vec<IpNet>,
    /// Networks that shall not be reached through the mesh even where this node or its addresses are in
    /// them.
    pub exclude_advertised_networks: Vec<IpNet>,
    /// Whether to advertise the pod networks of this node. Default: no.
    pub advertise_kubernetes_networks: bool,
    /// Endpoints to announce besides those found, never filtered.
    pub extra_endpoints: Vec<SocketAddr>,
    /// Which of the endpoints found here to announce. Default: all.
    pub endpoint_filters: Option<Filter>,
    /// Which of the endpoints others announce to try. Default: all.
    pub peer_endpoint_filters: Option<Filter>,
    /// Whether traffic to a member goes unencrypted while its tunnel is down. Default: no, it waits.
    pub allow_down_peer_bypass: bool,
    /// Whether to publish the endpoints other members are seen at. Default: no.
    pub harvest_extra_endpoints: bool,
    /// Who tells about the other members.
    pub discovery: Discovery,
    /// What has no effect although it is in the configuration.
    pub warnings: Vec<Warning>,
    /// Parts of a Talos configuration that are not for Span, by name.
    pub ignored: Vec<String>,
}

/// The cluster's name and its secret.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The name, which the discovery service sees.
    pub id: ClusterId,
    /// What seals member records and is every peer's preshared key.
    pub secret: ClusterSecret,
}

/// Who tells about the other members.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Discovery services, used all at once. Default: none.
    pub services: Vec<ServiceUrl>,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Whether connections to services are marked to stay out of the mesh. Default: yes.
    pub bypass_mesh: bool,
    /// Where to serve discovery to others from this node.
    pub serve: Option<SocketAddr>,
    /// A file with a static list of members.
    pub members: Option<PathBuf>,
}

/// Where the last 64 bits of the overlay address come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverlayHost {
    /// The public key: no two nodes collide.
    #[default]
    Key,
    /// The first physical interface's hardware address, as Talos has it.
    Mac,
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            cluster: None,
            name: None,
            hostname: None,
            machine_type: MachineType::Worker,
            interface: InterfaceName::default(),
            mtu: 1420,
            listen_port: 51820,
            cipher: Cipher::Auto,
            threads: NonZeroU8::MIN,
            overlay_host: OverlayHost::Key,
            routes: true,
            state_dir: "/var/lib/span".into(),
            control_socket: None,
            addresses: Vec::new(),
            advertised_networks: Vec::new(),
            exclude_advertised_networks: Vec::new(),
            advertise_kubernetes_networks: false,
            extra_endpoints: Vec::new(),
            endpoint_filters: None,
            peer_endpoint_filters: None,
            allow_down_peer_bypass: false,
            harvest_extra_endpoints: false,
            discovery: Discovery::default(),
            warnings: Vec::new(),
            ignored: Vec::new(),
        }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Discovery { services: Vec::new(), ca: None, bypass_mesh: true, serve: None, members: None }
    }
}

impl NodeConfig {
    /// The least MTU an interface of the mesh can have, in bytes: IPv6 asks for it.
    pub const LEAST_MTU: u16 = 1280;

    /// The configuration of a node that joins the cluster of a token, and uses the discovery services in it.
    pub fn from_token(token: &Token) -> Self {
        let mut config = NodeConfig::default();
        config.join(token);
        config
    }

    /// Joins the cluster of a token, and uses the discovery services in it besides those there are.
    pub fn join(&mut self, token: &Token) {
        self.cluster = Some(Cluster { id: token.id().clone(), secret: token.secret().clone() });
        self.discovery.services.extend(token.services().iter().cloned());
    }

    /// The control socket's path: as configured, else `/run/span/INTERFACE.sock`.
    pub fn control_socket(&self) -> PathBuf {
        match &self.control_socket {
            Some(path) => path.clone(),
            None => format!("/run/span/{}.sock", self.interface).into(),
        }
    }

    /// The node's full host name and its short name, on a machine called `machine`.
    pub fn names(&self, machine: &str) -> (String, String) {
        let hostname = self.hostname.as_deref().unwrap_or(machine);
        let first = hostname.split_once('.').map_or(hostname, |(first, _)| first);
        (hostname.to_owned(), self.name.clone().unwrap_or_else(|| first.to_owned()))
    }

    /// Lets relative paths begin at `directory`.
    pub(super) fn resolve_paths(&mut self, directory: &Path) {
        let paths = [&mut self.control_socket, &mut self.discovery.ca, &mut self.discovery.members];
        for path in paths.into_iter().flatten().chain([&mut self.state_dir]) {
            *path = directory.join(&*path);
        }
    }
}
