//! Addresses and prefixes.

use std::ffi::c_char;
use std::mem::size_of;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

use ipnet::IpNet;
use span_core::path::{self, Source};

use crate::boundary::call;
use crate::pointer;
use crate::status::Status;

/// What a span_path is.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// No path.
    None = 0,
    /// UDP over IPv4: the first four bytes of the addresses count.
    Udp4 = 1,
    /// UDP over IPv6.
    Udp6 = 2,
    /// A transport of the caller's own, which knows the path by its tag.
    Custom = 3,
}

/// A way to a peer. Fields that a kind does not use are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// SPAN_PATH_KIND_CUSTOM: the caller's name for it.
    pub tag: u64,
    /// The peer's address, in network order.
    pub remote: [u8; 16],
    /// The local address that datagrams leave from, in network order, if has_source is not 0.
    pub source: [u8; 16],
    /// The scope of a link-local IPv6 address of the peer.
    pub scope_id: u32,
    /// The interface that belongs to the local address; 0 where unknown.
    pub interface: u32,
    /// A span_path_kind.
    pub kind: u32,
    /// The peer's port, in the host's order.
    pub port: u16,
    /// Not 0 if the local address is known: that datagrams arrived at. To be given to span_tunnel_open where
    /// the socket tells it.
    pub has_source: u16,
}

/// A range of addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// The address in network order; of an IPv4 address the first four bytes.
    pub address: [u8; 16],
    /// 4 or 6.
    pub family: u8,
    /// How many leading bits count.
    pub length: u8,
}

impl Path {
    /// Whether it is the same. As `==`, but at once instead of field by field: this is asked for each datagram.
    #[inline]
    pub(crate) fn is(&self, other: &Path) -> bool {
        self.bytes() == other.bytes()
    }

    #[inline]
    fn bytes(&self) -> &[u8; size_of::<Path>()] {
        const { assert!(size_of::<Path>() == 8 + 16 + 16 + 4 + 4 + 4 + 2 + 2, "the fields leave no gaps") };
        // SAFETY: all bytes of a path are bytes of its fields, which are numbers and bytes.
        unsafe { &*ptr::from_ref(self).cast() }
    }

    /// The path in the core's terms.
    pub(crate) fn to_core(self) -> Result<Option<path::Path>, Status> {
        let (remote, source) = match self.kind {
            kind if kind == PathKind::None as u32 => return Ok(None),
            kind if kind == PathKind::Custom as u32 => return Ok(Some(path::Path::Custom(self.tag))),
            kind if kind == PathKind::Udp4 as u32 => {
                (SocketAddr::new(v4(&self.remote), self.port), v4(&self.source))
            }
            kind if kind == PathKind::Udp6 as u32 => {
                let remote = SocketAddrV6::new(Ipv6Addr::from(self.remote), self.port, 0, self.scope_id);
                (remote.into(), IpAddr::from(self.source))
            }
            _ => return Err(Status::Invalid),
        };
        Ok(Some(if self.has_source == 0 {
            path::Path::udp(remote)
        } else {
            path::Path::udp_from(remote, Source { ip: source, interface: self.interface })
        }))
    }
}

impl From<&path::Path> for Path {
    fn from(path: &path::Path) -> Self {
        match path {
            path::Path::Udp(udp) => {
                let (kind, scope_id) = match udp.remote {
                    SocketAddr::V4(_) => (PathKind::Udp4, 0),
                    SocketAddr::V6(remote) => (PathKind::Udp6, remote.scope_id()),
                };
                Path {
                    tag: 0,
                    remote: bytes(udp.remote.ip()),
                    source: udp.source.map_or([0; 16], |source| bytes(source.ip)),
                    scope_id,
                    interface: udp.source.map_or(0, |source| source.interface),
                    kind: kind as u32,
                    port: udp.remote.port(),
                    has_source: udp.source.is_some().into(),
                }
            }
            path::Path::Custom(tag) => Path { tag: *tag, kind: PathKind::Custom as u32, ..Path::default() },
            // A kind of path that a newer core has, and no configuration of ours leads to.
            _ => Path::default(),
        }
    }
}

impl Prefix {
    /// The prefix in the core's terms, its host bits cleared.
    pub(crate) fn to_core(self) -> Result<IpNet, Status> {
        let address = match self.family {
            4 => v4(&self.address),
            6 => IpAddr::from(self.address),
            _ => return Err(Status::Invalid),
        };
        IpNet::new(address, self.length).map(|prefix| prefix.trunc()).map_err(|_| Status::Invalid)
    }
}

impl From<IpNet> for Prefix {
    fn from(prefix: IpNet) -> Self {
        let family = if prefix.addr().is_ipv4() { 4 } else { 6 };
        Prefix { address: bytes(prefix.addr()), family, length: prefix.prefix_len() }
    }
}

fn v4(bytes: &[u8; 16]) -> IpAddr {
    let [a, b, c, d, ..] = *bytes;
    IpAddr::from([a, b, c, d])
}

fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// Reads a path over UDP from a text such as `192.0.2.1:51820` or `[2001:db8::1]:51820`. No names are looked up. Any
/// thread.
///
/// SPAN_STATUS_ADDRESS_TEXT if the text is not an address with its port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_path_parse(text: *const c_char, path: *mut Path) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (text, place) = unsafe { (pointer::text(text)?, pointer::place(path)?) };
        let remote: SocketAddr = text.parse().map_err(|_| Status::AddressText)?;
        place.write(Path::from(&path::Path::udp(remote)));
        Ok(())
    })
}

/// Reads a prefix from a text such as 10.0.0.0/24 or fd00::1/128; bits behind its length are cleared. Any thread.
///
/// SPAN_STATUS_PREFIX_TEXT if the text is not a prefix.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_prefix_parse(text: *const c_char, prefix: *mut Prefix) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (text, place) = unsafe { (pointer::text(text)?, pointer::place(prefix)?) };
        let parsed: IpNet = text.parse().map_err(|_| Status::PrefixText)?;
        place.write(Prefix::from(parsed.trunc()));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_the_way_there_and_back() {
        let remote = |text: &str| text.parse::<SocketAddr>().unwrap();
        let source = |text: &str, interface| Source { ip: text.parse().unwrap(), interface };
        let paths = [
            path::Path::udp(remote("192.0.2.1:51820")),
            path::Path::udp(remote("[fe80::1%7]:1")),
            path::Path::udp_from(remote("192.0.2.1:51820"), source("198.51.100.7", 2)),
            path::Path::udp_from(remote("[2001:db8::1]:65535"), source("2001:db8::2", 0)),
            path::Path::Custom(u64::MAX),
        ];
        for path in paths {
            assert_eq!(Path::from(&path).to_core(), Ok(Some(path)));
        }
        assert_eq!(Path::default().to_core(), Ok(None));
        assert_eq!(Path { kind: 9, ..Path::default() }.to_core(), Err(Status::Invalid));
    }

    #[test]
    fn prefixes_survive_the_way_there_and_back() {
        for text in ["0.0.0.0/0", "10.1.2.3/32", "fd00::/8", "::/0", "2001:db8::1/128"] {
            let prefix: IpNet = text.parse().unwrap();
            assert_eq!(Prefix::from(prefix).to_core(), Ok(prefix));
        }
        let bad = [(4, 33), (6, 129), (0, 0), (5, 8)];
        for (family, length) in bad {
            assert_eq!(Prefix { address: [1; 16], family, length }.to_core(), Err(Status::Invalid));
        }
        let odd = Prefix { address: [10; 16], family: 4, length: 8 };
        assert_eq!(odd.to_core(), Ok("10.0.0.0/8".parse().unwrap()), "host bits are cleared");
    }
}
