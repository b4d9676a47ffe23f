//! Who holds which addresses, while the plan hands them out.

use alloc::collections::BTreeMap;

use super::prefix_set::{Family, PrefixSet, Range, prefixes};

/// Ranges handed out so far, none twice.
#[derive(Debug, Default)]
pub(super) struct Claims {
    v4: BTreeMap<u128, Held>,
    v6: BTreeMap<u128, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    last: u128,
    holder: usize,
}

impl Claims {
    /// Gives `claimant` what nobody holds of `wanted`, and tells `conflict` who holds the rest.
    pub(super) fn take(
        &mut self,
        claimant: usize,
        wanted: &PrefixSet,
        mut conflict: impl FnMut(ipnet::IpNet, usize),
    ) -> PrefixSet {
        let mut granted = wanted.clone();
        let mut lost = alloc::vec::Vec::new();
        for (family, range) in wanted.ranges() {
            for (held, holder) in self.overlapping(family, range) {
                lost.clear();
                prefixes(family, held.common(&range), &mut lost);
                for net in &lost {
                    granted.remove(*net);
                    if holder != claimant {
                        conflict(*net, holder);
                    }
                }
            }
        }
        for (family, range) in granted.ranges() {
            self.of_mut(family).insert(range.first, Held { last: range.last, holder: claimant });
        }
        granted
    }

    fn overlapping(&self, family: Family, range: Range) -> impl Iterator<Item = (Range, usize)> {
        let map = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        // Held ranges do not overlap, so of those that begin before this one only the last can reach it.
        let before = map.range(..range.first).next_back().filter(|(_, held)| held.last >= range.first);
        before
            .into_iter()
            .chain(map.range(range.first..=range.last))
            .map(|(first, held)| (Range { first: *first, last: held.last }, held.holder))
    }

    fn of_mut(&mut self, family: Family) -> &mut BTreeMap<u128, Held> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}
