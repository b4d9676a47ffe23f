//! Overlay addresses: one /64 for the cluster, cut from its id, and a host part for each node.

use core::net::{IpAddr, Ipv6Addr};

use ipnet::Ipv6Net;
use sha2::{Digest as _, Sha256};

use crate::key::PublicKey;

/// What a unique local prefix of the Talos family is for: its eighth byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    KubeSpan = 0x02,
    SideroLink = 0x03,
    VirtualSideroLink = 0x04,
}

/// Why a hardware address has no EUI-64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address has 6 or 8 bytes, this one has {0}")]
pub struct HardwareAddressError(usize);

/// The overlay /64 of the cluster with this id: the text as configured, never decoded.
pub fn prefix(cluster_id: &str) -> Ipv6Net {
    let hash = Sha256::digest(cluster_id.as_bytes());
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&hash[16..24]);
    octets[0] = 0xfd;
    octets[7] = Purpose::KubeSpan as u8;
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
}

/// The address that Talos gives a node: the modified EUI-64 of its first physical interface.
///
/// Machines cloned with their hardware address collide; [`address_from_key`] does not.
pub fn address_from_mac(prefix: Ipv6Net, mac: &[u8]) -> Result<Ipv6Addr, HardwareAddressError> {
    let mut host = match *mac {
        [a, b, c, d, e, f] => [a, b, c, 0xff, 0xfe, d, e, f],
        [a, b, c, d, e, f, g, h] => [a, b, c, d, e, f, g, h],
        _ => return Err(HardwareAddressError(mac.len())),
    };
    host[0] ^= UNIVERSAL;
    Ok(with_host(prefix, host))
}

/// An address that follows the node's key instead of its hardware: no two nodes share it, and it
/// survives a new network card. Peers accept any host part.
pub fn address_from_key(prefix: Ipv6Net, key: &PublicKey) -> Ipv6Addr {
    let hash = Sha256::new().chain_update(b"span overlay address").chain_update(key.as_bytes()).finalize();
    let mut host = [0; 8];
    host.copy_from_slice(&hash[..8]);
    // Says "made up here" (RFC 4291, appendix A); those made from a universal EUI-48 say the opposite.
    host[0] &= !UNIVERSAL;
    with_host(prefix, host)
}

/// Whether `ip` is the overlay address of some cluster, ours or another.
pub fn is_overlay(ip: IpAddr) -> bool {
    has_purpose(ip, Purpose::KubeSpan)
}

/// Whether `ip` belongs to the management network of an Omni installation, which no node may publish.
pub fn is_siderolink(ip: IpAddr) -> bool {
    has_purpose(ip, Purpose::SideroLink) || has_purpose(ip, Purpose::VirtualSideroLink)
}

/// The universal/local bit of the first byte of an EUI-64.
const UNIVERSAL: u8 = 0x02;

fn has_purpose(ip: IpAddr, purpose: Purpose) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            octets[0] == 0xfd && octets[7] == purpose as u8
        }
    }
}

fn with_host(prefix: Ipv6Net, host: [u8; 8]) -> Ipv6Addr {
    let mut octets = prefix.network().octets();
    octets[8..].copy_from_slice(&host);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    const A: &str = "8XuV9TZHW08DOk3bVxQjH9ih_TBKjnh-j44tsCLSBzo=";
    const B: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn matches_talos_own_vector() {
        assert_eq!(prefix(A).to_string(), "fd7f:175a:b97c:5602::/64");
        let ip = address_from_mac(prefix(A), &[0x2e, 0x1a, 0xb6, 0x53, 0x81, 0x69]).unwrap();
        assert_eq!(ip.to_string(), "fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169");
    }

    #[test]
    fn takes_hardware_addresses_of_both_lengths() {
        assert_eq!(prefix(B).to_string(), "fd3e:94a9:3fa7:e102::/64");
        let ip = |mac: &[u8]| address_from_mac(prefix(B), mac).map(|ip| ip.to_string());
        assert_eq!(ip(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]).unwrap(), "fd3e:94a9:3fa7:e102:5054:ff:fe12:3456");
        assert_eq!(
            ip(&[0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]).unwrap(),
            "fd3e:94a9:3fa7:e102:211:2233:4455:6677"
        );
        assert_eq!(ip(&[1, 2, 3]), Err(HardwareAddressError(3)));
        assert_eq!(ip(&[]), Err(HardwareAddressError(0)));
    }

    #[test]
    fn a_key_makes_a_stable_local_address() {
        let [one, two] = [1, 2].map(|byte| address_from_key(prefix(B), &PublicKey::from_bytes([byte; 32])));
        // Published addresses must not move between versions.
        assert_eq!(one, address_from_key(prefix(B), &PublicKey::from_bytes([1; 32])));
        assert_ne!(one, two);
        for ip in [one, two] {
            assert!(prefix(B).contains(&ip));
            assert_eq!(ip.octets()[8] & UNIVERSAL, 0);
        }
    }

    #[test]
    fn tells_the_family_by_first_and_eighth_byte() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(is_overlay(ip("fd7f:175a:b97c:5602::1")));
        assert!(!is_overlay(ip("fd7f:175a:b97c:5603::1")));
        assert!(is_siderolink(ip("fdae:41e4:649b:9303::1")));
        assert!(!is_overlay(ip("fc7f:175a:b97c:5602::1")));
        assert!(!is_overlay(ip("10.0.0.2")));
    }
}
