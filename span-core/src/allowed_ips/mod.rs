//! Cryptokey routing: which peer owns which addresses (WireGuard paper, section 2).
//!
//! One table serves both ways: where a packet is sent, by its destination, and whether a decrypted packet
//! is accepted, by its source. The longest prefix that holds the address decides.

mod key;
mod node;
mod pool;
mod trie;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use self::trie::Trie;
use crate::wireguard::PeerId;

/// The prefixes of all peers of a device. A prefix belongs to at most one of them.
///
/// Looking up takes a few steps whatever the number of prefixes; a change touches what is on one way.
#[derive(Debug, Default)]
pub struct AllowedIps {
    v4: Trie<u32>,
    v6: Trie<u128>,
    /// What each peer owns, by its index.
    owned: Vec<BTreeSet<IpNet>>,
}

impl AllowedIps {
    /// An empty table.
    pub fn new() -> Self {
        AllowedIps::default()
    }

    /// Gives `prefix` to `peer`, taking it from the peer that had it, which is returned. Bits beyond the
    /// prefix's length are ignored.
    pub fn insert(&mut self, prefix: IpNet, peer: PeerId) -> Option<PeerId> {
        let prefix = prefix.trunc();
        let before = match prefix {
            IpNet::V4(net) => self.v4.insert(net.addr().into(), net.prefix_len(), peer),
            IpNet::V6(net) => self.v6.insert(net.addr().into(), net.prefix_len(), peer),
        }
        .filter(|before| *before != peer);
        if let Some(before) = before {
            self.owned_mut(before).remove(&prefix);
        }
        self.owned_mut(peer).insert(prefix);
        before
    }

    /// Takes `prefix` from `peer`. False if it was not that peer's: then nothing changes.
    pub fn remove(&mut self, prefix: IpNet, peer: PeerId) -> bool {
        let prefix = prefix.trunc();
        let owned = self.owned_mut(peer).remove(&prefix);
        if owned {
            self.remove_from_trie(prefix);
        }
        owned
    }

    /// Takes all its prefixes from `peer`.
    pub fn remove_all(&mut self, peer: PeerId) {
        for prefix in core::mem::take(self.owned_mut(peer)) {
            self.remove_from_trie(prefix);
        }
    }

    /// The owner of the longest prefix that holds `address`.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        match address {
            IpAddr::V4(address) => self.v4.lookup(address.into()),
            IpAddr::V6(address) => self.v6.lookup(address.into()),
        }
    }

    /// The prefixes of `peer`, IPv4 first, in order.
    pub fn of(&self, peer: PeerId) -> impl ExactSizeIterator<Item = IpNet> + '_ {
        const NONE: &BTreeSet<IpNet> = &BTreeSet::new();
        self.owned.get(peer.index()).unwrap_or(NONE).iter().copied()
    }

    fn remove_from_trie(&mut self, prefix: IpNet) {
        match prefix {
            IpNet::V4(net) => self.v4.remove(net.addr().into(), net.prefix_len()),
            IpNet::V6(net) => self.v6.remove(net.addr().into(), net.prefix_len()),
        }
    }

    fn owned_mut(&mut self, peer: PeerId) -> &mut BTreeSet<IpNet> {
        if peer.index() >= self.owned.len() {
            self.owned.resize_with(peer.index() + 1, BTreeSet::new);
        }
        &mut self.owned[peer.index()]
    }
}

#[cfg(test)]
mod tests;
