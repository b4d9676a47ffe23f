//! How fast initiations are made.

use core::time::Duration;

use crate::time::Instant;

/// Spaces out initiations: each costs key agreements, and ten thousand peers that all need one must not
/// keep packets waiting. A burst is free, then they come at a steady rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the account is even again.
    even_at: Instant,
}

impl Pace {
    /// Thirty-two, about three milliseconds of work.
    const BURST: u32 = 32;
    /// Two thousand per second: about a fifth of a core.
    const INTERVAL: Duration = Duration::from_micros(500);

    pub(super) const fn new() -> Self {
        Pace { even_at: Instant::ORIGIN }
    }

    /// When the next one may be made; an instant that has passed means now.
    pub(super) fn next(&self) -> Instant {
        self.even_at - Self::INTERVAL * (Self::BURST - 1)
    }

    /// Makes one if it is time.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let allowed = self.next() <= now;
        if allowed {
            self.even_at = self.even_at.max(now) + Self::INTERVAL;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_steady_rate() {
        let start = Instant::from_secs(100);
        let mut pace = Pace::new();
        let burst = (0..100).filter(|_| pace.take(start)).count();
        assert_eq!(burst, Pace::BURST as usize);
        let next = pace.next();
        assert!(next > start);
        assert!(!pace.take(next - Duration::from_nanos(1)));
        assert!(pace.take(next));
        let mut made = 0;
        for micros in 0..1_000_000 / 50 {
            made += usize::from(pace.take(next + Duration::from_micros(micros * 50)));
        }
        assert!((1999..=2001).contains(&made), "{made} in a second");
    }
}
