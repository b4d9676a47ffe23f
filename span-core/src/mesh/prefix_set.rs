//! Sets of addresses, and the fewest prefixes that say the same.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A set of IPv4 and IPv6 addresses with the arithmetic that allowed IPs need.
///
/// Kept as sorted ranges, so that subtracting one host from a /8 costs one split and not 24 prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    v4: Ranges,
    v6: Ranges,
}

impl PrefixSet {
    /// The empty set.
    pub const fn new() -> Self {
        PrefixSet { v4: Ranges(Vec::new()), v6: Ranges(Vec::new()) }
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Adds every address of `net`; host bits of `net` are ignored.
    pub fn insert(&mut self, net: IpNet) {
        let range = Range::of(net);
        self.of_mut(family(net.addr())).insert(range);
    }

    /// Takes every address of `net` out.
    pub fn remove(&mut self, net: IpNet) {
        let range = Range::of(net);
        self.of_mut(family(net.addr())).remove(range);
    }

    /// Takes every address of `other` out.
    pub fn subtract(&mut self, other: &PrefixSet) {
        for (family, range) in other.ranges() {
            self.of_mut(family).remove(range);
        }
    }

    /// Whether `ip` is in the set. Logarithmic.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.of(family(ip)).overlapping(Range { first: bits(ip), last: bits(ip) }).next().is_some()
    }

    /// Whether any address of `net` is in the set.
    pub fn overlaps(&self, net: IpNet) -> bool {
        self.of(family(net.addr())).overlapping(Range::of(net)).next().is_some()
    }

    pub(super) fn ranges(&self) -> impl Iterator<Item = (Family, Range)> {
        let of = |family| self.of(family).0.iter().map(move |range| (family, *range));
        of(Family::V4).chain(of(Family::V6))
    }

    /// What both sets have in common.
    pub fn intersection(&self, other: &PrefixSet) -> PrefixSet {
        let mut common = PrefixSet::new();
        for (family, range) in other.ranges() {
            let overlapping = self.of(family).overlapping(range).map(|own| own.common(&range));
            common.of_mut(family).0.extend(overlapping);
        }
        common
    }

    /// The fewest prefixes that cover exactly the set: IPv4 first, ascending.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let mut prefixes = Vec::new();
        for (family, range) in self.ranges() {
            self::prefixes(family, range, &mut prefixes);
        }
        prefixes
    }

    fn of(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut Ranges {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

impl Extend<IpNet> for PrefixSet {
    fn extend<T: IntoIterator<Item = IpNet>>(&mut self, nets: T) {
        for net in nets {
            self.of_mut(family(net.addr())).0.push(Range::of(net));
        }
        self.v4.normalize();
        self.v6.normalize();
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<T: IntoIterator<Item = IpNet>>(nets: T) -> Self {
        let mut set = PrefixSet::new();
        set.extend(nets);
        set
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) fn family(ip: IpAddr) -> Family {
    match ip {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::to_bits(ip).into(),
        IpAddr::V6(ip) => Ipv6Addr::to_bits(ip),
    }
}

/// Addresses of one family as numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Range {
    pub(super) fn of(net: IpNet) -> Self {
        Range { first: bits(net.network()), last: bits(net.broadcast()) }
    }

    pub(super) fn common(&self, other: &Range) -> Range {
        Range { first: self.first.max(other.first), last: self.last.min(other.last) }
    }
}

/// Sorted ranges with at least one address between any two of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<Range>);

impl Ranges {
    fn insert(&mut self, mut range: Range) {
        // Neighbours count as overlapping here, so that two halves become one prefix again.
        let start = self.0.partition_point(|r| r.last.saturating_add(1) < range.first);
        let end = self.0.partition_point(|r| r.first <= range.last.saturating_add(1));
        if let Some(touched) = self.0.get(start..end).filter(|touched| !touched.is_empty()) {
            range.first = range.first.min(touched[0].first);
            range.last = range.last.max(touched[touched.len() - 1].last);
        }
        self.0.splice(start..end, [range]);
    }

    /// Sorts and joins ranges that were pushed without care.
    fn normalize(&mut self) {
        self.0.sort_unstable_by_key(|range| range.first);
        self.0.dedup_by(|next, range| {
            let touches = next.first <= range.last.saturating_add(1);
            if touches {
                range.last = range.last.max(next.last);
            }
            touches
        });
    }

    fn remove(&mut self, range: Range) {
        let (start, end) = self.bounds(range);
        let Some(touched) = self.0.get(start..end).filter(|touched| !touched.is_empty()) else { return };
        let (head, tail) = (touched[0], touched[touched.len() - 1]);
        let before = (head.first < range.first).then(|| Range { last: range.first - 1, ..head });
        let after = (tail.last > range.last).then(|| Range { first: range.last + 1, ..tail });
        self.0.splice(start..end, before.into_iter().chain(after));
    }

    fn overlapping(&self, range: Range) -> impl Iterator<Item = &Range> {
        let (start, end) = self.bounds(range);
        self.0[start..end].iter()
    }

    fn bounds(&self, range: Range) -> (usize, usize) {
        let start = self.0.partition_point(|r| r.last < range.first);
        let end = self.0.partition_point(|r| r.first <= range.last);
        (start, end.max(start))
    }
}

/// The prefixes of the smallest exact cover of a range.
pub(super) fn prefixes(family: Family, range: Range, into: &mut Vec<IpNet>) {
    match family {
        Family::V4 => cover(range, 32, |first, len| {
            // Ranges of this family come from 32-bit addresses, and `len` is at most 32.
            let net = u32::try_from(first).ok().and_then(|ip| Ipv4Net::new(ip.into(), len).ok());
            into.extend(net.map(IpNet::V4));
        }),
        Family::V6 => cover(range, 128, |first, len| {
            into.extend(Ipv6Net::new(first.into(), len).ok().map(IpNet::V6));
        }),
    }
}

/// Calls `emit` with the first address and the length of each prefix of the smallest exact cover.
fn cover(range: Range, width: u8, mut emit: impl FnMut(u128, u8)) {
    let mut first = range.first;
    loop {
        // The largest block that starts here is bounded by the alignment of its start and by the end.
        let aligned = first.trailing_zeros().min(u32::from(width));
        let left = range.last - first;
        let fitting = left.checked_add(1).map_or(128, u128::ilog2);
        let size = aligned.min(fitting);
        // `size` is at most `width`, itself at most 128.
        emit(first, width - size as u8);
        let block_last = first | mask(size);
        if block_last >= range.last {
            return;
        }
        first = block_last + 1;
    }
}

/// `size` one bits.
fn mask(size: u32) -> u128 {
    1u128.checked_shl(size).map_or(u128::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString as _;
    use proptest::prelude::*;
    use std::vec;

    fn set(nets: &[&str]) -> PrefixSet {
        nets.iter().map(|net| net.parse::<IpNet>().unwrap()).collect()
    }

    fn texts(set: &PrefixSet) -> Vec<alloc::string::String> {
        set.prefixes().iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn halves_join_and_host_bits_do_not_matter() {
        assert_eq!(texts(&set(&["10.0.0.0/25", "10.0.0.200/25"])), ["10.0.0.0/24"]);
        assert_eq!(texts(&set(&["10.244.3.1/24"])), ["10.244.3.0/24"]);
        assert_eq!(
            texts(&set(&["fd00::/65", "fd00:0:0:0:8000::/65", "10.0.0.1/32"])),
            ["10.0.0.1/32", "fd00::/64"]
        );
    }

    #[test]
    fn the_whole_of_either_family_is_one_prefix() {
        assert_eq!(texts(&set(&["128.0.0.0/1", "0.0.0.0/1"])), ["0.0.0.0/0"]);
        assert_eq!(texts(&set(&["::/1", "8000::/1"])), ["::/0"]);
        assert!(set(&["::/0"]).contains("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn taking_one_address_out_leaves_the_rest() {
        let mut all = set(&["192.0.2.0/30"]);
        all.remove("192.0.2.2/32".parse().unwrap());
        assert_eq!(texts(&all), ["192.0.2.0/31", "192.0.2.3/32"]);
        let mut v6 = set(&["::/0"]);
        v6.remove("::/128".parse().unwrap());
        assert_eq!(v6.prefixes().len(), 128);
    }

    proptest! {
        /// Every operation against plain sets of the addresses 10.0.0.0 to 10.0.0.255.
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((0u8..2, any::<u8>(), 24u8..=32), 1..40)) {
            let mut ours = PrefixSet::new();
            let mut naive = BTreeSet::new();
            for (op, low, len) in ops {
                let net = IpNet::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, low)), len).unwrap();
                let members = (0..=255u8).filter(|n| net.contains(&IpAddr::V4(Ipv4Addr::new(10, 0, 0, *n))));
                if op == 0 {
                    ours.insert(net);
                    naive.extend(members);
                } else {
                    ours.remove(net);
                    for n in members { naive.remove(&n); }
                }
                let covered: BTreeSet<u8> = ours.prefixes().iter()
                    .flat_map(|net| (0..=255u8).filter(|n| net.contains(&IpAddr::V4(Ipv4Addr::new(10, 0, 0, *n)))).collect::<vec::Vec<_>>())
                    .collect();
                prop_assert_eq!(&covered, &naive);
                for n in 0..=255u8 {
                    prop_assert_eq!(ours.contains(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))), naive.contains(&n));
                }
                // Minimal: no two prefixes of the cover are the halves of one.
                let prefixes = ours.prefixes();
                prop_assert!(prefixes.windows(2).all(|w| !w[0].is_sibling(&w[1])));
            }
        }

        #[test]
        fn intersection_and_difference_split_a_set(a in nets(), b in nets()) {
            let a: PrefixSet = a.into_iter().collect();
            let b: PrefixSet = b.into_iter().collect();
            let common = a.intersection(&b);
            let mut rest = a.clone();
            rest.subtract(&b);
            prop_assert!(rest.intersection(&b).is_empty());
            let mut both = rest;
            both.extend(common.prefixes());
            prop_assert_eq!(both, a);
        }
    }

    fn nets() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 =
            (any::<u32>(), 0u8..=32).prop_map(|(ip, len)| IpNet::new(IpAddr::V4(ip.into()), len).unwrap());
        let v6 =
            (any::<u128>(), 0u8..=128).prop_map(|(ip, len)| IpNet::new(IpAddr::V6(ip.into()), len).unwrap());
        prop::collection::vec(prop_oneof![v4, v6], 0..12)
    }
}
