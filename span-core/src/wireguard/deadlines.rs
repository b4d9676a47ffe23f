//! The next deadline of every peer, ordered.

use alloc::vec::Vec;

use crate::time::Instant;

/// A heap of deadlines, one for each peer that waits for something, that can be moved in place.
///
/// Ordered by deadline and then by the peer's place, so that the same history gives the same order.
/// Changing one costs the logarithm of their number, and allocates nothing once the heap has grown.
pub(crate) struct Deadlines {
    /// Each not later than the two (four) below it: entry `i` has its children at `4 i + 1` to `4 i + 4`.
    heap: Vec<Entry>,
    /// Where each peer stands in the heap, by the peer's place; [`ABSENT`] for those that do not.
    positions: Vec<u32>,
    /// Entries that were put anywhere.
    #[cfg(test)]
    puts: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Instant,
    peer: u32,
}

const ABSENT: u32 = u32::MAX;
/// Four children share a cache line, and the heap is half as deep as with two.
const CHILDREN: usize = 4;

impl Deadlines {
    pub(crate) const fn new() -> Self {
        Deadlines {
            heap: Vec::new(),
            positions: Vec::new(),
            #[cfg(test)]
            puts: 0,
        }
    }

    /// The earliest deadline and the peer it belongs to.
    pub(crate) fn first(&self) -> Option<(Instant, u32)> {
        self.heap.first().map(|entry| (entry.deadline, entry.peer))
    }

    /// Sets, moves or removes the deadline of `peer`.
    pub(crate) fn set(&mut self, peer: u32, deadline: Option<Instant>) {
        let place = peer as usize;
        if place >= self.positions.len() {
            self.positions.resize(place + 1, ABSENT);
        }
        let position = self.positions[place] as usize;
        match (deadline, self.positions[place]) {
            (None, ABSENT) => {}
            (None, _) => self.remove(position),
            (Some(deadline), ABSENT) => {
                self.heap.push(Entry { deadline, peer });
                self.rise(self.heap.len() - 1);
            }
            (Some(deadline), _) => {
                if self.heap[position].deadline != deadline {
                    self.heap[position].deadline = deadline;
                    let position = self.rise(position);
                    self.sink(position);
                }
            }
        }
    }

    fn remove(&mut self, position: usize) {
        let removed = self.heap.swap_remove(position);
        self.positions[removed.peer as usize] = ABSENT;
        if position < self.heap.len() {
            let position = self.rise(position);
            self.sink(position);
        }
    }

    /// Moves an entry up to where it belongs and returns that position.
    fn rise(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.heap[parent] <= entry {
                break;
            }
            self.put(position, self.heap[parent]);
            position = parent;
        }
        self.put(position, entry);
        position
    }

    /// Moves an entry down to where it belongs.
    fn sink(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let children = position * CHILDREN + 1..(position * CHILDREN + 1 + CHILDREN).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child]) else { break };
            if entry <= self.heap[least] {
                break;
            }
            self.put(position, self.heap[least]);
            position = least;
        }
        self.put(position, entry);
    }

    fn put(&mut self, position: usize, entry: Entry) {
        #[cfg(test)]
        {
            self.puts += 1;
        }
        self.heap[position] = entry;
        self.positions[entry.peer as usize] = position as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn equals_a_sorted_map() {
        let mut random = 7_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut deadlines = Deadlines::new();
        let mut model = BTreeMap::new();
        for _ in 0..50_000 {
            let peer = draw(300) as u32;
            if draw(4) == 0 {
                deadlines.set(peer, None);
                model.remove(&peer);
            } else {
                let deadline = Instant::from_nanos(draw(500));
                deadlines.set(peer, Some(deadline));
                model.insert(peer, deadline);
            }
            let first = model.iter().map(|(peer, deadline)| (*deadline, *peer)).min();
            assert_eq!(deadlines.first(), first);
        }
        while let Some((deadline, peer)) = deadlines.first() {
            assert_eq!(model.remove(&peer), Some(deadline));
            deadlines.set(peer, None);
        }
        assert!(model.is_empty());
    }
    #[test]
    fn a_change_moves_no_more_entries_than_the_heap_is_deep() {
        for (peers, depth) in [(10, 2), (10_000, 7)] {
            let mut deadlines = Deadlines::new();
            let mut random = 7_u64;
            for step in 0..5 * peers {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let deadline = (step % 5 < 4).then_some(Instant::from_nanos(random >> 33));
                let before = deadlines.puts;
                deadlines.set((random >> 20) as u32 % peers, deadline);
                // Up or down, and the entry itself after either.
                assert!(deadlines.puts - before <= depth + 2);
            }
        }
    }
}
