//! What this node is, and what it tells the others about itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};
use span_core::crypto::Suites;
use span_core::key::{PresharedKey, PublicKey};
use span_core::mesh::publish::{self, Reachable};
use span_core::mesh::{KubeSpan, Local, Member, NodeId};
use span_discovery::seal::ClusterId;
use span_nat::monitor::Interfaces;

use crate::config::NodeConfig;

/// This node.
pub(super) struct Me {
    pub(super) config: NodeConfig,
    pub(super) cluster_id: ClusterId,
    pub(super) node_id: NodeId,
    pub(super) public_key: PublicKey,
    /// The preshared key of every peer: the cluster's secret.
    pub(super) preshared_key: PresharedKey,
    /// The overlay address and the overlay's prefix.
    pub(super) address: Ipv6Addr,
    pub(super) overlay: Ipv6Net,
    pub(super) hostname: String,
    pub(super) nodename: String,
    /// The cipher suites it uses besides WireGuard's own.
    pub(super) suites: Suites,
    /// The port WireGuard listens on; 0 if it is not reached at the host's addresses.
    pub(super) port: u16,
    /// The interface of the mesh, whose addresses are not part of the underlay; 0 if it is none of the host's.
    pub(super) interface: u32,
    /// Whether packets of the host can be routed to the interface, and the node's own be told from them.
    pub(super) routable: bool,
    /// What the interface is called.
    pub(super) device: String,
}

impl Me {
    /// The record to publish.
    pub(super) fn describe(&self, interfaces: &Interfaces, public: &[IpAddr]) -> Member {
        let underlay = self.underlay(interfaces);
        let excluded = &self.config.advertised_networks;
        let reachable = Reachable {
            addresses: if self.port == 0 { &[] } else { &underlay },
            public: if self.port == 0 { &[] } else { public },
            excluded,
            filter: self.config.endpoint_filters.as_ref(),
            port: self.port,
            extra: &self.config.extra_endpoints,
        };
        let mut endpoints = publish::endpoints(&reachable);
        if endpoints.is_empty() && self.port != 0 {
            endpoints = self.loopback(interfaces);
        }
        let all = self.addresses(interfaces);
        Member {
            node_id: self.node_id.clone(),
            addresses: publish::addresses(&all, excluded),
            hostname: self.hostname.clone(),
            nodename: self.nodename.clone(),
            machine_type: self.config.machine_type,
            operating_system: concat!("Span (v", env!("CARGO_PKG_VERSION"), ")").to_owned(),
            kubespan: Some(KubeSpan {
                public_key: self.public_key,
                address: Some(self.address.into()),
                additional_addresses: self.config.advertised_networks.clone(),
                exclude_advertised_addresses: self.config.exclude_advertised_networks.clone(),
                suites: self.suites,
            }),
            control_plane: None,
            endpoints,
        }
    }

    /// What decides which of the members' claims can be met.
    pub(super) fn local(&self, interfaces: &Interfaces) -> Local {
        Local {
            node_id: self.node_id.clone(),
            public_key: self.public_key,
            overlay: self.overlay,
            addresses: self.addresses(interfaces),
            networks: self.config.advertised_networks.clone(),
            excluded: self.config.exclude_advertised_networks.clone(),
            peer_endpoints: self.config.peer_endpoint_filters.clone(),
            suites: self.suites,
        }
    }

    /// What others reach at the far end of this node's tunnels: its overlay address, the addresses it is
    /// configured with, and those of the host if the interface is the host's.
    fn addresses(&self, interfaces: &Interfaces) -> Vec<IpNet> {
        let mut addresses = if self.interface == 0 { Vec::new() } else { self.underlay(interfaces) };
        addresses.push(IpNet::V6(Ipv6Net::new_assert(self.address, self.overlay.prefix_len())));
        addresses.extend(self.config.addresses.iter().map(|address| IpNet::from(*address)));
        addresses
    }

    /// Where nodes on the same host reach this one although the host has no network.
    fn loopback(&self, interfaces: &Interfaces) -> Vec<SocketAddr> {
        let addresses = interfaces.loopback_addresses();
        let endpoints: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, self.port)).collect();
        match &self.config.endpoint_filters {
            Some(filter) => filter.endpoints(&endpoints),
            None => endpoints,
        }
    }

    /// The addresses of the host's interfaces but the mesh's own.
    fn underlay(&self, interfaces: &Interfaces) -> Vec<IpNet> {
        let others = interfaces.routed_addresses().filter(|address| address.interface != self.interface);
        others.map(|address| address.prefix).collect()
    }
}
