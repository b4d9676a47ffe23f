//! Whether a peer is there: what it owes us, and for how long we wait.

use core::time::Duration;

use crate::time::Instant;

/// What is known of a peer: KubeSpan's three words, with WireGuard's handshakes as the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Liveness {
    /// It has not answered yet, and has had less than [`DOWN_AFTER`](super::DOWN_AFTER) to do so.
    #[default]
    Unknown,
    /// Handshakes complete. A peer stays up while a silent path is being replaced.
    Up,
    /// It left every handshake unanswered for [`DOWN_AFTER`](super::DOWN_AFTER). The attempts go on.
    Down,
}

/// The wait for an answer to data.
///
/// WireGuard promises that a peer which receives data sends something back, if only a keepalive after
/// 10 s. Most peers answer much sooner, so silence is questioned after [`BASE`](Silence::BASE), by a
/// handshake, which is answered at once. Where that shows the path to be fine (one-way traffic), the next
/// question waits twice as long, up to the point where the keepalive must have come; a prompt answer to
/// data brings the short wait back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// When data was first sent after the peer was last heard.
    since: Option<Instant>,
    patience: Duration,
}

impl Silence {
    /// First wait. Above any sane round trip with a delayed acknowledgement (0.2 s) and TCP's first two
    /// retransmissions (0.2 + 0.4 s), so that ordinary loss is not silence; low enough that an interactive
    /// session survives the change of path.
    pub(super) const BASE: Duration = Duration::from_millis(1500);
    /// Longest wait: WireGuard's passive keepalive after 10 s must have arrived before.
    pub(super) const MAX: Duration = Duration::from_secs(12);

    pub(super) const fn new() -> Self {
        Silence { since: None, patience: Self::BASE }
    }

    /// Data went out. Whether that began a wait.
    pub(super) fn sent(&mut self, now: Instant) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// Something authenticated came in. Whether that ended a wait.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        match self.since.take() {
            Some(since) => {
                if now.since(since) < Self::BASE {
                    self.patience = Self::BASE;
                }
                true
            }
            None => false,
        }
    }

    /// The peer was there all the time: wait longer before asking again.
    pub(super) fn was_false_alarm(&mut self) {
        self.since = None;
        self.patience = (self.patience * 2).min(Self::MAX);
    }

    /// The path changed, and with it everything learnt about its silence.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// When to ask.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn the_wait_begins_with_the_first_unanswered_packet() {
        let mut silence = Silence::new();
        assert_eq!(silence.deadline(), None);
        assert!(silence.sent(ms(100)));
        assert!(!silence.sent(ms(900)));
        assert_eq!(silence.deadline(), Some(ms(1600)));
        assert!(silence.heard(ms(1000)));
        assert_eq!(silence.deadline(), None);
        assert!(!silence.heard(ms(1100)));
    }

    #[test]
    fn false_alarms_make_patient_and_prompt_answers_impatient() {
        let mut silence = Silence::new();
        for expected in [3, 6, 12, 12] {
            silence.was_false_alarm();
            silence.sent(ms(0));
            assert_eq!(silence.deadline(), Some(Instant::from_secs(expected)));
        }
        // The passive keepalive of a peer with nothing to say is no prompt answer.
        silence.heard(ms(10_000));
        silence.sent(ms(10_000));
        assert_eq!(silence.deadline(), Some(ms(22_000)));
        silence.heard(ms(10_100));
        silence.sent(ms(11_000));
        assert_eq!(silence.deadline(), Some(ms(12_500)));
    }
}
