//! What a node tells the others about itself.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::crypto::Suites;
use crate::key::PublicKey;

/// The name of a node within its cluster: opaque text of 1 to 256 bytes, on Talos the base62 form of 32
/// random bytes. Discovery calls it the affiliate id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(String);

/// Why a text is not a node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node id has 1 to {max} bytes, this one has {len}", max = NodeId::MAX_LEN)]
pub struct NodeIdError {
    len: usize,
}

impl NodeId {
    /// Longest id the discovery service takes, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Takes `text` as an id if its length allows.
    pub fn new(text: &str) -> Result<Self, NodeIdError> {
        match text.len() {
            1..=Self::MAX_LEN => Ok(NodeId(text.to_string())),
            len => Err(NodeIdError { len }),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One node as the others see it: Talos' affiliate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, the same in every tier.
    pub node_id: NodeId,
    /// Its routed addresses, overlay address included.
    pub addresses: Vec<IpAddr>,
    /// Its fully qualified host name.
    pub hostname: String,
    /// Its Kubernetes node name; empty until it has one.
    pub nodename: String,
    /// Its role in the cluster.
    pub machine_type: MachineType,
    /// Its operating system, free text.
    pub operating_system: String,
    /// Its part in the mesh; `None` while it has no WireGuard key.
    pub kubespan: Option<KubeSpan>,
    /// Its API server, on control plane nodes.
    pub control_plane: Option<ControlPlane>,
    /// Where its WireGuard listens, its own claims first, then what others observed.
    pub endpoints: Vec<SocketAddr>,
}

impl Member {
    /// A name for people: the node name, else the host name, else the id.
    pub fn label(&self) -> &str {
        let names = [&self.nodename, &self.hostname];
        names.into_iter().find(|name| !name.is_empty()).map_or(self.node_id.as_str(), String::as_str)
    }
}

/// A member's part in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeSpan {
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Its overlay address; `None` if the record had none that parses.
    pub address: Option<IpAddr>,
    /// Networks behind it, such as its pods'.
    pub additional_addresses: Vec<IpNet>,
    /// Networks the reader must not route to it, whatever else it claims.
    pub exclude_advertised_addresses: Vec<IpNet>,
    /// Cipher suites it answers in besides WireGuard's own.
    pub suites: Suites,
}

/// A member's API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// Its port.
    pub api_server_port: u32,
}

/// The role of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MachineType {
    /// Not said, or a word this version does not know.
    #[default]
    Unknown,
    /// The first control plane node of an old cluster.
    Init,
    /// A control plane node.
    ControlPlane,
    /// A worker.
    Worker,
}

impl MachineType {
    /// Talos' word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            MachineType::Unknown => "unknown",
            MachineType::Init => "init",
            MachineType::ControlPlane => "controlplane",
            MachineType::Worker => "worker",
        }
    }

    /// Reads Talos' word: nothing and `join` mean worker, as Talos has it.
    pub fn from_talos(word: &str) -> Self {
        match word {
            "init" => MachineType::Init,
            "controlplane" => MachineType::ControlPlane,
            "worker" | "join" | "" => MachineType::Worker,
            _ => MachineType::Unknown,
        }
    }
}

impl fmt::Display for MachineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_has_a_length() {
        assert!(NodeId::new("").is_err());
        assert!(NodeId::new(&"x".repeat(256)).is_ok());
        assert_eq!(NodeId::new(&"x".repeat(257)), Err(NodeIdError { len: 257 }));
    }

    #[test]
    fn machine_types_read_as_talos_writes_them() {
        for kind in [MachineType::Unknown, MachineType::Init, MachineType::ControlPlane, MachineType::Worker]
        {
            assert_eq!(MachineType::from_talos(kind.as_str()), kind);
        }
        assert_eq!(MachineType::from_talos("join"), MachineType::Worker);
        assert_eq!(MachineType::from_talos("toaster"), MachineType::Unknown);
    }
}
