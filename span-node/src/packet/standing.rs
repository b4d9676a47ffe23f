//! Queues that stand.
//!
//! Senders fill every queue they are given until something tells them to stop. A queue that takes up a burst is
//! of use; one that never gets empty delays every packet and helps nobody. Nobody can look into the queues on
//! both sides of the tunnel, but whether one was empty is seen for nothing: there was no more to read.
//!
//! What follows from it is CoDel's (RFC 8289): a queue that has not been empty for an [`INTERVAL`] is told to its
//! senders by one packet, marked where the sender understands marks, else dropped; and as long as it stands, by
//! more and more. TCP then fills the way and no more. Whoever does not listen loses a packet now and then.

use std::time::Duration;

use span_core::time::Instant;

/// How long a queue may stand: the round trip of a distant sender, who cannot answer sooner (RFC 8289, section
/// 4.3).
const INTERVAL: Duration = Duration::from_millis(100);
/// A queue that stands again this soon was relieved too little: it goes on nearly where it was.
const MEMORY: Duration = Duration::from_millis(1600);

/// Whether a queue stands, and when its senders are told.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// When something was first in it since it was last empty. However long nothing came before, nothing stood.
    since: Option<Instant>,
    /// The next time to tell, while it stands.
    next: Option<Instant>,
    /// How often it was told since it stands.
    count: u32,
    /// The same of the last time it stood.
    before: u32,
    /// When it last ceased to stand.
    ended: Option<Instant>,
}

impl Standing {
    /// The queue is empty.
    #[inline]
    pub(super) fn empty(&mut self, now: Instant) {
        self.since = None;
        if self.next.take().is_some() {
            self.ended = Some(now);
        }
    }

    /// Something is in the queue: whether one packet is to tell its sender now.
    #[inline]
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        match self.next {
            None if now.since(since) < INTERVAL => false,
            None => {
                let lately = self.ended.is_some_and(|ended| now.since(ended) < MEMORY);
                // How often it took since the time before, as in Linux.
                let again = self.count - self.before;
                self.count = if lately && again > 1 { again } else { 1 };
                self.before = self.count;
                self.next = Some(now + spacing(self.count));
                true
            }
            Some(next) if now < next => false,
            Some(next) => {
                self.count = self.count.saturating_add(1);
                // A thread that slept does not tell all at once what it has missed.
                self.next = Some(next.max(now - INTERVAL) + spacing(self.count));
                true
            }
        }
    }
}

/// CoDel's control law: the rate of losses grows so that the rate of a TCP falls linearly.
fn spacing(count: u32) -> Duration {
    INTERVAL.div_f64(f64::from(count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// When a queue told, looked at every millisecond of `range` and found empty by `empty`.
    fn told(standing: &mut Standing, range: std::ops::Range<u64>, empty: impl Fn(u64) -> bool) -> Vec<u64> {
        range
            .filter(|&millis| {
                if empty(millis) {
                    standing.empty(at(millis));
                }
                standing.tells(at(millis))
            })
            .collect()
    }

    #[test]
    fn a_queue_that_gets_empty_now_and_then_is_left_alone() {
        let mut standing = Standing::default();
        assert!(told(&mut standing, 0..10_000, |millis| millis % 99 == 0).is_empty());
    }

    #[test]
    fn what_comes_after_a_silence_has_not_stood() {
        let mut standing = Standing::default();
        assert!(!standing.tells(at(5_000)));
        standing.empty(at(5_001));
        assert!(!standing.tells(at(9_000)));
        assert!(!standing.tells(at(9_099)));
        assert!(standing.tells(at(9_100)), "it is not empty since");
    }

    #[test]
    fn one_that_stands_is_told_more_and_more_often() {
        let mut standing = Standing::default();
        let told = told(&mut standing, 0..700, |_| false);
        assert_eq!(told, [100, 200, 271, 329, 379, 424, 464, 502, 538, 571, 603, 633, 662, 689]);
    }

    #[test]
    fn one_that_stands_again_soon_goes_on_nearly_where_it_was() {
        let mut standing = Standing::default();
        told(&mut standing, 0..700, |_| false);
        assert_eq!(told(&mut standing, 700..900, |millis| millis == 700), [800, 828, 855, 881]);
        let mut standing = Standing::default();
        told(&mut standing, 0..700, |_| false);
        let late = told(&mut standing, 700..4_300, |millis| millis <= 4_000);
        assert_eq!(late, [4_100, 4_200, 4_271], "as if for the first time");
    }

    #[test]
    fn a_thread_that_slept_does_not_make_up_for_it() {
        let mut standing = Standing::default();
        told(&mut standing, 0..700, |_| false);
        let after: Vec<_> = (5_000..5_010).filter(|&millis| standing.tells(at(millis))).collect();
        assert!(after.len() <= 5, "{after:?}");
    }
}
