//! What to do to get from one plan to the next.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{PeerSpec, Plan};
use crate::key::PublicKey;

/// The difference between two plans, by public key. Peers that stayed the same do not appear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Peers of the older plan only.
    pub removed: Vec<&'a PeerSpec>,
    /// Peers of both that differ.
    pub updated: Vec<Update<'a>>,
    /// Peers of the newer plan only.
    pub added: Vec<&'a PeerSpec>,
}

/// A peer that stays, but not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// As it was.
    pub before: &'a PeerSpec,
    /// As it shall be.
    pub after: &'a PeerSpec,
}

impl Plan {
    /// What changed since `previous`.
    pub fn changes_since<'a>(&'a self, previous: &'a Plan) -> Changes<'a> {
        let mut before: BTreeMap<PublicKey, &PeerSpec> =
            previous.peers.iter().map(|peer| (peer.public_key, peer)).collect();
        let mut changes = Changes::default();
        for after in &self.peers {
            match before.remove(&after.public_key) {
                Some(before) if before == after => {}
                Some(before) => changes.updated.push(Update { before, after }),
                None => changes.added.push(after),
            }
        }
        changes.removed = before.into_values().collect();
        changes
    }
}

impl Changes<'_> {
    /// Whether the plans have the same peers.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.updated.is_empty() && self.added.is_empty()
    }
}
