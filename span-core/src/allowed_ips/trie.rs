//! A trie that eats six bits at a time, a "tree bitmap" (Eatherton, Varghese, Dittia 2004) with long
//! common paths and lone prefixes cut short.

use core::fmt::Debug;

use super::pool::Pool;
use crate::wireguard::PeerId;

/// An address as a number, taken apart from its most significant bit on.
pub(super) trait Key: Copy + Debug + Default + Eq {
    /// The six bits after the first `6 * depth`; beyond the end, zeros.
    fn chunk(self, depth: u32) -> u32;

    /// Only the first `bits` bits, fewer than all.
    fn first(self, bits: u32) -> Self;

    /// How many bits are the same before the first that is not.
    fn shared(self, other: Self) -> u32;

    /// With `bits` placed to end at bit `end`, where zeros are now.
    fn with(self, bits: u32, end: u32) -> Self;
}

macro_rules! key {
    ($number:ty) => {
        impl Key for $number {
            #[inline]
            fn chunk(self, depth: u32) -> u32 {
                (self << (CHUNK * depth) >> (<$number>::BITS - CHUNK)) as u32
            }

            #[inline]
            fn first(self, bits: u32) -> Self {
                self & !(<$number>::MAX >> bits)
            }

            #[inline]
            fn shared(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }

            fn with(self, bits: u32, end: u32) -> Self {
                // Where no bit is to be placed, the end may be the beginning.
                if bits == 0 { self } else { self | <$number>::from(bits) << (<$number>::BITS - end) }
            }
        }
    };
}

key!(u32);
key!(u128);

/// Longest-prefix match.
///
/// A node is at most one cache line, and its children stand side by side: a lookup costs one line per
/// level.
#[derive(Debug)]
pub(super) struct Trie<K> {
    nodes: Pool<Node<K>>,
    leaves: Pool<Leaf<K>>,
    values: Pool<PeerId>,
}

/// Six bits of the key, called a chunk.
///
/// Sixty-three prefixes end within a chunk: one of length 0, two of length 1, up to 32 of length 5. Prefix
/// `p` of length `l` has the number `2^l - 1 + p`, so that of those that hold a chunk the longest has the
/// highest number. Values, nodes and leaves stand in the order of their bits.
#[derive(Clone, Copy, Debug, Default)]
struct Node<K> {
    /// The bits above this node; zeros follow.
    path: K,
    /// Which prefixes end here.
    prefixes: u64,
    /// For which chunks there are nodes below, and for which a single prefix. No chunk has both.
    branches: u64,
    singles: u64,
    values_at: u32,
    nodes_at: u32,
    leaves_at: u32,
    /// How many chunks stand above: more than one more than those of the node above, if the chunks
    /// between decide nothing.
    depth: u8,
}

/// The only prefix below some chunk: no nodes are built for it.
#[derive(Clone, Copy, Debug)]
struct Leaf<K> {
    key: K,
    value: PeerId,
    len: u8,
}

const CHUNK: u32 = 6;
/// Chunks in the longest key, the last of them cut short.
const CHUNKS: usize = 22;
const ROOT: u32 = 0;

/// For each chunk, the numbers of the prefixes that hold it.
const HOLDERS: [u64; 64] = {
    let mut holders = [0; 64];
    let mut chunk = 0;
    while chunk < 64 {
        let mut len = 0;
        while len < CHUNK {
            holders[chunk] |= 1 << ((1 << len) - 1 + (chunk >> (CHUNK - len)));
            len += 1;
        }
        chunk += 1;
    }
    holders
};

impl<K: Key> Default for Trie<K> {
    fn default() -> Self {
        let mut trie = Trie { nodes: Pool::new(), leaves: Pool::new(), values: Pool::new() };
        let mut root = ROOT;
        trie.nodes.insert(&mut root, 0, 0, Node::default());
        trie
    }
}

impl<K: Key> Trie<K> {
    #[inline]
    pub(super) fn lookup(&self, key: K) -> Option<PeerId> {
        let mut node = self.nodes.get(ROOT);
        let mut best = None;
        loop {
            let chunk = node.chunk(key);
            let holders = node.prefixes & HOLDERS[chunk as usize];
            if holders != 0 {
                best = Some(node.values_at + rank(node.prefixes, 63 - holders.leading_zeros()));
            }
            if node.branches & bit(chunk) != 0 {
                let below = self.nodes.get(node.nodes_at + rank(node.branches, chunk));
                if below.is_above(key) {
                    node = below;
                    continue;
                }
            } else if node.singles & bit(chunk) != 0 {
                let leaf = self.leaves.get(node.leaves_at + rank(node.singles, chunk));
                if leaf.holds(key) {
                    return Some(leaf.value);
                }
            }
            return best.map(|place| *self.values.get(place));
        }
    }

    /// Returns the value that was there.
    pub(super) fn insert(&mut self, key: K, len: u8, value: PeerId) -> Option<PeerId> {
        let new = Leaf { key, len, value };
        let mut at = ROOT;
        loop {
            let node = *self.nodes.get(at);
            if let Some(number) = node.prefix_number(key, len) {
                let place = node.values_at + rank(node.prefixes, number);
                if node.prefixes & bit(number) != 0 {
                    return Some(core::mem::replace(self.values.get_mut(place), value));
                }
                self.add_value(at, number, value);
                return None;
            }
            let chunk = node.chunk(key);
            if node.branches & bit(chunk) != 0 {
                let below = node.nodes_at + rank(node.branches, chunk);
                let other = *self.nodes.get(below);
                let depth = new.chunks_shared_with(other.path, u32::from(other.depth));
                if depth < u32::from(other.depth) {
                    // They part ways above the node below.
                    *self.nodes.get_mut(below) = Node::at(key, depth);
                    self.add_node(below, other);
                }
                at = below;
            } else if node.singles & bit(chunk) != 0 {
                let place = node.leaves_at + rank(node.singles, chunk);
                let other = *self.leaves.get(place);
                if (other.key, other.len) == (key, len) {
                    return Some(core::mem::replace(&mut self.leaves.get_mut(place).value, value));
                }
                let depth = new.chunks_shared_with(other.key, u32::from(other.len) / CHUNK);
                self.remove_leaf(at, chunk);
                at = self.add_node(at, Node::at(key, depth));
                self.add_leaf(at, other);
            } else {
                self.add_leaf(at, new);
                return None;
            }
        }
    }

    /// Removes a prefix that is there; otherwise does nothing.
    pub(super) fn remove(&mut self, key: K, len: u8) {
        let mut way = [ROOT; CHUNKS];
        let mut last = 0;
        loop {
            let at = way[last];
            let node = *self.nodes.get(at);
            if let Some(number) = node.prefix_number(key, len) {
                if node.prefixes & bit(number) == 0 {
                    return;
                }
                self.remove_value(at, number);
                break;
            }
            let chunk = node.chunk(key);
            if node.branches & bit(chunk) != 0 {
                let below = node.nodes_at + rank(node.branches, chunk);
                let other = self.nodes.get(below);
                if !other.is_above(key) || u32::from(len) < CHUNK * u32::from(other.depth) {
                    return;
                }
                last += 1;
                way[last] = below;
            } else if node.singles & bit(chunk) != 0 {
                let leaf = self.leaves.get(node.leaves_at + rank(node.singles, chunk));
                if (leaf.key, leaf.len) != (key, len) {
                    return;
                }
                self.remove_leaf(at, chunk);
                break;
            } else {
                return;
            }
        }
        // Nodes that have become too small are replaced by what is left of them.
        while last > 0 && self.fold(way[last - 1], way[last]) {
            last -= 1;
        }
    }

    /// Replaces `at`, which stands below `above`, by what it holds if that is at most one thing. Whether
    /// `above` has become smaller.
    fn fold(&mut self, above: u32, at: u32) -> bool {
        let node = *self.nodes.get(at);
        let chunk = self.nodes.get(above).chunk(node.path);
        match (node.prefixes.count_ones(), node.branches.count_ones(), node.singles.count_ones()) {
            (0, 0, 0) => {
                self.remove_node(above, chunk);
                true
            }
            (0, 1, 0) => {
                let below = *self.nodes.get(node.nodes_at);
                self.remove_node(at, node.branches.trailing_zeros());
                *self.nodes.get_mut(at) = below;
                false
            }
            (0, 0, 1) => {
                let leaf = *self.leaves.get(node.leaves_at);
                self.remove_leaf(at, node.singles.trailing_zeros());
                self.remove_node(above, chunk);
                self.add_leaf(above, leaf);
                false
            }
            (1, 0, 0) => {
                let number = node.prefixes.trailing_zeros();
                let value = *self.values.get(node.values_at);
                self.remove_value(at, number);
                self.remove_node(above, chunk);
                self.add_leaf(above, node.prefix(number, value));
                false
            }
            _ => false,
        }
    }

    fn add_value(&mut self, at: u32, number: u32, value: PeerId) {
        let node = self.nodes.get_mut(at);
        let (len, place) = (node.prefixes.count_ones(), rank(node.prefixes, number));
        self.values.insert(&mut node.values_at, len as usize, place as usize, value);
        node.prefixes |= bit(number);
    }

    fn remove_value(&mut self, at: u32, number: u32) {
        let node = self.nodes.get_mut(at);
        let (len, place) = (node.prefixes.count_ones(), rank(node.prefixes, number));
        self.values.remove(&mut node.values_at, len as usize, place as usize);
        node.prefixes &= !bit(number);
    }

    fn add_leaf(&mut self, at: u32, leaf: Leaf<K>) {
        let node = self.nodes.get_mut(at);
        // A prefix that ends in this very node is one of its values.
        if let Some(number) = node.prefix_number(leaf.key, leaf.len) {
            return self.add_value(at, number, leaf.value);
        }
        let chunk = node.chunk(leaf.key);
        let (len, place) = (node.singles.count_ones(), rank(node.singles, chunk));
        self.leaves.insert(&mut node.leaves_at, len as usize, place as usize, leaf);
        node.singles |= bit(chunk);
    }

    fn remove_leaf(&mut self, at: u32, chunk: u32) {
        let node = self.nodes.get_mut(at);
        let (len, place) = (node.singles.count_ones(), rank(node.singles, chunk));
        self.leaves.remove(&mut node.leaves_at, len as usize, place as usize);
        node.singles &= !bit(chunk);
    }

    /// Returns where the new node is.
    fn add_node(&mut self, at: u32, below: Node<K>) -> u32 {
        let mut node = *self.nodes.get(at);
        let chunk = node.chunk(below.path);
        let (len, place) = (node.branches.count_ones(), rank(node.branches, chunk));
        self.nodes.insert(&mut node.nodes_at, len as usize, place as usize, below);
        node.branches |= bit(chunk);
        *self.nodes.get_mut(at) = node;
        node.nodes_at + place
    }

    fn remove_node(&mut self, at: u32, chunk: u32) {
        let mut node = *self.nodes.get(at);
        let (len, place) = (node.branches.count_ones(), rank(node.branches, chunk));
        self.nodes.remove(&mut node.nodes_at, len as usize, place as usize);
        node.branches &= !bit(chunk);
        *self.nodes.get_mut(at) = node;
    }

    /// How many nodes, leaves and values have room.
    #[cfg(test)]
    pub(super) fn allotted(&self) -> (usize, usize, usize) {
        (self.nodes.allotted(), self.leaves.allotted(), self.values.allotted())
    }
}

impl<K: Key> Node<K> {
    /// An empty node `depth` chunks down the way of `key`.
    fn at(key: K, depth: u32) -> Self {
        Node { path: key.first(CHUNK * depth), depth: depth as u8, ..Node::default() }
    }

    /// Whether the way of `key` leads through this node.
    #[inline]
    fn is_above(&self, key: K) -> bool {
        key.first(CHUNK * u32::from(self.depth)) == self.path
    }

    /// The key's six bits at this depth.
    #[inline]
    fn chunk(&self, key: K) -> u32 {
        key.chunk(u32::from(self.depth))
    }

    /// The number of a prefix that ends in this node; `None` if it goes on.
    fn prefix_number(&self, key: K, len: u8) -> Option<u32> {
        let len = u32::from(len) - CHUNK * u32::from(self.depth);
        (len < CHUNK).then(|| (1 << len) - 1 + (self.chunk(key) >> (CHUNK - len)))
    }

    /// The prefix with this number.
    fn prefix(&self, number: u32, value: PeerId) -> Leaf<K> {
        let len = (number + 1).ilog2();
        let above = CHUNK * u32::from(self.depth);
        let key = self.path.with(number + 1 - (1 << len), above + len);
        Leaf { key, len: (above + len) as u8, value }
    }
}

impl<K: Key> Leaf<K> {
    #[inline]
    fn holds(&self, key: K) -> bool {
        self.key.shared(key) >= u32::from(self.len)
    }

    /// How many whole chunks this prefix has in common with another of `limit` whole chunks.
    fn chunks_shared_with(&self, other: K, limit: u32) -> u32 {
        let bits = self.key.shared(other).min(u32::from(self.len));
        (bits / CHUNK).min(limit)
    }
}

#[inline]
const fn bit(number: u32) -> u64 {
    1 << number
}

/// The place of a bit's item among those of all bits set.
#[inline]
fn rank(bits: u64, number: u32) -> u32 {
    (bits & (bit(number) - 1)).count_ones()
}
