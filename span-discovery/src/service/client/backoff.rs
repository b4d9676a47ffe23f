//! How long to wait before the next attempt.

use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;

/// Longest wait before jitter.
const CAP: Duration = Duration::from_secs(30);

const FIRST: Duration = Duration::from_millis(500);

/// Between a change of the node's own addresses and the next attempt, before jitter.
const SETTLED: Duration = Duration::from_secs(1);

/// Grows by half with every failure, up to a cap, half more or less by chance so that the nodes of a cluster
/// do not come back in step. After a success the first wait is short: most outages are a restart.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Waits after one more failure. If the node's addresses change meanwhile, then perhaps so did what stood in
    /// the way: an attempt follows once they have settled. `chance` is in 0..1.
    pub(super) async fn wait(&mut self, chance: f64, moved: impl Future<Output = ()>) {
        let hurried = async {
            moved.await;
            sleep(SETTLED.mul_f64(1.0 + chance)).await;
        };
        tokio::select! {
            () = sleep(self.next(chance)) => {}
            () = hurried => {}
        }
    }

    /// The wait after one more failure; `chance` is in 0..1.
    fn next(&mut self, chance: f64) -> Duration {
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
    use std::future::{pending, ready};

    use tokio::time::Instant;

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

    #[tokio::test(start_paused = true)]
    async fn a_move_ends_a_long_wait_and_lengthens_no_short_one() {
        async fn waited(failures: u32, moved: impl Future<Output = ()>) -> Duration {
            let start = Instant::now();
            Backoff { failures }.wait(0.5, moved).await;
            start.elapsed()
        }
        assert_eq!(waited(100, pending()).await, Duration::from_secs(30));
        assert_eq!(waited(100, sleep(Duration::from_secs(7))).await, Duration::from_millis(8500));
        assert_eq!(waited(1, ready(())).await, Duration::from_millis(500));
    }
}
