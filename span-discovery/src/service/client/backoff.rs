//! How long to wait before the next attempt.

use std::time::Duration;

/// Longest wait before jitter.
const CAP: Duration = Duration::from_secs(30);

const FIRST: Duration = Duration::from_millis(500);

/// Grows by half with every failure, up to a cap, half more or less by chance so that the nodes of a cluster
/// do not come back in step. After a success the first wait is short: most outages are a restart.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `chance` is in 0..1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 {
            return FIRST.mul_f64(chance);
        }
        let grown = FIRST.as_secs_f64() * 1.5_f64.powi(failures.min(32) as i32 - 1);
        CAP.min(Duration::from_secs_f64(grown)).mul_f64(0.5 + chance)
    }

    /// Everything worked.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_start_over() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..40).map(|_| backoff.next(0.5).as_millis()).collect();
        assert_eq!(waits[..5], [250, 500, 750, 1125, 1687]);
        assert_eq!(waits[39], 30_000);
        assert!(waits.is_sorted());
        assert!(backoff.next(0.999) < Duration::from_secs(45));
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.0), Duration::from_millis(250));
    }
}
