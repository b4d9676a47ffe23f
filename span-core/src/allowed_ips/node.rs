//! The nodes of a trie, small and large.

use alloc::vec::Vec;

use super::key::Key;
use crate::wireguard::PeerId;

/// A prefix and its owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf<K> {
    pub(super) key: K,
    pub(super) value: PeerId,
    pub(super) len: u8,
}

impl<K: Key> Leaf<K> {
    #[inline]
    pub(super) fn holds(&self, key: K) -> bool {
        self.key.agrees(key, self.len)
    }
}

/// What stands below a slot, in one word.
///
/// Two bits say what it is. A list has its length in four more bits and where it begins in the rest. A node
/// has one bit that says whether bits are skipped on the way to it, and its index in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Prefixes, the longest first, maybe none.
    List { at: u32, len: usize },
    /// A node that takes four bits.
    Small(usize),
    /// A node that takes eight.
    Large(usize),
}

impl Link {
    /// A list without prefixes.
    pub(super) const EMPTY: Link = Link(0);

    const SMALL: u32 = 1;
    const LARGE: u32 = 2;
    const SKIPS: u32 = 4;

    pub(super) fn list(at: u32, len: usize) -> Self {
        if len == 0 { Link::EMPTY } else { Link(at << 6 | (len as u32) << 2) }
    }

    /// A node of `stride` bits, `depth` bits down, below a slot that ends `above` bits down.
    pub(super) fn node(stride: u32, index: usize, above: u32, depth: u32) -> Self {
        let kind = if stride == SMALL_STRIDE { Link::SMALL } else { Link::LARGE };
        let link = Link((index as u32) << 3 | kind);
        link.moved(above, depth)
    }

    /// The same node, `depth` bits down, below a slot that ends `above` bits down.
    pub(super) fn moved(self, above: u32, depth: u32) -> Self {
        let plain = self.0 & !Link::SKIPS;
        Link(if above == depth { plain } else { plain | Link::SKIPS })
    }

    #[inline]
    pub(super) fn target(self) -> Target {
        match self.0 & 3 {
            Link::SMALL => Target::Small((self.0 >> 3) as usize),
            Link::LARGE => Target::Large((self.0 >> 3) as usize),
            _ => Target::List { at: self.0 >> 6, len: (self.0 >> 2 & 15) as usize },
        }
    }

    /// Whether it leads to a node that is further down than the slot it stands in ends.
    #[inline]
    pub(super) fn skips(self) -> bool {
        self.0 & 3 != 0 && self.0 & Link::SKIPS != 0
    }

    pub(super) fn is_node(self) -> bool {
        self.0 & 3 != 0
    }
}

/// Bits a small node takes.
pub(super) const SMALL_STRIDE: u32 = 4;
/// Bits a large node takes.
pub(super) const LARGE_STRIDE: u32 = 8;

/// Where a node stands, and the prefixes that end in it: those of at least `depth` bits, but of fewer than
/// its slots have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<K> {
    /// The bits above the node; zeros follow.
    pub(super) path: K,
    /// How many bits those are, a multiple of four.
    pub(super) depth: u8,
    /// How many prefixes end here.
    pub(super) own_len: u8,
    /// Where their list begins. They are in no order.
    pub(super) own_at: u32,
}

/// What a node knows of the addresses that share its bits and the next ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) link: Link,
    /// Where the longest of the node's own prefixes that holds all of them is; 0 for none.
    pub(super) best: u32,
}

/// A node of `N` slots, indexed by bits of the key.
#[derive(Clone, Debug)]
pub(super) struct Node<K, const N: usize> {
    pub(super) slots: [Slot; N],
    pub(super) head: Head<K>,
}

/// All nodes of one size. Room that nodes gave up is used again.
#[derive(Debug)]
pub(super) struct Nodes<K, const N: usize> {
    nodes: Vec<Node<K, N>>,
    free: Vec<u32>,
}

impl<K: Key, const N: usize> Nodes<K, N> {
    pub(super) const fn new() -> Self {
        Nodes { nodes: Vec::new(), free: Vec::new() }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> &Node<K, N> {
        &self.nodes[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Node<K, N> {
        &mut self.nodes[index]
    }

    /// Makes an empty node `depth` bits down the way of `key`.
    pub(super) fn add(&mut self, key: K, depth: u32) -> usize {
        let head = Head { path: key.first(depth), depth: depth as u8, own_len: 0, own_at: 0 };
        let node = Node { slots: [Slot { link: Link::EMPTY, best: 0 }; N], head };
        match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index as usize
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    pub(super) fn remove(&mut self, index: usize) {
        self.free.push(index as u32);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}
