//! Ways to reach a peer.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// One way to carry datagrams to a peer. A plain value: core compares and remembers paths, and only the
/// transports know how to send on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Path {
    /// UDP between a pair of addresses.
    Udp(UdpPath),
    /// A tag of the embedder's own transport. Core gives it no meaning.
    Custom(u64),
}

/// The addresses of a direct UDP path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpPath {
    /// Where datagrams go. IPv4-mapped IPv6 addresses are always unmapped.
    pub remote: SocketAddr,
    /// The address datagrams leave from, once the peer has been seen sending to it; `None` lets the
    /// host's routes choose.
    pub source: Option<Source>,
}

/// The local end of a UDP path, learnt from a datagram that arrived there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The local address the datagram was sent to.
    pub ip: IpAddr,
    /// The interface it came in on; 0 where unknown.
    pub interface: u32,
}

impl Path {
    /// A UDP path to `remote` whose source address the host chooses.
    pub fn udp(remote: SocketAddr) -> Self {
        Path::Udp(UdpPath { remote: canonical(remote), source: None })
    }

    /// A UDP path to `remote` from `source`.
    pub fn udp_from(remote: SocketAddr, source: Source) -> Self {
        let source = Source { ip: source.ip.to_canonical(), ..source };
        Path::Udp(UdpPath { remote: canonical(remote), source: Some(source) })
    }

    /// The peer's socket address, for paths that have one.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Path::Udp(udp) => Some(udp.remote),
            Path::Custom(_) => None,
        }
    }

    /// The same path with the choice of the source address left to the host.
    pub fn without_source(self) -> Self {
        match self {
            Path::Udp(udp) => Path::Udp(UdpPath { source: None, ..udp }),
            Path::Custom(_) => self,
        }
    }

    /// Whether both lead to the same place, wherever they leave from.
    pub fn same_remote(&self, other: &Path) -> bool {
        self.without_source() == other.without_source()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Udp(udp) => write!(f, "{}", udp.remote),
            Path::Custom(tag) => write!(f, "custom:{tag:x}"),
        }
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        // Keeps the scope of a link-local address.
        IpAddr::V6(_) => addr,
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_are_unmapped() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:51820".parse().unwrap();
        assert_eq!(Path::udp(mapped), Path::udp("192.0.2.1:51820".parse().unwrap()));
    }

    #[test]
    fn the_source_does_not_change_where_a_path_leads() {
        let remote = "192.0.2.1:51820".parse().unwrap();
        let source = Source { ip: "198.51.100.7".parse().unwrap(), interface: 2 };
        assert_ne!(Path::udp(remote), Path::udp_from(remote, source));
        assert!(Path::udp(remote).same_remote(&Path::udp_from(remote, source)));
    }
}
