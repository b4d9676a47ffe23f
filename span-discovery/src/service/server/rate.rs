//! How often one client may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use span_core::time::Instant;

use super::limits;

/// A token bucket per client address, kept as the moment it will be full again.
#[derive(Default)]
pub(super) struct RateLimiter {
    full_at: HashMap<IpAddr, Instant>,
}

/// The wait would be longer than the client's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Addresses remembered; beyond that the new ones share a bucket. Each takes some 40 bytes.
const ADDRESSES: usize = 1 << 17;

const TOKEN: Duration = Duration::from_nanos(1_000_000_000 / limits::RATE as u64);

impl RateLimiter {
    /// Takes a token of `client`, and tells how long to wait until it is there. Takes none if that is longer
    /// than `patience`.
    pub(super) fn take(
        &mut self,
        now: Instant,
        client: IpAddr,
        patience: Duration,
    ) -> Result<Duration, TooMany> {
        let crowded = self.full_at.len() >= ADDRESSES && !self.full_at.contains_key(&client);
        let client = if crowded { IpAddr::from([0; 4]) } else { client };
        let full_at = self.full_at.get(&client).copied().unwrap_or(now).max(now) + TOKEN;
        let wait = full_at.since(now).saturating_sub(TOKEN * limits::BURST);
        if wait > patience {
            return Err(TooMany);
        }
        self.full_at.insert(client, full_at);
        Ok(wait)
    }

    /// Forgets the buckets that are full again.
    pub(super) fn collect(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_burst_is_free_then_the_rate_holds() {
        let mut limiter = RateLimiter::default();
        let now = Instant::from_secs(100);
        for _ in 0..60 {
            assert_eq!(limiter.take(now, A, Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(limiter.take(now, A, Duration::ZERO), Err(TooMany));
        assert_eq!(limiter.take(now, A, Duration::from_secs(1)), Ok(TOKEN));
        assert_eq!(limiter.take(now, A, Duration::from_secs(1)), Ok(2 * TOKEN));
        assert_eq!(limiter.take(now, B, Duration::ZERO), Ok(Duration::ZERO), "each address has its own");
        let later = now + Duration::from_secs(1);
        for _ in 0..13 {
            assert_eq!(limiter.take(later, A, Duration::ZERO), Ok(Duration::ZERO));
        }
        assert_eq!(limiter.take(later, A, Duration::ZERO), Err(TooMany));
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let mut limiter = RateLimiter::default();
        let now = Instant::from_secs(100);
        limiter.take(now, A, Duration::ZERO).unwrap();
        limiter.collect(now);
        assert_eq!(limiter.full_at.len(), 1);
        limiter.collect(now + TOKEN);
        assert!(limiter.full_at.is_empty());
    }
}
