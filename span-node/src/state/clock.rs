//! The clock of the handshakes across restarts.
//!
//! Peers answer no handshake that is not later than the last one (WireGuard paper, section 5.1), so a
//! clock that was set back would silence a restarted node for as long. Within one boot of the machine the
//! clock simply goes on: how much time has passed is known. After a reboot it is not; then the clock
//! starts behind everything the last run can have used, if the wall clock is not there by itself.

use std::path::Path;
use std::time::Duration;

use span_core::time::{Instant, UnixTime};

use super::{StateError, files};

/// How often a running node writes down where its clock is.
pub(super) const INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How far a run can have gone on after writing it down the last time, generously.
const AHEAD: Duration = Duration::from_secs(20 * 60);

/// More than the grain of a handshake's time, 2^24 ns.
const STEP: Duration = Duration::from_millis(20);

const REMEDY: &str =
    "remove it; if the clock was set back meanwhile, peers answer once it is past the old time";

/// Where the clock was at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The boot that `at` belongs to.
    pub(super) boot: String,
    pub(super) at: Instant,
    /// What the clock of the handshakes said at `at`.
    pub(super) time: UnixTime,
    /// It went no further.
    pub(super) closed: bool,
}

/// What the clock should begin at, given where it was before.
pub(super) fn start(before: Option<&Mark>, boot: &str, now: Instant, wall: UnixTime) -> UnixTime {
    let Some(before) = before else { return wall };
    let reached = if before.boot == boot && !boot.is_empty() {
        before.time + now.since(before.at)
    } else if before.closed {
        before.time
    } else {
        before.time + AHEAD
    };
    wall.max(reached + STEP)
}

/// What an earlier run wrote down.
pub(super) fn load(path: &Path) -> Result<Option<Mark>, StateError> {
    let Some(text) = files::read(path)? else { return Ok(None) };
    let damaged =
        |what: &str| StateError::Damaged { path: path.to_owned(), what: what.to_owned(), remedy: REMEDY };
    Mark::from_text(&text).map(Some).map_err(damaged)
}

impl Mark {
    /// The mark of the same clock at a later moment.
    pub(super) fn moved_to(&self, now: Instant, closed: bool) -> Self {
        Mark { boot: self.boot.clone(), at: now, time: self.time + now.since(self.at), closed }
    }

    pub(super) fn to_text(&self) -> String {
        format!(
            "boot: {}\nbootNanoseconds: {}\nunixNanoseconds: {}\nclosed: {}\n",
            self.boot,
            self.at.as_nanos(),
            self.time.as_duration().as_nanos(),
            self.closed
        )
    }

    fn from_text(text: &str) -> Result<Self, &'static str> {
        let field = |name| files::field(text, name);
        let number = |name| field(name).and_then(|digits| digits.parse::<u64>().ok());
        Ok(Mark {
            boot: field("boot").ok_or("it has no boot")?.to_owned(),
            at: Instant::from_nanos(number("bootNanoseconds").ok_or("its bootNanoseconds is no number")?),
            time: UnixTime::from_duration(Duration::from_nanos(
                number("unixNanoseconds").ok_or("its unixNanoseconds is no number")?,
            )),
            closed: field("closed")
                .and_then(|word| word.parse().ok())
                .ok_or("its closed is neither true nor false")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use span_core::time::Tai64N;

    fn unix(secs: u64) -> UnixTime {
        UnixTime::from_duration(Duration::from_secs(secs))
    }

    fn mark(closed: bool) -> Mark {
        Mark { boot: "a".into(), at: Instant::from_secs(100), time: unix(1000), closed }
    }

    #[test]
    fn a_right_clock_is_taken_as_it_is() {
        let now = Instant::from_secs(160);
        assert_eq!(start(None, "a", now, unix(5)), unix(5));
        assert_eq!(start(Some(&mark(false)), "a", now, unix(1061)), unix(1061));
        assert_eq!(start(Some(&mark(true)), "b", now, unix(1001)), unix(1001));
        assert_eq!(start(Some(&mark(false)), "b", now, unix(9000)), unix(9000));
    }

    #[test]
    fn a_clock_set_back_is_not() {
        let now = Instant::from_secs(160);
        assert_eq!(start(Some(&mark(false)), "a", now, unix(5)), unix(1060) + STEP);
        assert_eq!(start(Some(&mark(true)), "b", now, unix(5)), unix(1000) + STEP);
        assert_eq!(start(Some(&mark(false)), "b", now, unix(5)), unix(1000) + AHEAD + STEP);
        // Where boots have no name, no two are the same.
        let nameless = Mark { boot: String::new(), ..mark(false) };
        assert_eq!(start(Some(&nameless), "", now, unix(5)), unix(1000) + AHEAD + STEP);
    }

    #[test]
    fn marks_round_trip_and_damage_is_found() {
        let text = mark(true).to_text();
        assert_eq!(Mark::from_text(&text), Ok(mark(true)));
        for (line, _) in text.lines().enumerate() {
            let without: String =
                text.lines().enumerate().filter(|(n, _)| *n != line).map(|(_, l)| format!("{l}\n")).collect();
            assert!(Mark::from_text(&without).is_err(), "{without}");
        }
        assert!(Mark::from_text("").is_err());
    }

    proptest! {
        /// Runs, crashes, reboots and a wall clock that says anything: handshakes only get later.
        #[test]
        fn handshakes_never_go_back(runs in prop::collection::vec(
            (0u64..2_000_000, any::<bool>(), any::<bool>(), 0u64..3_000_000_000, 0u64..5000), 1..40,
        )) {
            let (mut boot, mut now) = (0, Instant::from_secs(1));
            let mut before: Option<Mark> = None;
            let mut last: Option<Tai64N> = None;
            for (millis, reboot, close, wall, pause) in runs {
                if reboot {
                    boot += 1;
                    now = Instant::from_secs(1);
                }
                let name = boot.to_string();
                let begin = start(before.as_ref(), &name, now, UnixTime::from_duration(Duration::from_millis(wall)));
                prop_assert!(last.is_none_or(|last| last < Tai64N::new(begin)));
                let mut mark = Mark { boot: name, at: now, time: begin, closed: false };
                let end = now + Duration::from_millis(millis);
                while mark.at + INTERVAL <= end {
                    mark = mark.moved_to(mark.at + INTERVAL, false);
                }
                last = Some(Tai64N::new(begin + end.since(now)));
                if close {
                    mark = mark.moved_to(end, true);
                }
                before = Some(mark);
                now = end + Duration::from_millis(pause);
            }
        }
    }
}
