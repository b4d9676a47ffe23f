//! A trie whose nodes are arrays, indexed by four or eight bits of the key, with short lists at its ends.
//!
//! A lookup costs how often it has to wait for memory and how often the processor guesses wrong, so few steps matter
//! more than few instructions. Up to [`LIST`] prefixes need no node at all: they are a list that is looked
//! through. A longer list becomes a small node of sixteen slots; where several small nodes stand below another,
//! they become one large node of 256. Bits that decide nothing are skipped. Among a hundred thousand prefixes of
//! random bits, a lookup goes through two large nodes to a list of one or two.
//!
//! Prefixes that end inside a node are its own. It knows for each slot the longest of them that holds it, so a lookup
//! remembers the last it came by and never turns back.

use super::key::Key;
use super::node::{Head, LARGE_STRIDE, Leaf, Link, Nodes, SMALL_STRIDE, Slot, Target};
use super::pool::Pool;
use crate::wireguard::PeerId;

/// Prefixes in a list. A node that is left with half as many becomes a list again.
const LIST: usize = 8;
/// So many small nodes directly below another become one large node.
const CROWD: usize = 4;
/// The most nodes on one way: one for every four bits of the longest key.
const NODES: usize = 32;

/// Longest-prefix match.
#[derive(Debug)]
pub(super) struct Trie<K> {
    root: Link,
    small: Nodes<K, 16>,
    large: Nodes<K, 256>,
    leaves: Pool<Leaf<K>>,
}

/// Where a link stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    Root,
    /// In a slot of a node.
    Slot(Link, usize),
}

impl<K: Key> Default for Trie<K> {
    fn default() -> Self {
        Trie { root: Link::EMPTY, small: Nodes::new(), large: Nodes::new(), leaves: Pool::new() }
    }
}

impl<K: Key> Trie<K> {
    /// The value of the longest prefix that holds `key`.
    #[inline]
    pub(super) fn lookup(&self, key: K) -> Option<PeerId> {
        let (mut link, mut rest) = (self.root, key);
        // Where the longest prefix so far is.
        let mut best = 0;
        loop {
            if link.skips() {
                let head = self.head(link);
                if !key.agrees(head.path, head.depth) {
                    break;
                }
                rest = key.after(u32::from(head.depth));
            }
            let slot = match link.target() {
                Target::Large(index) => {
                    let slot = self.large.get(index).slots[usize::from(rest.byte())];
                    rest = rest.after(LARGE_STRIDE);
                    slot
                }
                Target::Small(index) => {
                    let slot = self.small.get(index).slots[usize::from(rest.byte() >> 4)];
                    rest = rest.after(SMALL_STRIDE);
                    slot
                }
                Target::List { at, len } => {
                    match self.leaves.list(at, len).iter().find(|leaf| leaf.holds(key)) {
                        Some(leaf) => return Some(leaf.value),
                        None => break,
                    }
                }
            };
            best = if slot.best == 0 { best } else { slot.best };
            link = slot.link;
        }
        (best != 0).then(|| self.leaves.item(best).value)
    }

    /// Returns the value that was there.
    pub(super) fn insert(&mut self, key: K, len: u8, value: PeerId) -> Option<PeerId> {
        if let Some(place) = self.find(key, len) {
            return Some(core::mem::replace(&mut self.leaves.item_mut(place).value, value));
        }
        let new = Leaf { key, len, value };
        let mut place = Place::Root;
        let mut grown = false;
        loop {
            let link = self.link(place);
            let Target::List { at, len: count } = link.target() else {
                let head = *self.head(link);
                let depth = new.steps_shared_with(head.path, head.depth);
                if depth < u32::from(head.depth) {
                    // They part ways above the node.
                    self.put_above(place, &new, depth);
                    grown = true;
                } else if self.ends_in(link, new.len) {
                    self.add_own(link, new);
                    break;
                } else {
                    place = self.slot(link, key);
                }
                continue;
            };
            if count < LIST {
                self.add_to_list(place, new);
                break;
            }
            let first = self.leaves.item(at);
            let listed = self.leaves.list(at, count).iter();
            let depths = listed.chain([&new]).map(|leaf| leaf.steps_shared_with(first.key, first.len));
            let depth = depths.min().unwrap_or(0);
            self.spread(place, depth);
            grown = true;
        }
        if grown {
            self.widen(key);
        }
        None
    }

    /// Removes a prefix that is there; otherwise does nothing.
    pub(super) fn remove(&mut self, key: K, len: u8) {
        let mut way = [Place::Root; NODES + 1];
        let mut last = 0;
        loop {
            let link = self.link(way[last]);
            if let Target::List { at, len: count } = link.target() {
                let found = self.leaves.list(at, count).iter().position(|leaf| leaf.is(key, len));
                let Some(found) = found else { return };
                let mut at = at;
                self.leaves.remove(&mut at, count, found);
                self.set_link(way[last], Link::list(at, count - 1));
                break;
            }
            let head = self.head(link);
            if !key.agrees(head.path, head.depth) || len < head.depth {
                return;
            }
            if self.ends_in(link, len) {
                let own = self.leaves.list(head.own_at, usize::from(head.own_len));
                let Some(found) = own.iter().position(|leaf| leaf.is(key, len)) else { return };
                self.remove_own(link, head.own_at + found as u32);
                last += 1;
                break;
            }
            last += 1;
            way[last] = self.slot(link, key);
        }
        // Nodes that have become too small are replaced by what is left of them.
        while last > 0 && self.fold(way[last - 1]) {
            last -= 1;
        }
    }

    /// Where the leaf with this very prefix is.
    fn find(&self, key: K, len: u8) -> Option<u32> {
        let mut link = self.root;
        let (at, count) = loop {
            if let Target::List { at, len } = link.target() {
                break (at, len);
            }
            let head = self.head(link);
            if !key.agrees(head.path, head.depth) || len < head.depth {
                return None;
            }
            if self.ends_in(link, len) {
                break (head.own_at, usize::from(head.own_len));
            }
            link = self.link(self.slot(link, key));
        };
        let found = self.leaves.list(at, count).iter().position(|leaf| leaf.is(key, len))?;
        Some(at + found as u32)
    }

    // Growing

    /// Puts a small node at `depth` above the node at `place`, which the prefix `new` does not lead through.
    fn put_above(&mut self, place: Place, new: &Leaf<K>, depth: u32) {
        let below = self.link(place);
        let head = *self.head(below);
        let node = self.add_small(place, new.key, depth);
        let slot = self.slot(node, head.path);
        self.set_link(slot, below.moved(depth + SMALL_STRIDE, u32::from(head.depth)));
    }

    /// Turns the list at `place` into a small node at `depth`.
    fn spread(&mut self, place: Place, depth: u32) {
        let Target::List { at, len } = self.link(place).target() else { return };
        let mut leaves = [self.leaves.item(at); LIST];
        leaves[..len].copy_from_slice(self.leaves.list(at, len));
        self.leaves.free(at, len);
        let node = self.add_small(place, leaves[0].key, depth);
        for leaf in &leaves[..len] {
            self.add_below(node, *leaf);
        }
    }

    /// Makes the first small node on the way of `key` large that has enough small nodes directly below it.
    fn widen(&mut self, key: K) {
        let mut place = Place::Root;
        loop {
            let link = self.link(place);
            match link.target() {
                Target::List { .. } => return,
                Target::Small(index) if self.is_crowded(index) => return self.make_large(place, index),
                Target::Small(_) | Target::Large(_) => {
                    let head = self.head(link);
                    if !key.agrees(head.path, head.depth) {
                        return;
                    }
                    place = self.slot(link, key);
                }
            }
        }
    }

    fn is_crowded(&self, index: usize) -> bool {
        let node = self.small.get(index);
        // Large nodes stand at whole bytes, so what is directly below this one is small.
        u32::from(node.head.depth).is_multiple_of(LARGE_STRIDE)
            && node.slots.iter().filter(|slot| slot.link.is_node() && !slot.link.skips()).count() >= CROWD
    }

    /// Makes one large node of the small node at `place` and those directly below it.
    fn make_large(&mut self, place: Place, index: usize) {
        let old = self.small.get(index).clone();
        let depth = u32::from(old.head.depth);
        let large = self.large.add(old.head.path, depth);
        let large = Link::node(LARGE_STRIDE, large, depth, depth);
        self.set_link(place, large.moved(self.end(place), depth));
        self.small.remove(index);
        self.move_own(&old.head, large);
        for (high, Slot { link, .. }) in old.slots.into_iter().enumerate() {
            match link.target() {
                Target::List { at, len } => {
                    for item in 0..len as u32 {
                        self.add_below(large, self.leaves.item(at + item));
                    }
                    self.leaves.free(at, len);
                }
                Target::Small(index) if !link.skips() => {
                    let below = self.small.get(index).clone();
                    self.small.remove(index);
                    self.move_own(&below.head, large);
                    for (low, Slot { link, .. }) in below.slots.into_iter().enumerate() {
                        self.set_link(Place::Slot(large, high << 4 | low), link);
                    }
                }
                Target::Small(_) | Target::Large(_) => {
                    let head = *self.head(link);
                    let slot = self.slot(large, head.path);
                    self.set_link(slot, link.moved(depth + LARGE_STRIDE, u32::from(head.depth)));
                }
            }
        }
    }

    /// Gives the own prefixes of a node that is gone to another.
    fn move_own(&mut self, from: &Head<K>, to: Link) {
        for item in 0..u32::from(from.own_len) {
            self.add_own(to, self.leaves.item(from.own_at + item));
        }
        self.leaves.free(from.own_at, usize::from(from.own_len));
    }

    /// Adds a prefix to a node, or to the list directly below it.
    fn add_below(&mut self, node: Link, leaf: Leaf<K>) {
        if self.ends_in(node, leaf.len) {
            self.add_own(node, leaf);
        } else {
            self.add_to_list(self.slot(node, leaf.key), leaf);
        }
    }

    /// Adds a prefix to the list at `place`, which has room.
    fn add_to_list(&mut self, place: Place, leaf: Leaf<K>) {
        let Target::List { mut at, len } = self.link(place).target() else { return };
        let before = self.leaves.list(at, len).iter().take_while(|other| other.len >= leaf.len).count();
        self.leaves.insert(&mut at, len, before, leaf);
        self.set_link(place, Link::list(at, len + 1));
    }

    fn add_small(&mut self, place: Place, key: K, depth: u32) -> Link {
        let link = Link::node(SMALL_STRIDE, self.small.add(key, depth), self.end(place), depth);
        self.set_link(place, link);
        link
    }

    /// Adds a prefix to those that end in a node.
    fn add_own(&mut self, node: Link, leaf: Leaf<K>) {
        let (mut head, holder) = (*self.head(node), self.own_holder(node, &leaf));
        let (len, before) = (usize::from(head.own_len), head.own_at);
        self.leaves.insert(&mut head.own_at, len, len, leaf);
        head.own_len += 1;
        let holder = if holder == 0 { 0 } else { holder - before + head.own_at };
        self.set_head(node, head);
        self.set_best(node, &leaf, holder, head.own_at + len as u32);
    }

    /// Removes the own prefix of a node that is at `place`; the last of them takes its place.
    fn remove_own(&mut self, node: Link, place: u32) {
        let mut head = *self.head(node);
        let removed = self.leaves.item(place);
        self.set_best(node, &removed, place, self.own_holder(node, &removed));
        let last = head.own_at + u32::from(head.own_len) - 1;
        let moved = self.leaves.item(last);
        self.set_best(node, &moved, last, place);
        *self.leaves.item_mut(place) = moved;
        self.leaves.remove(&mut head.own_at, usize::from(head.own_len), usize::from(head.own_len) - 1);
        head.own_len -= 1;
        self.set_head(node, head);
    }

    /// Where the longest of a node's own prefixes is that is shorter than `leaf` and holds it; 0 for none.
    fn own_holder(&self, node: Link, leaf: &Leaf<K>) -> u32 {
        let head = self.head(node);
        let own = self.leaves.list(head.own_at, usize::from(head.own_len));
        let own = (head.own_at..).zip(own);
        let holders = own.filter(|(_, other)| other.len < leaf.len && other.holds(leaf.key));
        holders.max_by_key(|(_, other)| other.len).map_or(0, |(place, _)| place)
    }

    /// Where `before` is the longest prefix that holds a slot, and `leaf` holds the slot too, it is `after`.
    fn set_best(&mut self, node: Link, leaf: &Leaf<K>, before: u32, after: u32) {
        let stride = stride(node);
        let head = *self.head(node);
        let first = chunk(leaf.key, &head, stride);
        let count = 1 << (stride - (u32::from(leaf.len) - u32::from(head.depth)));
        for slot in &mut self.slots_mut(node)[first..first + count] {
            if slot.best == before {
                slot.best = after;
            }
        }
    }

    /// Sets the head of a node whose own prefixes may have moved.
    fn set_head(&mut self, node: Link, head: Head<K>) {
        let before = core::mem::replace(self.head_mut(node), head).own_at;
        if before != head.own_at {
            for slot in self.slots_mut(node).iter_mut().filter(|slot| slot.best != 0) {
                slot.best = slot.best - before + head.own_at;
            }
        }
    }

    // Shrinking

    /// Replaces the node at `place` by what it holds if that is little: a list, or the one node below it.
    /// Whether it was replaced.
    fn fold(&mut self, place: Place) -> bool {
        let link = self.link(place);
        let head = *self.head(link);
        let mut count = usize::from(head.own_len);
        let mut nodes = 0;
        let mut below = None;
        for (slot, below_it) in self.slots(link).iter().enumerate() {
            match below_it.link.target() {
                Target::List { len, .. } => count += len,
                Target::Small(_) | Target::Large(_) => {
                    nodes += 1;
                    below = Some(slot);
                }
            }
            if nodes > 1 || count > LIST / 2 {
                return false;
            }
        }
        match below {
            None => {
                self.gather(place, link);
                true
            }
            Some(slot) if count == 0 => {
                let below = self.link(Place::Slot(link, slot));
                let depth = u32::from(self.head(below).depth);
                self.set_link(place, below.moved(self.end(place), depth));
                self.remove_node(link);
                true
            }
            Some(_) => false,
        }
    }

    /// Makes one list of a node's own prefixes and of its lists.
    fn gather(&mut self, place: Place, node: Link) {
        let head = *self.head(node);
        self.set_link(place, Link::EMPTY);
        for slot in 0..self.slots(node).len() {
            let Target::List { at, len } = self.slots(node)[slot].link.target() else { continue };
            for item in 0..len as u32 {
                self.add_to_list(place, self.leaves.item(at + item));
            }
            self.leaves.free(at, len);
        }
        for item in 0..u32::from(head.own_len) {
            self.add_to_list(place, self.leaves.item(head.own_at + item));
        }
        self.leaves.free(head.own_at, usize::from(head.own_len));
        self.remove_node(node);
    }

    fn remove_node(&mut self, node: Link) {
        match node.target() {
            Target::Small(index) => self.small.remove(index),
            Target::Large(index) => self.large.remove(index),
            Target::List { .. } => {}
        }
    }

    // Nodes and links

    fn link(&self, place: Place) -> Link {
        match place {
            Place::Root => self.root,
            Place::Slot(node, slot) => self.slots(node)[slot].link,
        }
    }

    fn set_link(&mut self, place: Place, link: Link) {
        match place {
            Place::Root => self.root = link,
            Place::Slot(node, slot) => self.slots_mut(node)[slot].link = link,
        }
    }

    /// The slot of a node that the way of `key` leads through.
    fn slot(&self, node: Link, key: K) -> Place {
        Place::Slot(node, chunk(key, self.head(node), stride(node)))
    }

    /// How many bits lead to `place`.
    fn end(&self, place: Place) -> u32 {
        match place {
            Place::Root => 0,
            Place::Slot(node, _) => u32::from(self.head(node).depth) + stride(node),
        }
    }

    /// Whether a prefix of `len` bits whose way leads through a node ends in it.
    fn ends_in(&self, node: Link, len: u8) -> bool {
        u32::from(len) < u32::from(self.head(node).depth) + stride(node)
    }

    #[inline]
    fn head(&self, node: Link) -> &Head<K> {
        match node.target() {
            Target::Small(index) => &self.small.get(index).head,
            Target::Large(index) => &self.large.get(index).head,
            Target::List { .. } => unreachable!("a list is no node"),
        }
    }

    fn head_mut(&mut self, node: Link) -> &mut Head<K> {
        match node.target() {
            Target::Small(index) => &mut self.small.get_mut(index).head,
            Target::Large(index) => &mut self.large.get_mut(index).head,
            Target::List { .. } => unreachable!("a list is no node"),
        }
    }

    fn slots(&self, node: Link) -> &[Slot] {
        match node.target() {
            Target::Small(index) => &self.small.get(index).slots,
            Target::Large(index) => &self.large.get(index).slots,
            Target::List { .. } => &[],
        }
    }

    fn slots_mut(&mut self, node: Link) -> &mut [Slot] {
        match node.target() {
            Target::Small(index) => &mut self.small.get_mut(index).slots,
            Target::Large(index) => &mut self.large.get_mut(index).slots,
            Target::List { .. } => &mut [],
        }
    }

    /// How many nodes a lookup goes through, and how many prefixes it then looks at, at most.
    #[cfg(test)]
    pub(super) fn steps(&self, key: K) -> (usize, usize) {
        let (mut link, mut nodes) = (self.root, 0);
        loop {
            if let Target::List { len, .. } = link.target() {
                return (nodes, len);
            }
            nodes += 1;
            let head = self.head(link);
            if !key.agrees(head.path, head.depth) {
                return (nodes, 0);
            }
            link = self.link(self.slot(link, key));
        }
    }

    /// How many nodes of either size there are, and for how many prefixes there is room in lists.
    #[cfg(test)]
    pub(super) fn allotted(&self) -> (usize, usize, usize) {
        (self.small.used(), self.large.used(), self.leaves.allotted())
    }
}

impl<K: Key> Leaf<K> {
    fn is(&self, key: K, len: u8) -> bool {
        (self.key, self.len) == (key, len)
    }

    /// How many bits, in whole small nodes, this prefix has in common with the first `limit` of another.
    fn steps_shared_with(&self, other: K, limit: u8) -> u32 {
        self.key.shared(other).min(u32::from(self.len)).min(u32::from(limit)) / SMALL_STRIDE * SMALL_STRIDE
    }
}

/// How many bits a node takes.
fn stride(node: Link) -> u32 {
    match node.target() {
        Target::Large(_) => LARGE_STRIDE,
        Target::Small(_) | Target::List { .. } => SMALL_STRIDE,
    }
}

/// The bits of `key` that a node takes.
fn chunk<K: Key>(key: K, head: &Head<K>, stride: u32) -> usize {
    usize::from(key.after(u32::from(head.depth)).byte()) >> (LARGE_STRIDE - stride)
}
