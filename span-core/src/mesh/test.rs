//! Members for tests.

use alloc::string::ToString as _;
use core::net::{IpAddr, Ipv6Addr};
use std::vec;

use ipnet::{IpNet, Ipv6Net};

use super::{KubeSpan, MachineType, Member, NodeId, overlay};
use crate::crypto::Suites;
use crate::key::PublicKey;

pub(crate) const CLUSTER: &str = "8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44tsCLSBzo=";

/// A member with key `[n; 32]`, address 172.20.0.n, its overlay address and one endpoint.
pub(crate) fn member(id: &str, n: u8) -> Member {
    let public_key = PublicKey::from_bytes([n; 32]);
    let address = IpAddr::V4([172, 20, 0, n].into());
    let ula = IpAddr::V6(ula(n));
    Member {
        node_id: NodeId::new(id).unwrap(),
        addresses: vec![address, ula],
        hostname: id.to_string(),
        nodename: id.to_string(),
        machine_type: MachineType::Worker,
        operating_system: "test".to_string(),
        kubespan: Some(KubeSpan {
            public_key,
            address: Some(ula),
            additional_addresses: vec![],
            exclude_advertised_addresses: vec![],
            suites: Suites::NONE,
        }),
        control_plane: None,
        endpoints: vec![(address, 51820).into()],
    }
}

/// The overlay address of the member with number `n`.
pub(crate) fn ula(n: u8) -> Ipv6Addr {
    overlay::address_from_key(prefix(), &PublicKey::from_bytes([n; 32]))
}

/// The overlay prefix of the test cluster.
pub(crate) fn prefix() -> Ipv6Net {
    overlay::prefix(CLUSTER)
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
