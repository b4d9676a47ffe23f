//! Addresses that no member can own and no datagram can be sent to.

use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::prefix_set::PrefixSet;

/// Loopback, link-local, multicast and the like (RFC 6890): never an allowed IP.
pub(super) fn never_routed() -> PrefixSet {
    let v4 =
        [([0, 0, 0, 0], 8), ([127, 0, 0, 0], 8), ([169, 254, 0, 0], 16), ([224, 0, 0, 0], 4), ([255; 4], 32)];
    // Unspecified and loopback together, IPv4 in IPv6's clothes, link-local, multicast.
    let v6 = [([0, 0, 0], 127), ([0, 0, 0xffff], 96), ([0xfe80, 0, 0], 10), ([0xff00, 0, 0], 8)];
    let v4 = v4.map(|(ip, len)| IpNet::V4(Ipv4Net::new_assert(ip.into(), len)));
    let v6 = v6.map(|([first, fifth, sixth], len)| {
        IpNet::V6(Ipv6Net::new_assert([first, 0, 0, 0, fifth, sixth, 0, 0].into(), len))
    });
    v4.into_iter().chain(v6).collect()
}

/// Whether datagrams can be sent there at all. Loopback is fine: several nodes may share a machine.
pub(super) fn is_endpoint(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let reachable = match ip {
        IpAddr::V4(ip) => !ip.is_broadcast() && ip.octets()[0] != 0,
        // Without a zone a link-local address says nothing, and a zone means nothing to another host.
        IpAddr::V6(ip) => !ip.is_unicast_link_local() || scope(endpoint) != 0,
    };
    reachable && endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

fn scope(endpoint: SocketAddr) -> u32 {
    match endpoint {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(endpoint) => SocketAddrV6::scope_id(&endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_never_routed() {
        let never = never_routed();
        let out = ["0.1.2.3", "127.0.0.1", "169.254.169.254", "239.0.0.1", "255.255.255.255", "::", "::1"];
        for ip in out.iter().chain(&["::ffff:10.0.0.1", "fe80::1", "febf::1", "ff02::1"]) {
            assert!(never.contains(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            ["10.0.0.1", "100.64.0.1", "240.0.0.1", "192.0.2.1", "::2", "fec0::1", "fd00::1", "2001:db8::1"]
        {
            assert!(!never.contains(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn knows_where_datagrams_can_go() {
        for text in ["192.0.2.1:51820", "127.0.0.1:1", "[::1]:1", "[2001:db8::1]:51820", "[fe80::1%2]:51820"]
        {
            assert!(is_endpoint(text.parse().unwrap()), "{text}");
        }
        for text in [
            "192.0.2.1:0",
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "[::]:1",
            "[fe80::1]:1",
            "[ff02::1]:1",
        ] {
            assert!(!is_endpoint(text.parse().unwrap()), "{text}");
        }
    }
}
