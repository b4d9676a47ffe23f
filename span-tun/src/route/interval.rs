//! The routed set as nftables wants it: disjoint intervals that do not touch.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// From the first address to the last, both included. IPv4 addresses are numbers below 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Interval {
    pub(super) first: u128,
    pub(super) last: u128,
}

/// The IPv4 and the IPv6 part of `prefixes`, each sorted and with overlapping and adjacent prefixes merged.
pub(super) fn merge(prefixes: &[IpNet]) -> (Vec<Interval>, Vec<Interval>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match prefix {
            IpNet::V4(net) => v4.push(Interval {
                first: u32::from(net.network()).into(),
                last: u32::from(net.broadcast()).into(),
            }),
            IpNet::V6(net) => {
                v6.push(Interval { first: net.network().into(), last: net.broadcast().into() });
            }
        }
    }
    (join(v4), join(v6))
}

fn join(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_unstable();
    let mut joined: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match joined.last_mut() {
            Some(before) if interval.first <= before.last.saturating_add(1) => {
                before.last = before.last.max(interval.last);
            }
            _ => joined.push(interval),
        }
    }
    joined
}

/// The key bytes of an IPv4 or IPv6 address.
pub(super) fn key(address: u128, v6: bool) -> Vec<u8> {
    if v6 {
        Ipv6Addr::from(address).octets().to_vec()
    } else {
        Ipv4Addr::from(address as u32).octets().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(prefixes: &[&str]) -> Vec<(String, String)> {
        let prefixes: Vec<IpNet> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let (v4, v6) = merge(&prefixes);
        let v4 = v4.iter().map(|interval| {
            let text = |address| Ipv4Addr::from(address as u32).to_string();
            (text(interval.first), text(interval.last))
        });
        let v6 = v6.iter().map(|interval| {
            (Ipv6Addr::from(interval.first).to_string(), Ipv6Addr::from(interval.last).to_string())
        });
        v4.chain(v6).collect()
    }

    #[test]
    fn neighbours_and_inner_prefixes_become_one() {
        assert_eq!(
            of(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25", "10.0.3.0/24"]),
            [("10.0.0.0".into(), "10.0.1.255".into()), ("10.0.3.0".into(), "10.0.3.255".into())]
        );
        assert_eq!(
            of(&["::/0", "fd00::/8"]),
            [("::".into(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into())]
        );
        assert_eq!(of(&["0.0.0.0/0"]), [("0.0.0.0".into(), "255.255.255.255".into())]);
        assert_eq!(
            of(&["10.0.0.9/24"]),
            [("10.0.0.0".into(), "10.0.0.255".into())],
            "host bits do not count"
        );
    }

    proptest! {
        #[test]
        fn covers_exactly_what_the_prefixes_cover(
            nets in proptest::collection::vec((0u32..0x1_0000, 16u8..33), 0..40),
            probes in proptest::collection::vec(0u32..0x1_0000, 50),
        ) {
            let nets: Vec<IpNet> = nets
                .iter()
                .map(|(address, len)| ipnet::Ipv4Net::new(Ipv4Addr::from(*address), *len).unwrap().into())
                .collect();
            let (v4, v6) = merge(&nets);
            prop_assert!(v6.is_empty());
            prop_assert!(v4.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            for probe in probes {
                let address = Ipv4Addr::from(probe);
                let inside = v4.iter().any(|i| i.first <= probe.into() && u128::from(probe) <= i.last);
                prop_assert_eq!(inside, nets.iter().any(|net| net.contains(&std::net::IpAddr::from(address))));
            }
        }
    }
}
