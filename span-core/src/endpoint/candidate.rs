//! Paths that may lead to a peer, and what is known of each.

use alloc::vec::Vec;

use crate::path::{Path, Source};
use crate::time::Instant;
use core::time::Duration;

/// Who says that a path may lead to a peer. The order is the rank: the better evidence first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateSource {
    /// The peer's own authenticated traffic came from there.
    Learnt,
    /// A person wrote it down.
    Configured,
    /// The peer publishes it as its own.
    Published,
    /// Somebody else says to have seen the peer there. It may be an address that means something only
    /// to the one who saw it.
    Observed,
    /// It was good before a restart.
    Cached,
}

/// One path that may lead to a peer: evidence with a source and an age, not a truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    path: Path,
    named_by: Sources,
    seen: Instant,
    probed: Option<Instant>,
    answered: Option<Instant>,
    unanswered: u32,
    forbidden: bool,
}

impl Candidate {
    /// The path.
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// The best of the sources that name it.
    pub fn source(&self) -> CandidateSource {
        self.named_by.best()
    }

    /// When a source last named it, or authenticated traffic made it the peer's path.
    pub const fn seen(&self) -> Instant {
        self.seen
    }

    /// When a handshake was last tried over it.
    pub const fn last_probe(&self) -> Option<Instant> {
        self.probed
    }

    /// When it last carried a completed handshake.
    pub const fn last_answer(&self) -> Option<Instant> {
        self.answered
    }

    /// Handshakes tried over it since it last answered.
    pub const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether it lies where no underlay path may lead, and so is never tried.
    pub const fn is_forbidden(&self) -> bool {
        self.forbidden
    }
}

/// The candidates of one peer: bounded, each remote place once.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    list: Vec<Candidate>,
    overflowed: u64,
}

impl Candidates {
    /// As many endpoints as the discovery service keeps for a node. The weakest gives way to a newcomer.
    pub(super) const MAX: usize = 64;
    /// Of those, places the peer once was: a phone on a train leaves many behind.
    const MAX_LEARNT: usize = 8;
    /// After so long a place that only past traffic speaks for is somebody else's.
    const LEARNT_LIFETIME: Duration = Duration::from_secs(3600);

    pub(super) fn as_slice(&self) -> &[Candidate] {
        &self.list
    }

    /// Candidates that gave way or found no place.
    pub(super) const fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Takes what `source` names now, in place of what it named before. Whether there is a new path.
    pub(super) fn replace(
        &mut self,
        now: Instant,
        source: CandidateSource,
        paths: &[Path],
        current: Option<&Path>,
        forbidden: impl Fn(&Path) -> bool,
    ) -> bool {
        self.list.iter_mut().for_each(|candidate| candidate.named_by.remove(source));
        let mut new = false;
        for path in paths {
            let path = path.without_source();
            match self.find_mut(&path) {
                Some(candidate) => {
                    candidate.named_by.insert(source);
                    candidate.seen = now;
                }
                None => new |= self.push(now, source, path, current, forbidden(&path)),
            }
        }
        self.drop_unnamed(current);
        new
    }

    /// Whether `source` names `path`.
    pub(super) fn names(&self, source: CandidateSource, path: &Path) -> bool {
        self.list
            .iter()
            .any(|candidate| candidate.named_by.contains(source) && candidate.path.same_remote(path))
    }

    /// Takes a path that authenticated traffic came over, with the local address it came to.
    pub(super) fn learn(&mut self, now: Instant, path: &Path) {
        match self.find_mut(path) {
            Some(candidate) => {
                candidate.path = *path;
                candidate.named_by.insert(CandidateSource::Learnt);
                candidate.seen = now;
            }
            None => {
                self.push(now, CandidateSource::Learnt, *path, Some(path), false);
            }
        }
        self.forget_old_places(now, path);
    }

    pub(super) fn probed(&mut self, now: Instant, path: &Path) {
        if let Some(candidate) = self.find_mut(path) {
            candidate.probed = Some(now);
            candidate.unanswered = candidate.unanswered.saturating_add(1);
        }
    }

    pub(super) fn answered(&mut self, now: Instant, path: &Path) {
        if let Some(candidate) = self.find_mut(path) {
            candidate.answered = Some(now);
            candidate.unanswered = 0;
        }
    }

    pub(super) fn forbid(&mut self, forbidden: impl Fn(&Path) -> bool) {
        self.list.iter_mut().for_each(|candidate| candidate.forbidden = forbidden(&candidate.path));
    }

    /// Leaves the choice of the local address to the host again where `keep` says so.
    pub(super) fn drop_sources(&mut self, keep: &mut impl FnMut(&Source) -> bool) {
        for candidate in &mut self.list {
            candidate.path = with_valid_source(candidate.path, keep);
        }
    }

    /// Indices of what may be tried, the best first.
    pub(super) fn ranked(&self) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..self.list.len()).filter(|i| !self.list[*i].forbidden).collect();
        // What answered lately goes first, then the better source; ties keep the order of publication.
        ranked.sort_by_key(|i| {
            let candidate = &self.list[*i];
            (core::cmp::Reverse(candidate.answered), candidate.source())
        });
        ranked
    }

    fn find_mut(&mut self, path: &Path) -> Option<&mut Candidate> {
        self.list.iter_mut().find(|candidate| candidate.path.same_remote(path))
    }

    /// Adds a path, in the place of the weakest if need be. Whether it was added.
    fn push(
        &mut self,
        now: Instant,
        source: CandidateSource,
        path: Path,
        current: Option<&Path>,
        forbidden: bool,
    ) -> bool {
        let candidate = Candidate {
            path,
            named_by: Sources::only(source),
            seen: now,
            probed: None,
            answered: None,
            unanswered: 0,
            forbidden,
        };
        if self.list.len() < Self::MAX {
            self.list.push(candidate);
            return true;
        }
        self.overflowed += 1;
        let is_current = |candidate: &Candidate| current.is_some_and(|path| candidate.path.same_remote(path));
        // Worth: a path that ever answered, then the better source, then the newer word.
        let worth = |candidate: &Candidate| {
            (candidate.answered, core::cmp::Reverse(candidate.source()), candidate.seen)
        };
        let weakest =
            self.list.iter().enumerate().filter(|(_, c)| !is_current(c)).min_by_key(|(_, c)| worth(c));
        let Some((weakest, _)) = weakest.filter(|(_, weakest)| worth(weakest) < worth(&candidate)) else {
            return false;
        };
        self.list[weakest] = candidate;
        true
    }

    fn drop_unnamed(&mut self, current: Option<&Path>) {
        self.list.retain(|candidate| {
            !candidate.named_by.is_empty() || current.is_some_and(|path| candidate.path.same_remote(path))
        });
    }

    fn forget_old_places(&mut self, now: Instant, current: &Path) {
        let learnt = |candidate: &Candidate| {
            candidate.named_by.contains(CandidateSource::Learnt) && !candidate.path.same_remote(current)
        };
        let mut seen: Vec<Instant> = self.list.iter().filter(|c| learnt(c)).map(|c| c.seen).collect();
        seen.sort_unstable();
        // The current place is one of those kept.
        let surplus = (seen.len() + 1).saturating_sub(Self::MAX_LEARNT);
        let newest_dropped = surplus.checked_sub(1).map(|last| seen[last]);
        for candidate in self.list.iter_mut().filter(|candidate| learnt(candidate)) {
            let too_many = newest_dropped.is_some_and(|newest| candidate.seen <= newest);
            if too_many || now.since(candidate.seen) > Self::LEARNT_LIFETIME {
                candidate.named_by.remove(CandidateSource::Learnt);
            }
        }
        self.drop_unnamed(Some(current));
    }
}

/// `path`, without its local address unless `keep` says that it still stands.
pub(super) fn with_valid_source(path: Path, keep: &mut impl FnMut(&Source) -> bool) -> Path {
    match path {
        Path::Udp(udp) if udp.source.is_some_and(|source| !keep(&source)) => path.without_source(),
        Path::Udp(_) | Path::Custom(_) => path,
    }
}

/// A set of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sources(u8);

impl Sources {
    const RANKED: [CandidateSource; 5] = [
        CandidateSource::Learnt,
        CandidateSource::Configured,
        CandidateSource::Published,
        CandidateSource::Observed,
        CandidateSource::Cached,
    ];

    const fn only(source: CandidateSource) -> Self {
        Sources(1 << source as u8)
    }

    fn insert(&mut self, source: CandidateSource) {
        self.0 |= Self::only(source).0;
    }

    fn remove(&mut self, source: CandidateSource) {
        self.0 &= !Self::only(source).0;
    }

    const fn contains(self, source: CandidateSource) -> bool {
        self.0 & Self::only(source).0 != 0
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The best source; of the current path, which nobody may name any longer, the weakest there is.
    fn best(self) -> CandidateSource {
        let named = Self::RANKED.into_iter().find(|source| self.contains(*source));
        named.unwrap_or(CandidateSource::Cached)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn path(n: usize) -> Path {
        Path::udp(format!("192.0.2.{}:{}", n % 250 + 1, 1000 + n).parse().unwrap())
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn never(_: &Path) -> bool {
        false
    }

    fn paths(candidates: &Candidates) -> Vec<Path> {
        candidates.list.iter().map(|candidate| candidate.path).collect()
    }

    #[test]
    fn a_source_replaces_what_it_named_and_only_that() {
        let mut candidates = Candidates::default();
        assert!(candidates.replace(at(1), CandidateSource::Published, &[path(1), path(2)], None, never));
        assert!(candidates.replace(at(2), CandidateSource::Configured, &[path(2), path(3)], None, never));
        assert!(!candidates.replace(at(3), CandidateSource::Published, &[path(1)], None, never));
        assert_eq!(paths(&candidates), [path(1), path(2), path(3)]);
        assert!(!candidates.replace(at(4), CandidateSource::Published, &[], None, never));
        assert_eq!(paths(&candidates), [path(2), path(3)]);
        assert_eq!(candidates.list[0].source(), CandidateSource::Configured);
    }

    #[test]
    fn the_current_path_stays_when_nobody_names_it() {
        let mut candidates = Candidates::default();
        candidates.replace(at(1), CandidateSource::Published, &[path(1)], None, never);
        candidates.replace(at(2), CandidateSource::Published, &[path(2)], Some(&path(1)), never);
        assert_eq!(paths(&candidates), [path(1), path(2)]);
    }

    #[test]
    fn learning_keeps_the_local_address_and_a_few_old_places() {
        let mut candidates = Candidates::default();
        candidates.replace(at(0), CandidateSource::Published, &[path(0)], None, never);
        for n in 0..20 {
            candidates.learn(at(n as u64), &path(n));
        }
        let learnt = paths(&candidates);
        assert_eq!(learnt.len(), 1 + Candidates::MAX_LEARNT);
        assert_eq!(learnt[0], path(0), "published, whatever traffic says");
        assert_eq!(*learnt.last().unwrap(), path(19));

        let source = Source { ip: "198.51.100.7".parse().unwrap(), interface: 2 };
        let Path::Udp(udp) = path(19) else { unreachable!() };
        let from = Path::udp_from(udp.remote, source);
        candidates.learn(at(20), &from);
        assert_eq!(*paths(&candidates).last().unwrap(), from);
        candidates.drop_sources(&mut |_| false);
        assert_eq!(*paths(&candidates).last().unwrap(), path(19));

        candidates.learn(at(20 + 3601), &path(50));
        assert_eq!(paths(&candidates), [path(0), path(50)]);
    }

    #[test]
    fn the_list_is_bounded_and_the_newest_useful_thing_wins() {
        let mut candidates = Candidates::default();
        let cached: Vec<Path> = (0..Candidates::MAX).map(path).collect();
        candidates.replace(at(1), CandidateSource::Cached, &cached, None, never);
        candidates.answered(at(2), &path(0));
        let fresh: Vec<Path> = (100..200).map(path).collect();
        candidates.replace(at(3), CandidateSource::Published, &fresh, Some(&path(1)), never);
        assert_eq!(candidates.list.len(), Candidates::MAX);
        assert!(candidates.overflowed() > 0);
        let kept = paths(&candidates);
        assert!(kept.contains(&path(0)) && kept.contains(&path(1)));
        assert_eq!(kept.iter().filter(|path| fresh.contains(path)).count(), Candidates::MAX - 2);
        // A weaker word does not push out a better one.
        assert!(!candidates.replace(at(4), CandidateSource::Observed, &[path(300)], Some(&path(1)), never));
    }

    #[test]
    fn rank_is_by_answer_then_by_source_and_forbidden_ones_are_out() {
        let mut candidates = Candidates::default();
        let forbidden = |candidate: &Path| *candidate == path(5);
        candidates.replace(at(1), CandidateSource::Cached, &[path(1)], None, forbidden);
        candidates.replace(at(1), CandidateSource::Observed, &[path(2)], None, forbidden);
        candidates.replace(at(1), CandidateSource::Published, &[path(3), path(4), path(5)], None, forbidden);
        let ranked = |candidates: &Candidates| {
            candidates.ranked().iter().map(|i| candidates.list[*i].path).collect::<Vec<_>>()
        };
        assert_eq!(ranked(&candidates), [path(3), path(4), path(2), path(1)]);
        candidates.answered(at(2), &path(1));
        assert_eq!(ranked(&candidates), [path(1), path(3), path(4), path(2)]);
        candidates.forbid(|_| false);
        assert!(ranked(&candidates).contains(&path(5)));
    }
}
