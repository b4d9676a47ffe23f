//! The clocks and the randomness of the machine: the one place that reads them for the pure crates.
//!
//! A node reads time through a [`Clock`], which is the machine's unless an embedder
//! [brings its own](crate::node::Builder::clock).

use rustix::time::{ClockId, Timespec, clock_gettime};
use span_core::time::{Instant, UnixTime};
use std::time::Duration;

/// What a node reads the time from.
pub trait Clock: Send + Sync {
    /// Now, on a clock that never goes back. Best one that goes on while the machine is suspended.
    fn now(&self) -> Instant;

    /// Now, on the wall clock.
    fn unix(&self) -> UnixTime;
}

/// The machine's own clocks: `CLOCK_BOOTTIME` and `CLOCK_REALTIME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        now()
    }

    fn unix(&self) -> UnixTime {
        unix()
    }
}

/// Now, on the clock that goes on while the machine is suspended.
pub fn now() -> Instant {
    Instant::from_nanos(u64::try_from(since_origin(ClockId::Boottime).as_nanos()).unwrap_or(u64::MAX))
}

/// Now, on the wall clock.
pub fn unix() -> UnixTime {
    UnixTime::from_duration(since_origin(ClockId::Realtime))
}

/// `N` bytes of the system's randomness.
///
/// # Errors
/// When the kernel has none to give, which no supported Linux does once it has booted.
pub fn entropy<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// Time since the clock's origin; zero on a wall clock set before 1970.
fn since_origin(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    match (u64::try_from(tv_sec), u32::try_from(tv_nsec)) {
        (Ok(secs), Ok(nanos)) => Duration::new(secs, nanos),
        _ => Duration::ZERO,
    }
}
