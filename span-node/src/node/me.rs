//! What this node is, and what it tells the others about itself.

use std::net::{IpAddr, Ipv6Addr};

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
    /// The port WireGuard listens on.
    pub(super) port: u16,
    /// The interface of the mesh, whose addresses are not part of the underlay.
    pub(super) interface: u32,
}

impl Me {
    /// The record to publish.
    pub(super) fn describe(&self, interfaces: &Interfaces, public: &[IpAddr]) -> Member {
        let addresses = self.addresses(interfaces);
        let excluded = &self.config.advertised_networks;
        let reachable = Reachable {
            addresses: &addresses,
            public,
            excluded,
            filter: self.config.endpoint_filters.as_ref(),
            port: self.port,
            extra: &self.config.extra_endpoints,
        };
        let endpoints = publish::endpoints(&reachable);
        let own = self.config.addresses.iter().map(|address| IpNet::from(*address));
        let all: Vec<IpNet> = addresses.into_iter().chain(own).collect();
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
        let own = self.config.addresses.iter().map(|address| IpNet::from(*address));
        Local {
            node_id: self.node_id.clone(),
            public_key: self.public_key,
            overlay: self.overlay,
            addresses: self.addresses(interfaces).into_iter().chain(own).collect(),
            networks: self.config.advertised_networks.clone(),
            excluded: self.config.exclude_advertised_networks.clone(),
            peer_endpoints: self.config.peer_endpoint_filters.clone(),
            suites: self.suites,
        }
    }

    /// The addresses of the host's interfaces, and the overlay address.
    fn addresses(&self, interfaces: &Interfaces) -> Vec<IpNet> {
        let underlay = interfaces.routed_addresses().filter(|address| address.interface != self.interface);
        let overlay = IpNet::V6(Ipv6Net::new_assert(self.address, self.overlay.prefix_len()));
        underlay.map(|address| address.prefix).chain([overlay]).collect()
    }
}
