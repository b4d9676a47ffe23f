//! How many handshake messages one source may send while we are under load.

use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::time::Duration;

use crate::path::Path;
use crate::time::Instant;

/// What one message costs: twenty in a second.
const COST: Duration = Duration::from_millis(50);
/// The most a source can save up: five messages.
const BURST: Duration = Duration::from_millis(250);
/// Sources remembered. One that was quiet for a second is as good as new and is forgotten.
const MAX_SOURCES: usize = 8192;
const MEMORY: Duration = Duration::from_secs(1);

/// A token bucket for every source.
pub(super) struct RateLimiter {
    sources: BTreeMap<Source, Bucket>,
    swept: Instant,
}

/// An IPv4 address, or the 64-bit network that one subscriber of IPv6 has at least.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    V4(u32),
    V6(u64),
    Custom(u64),
}

struct Bucket {
    credit: Duration,
    filled: Instant,
}

impl RateLimiter {
    pub(super) const fn new() -> Self {
        RateLimiter { sources: BTreeMap::new(), swept: Instant::ORIGIN }
    }

    /// Whether the source of a message at `path` may have it worked on now.
    pub(super) fn allows(&mut self, now: Instant, path: &Path) -> bool {
        let source = Source::of(path);
        if let Some(bucket) = self.sources.get_mut(&source) {
            bucket.credit = (bucket.credit + now.since(bucket.filled)).min(BURST);
            bucket.filled = now;
            let allowed = bucket.credit >= COST;
            if allowed {
                bucket.credit -= COST;
            }
            return allowed;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sweep(now) {
            return false;
        }
        self.sources.insert(source, Bucket { credit: BURST - COST, filled: now });
        true
    }

    /// Forgets sources that have been quiet, at most once in a second. False if none could be forgotten.
    fn sweep(&mut self, now: Instant) -> bool {
        if now.since(self.swept) < MEMORY {
            return false;
        }
        self.swept = now;
        self.sources.retain(|_, bucket| now.since(bucket.filled) < MEMORY);
        self.sources.len() < MAX_SOURCES
    }

    /// Forgets every source, when there is no load any more.
    pub(super) fn clear(&mut self) {
        self.sources.clear();
    }
}

impl Source {
    fn of(path: &Path) -> Self {
        match path {
            Path::Udp(udp) => match udp.remote.ip() {
                IpAddr::V4(ip) => Source::V4(u32::from(ip)),
                IpAddr::V6(ip) => Source::V6((u128::from(ip) >> 64) as u64),
            },
            Path::Custom(tag) => Source::Custom(*tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn path(text: &str) -> Path {
        Path::udp(text.parse().unwrap())
    }

    fn allowed(limiter: &mut RateLimiter, millis: u64, at: &Path, messages: usize) -> usize {
        (0..messages).filter(|_| limiter.allows(Instant::from_millis(millis), at)).count()
    }

    #[test]
    fn five_at_once_and_twenty_in_a_second() {
        let (mut limiter, home) = (RateLimiter::new(), path("192.0.2.1:1"));
        assert_eq!(allowed(&mut limiter, 5000, &home, 20), 5);
        assert_eq!(allowed(&mut limiter, 5049, &home, 3), 0);
        assert_eq!(allowed(&mut limiter, 5050, &home, 3), 1);
        assert_eq!(allowed(&mut limiter, 5150, &home, 9), 2);
        let second: usize = (0..1000).map(|millis| allowed(&mut limiter, 5150 + millis, &home, 1)).sum();
        assert_eq!(second, 19, "twenty less the one just spent");
        assert_eq!(allowed(&mut limiter, 60_000, &home, 20), 5, "no more than a burst is saved up");
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_64_bit_network() {
        let mut limiter = RateLimiter::new();
        assert_eq!(allowed(&mut limiter, 0, &path("192.0.2.1:1"), 9), 5);
        assert_eq!(allowed(&mut limiter, 0, &path("192.0.2.1:2"), 9), 0, "the port does not matter");
        assert_eq!(allowed(&mut limiter, 0, &path("192.0.2.2:1"), 9), 5);
        assert_eq!(allowed(&mut limiter, 0, &path("[2001:db8:0:1::1]:1"), 9), 5);
        assert_eq!(allowed(&mut limiter, 0, &path("[2001:db8:0:1:ffff::9]:1"), 9), 0);
        assert_eq!(allowed(&mut limiter, 0, &path("[2001:db8:0:2::1]:1"), 9), 5);
        assert_eq!(allowed(&mut limiter, 0, &Path::Custom(1), 9), 5);
        assert_eq!(allowed(&mut limiter, 0, &Path::Custom(1), 9), 0);
    }

    #[test]
    fn the_table_is_bounded_and_recovers() {
        let mut limiter = RateLimiter::new();
        for source in 0..MAX_SOURCES {
            assert!(limiter.allows(Instant::from_secs(9), &Path::Custom(source as u64)));
        }
        let late = path("192.0.2.1:1");
        assert!(!limiter.allows(Instant::from_millis(9_999), &late), "no room for another");
        assert!(limiter.allows(Instant::from_millis(9_999), &Path::Custom(3)), "those known go on");
        assert!(limiter.allows(Instant::from_millis(11_000), &late), "quiet sources make room");
        assert!(limiter.sources.len() < 10, "{}", format!("{}", limiter.sources.len()));
    }
}
