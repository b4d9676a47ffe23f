//! The timers of one peer (WireGuard paper, section 6).

use crate::time::Instant;

/// What a peer waits for. The order is the one in which timers that run out together are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// No session came within `REKEY_ATTEMPT_TIME`: give up.
    GiveUp,
    /// No answer to an initiation within `REKEY_TIMEOUT` and jitter, or an initiation that had to keep its
    /// distance from the one before: send the next.
    Initiate,
    /// Data was sent and nothing came back: begin a new handshake.
    NoAnswer,
    /// Data was received and nothing was sent back: send a passive keepalive.
    Keepalive,
    /// The interval of the persistent keepalive has passed without traffic.
    PersistentKeepalive,
    /// A session reaches `REJECT_AFTER_TIME`: its keys are erased.
    SessionExpiry,
    /// Three times `REJECT_AFTER_TIME` without a new session: everything ephemeral is erased.
    Erase,
}

impl Timer {
    /// Every timer, in order.
    pub const ALL: [Timer; Timer::COUNT] = [
        Timer::GiveUp,
        Timer::Initiate,
        Timer::NoAnswer,
        Timer::Keepalive,
        Timer::PersistentKeepalive,
        Timer::SessionExpiry,
        Timer::Erase,
    ];

    const COUNT: usize = Timer::Erase as usize + 1;
}

/// One deadline for each timer.
#[derive(Clone, Debug)]
pub(super) struct Timers([Instant; Timer::COUNT]);

/// A deadline that never comes: timers that are not armed stand here.
const NEVER: Instant = Instant::from_nanos(u64::MAX);

impl Timers {
    pub(super) const fn new() -> Self {
        Timers([NEVER; Timer::COUNT])
    }

    /// Arms `timer`, whether or not it was.
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        self.0[timer as usize] = deadline;
    }

    /// Arms `timer` unless it is armed already.
    pub(super) fn set_if_unarmed(&mut self, timer: Timer, deadline: Instant) {
        if !self.is_armed(timer) {
            self.set(timer, deadline);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.0[timer as usize] = NEVER;
    }

    pub(super) fn is_armed(&self, timer: Timer) -> bool {
        self.0[timer as usize] != NEVER
    }

    /// Whether `timer` has run out; if so it is disarmed.
    pub(super) fn expire(&mut self, timer: Timer, now: Instant) -> bool {
        let expired = self.is_armed(timer) && self.0[timer as usize] <= now;
        if expired {
            self.clear(timer);
        }
        expired
    }

    /// The earliest deadline and what it is for.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        Timer::ALL
            .into_iter()
            .map(|timer| (self.0[timer as usize], timer))
            .min()
            .filter(|(deadline, _)| *deadline != NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_comes_first_and_ties_keep_their_order() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Erase, Instant::from_secs(7));
        timers.set(Timer::Keepalive, Instant::from_secs(5));
        timers.set(Timer::Initiate, Instant::from_secs(5));
        assert_eq!(timers.next(), Some((Instant::from_secs(5), Timer::Initiate)));
        timers.clear(Timer::Initiate);
        assert_eq!(timers.next(), Some((Instant::from_secs(5), Timer::Keepalive)));
    }

    #[test]
    fn a_timer_runs_out_at_its_deadline_and_once() {
        let mut timers = Timers::new();
        timers.set(Timer::NoAnswer, Instant::from_secs(5));
        assert!(!timers.expire(Timer::NoAnswer, Instant::from_nanos(4_999_999_999)));
        assert!(timers.expire(Timer::NoAnswer, Instant::from_secs(5)));
        assert!(!timers.expire(Timer::NoAnswer, Instant::from_secs(6)));
    }

    #[test]
    fn an_armed_timer_is_not_put_off() {
        let mut timers = Timers::new();
        timers.set_if_unarmed(Timer::NoAnswer, Instant::from_secs(5));
        timers.set_if_unarmed(Timer::NoAnswer, Instant::from_secs(9));
        assert_eq!(timers.next(), Some((Instant::from_secs(5), Timer::NoAnswer)));
    }

    #[test]
    fn all_lists_timers_in_order() {
        assert!(Timer::ALL.iter().enumerate().all(|(place, timer)| *timer as usize == place));
    }
}
