//! What a node says about itself, and about the others it has met.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::prefix_set::PrefixSet;
use super::{Filter, NodeId, PeerSpec, overlay, unicast};
use crate::key::PublicKey;

/// Where this node may be reached, before sorting and filtering.
#[derive(Clone, Copy, Debug)]
pub struct Reachable<'a> {
    /// Addresses of its interfaces that are up, with their prefix lengths.
    pub addresses: &'a [IpNet],
    /// Addresses that only the outside knows, such as what discovery saw us come from.
    pub public: &'a [IpAddr],
    /// Networks whose addresses say nothing about the node: pods and services.
    pub excluded: &'a [IpNet],
    /// `filters.endpoints`; `None` for all.
    pub filter: Option<&'a Filter>,
    /// The port WireGuard listens on.
    pub port: u16,
    /// `extraAnnouncedEndpoints`: published as they are.
    pub extra: &'a [SocketAddr],
}

/// The endpoints to publish, best first: own addresses sorted (IPv4 first, then the more specific network,
/// then by number), public addresses, all of it filtered, then the extra ones. No address of an overlay or
/// of a management network, none that other hosts could not send to, none twice.
pub fn endpoints(reachable: &Reachable<'_>) -> Vec<SocketAddr> {
    let mut candidates = addresses(reachable.addresses, reachable.excluded);
    candidates.retain(|ip| !overlay::is_overlay(*ip));
    for ip in reachable.public.iter().map(IpAddr::to_canonical) {
        if is_publishable(ip) && !candidates.contains(&ip) {
            candidates.push(ip);
        }
    }
    if let Some(filter) = reachable.filter {
        candidates = filter.addresses(&candidates);
    }
    let mut endpoints: Vec<SocketAddr> =
        candidates.into_iter().map(|ip| SocketAddr::new(ip, reachable.port)).collect();
    for extra in reachable.extra {
        if !endpoints.contains(extra) {
            endpoints.push(*extra);
        }
    }
    endpoints
}

/// The node addresses to publish, sorted like [`endpoints`]: everything routable on its interfaces but
/// pods, services and management networks. The overlay address is among them if `interfaces` has it.
pub fn addresses(interfaces: &[IpNet], excluded: &[IpNet]) -> Vec<IpAddr> {
    let excluded: PrefixSet = excluded.iter().copied().collect();
    let usable = |net: &&IpNet| {
        let ip = net.addr().to_canonical();
        is_publishable(ip) && !excluded.contains(ip)
    };
    let mut usable: Vec<&IpNet> = interfaces.iter().filter(usable).collect();
    usable.sort_by_key(|net| (net.addr().is_ipv6(), core::cmp::Reverse(net.prefix_len()), net.addr()));
    let mut addresses = Vec::with_capacity(usable.len());
    for net in usable {
        let ip = net.addr().to_canonical();
        if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    addresses
}

/// An endpoint of another member, seen by this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Whose it is.
    pub node_id: NodeId,
    /// Where its authenticated traffic comes from.
    pub endpoint: SocketAddr,
}

/// Which observed endpoints to publish for whom (`harvestExtraEndpoints`).
///
/// `paths` are the remote ends of the tunnels that are up. Endpoints that the member lists already are
/// published again: the service keeps one copy, and only repeating it keeps it from expiring. Nothing is
/// published that others could not use: no overlay, loopback or link-local address.
pub fn harvest(
    peers: &[PeerSpec],
    paths: impl IntoIterator<Item = (PublicKey, SocketAddr)>,
) -> Vec<Observed> {
    let nodes: BTreeMap<PublicKey, &NodeId> =
        peers.iter().map(|peer| (peer.public_key, &peer.node_id)).collect();
    let useful = paths.into_iter().filter(|(_, endpoint)| {
        is_publishable(endpoint.ip())
            && !overlay::is_overlay(endpoint.ip())
            && unicast::is_endpoint(*endpoint)
    });
    useful
        .filter_map(|(key, endpoint)| {
            nodes.get(&key).map(|node_id| Observed { node_id: (*node_id).clone(), endpoint })
        })
        .collect()
}

/// Whether the address means the same node to others as to us.
fn is_publishable(ip: IpAddr) -> bool {
    !unicast::never_routed().contains(ip) && !overlay::is_siderolink(ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Suite;
    use crate::mesh::test::{net, ula};
    use alloc::string::ToString as _;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| net(text)).collect()
    }

    fn texts<T: alloc::string::ToString>(items: &[T]) -> Vec<alloc::string::String> {
        items.iter().map(T::to_string).collect()
    }

    #[test]
    fn sorts_as_talos_does_and_leaves_out_what_is_not_the_node() {
        let interfaces = nets(&[
            "2001:db8::5/64",
            "127.0.0.1/8",
            "10.244.1.1/24",
            "192.168.1.9/24",
            "172.20.0.2/24",
            "172.20.0.10/32",
            "fe80::1/64",
            "fdae:41e4:649b:9303::1/64",
            &alloc::format!("{}/64", ula(1)),
            "172.20.0.2/24",
        ]);
        let excluded = nets(&["10.244.0.0/16"]);
        let all = addresses(&interfaces, &excluded);
        let own = ula(1).to_string();
        assert_eq!(texts(&all), ["172.20.0.10", "172.20.0.2", "192.168.1.9", "2001:db8::5", own.as_str()]);

        let public = ["203.0.113.7".parse().unwrap(), "172.20.0.2".parse().unwrap(), "::1".parse().unwrap()];
        let extra = ["198.51.100.1:9999".parse().unwrap(), "203.0.113.7:51820".parse().unwrap()];
        let filter = Filter::new(["0.0.0.0/0", "!192.168.0.0/16"].map(|rule| rule.parse().unwrap()).to_vec());
        let reachable = Reachable {
            addresses: &interfaces,
            public: &public,
            excluded: &excluded,
            filter: Some(&filter),
            port: 51820,
            extra: &extra,
        };
        assert_eq!(
            texts(&endpoints(&reachable)),
            ["172.20.0.10:51820", "172.20.0.2:51820", "203.0.113.7:51820", "198.51.100.1:9999"]
        );
        let unfiltered = endpoints(&Reachable { filter: None, extra: &[], ..reachable });
        assert_eq!(
            texts(&unfiltered)[2..],
            ["192.168.1.9:51820", "[2001:db8::5]:51820", "203.0.113.7:51820"]
        );
    }

    #[test]
    fn harvests_what_others_can_use() {
        let peer = |id: &str, n: u8| PeerSpec {
            node_id: NodeId::new(id).unwrap(),
            label: id.to_string(),
            public_key: PublicKey::from_bytes([n; 32]),
            address: None,
            allowed_ips: Vec::new(),
            endpoints: Vec::new(),
            suite: Suite::default(),
        };
        let key = |n| PublicKey::from_bytes([n; 32]);
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let paths = [
            (key(1), at("203.0.113.9:1024")),
            (key(2), SocketAddr::new(ula(1).into(), 51820)),
            (key(3), at("127.0.0.1:5")),
            (key(9), at("203.0.113.9:1025")),
        ];
        let observed = harvest(&[peer("a", 1), peer("b", 2), peer("c", 3)], paths);
        assert_eq!(
            observed,
            [Observed { node_id: NodeId::new("a").unwrap(), endpoint: at("203.0.113.9:1024") }]
        );
    }
}
