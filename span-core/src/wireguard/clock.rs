//! The device's time.

use core::time::Duration;

use crate::time::{Instant, UnixTime};

/// Turns the caller's clock, which should only go forward, into one that does.
///
/// A caller that took its instants in another order than it hands them in sees time stand still for that
/// moment. A clock that truly steps back, which no monotonic clock may, goes on from where it was: every
/// timer keeps running.
pub(crate) struct Clock {
    /// The latest instant, on the device's own scale.
    last: Instant,
    /// How much the device's scale is ahead of the caller's.
    ahead: Duration,
    /// A moment on both scales.
    anchor: (Instant, UnixTime),
}

/// Steps back shorter than this are disorder, longer ones are a clock that was set.
const DISORDER: Duration = Duration::from_secs(1);

impl Clock {
    pub(crate) const fn new(now: Instant, unix: UnixTime) -> Self {
        Clock { last: now, ahead: Duration::ZERO, anchor: (now, unix) }
    }

    /// The caller's `now` on the device's scale, from now on the latest instant.
    #[inline]
    pub(crate) fn observe(&mut self, now: Instant) -> Instant {
        let here = now + self.ahead;
        if here >= self.last {
            self.last = here;
        } else if self.last - here >= DISORDER {
            self.ahead += self.last - here;
        }
        self.last
    }

    /// As [`observe`](Clock::observe), for those who only look.
    pub(crate) fn at(&self, now: Instant) -> Instant {
        self.last.max(now + self.ahead)
    }

    /// The latest instant.
    pub(crate) const fn last(&self) -> Instant {
        self.last
    }

    /// An instant of the device on the caller's scale.
    pub(crate) fn to_caller(&self, instant: Instant) -> Instant {
        instant - self.ahead
    }

    pub(crate) fn unix(&self, now: Instant) -> UnixTime {
        self.anchor.1 + (now - self.anchor.0)
    }

    pub(crate) fn advance_unix(&mut self, now: Instant, unix: UnixTime) {
        if unix > self.unix(now) {
            self.anchor = (now, unix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn unix(secs: u64) -> UnixTime {
        UnixTime::from_duration(Duration::from_secs(secs))
    }

    #[test]
    fn a_clock_that_steps_back_goes_on_from_where_it_was() {
        let mut clock = Clock::new(secs(1000), unix(0));
        assert_eq!(clock.observe(secs(1010)), secs(1010));
        assert_eq!(clock.observe(secs(10)), secs(1010));
        assert_eq!(clock.observe(secs(15)), secs(1015));
        assert_eq!(clock.to_caller(secs(1020)), secs(20));
    }

    #[test]
    fn instants_slightly_out_of_order_do_not_add_up() {
        let mut clock = Clock::new(secs(1), unix(0));
        for second in 2..1000 {
            clock.observe(secs(second));
            clock.observe(secs(second) - Duration::from_millis(900));
        }
        assert_eq!(clock.observe(secs(1000)), secs(1000));
    }

    #[test]
    fn the_wall_clock_is_only_ever_set_forward() {
        let mut clock = Clock::new(secs(5), unix(100));
        assert_eq!(clock.unix(secs(15)), unix(110));
        clock.advance_unix(secs(15), unix(60));
        assert_eq!(clock.unix(secs(15)), unix(110));
        clock.advance_unix(secs(15), unix(5000));
        assert_eq!(clock.unix(secs(16)), unix(5001));
    }
}
