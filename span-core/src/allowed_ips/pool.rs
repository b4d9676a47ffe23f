//! Short lists that grow and shrink, all in one vector.

use alloc::vec::Vec;

/// Lists of at most 256 items. A list is named by where it begins, never at 0; its owner knows its length. It
/// has room for the next power of two, and room that lists gave up is used again.
#[derive(Debug)]
pub(super) struct Pool<T> {
    items: Vec<T>,
    /// Where there is room for lists of `2^class` items.
    free: [Vec<u32>; 9],
}

impl<T: Copy> Pool<T> {
    pub(super) const fn new() -> Self {
        Pool { items: Vec::new(), free: [const { Vec::new() }; 9] }
    }

    /// The item at `place`, counted from the beginning of the vector.
    #[inline]
    pub(super) fn item(&self, place: u32) -> T {
        self.items[place as usize]
    }

    pub(super) fn item_mut(&mut self, place: u32) -> &mut T {
        &mut self.items[place as usize]
    }

    /// The list of `len` items that begins at `list`.
    #[inline]
    pub(super) fn list(&self, list: u32, len: usize) -> &[T] {
        &self.items[list as usize..list as usize + len]
    }

    /// Gives up the list of `len` items that begins at `list`.
    pub(super) fn free(&mut self, list: u32, len: usize) {
        if len > 0 {
            self.free[class(len)].push(list);
        }
    }

    /// Inserts into the list of `len` items that begins at `*list`, which moves if it has no room.
    pub(super) fn insert(&mut self, list: &mut u32, len: usize, at: usize, item: T) {
        if len == 0 || len.is_power_of_two() {
            let old = *list as usize;
            *list = self.allocate(class(len + 1), item);
            if len > 0 {
                self.items.copy_within(old..old + len, *list as usize);
                self.free[class(len)].push(old as u32);
            }
        }
        let begin = *list as usize;
        self.items.copy_within(begin + at..begin + len, begin + at + 1);
        self.items[begin + at] = item;
    }

    /// Removes from the list of `len` items that begins at `*list`, which moves if less room will do.
    pub(super) fn remove(&mut self, list: &mut u32, len: usize, at: usize) {
        let begin = *list as usize;
        self.items.copy_within(begin + at + 1..begin + len, begin + at);
        let left = len - 1;
        if left == 0 {
            self.free(*list, len);
        } else if left.is_power_of_two() {
            *list = self.allocate(class(left), self.items[begin]);
            self.items.copy_within(begin..begin + left, *list as usize);
            self.free[class(len)].push(begin as u32);
        }
    }

    /// Makes room for `2^class` items; `filler` stands where there is none yet.
    fn allocate(&mut self, class: usize, filler: T) -> u32 {
        self.free[class].pop().unwrap_or_else(|| {
            let begin = self.items.len().max(1);
            self.items.resize(begin + (1 << class), filler);
            begin as u32
        })
    }

    /// How many items have room in lists, whether used or not.
    #[cfg(test)]
    pub(super) fn allotted(&self) -> usize {
        self.items.len().saturating_sub(1)
            - self.free.iter().enumerate().map(|(class, free)| free.len() << class).sum::<usize>()
    }
}

fn class(len: usize) -> usize {
    len.next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn lists_keep_their_items_and_leave_nothing_behind() {
        let mut pool = Pool::new();
        let mut lists: Vec<(u32, Vec<u64>)> = std::vec![(0, Vec::new()); 5];
        let mut random = 3_u64;
        for step in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (random >> 33) as usize;
            let (list, model) = &mut lists[draw % 5];
            if (draw >> 8) % 20 < 10 && model.len() < 256 {
                let at = (draw >> 16) % (model.len() + 1);
                pool.insert(list, model.len(), at, step);
                model.insert(at, step);
            } else if !model.is_empty() {
                let at = (draw >> 16) % model.len();
                pool.remove(list, model.len(), at);
                model.remove(at);
            }
            for (list, model) in &lists {
                assert!(model.iter().enumerate().all(|(at, item)| pool.item(list + at as u32) == *item));
            }
        }
        for (list, model) in &mut lists {
            while !model.is_empty() {
                pool.remove(list, model.len(), 0);
                model.remove(0);
            }
        }
        assert_eq!(pool.allotted(), 0);
    }
}
