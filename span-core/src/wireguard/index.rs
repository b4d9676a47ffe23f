//! Session indices: 32 random bits that lead back to a peer without hashing.

use alloc::vec;
use alloc::vec::Vec;

use rand_core::Rng;

/// Maps the indices of live handshakes and sessions to their peers' places.
///
/// An index is drawn at random and stands at the place its low bits name. The table is kept at least half
/// empty and a draw whose place is taken is repeated, so an index tells an observer no more than any
/// random number would, and two of one peer have nothing in common. When the table doubles, every index
/// gains one more of its own random bits as part of its place, so no two can collide.
pub(super) struct IndexTable {
    /// A power of two of them.
    places: Vec<Place>,
    used: usize,
}

#[derive(Clone, Copy)]
struct Place {
    index: u32,
    /// The peer's place in the device's table, or [`FREE`].
    peer: u32,
}

const FREE: u32 = u32::MAX;
const SMALLEST: usize = 16;

impl IndexTable {
    pub(super) fn new() -> Self {
        IndexTable { places: vec![Place { index: 0, peer: FREE }; SMALLEST], used: 0 }
    }

    /// Draws a fresh index for `peer`.
    pub(super) fn insert(&mut self, rng: &mut impl Rng, peer: u32) -> u32 {
        if 2 * (self.used + 1) > self.places.len() {
            self.grow();
        }
        loop {
            let index = rng.next_u32();
            let place = self.place_mut(index);
            if place.peer == FREE {
                *place = Place { index, peer };
                self.used += 1;
                return index;
            }
        }
    }

    /// The peer `index` was drawn for, if it is still in use.
    #[inline]
    pub(super) fn peer(&self, index: u32) -> Option<u32> {
        let place = &self.places[index as usize & (self.places.len() - 1)];
        (place.index == index && place.peer != FREE).then_some(place.peer)
    }

    /// Gives `index` back.
    pub(super) fn remove(&mut self, index: u32) {
        let place = self.place_mut(index);
        if place.index == index && place.peer != FREE {
            place.peer = FREE;
            self.used -= 1;
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn place_mut(&mut self, index: u32) -> &mut Place {
        let mask = self.places.len() - 1;
        &mut self.places[index as usize & mask]
    }

    fn grow(&mut self) {
        let len = 2 * self.places.len();
        let mut places = vec![Place { index: 0, peer: FREE }; len];
        for place in self.places.iter().filter(|place| place.peer != FREE) {
            places[place.index as usize & (len - 1)] = *place;
        }
        self.places = places;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;
    use std::collections::BTreeMap;

    #[test]
    fn indices_lead_to_their_peers_through_growth() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let mut table = IndexTable::new();
        let mut expected = BTreeMap::new();
        for peer in 0..20_000 {
            let index = table.insert(&mut rng, peer);
            assert_eq!(expected.insert(index, peer), None, "indices are unique");
        }
        assert!(table.places.len() <= 65_536);
        for keep in [15_000, 3_000, 40, 0] {
            while expected.len() > keep {
                let (index, _) = expected.pop_first().unwrap();
                table.remove(index);
                assert_eq!(table.peer(index), None);
            }
            assert!(expected.iter().all(|(index, peer)| table.peer(*index) == Some(*peer)));
            assert_eq!(table.used, keep);
        }
    }

    #[test]
    fn foreign_indices_lead_nowhere() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let mut table = IndexTable::new();
        let index = table.insert(&mut rng, 5);
        for bit in 0..32 {
            assert_eq!(table.peer(index ^ (1 << bit)), None);
        }
        assert_eq!(table.peer(0), None);
        table.remove(index ^ (1 << 31));
        assert_eq!(table.peer(index), Some(5), "removing a stranger harms nobody");
    }

    /// Consecutive indices of one peer share no more leading or trailing bits than random numbers do.
    #[test]
    fn session_indices_are_random_and_unlinkable() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let mut table = IndexTable::new();
        for peer in 0..3 {
            table.insert(&mut rng, peer);
        }
        let mut last = table.insert(&mut rng, 9);
        let mut differing = 0;
        for _ in 0..4096 {
            table.remove(last);
            let next = table.insert(&mut rng, 9);
            differing += (next ^ last).count_ones();
            last = next;
        }
        let mean = f64::from(differing) / 4096.0;
        assert!((mean - 16.0).abs() < 0.25, "on average {mean} of 32 bits differ");
    }
}
