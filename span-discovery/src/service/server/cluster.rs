//! One cluster: its affiliates, and a log of what changed last.
//!
//! The log holds one line per affiliate, that of its latest change, and one per affiliate deleted lately. A
//! watcher is a position in it. However slow it is, it costs nothing more, and what changed twice meanwhile
//! it hears once.

use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use span_core::time::Instant;

use super::limits;
use super::state::{Full, Next, Update};
use crate::wire::server;

/// How many deletions are remembered for watchers that have not heard of them yet.
const DELETIONS: usize = 2 * limits::AFFILIATES;

#[derive(Default)]
pub(super) struct Cluster {
    affiliates: HashMap<Arc<str>, Affiliate>,
    log: BTreeMap<u64, Arc<str>>,
    deleted: HashMap<Arc<str>, u64>,
    /// The newest change; the first one is 1.
    newest: u64,
    /// The newest deletion that is no longer remembered.
    forgotten: u64,
    watchers: HashMap<usize, Watcher>,
    next_watcher: usize,
}

/// One affiliate.
pub(super) struct Affiliate {
    pub(super) data: Bytes,
    pub(super) expires: Instant,
    pub(super) endpoints: Vec<Endpoint>,
    changed: u64,
}

/// One sealed endpoint of an affiliate.
pub(super) struct Endpoint {
    pub(super) data: Bytes,
    pub(super) expires: Instant,
}

/// Something a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    All(Vec<server::Affiliate>),
    Updated(server::Affiliate),
    Deleted(String),
}

/// How much was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Collected {
    pub(super) clusters: usize,
    pub(super) affiliates: usize,
    pub(super) endpoints: usize,
}

struct Watcher {
    /// The newest change it heard of; none if it heard of nothing yet.
    heard: Option<u64>,
    waker: Option<Waker>,
}

impl Cluster {
    pub(super) fn len(&self) -> usize {
        self.affiliates.len()
    }

    pub(super) fn endpoints(&self) -> usize {
        self.affiliates.values().map(|affiliate| affiliate.endpoints.len()).sum()
    }

    pub(super) fn watchers(&self) -> usize {
        self.watchers.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.affiliates.contains_key(id)
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_idle(&self) -> bool {
        self.affiliates.is_empty() && self.watchers.is_empty()
    }

    pub(super) fn affiliates(&self) -> impl Iterator<Item = (&str, &Affiliate)> {
        self.affiliates.iter().map(|(id, affiliate)| (&**id, affiliate))
    }

    pub(super) fn list(&self) -> Vec<server::Affiliate> {
        self.affiliates.iter().map(|(id, affiliate)| affiliate.to_wire(id)).collect()
    }

    pub(super) fn update(&mut self, now: Instant, update: &Update) -> Result<(), Full> {
        let expires = now + update.ttl;
        let id: &str = &update.affiliate;
        let mut changed = false;
        if !self.affiliates.contains_key(id) {
            if self.affiliates.len() >= limits::AFFILIATES {
                return Err(Full::Cluster);
            }
            let fresh = Affiliate { data: Bytes::new(), expires, endpoints: Vec::new(), changed: 0 };
            self.affiliates.insert(id.into(), fresh);
            changed = true;
        }
        let affiliate = self.affiliates.get_mut(id).expect("it was inserted if it was missing");
        if !update.data.is_empty() {
            // The same bytes again are a refresh, and no news to anyone.
            if affiliate.data != update.data {
                affiliate.data = own(&update.data);
                changed = true;
            }
            affiliate.expires = expires;
        }
        let (added, outcome) = affiliate.merge_endpoints(&update.endpoints, expires);
        affiliate.expires = affiliate.expires.max(expires);
        if changed || added {
            self.note(id);
        }
        outcome
    }

    pub(super) fn delete(&mut self, id: &str) -> bool {
        let Some(affiliate) = self.affiliates.remove(id) else { return false };
        self.log.remove(&affiliate.changed);
        self.note(id);
        true
    }

    pub(super) fn watch(&mut self) -> usize {
        let watcher = self.next_watcher;
        self.next_watcher += 1;
        self.watchers.insert(watcher, Watcher { heard: None, waker: None });
        watcher
    }

    pub(super) fn unwatch(&mut self, watcher: usize) {
        self.watchers.remove(&watcher);
        if self.watchers.is_empty() {
            self.forget(|_| false);
        }
    }

    pub(super) fn next(&mut self, watcher: usize, waker: &Waker) -> Next {
        let Some(entry) = self.watchers.get_mut(&watcher) else { return Next::Closed };
        let Some(heard) = entry.heard else {
            entry.heard = Some(self.newest);
            return Next::Change(Change::All(self.list()));
        };
        if heard < self.forgotten {
            return Next::Lost;
        }
        let Some((&change, id)) = self.log.range(heard + 1..).next() else {
            entry.waker = Some(waker.clone());
            return Next::Wait;
        };
        entry.heard = Some(change);
        Next::Change(match self.affiliates.get(id) {
            Some(affiliate) => Change::Updated(affiliate.to_wire(id)),
            None => Change::Deleted(id.to_string()),
        })
    }

    /// Drops what has expired, and tells the watchers: of an affiliate that lost endpoints, what it still has.
    pub(super) fn collect(&mut self, now: Instant) -> Collected {
        let mut collected = Collected::default();
        let mut gone = Vec::new();
        let mut shrunk = Vec::new();
        for (id, affiliate) in &mut self.affiliates {
            if affiliate.expires < now {
                gone.push(id.clone());
                continue;
            }
            let before = affiliate.endpoints.len();
            affiliate.endpoints.retain(|endpoint| endpoint.expires > now);
            if affiliate.endpoints.len() < before {
                collected.endpoints += before - affiliate.endpoints.len();
                shrunk.push(id.clone());
            }
        }
        for id in &gone {
            self.delete(id);
        }
        for id in &shrunk {
            self.note(id);
        }
        collected.affiliates = gone.len();
        collected
    }

    pub(super) fn wake(&mut self) {
        for watcher in self.watchers.values_mut() {
            if let Some(waker) = watcher.waker.take() {
                waker.wake();
            }
        }
    }

    /// Writes a line about `id` into the log, in place of an older one.
    fn note(&mut self, id: &str) {
        self.newest += 1;
        let deleted = self.deleted.remove_entry(id);
        let id = match (self.affiliates.get_key_value(id), deleted) {
            (Some((id, _)), deleted) => {
                let id = id.clone();
                let affiliate = self.affiliates.get_mut(&id).expect("it was just found");
                let older = deleted.map_or(affiliate.changed, |(_, older)| older);
                affiliate.changed = self.newest;
                self.log.remove(&older);
                id
            }
            (None, _) if self.watchers.is_empty() => return,
            (None, _) => {
                let id: Arc<str> = id.into();
                self.deleted.insert(id.clone(), self.newest);
                id
            }
        };
        self.log.insert(self.newest, id);
        if self.deleted.len() > DELETIONS {
            let heard_by_all = self.watchers.values().filter_map(|w| w.heard).min().unwrap_or(self.newest);
            self.forget(|change| change > heard_by_all);
        }
        if self.deleted.len() > DELETIONS {
            let mut changes: Vec<u64> = self.deleted.values().copied().collect();
            changes.sort_unstable();
            let last = changes[DELETIONS / 2];
            self.forgotten = last;
            self.forget(|change| change > last);
        }
        self.wake();
    }

    fn forget(&mut self, keep: impl Fn(u64) -> bool) {
        let log = &mut self.log;
        self.deleted.retain(|_, change| {
            let keep = keep(*change);
            if !keep {
                log.remove(change);
            }
            keep
        });
    }
}

impl Affiliate {
    /// Adds new endpoints and keeps known ones alive; whether there was a new one, and whether all fit.
    fn merge_endpoints(&mut self, endpoints: &[Bytes], expires: Instant) -> (bool, Result<(), Full>) {
        let mut added = false;
        for data in endpoints {
            if let Some(known) = self.endpoints.iter_mut().find(|known| known.data == *data) {
                known.expires = known.expires.max(expires);
            } else if self.endpoints.len() >= limits::ENDPOINTS {
                return (added, Err(Full::Affiliate));
            } else {
                self.endpoints.push(Endpoint { data: own(data), expires });
                added = true;
            }
        }
        (added, Ok(()))
    }

    fn to_wire(&self, id: &str) -> server::Affiliate {
        server::Affiliate {
            id: id.to_owned(),
            data: self.data.clone(),
            endpoints: self.endpoints.iter().map(|endpoint| endpoint.data.clone()).collect(),
        }
    }
}

/// A copy that does not keep the whole request alive it came in.
fn own(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

impl AddAssign for Collected {
    fn add_assign(&mut self, other: Self) {
        self.clusters += other.clusters;
        self.affiliates += other.affiliates;
        self.endpoints += other.endpoints;
    }
}
