//! The deadline a thread that waits for its descriptors also wakes up at.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use span_core::time::Instant;

/// A timer that is a descriptor.
///
/// The timeout of a poll is a timer too, but one that the kernel starts and takes back with every single poll,
/// before every packet that comes alone. Deadlines mostly move away while packets flow: this timer is left where
/// it is then, and goes off once for nothing.
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it goes off, unless it has.
    set: Option<Instant>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(super) fn new() -> io::Result<Self> {
        // Deadlines count the time a machine sleeps.
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Alarm { timer: timerfd_create(TimerfdClockId::Boottime, flags)?, set: None })
    }

    /// What to wait for, edge-triggered: nobody reads it.
    pub(super) fn descriptor(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// It went off.
    pub(super) fn went_off(&mut self) {
        self.set = None;
    }

    /// Lets it go off at `deadline` or sooner.
    pub(super) fn set(&mut self, now: Instant, deadline: Instant) -> io::Result<()> {
        // One that should have gone off, and has not, went by a clock that has jumped since.
        if self.set.is_some_and(|set| now < set && set <= deadline) {
            return Ok(());
        }
        // A duration of zero would take the alarm back.
        let left = deadline.since(now).max(Duration::from_nanos(1));
        let value = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.set = Some(deadline);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    use super::*;

    /// Whether it goes off within the time given.
    fn goes_off(poll: &mut Poll, within: Duration) -> bool {
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(within)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn it_goes_off_at_the_earliest_deadline_and_can_be_set_again() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new().unwrap();
        poll.registry().register(&mut SourceFd(&alarm.descriptor()), Token(0), Interest::READABLE).unwrap();
        assert!(!goes_off(&mut poll, Duration::ZERO));

        let now = Instant::from_nanos(7);
        let minute = Duration::from_secs(60);
        alarm.set(now, now + minute).unwrap();
        assert!(!goes_off(&mut poll, Duration::from_millis(5)));
        alarm.set(now, now + Duration::from_millis(1)).unwrap();
        // Later deadlines leave it where it is.
        alarm.set(now, now + minute).unwrap();
        assert!(goes_off(&mut poll, minute));
        alarm.went_off();
        // The past is now.
        alarm.set(now + minute, now).unwrap();
        assert!(goes_off(&mut poll, minute));
    }
}
