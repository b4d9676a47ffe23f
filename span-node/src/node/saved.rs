//! The last known members on disk, so that a mesh comes up without any discovery.

use std::time::Duration;

use span_core::mesh::Member;
use span_core::time::Instant;
use span_discovery::cache::Cache;
use tracing::warn;

use crate::clock;

/// Shortest time between two writes: a mesh that comes up changes with every member.
const SETTLE: Duration = Duration::from_secs(5);

/// The members on disk and what they should be.
pub(super) struct Saved {
    /// `None` for a node that keeps nothing.
    cache: Option<Cache>,
    members: Vec<Member>,
    /// When to write.
    due: Option<Instant>,
}

impl Saved {
    /// Reads what was saved last. A cache that cannot be read is as good as none.
    pub(super) fn load(cache: Option<Cache>) -> Self {
        let load = |cache: &Cache| {
            cache.load().unwrap_or_else(|error| {
                warn!("{error}");
                Vec::new()
            })
        };
        let members = cache.as_ref().map(load).unwrap_or_default();
        Saved { cache, members, due: None }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Remembers these members instead, on disk within seconds.
    pub(super) fn keep<'a>(&mut self, now: Instant, members: impl Iterator<Item = &'a Member> + Clone) {
        if self.cache.is_some() && !members.clone().eq(&self.members) {
            self.members = members.cloned().collect();
            self.due.get_or_insert(now + SETTLE);
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.save_now();
        }
    }

    pub(super) fn save_now(&mut self) {
        let (Some(cache), Some(_)) = (&self.cache, self.due.take()) else { return };
        let stored = clock::entropy()
            .map_err(|error| error.to_string())
            .and_then(|nonce| cache.store(&self.members, nonce).map_err(|error| error.to_string()));
        if let Err(error) = stored {
            warn!("{error}");
        }
    }
}
