//! Tables of allowed IPs, and addresses to look up in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use span_core::allowed_ips::AllowedIps;
use span_core::key::PublicKey;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, PeerId};

use crate::random::Random;

/// The two kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A table with its prefixes and an address out of each.
#[derive(Debug)]
pub struct Table {
    /// What is measured.
    pub table: AllowedIps,
    /// The prefixes in it, each with its owner.
    pub prefixes: Vec<(IpNet, PeerId)>,
    /// One address that each prefix holds, in random order.
    pub addresses: Vec<IpAddr>,
}

impl Table {
    /// `count` prefixes of one family. As in a real mesh, half of them are single addresses and half are networks
    /// of many lengths; some hold others.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    pub fn new(family: Family, count: usize) -> Self {
        let mut random = Random::new(7);
        let owners = peers(count.min(1000));
        let prefixes: Vec<(IpNet, PeerId)> =
            (0..count).map(|_| (prefix(family, &mut random), owners[random.below(owners.len())])).collect();
        let mut table = AllowedIps::new();
        for (prefix, owner) in &prefixes {
            table.insert(*prefix, *owner);
        }
        let order = random.order(count);
        let addresses = order.into_iter().map(|at| address_in(prefixes[at].0, &mut random)).collect();
        Self { table, prefixes, addresses }
    }
}

/// Names of peers: only a device gives them out. Without a private key it needs no key agreement for them.
fn peers(count: usize) -> Vec<PeerId> {
    let mut device = Device::new(None, Instant::ORIGIN, UnixTime::default(), [0; 32]);
    let mut random = Random::new(8);
    let mut peer = || {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&random.bits().to_le_bytes());
        device.add_peer(Instant::ORIGIN, PublicKey::from_bytes(key)).expect("another's key")
    };
    (0..count).map(|_| peer()).collect()
}

fn prefix(family: Family, random: &mut Random) -> IpNet {
    let single = random.below(2) == 0;
    let (address, len) = match family {
        Family::V4 => (v4(random), if single { 32 } else { 16 + random.below(13) as u8 }),
        Family::V6 => (v6(random), if single { 128 } else { 48 + random.below(33) as u8 }),
    };
    IpNet::new(address, len).expect("a length of the family").trunc()
}

/// Somewhere in 10.0.0.0/8.
fn v4(random: &mut Random) -> IpAddr {
    let [_, a, b, c, ..] = random.bits().to_be_bytes();
    Ipv4Addr::new(10, a, b, c).into()
}

/// Somewhere in fd00::/16.
fn v6(random: &mut Random) -> IpAddr {
    let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
    Ipv6Addr::from(0xfd00 << 112 | bits >> 16).into()
}

fn address_in(prefix: IpNet, random: &mut Random) -> IpAddr {
    match prefix {
        IpNet::V4(net) => {
            let host = random.bits() as u32 & u32::from(net.hostmask());
            Ipv4Addr::from(u32::from(net.addr()) | host).into()
        }
        IpNet::V6(net) => {
            let host = u128::from(random.bits()) & u128::from(net.hostmask());
            Ipv6Addr::from(u128::from(net.addr()) | host).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_an_owner_and_tables_are_the_same_every_time() {
        for family in [Family::V4, Family::V6] {
            let (one, two) = (Table::new(family, 1000), Table::new(family, 1000));
            assert_eq!(one.addresses, two.addresses);
            for address in &one.addresses {
                assert!(one.table.lookup(*address).is_some(), "{address}");
            }
        }
    }
}
