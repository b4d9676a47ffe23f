//! What the service knows: clusters, their records, and who is to be told of changes. Pure: time comes in as
//! an argument, and waiting is a [`Waker`].

use std::collections::HashMap;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use span_core::time::Instant;

use super::cluster::{Change, Cluster, Collected};
use crate::wire::server::Affiliate;

/// All clusters.
pub(super) struct State {
    clusters: HashMap<String, Cluster>,
    affiliates: usize,
    max_affiliates: usize,
    closed: bool,
}

/// A record or endpoints to store. Lengths are checked already.
pub(super) struct Update {
    pub(super) affiliate: String,
    /// Empty leaves what is stored.
    pub(super) data: Bytes,
    pub(super) endpoints: Vec<Bytes>,
    pub(super) ttl: Duration,
}

/// A watch that has begun; ends with [`State::unwatch`].
pub(super) struct Watching {
    cluster: String,
    watcher: usize,
}

/// Why an update was not, or not wholly, stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("the cluster has {max} affiliates, no more are possible", max = super::limits::AFFILIATES)]
    Cluster,
    #[error("the affiliate has {max} endpoints, no more are possible", max = super::limits::ENDPOINTS)]
    Affiliate,
    #[error("the service is full")]
    Service,
}

/// What a watch has to say next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    Change(Change),
    /// Nothing yet; the waker fires when there is.
    Wait,
    /// The watcher has fallen so far behind that deletions it has not seen are forgotten.
    Lost,
    /// The service ends.
    Closed,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) clusters: usize,
    pub(super) affiliates: usize,
    pub(super) endpoints: usize,
    pub(super) watchers: usize,
}

impl State {
    /// An empty state that takes this many affiliates in all clusters together.
    pub(super) fn new(max_affiliates: usize) -> Self {
        State { clusters: HashMap::new(), affiliates: 0, max_affiliates, closed: false }
    }

    /// Stores what an update says. If a limit stops it, what was stored before stays, and is told.
    pub(super) fn update(&mut self, now: Instant, cluster: &str, update: &Update) -> Result<(), Full> {
        let known = self.clusters.get(cluster).is_some_and(|c| c.contains(&update.affiliate));
        if !known && self.affiliates >= self.max_affiliates {
            return Err(Full::Service);
        }
        let entry = self.cluster_mut(cluster);
        let before = entry.len();
        let outcome = entry.update(now, update);
        let after = entry.len();
        self.affiliates = self.affiliates + after - before;
        outcome
    }

    /// Removes an affiliate, if it is there.
    pub(super) fn delete(&mut self, cluster: &str, affiliate: &str) {
        if let Some(entry) = self.clusters.get_mut(cluster)
            && entry.delete(affiliate)
        {
            self.affiliates -= 1;
        }
    }

    /// All affiliates of a cluster.
    pub(super) fn list(&self, cluster: &str) -> Vec<Affiliate> {
        self.clusters.get(cluster).map(Cluster::list).unwrap_or_default()
    }

    /// Begins a watch; its first change is the whole cluster.
    pub(super) fn watch(&mut self, cluster: &str) -> Watching {
        let watcher = self.cluster_mut(cluster).watch();
        Watching { cluster: cluster.to_owned(), watcher }
    }

    /// What the watch has to say next.
    pub(super) fn next(&mut self, watching: &Watching, waker: &Waker) -> Next {
        match self.clusters.get_mut(&watching.cluster) {
            Some(cluster) if !self.closed => cluster.next(watching.watcher, waker),
            Some(_) | None => Next::Closed,
        }
    }

    /// Ends a watch.
    pub(super) fn unwatch(&mut self, watching: &Watching) {
        if let Some(cluster) = self.clusters.get_mut(&watching.cluster) {
            cluster.unwatch(watching.watcher);
        }
    }

    /// Drops what has expired.
    pub(super) fn collect(&mut self, now: Instant) -> Collected {
        let mut collected = Collected::default();
        self.clusters.retain(|_, cluster| {
            collected += cluster.collect(now);
            let keep = !cluster.is_idle();
            collected.clusters += usize::from(!keep);
            keep
        });
        self.affiliates -= collected.affiliates;
        collected
    }

    /// Ends all watches, and every one begun later.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.clusters.values_mut().for_each(Cluster::wake);
    }

    /// How much there is.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals { clusters: self.clusters.len(), ..Totals::default() };
        for cluster in self.clusters.values() {
            totals.affiliates += cluster.len();
            totals.endpoints += cluster.endpoints();
            totals.watchers += cluster.watchers();
        }
        totals
    }

    /// Every cluster with its id, in no particular order.
    pub(super) fn clusters(&self) -> impl Iterator<Item = (&str, &Cluster)> {
        self.clusters.iter().map(|(id, cluster)| (id.as_str(), cluster))
    }

    fn cluster_mut(&mut self, id: &str) -> &mut Cluster {
        if !self.clusters.contains_key(id) {
            self.clusters.insert(id.to_owned(), Cluster::default());
        }
        self.clusters.get_mut(id).expect("it was inserted if it was missing")
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
