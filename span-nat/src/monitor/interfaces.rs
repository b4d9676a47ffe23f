//! What a host has: links, addresses and default routes.

use std::net::IpAddr;

use ipnet::IpNet;

/// The network of one namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    /// All links, by index.
    pub links: Vec<Link>,
    /// All addresses of all links.
    pub addresses: Vec<Address>,
    /// The routes to everywhere, of all tables.
    pub default_routes: Vec<DefaultRoute>,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// What kind of virtual link it is (`bridge`, `veth`, `tun`); `None` for hardware and loopback.
    pub kind: Option<String>,
    /// Whether it is Ethernet, or looks like it.
    pub ethernet: bool,
    /// Its hardware address; empty if it has none.
    pub mac: Vec<u8>,
    /// The longest IP packet it takes, in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it has a carrier: a cable in, a peer at the other end.
    pub carrier: bool,
    /// Whether it is a loopback link.
    pub loopback: bool,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The link's index.
    pub interface: u32,
    /// The address itself, and the length of the prefix that is on the link.
    pub prefix: IpNet,
    /// How far it reaches.
    pub scope: Scope,
    /// A privacy address of IPv6 that will be replaced (RFC 8981).
    pub temporary: bool,
    /// Past its preferred lifetime: fit for what runs, not for what begins.
    pub deprecated: bool,
    /// Still being checked for duplicates, or found to be one: not usable.
    pub tentative: bool,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere it is routed to.
    Global,
    /// Its site, a scope of the administrator's own making.
    Site,
    /// Its link.
    Link,
    /// This host.
    Host,
}

/// A route to everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DefaultRoute {
    /// Whether it is for IPv6.
    pub ipv6: bool,
    /// The table it stands in; 254 is the main one.
    pub table: u32,
    /// The link it leads out of; 0 where it names none or several.
    pub interface: u32,
    /// The next router; `None` on a link that needs none.
    pub gateway: Option<IpAddr>,
    /// The lowest wins.
    pub metric: u32,
}

impl Interfaces {
    /// The link with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The link with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The hardware address of the first physical link by name (Ethernet and of no kind), from which
    /// KubeSpan makes a node's address in the mesh. `None` where there is none, as in a container.
    pub fn physical_mac(&self) -> Option<&[u8]> {
        let physical = self.links.iter().filter(|link| link.is_physical());
        let first = physical.min_by(|one, other| one.name.cmp(&other.name))?;
        Some(&first.mac)
    }

    /// The addresses others can be told to reach this host at: of global scope, usable, and on a link
    /// that is up, with a carrier if it is a physical one.
    pub fn routed_addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().filter(|address| {
            let ip = address.prefix.addr();
            let link_local = match ip {
                IpAddr::V4(ip) => ip.is_link_local(),
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            let usable = !address.tentative && !address.deprecated;
            let reaches_out = !link_local && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified();
            let link = self.link(address.interface);
            let connected = link.is_some_and(|link| link.up && (link.carrier || !link.is_physical()));
            address.scope == Scope::Global && usable && reaches_out && connected
        })
    }

    /// The loopback addresses of this host, on a link that is up: programs of this host alone reach it there.
    pub fn loopback_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let up = |address: &&Address| self.link(address.interface).is_some_and(|link| link.up);
        self.addresses.iter().filter(up).map(|address| address.prefix.addr()).filter(IpAddr::is_loopback)
    }

    /// Whether `ip` is an address of this host.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|address| address.prefix.addr() == ip)
    }
}

impl Link {
    /// Whether it is a piece of hardware: Ethernet, and of no kind.
    pub fn is_physical(&self) -> bool {
        self.ethernet && self.kind.is_none() && !self.loopback && !self.mac.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.into(),
            kind: kind.map(Into::into),
            ethernet: true,
            mac: vec![2, 0, 0, 0, 0, index as u8],
            mtu: 1500,
            up: true,
            carrier: true,
            loopback: false,
        }
    }

    fn address(interface: u32, prefix: &str) -> Address {
        Address {
            interface,
            prefix: prefix.parse().unwrap(),
            scope: Scope::Global,
            temporary: false,
            deprecated: false,
            tentative: false,
        }
    }

    #[test]
    fn the_physical_mac_is_that_of_the_first_name_without_a_kind() {
        let mut host = Interfaces {
            links: vec![link(1, "eth1", None), link(2, "br0", Some("bridge")), link(3, "eth0", None)],
            ..Interfaces::default()
        };
        assert_eq!(host.physical_mac(), Some(&[2, 0, 0, 0, 0, 3][..]));
        host.links.retain(|link| link.kind.is_some());
        assert_eq!(host.physical_mac(), None);
    }

    #[test]
    fn only_usable_global_addresses_of_connected_links_are_told() {
        let mut host = Interfaces {
            links: vec![link(1, "eth0", None), link(2, "eth1", None), link(3, "br0", Some("bridge"))],
            addresses: vec![
                address(1, "192.0.2.1/24"),
                address(1, "169.254.3.4/16"),
                address(1, "fe80::1/64"),
                address(2, "198.51.100.1/24"),
                address(3, "2001:db8::1/64"),
                Address { tentative: true, ..address(3, "2001:db8::2/64") },
                Address { scope: Scope::Host, ..address(1, "10.0.0.1/8") },
                address(9, "203.0.113.1/24"),
            ],
            default_routes: Vec::new(),
        };
        host.links[1].carrier = false;
        host.links[2].carrier = false;
        let told: Vec<_> = host.routed_addresses().map(|address| address.prefix.to_string()).collect();
        assert_eq!(told, ["192.0.2.1/24", "2001:db8::1/64"]);
        host.links.push(Link { loopback: true, ..link(4, "lo", None) });
        host.addresses.extend([address(4, "127.0.0.1/8"), address(4, "::1/128"), address(4, "192.0.2.9/32")]);
        let loopback: Vec<_> = host.loopback_addresses().map(|ip| ip.to_string()).collect();
        assert_eq!(loopback, ["127.0.0.1", "::1"]);
        host.links[3].up = false;
        assert_eq!(host.loopback_addresses().count(), 0);
        assert!(host.is_local("198.51.100.1".parse().unwrap()));
        assert!(!host.is_local("198.51.100.2".parse().unwrap()));
    }
}
