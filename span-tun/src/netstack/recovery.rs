//! Finding out early what was lost.
//!
//! smoltcp repairs a loss after three duplicate acknowledgements, or after its timer. Between super-packets both
//! are rare: a peer that merges what it receives acknowledges a burst once, not packet by packet, and every
//! window update makes smoltcp count from the beginning. So what the acknowledgements of a flow say is followed
//! here, as RFC 6675 (selective acknowledgements), RFC 6582 (partial ones) and RFC 8985 (repairs that were lost
//! as well, and the end of a burst, after which nothing comes) have it, and smoltcp is told in the one way it
//! understands: three duplicates.

use std::time::Duration;

use span_core::time::Instant;

use super::frame::{Segment, is_after};
use crate::offload::packet::Tcp;

/// Duplicate acknowledgements, or segments beyond a hole, that make a loss of a hole (RFC 5681, RFC 6675).
const DUPLICATES: u8 = 3;
/// The shortest silence that is asked about.
const LEAST_SILENCE: Duration = Duration::from_millis(10);
/// How long a peer may keep back the acknowledgement of one or two segments: Linux's time.
const DELAYED: Duration = Duration::from_millis(40);

/// What an acknowledgement is worth to smoltcp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What it says.
    AsIs,
    /// What follows it is lost: smoltcp is to send it again.
    Loss,
    /// Nothing. It says once more that the FIN is missing, and smoltcp, told three times, would stop its timer
    /// and look for data to send again.
    Nothing,
}

/// What is known of the way out of one connection.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Everything before it is acknowledged.
    acknowledged: u32,
    /// Where what was sent ends.
    sent: u32,
    /// A FIN is the last of it.
    finished: bool,
    /// Whether anything was sent.
    begun: bool,
    duplicates: u8,
    /// Losses before this are being repaired.
    repairing: Option<u32>,
    /// When the last repair was asked for.
    repaired: Instant,
    /// A repair was asked for and has not been seen yet.
    expected: bool,
    /// The timer has struck, and smoltcp sends everything before this again.
    resending: Option<u32>,
    /// What ends here was sent then, and never again.
    timed: Option<(u32, Instant)>,
    round_trip: Option<Duration>,
    /// When something was last sent or newly acknowledged.
    moved: Instant,
    /// The silence since then was asked about.
    probed: bool,
}

impl Recovery {
    /// A segment leaves.
    pub(super) fn sent(&mut self, now: Instant, segment: &Segment) {
        let length = segment.length();
        let end = segment.sequence.wrapping_add(length);
        // A keepalive is a byte that has been acknowledged long ago.
        if length == 0 || (self.begun && !is_after(end, self.acknowledged)) {
            return;
        }
        self.moved = now;
        if !self.begun {
            self.begun = true;
            self.acknowledged = segment.sequence;
            self.sent = segment.sequence;
        }
        if !is_after(self.sent, segment.sequence) {
            self.timed.get_or_insert((end, now));
        } else {
            // Nobody can tell which of the two will be acknowledged (Karn's algorithm).
            self.timed = None;
            if !std::mem::take(&mut self.expected) {
                self.resending = Some(self.sent);
                self.repairing = None;
                self.duplicates = 0;
            }
        }
        if is_after(end, self.sent) {
            self.sent = end;
        }
        self.finished |= segment.has(Tcp::FIN);
    }

    /// A segment arrived whose acknowledgement says that `beyond` bytes after it have arrived too.
    pub(super) fn received(&mut self, now: Instant, segment: &Segment, beyond: u32, mss: u16) -> Verdict {
        let ends = Tcp::SYN | Tcp::RST;
        if !self.begun || !segment.has(Tcp::ACK) || segment.has(ends) {
            return Verdict::AsIs;
        }
        let number = segment.acknowledgement;
        if is_after(number, self.sent) {
            return Verdict::AsIs;
        }
        if is_after(number, self.acknowledged) {
            return self.advance(now, number);
        }
        let outstanding = is_after(self.sent, self.acknowledged);
        if number != self.acknowledged || segment.length() != 0 || !outstanding {
            return Verdict::AsIs;
        }
        if self.misses_fin() {
            return Verdict::Nothing;
        }
        if self.resending.is_some() {
            return Verdict::AsIs;
        }
        self.duplicates = self.duplicates.saturating_add(1);
        let lost = self.duplicates >= DUPLICATES || beyond >= u32::from(DUPLICATES) * u32::from(mss);
        match self.repairing {
            None if lost => self.repairing = Some(self.sent),
            None => return Verdict::AsIs,
            // What was sent before the repair has come and gone by now: this speaks of what came after.
            Some(_) if now.since(self.repaired) >= self.round_trip() * 7 / 8 => {}
            Some(_) => return Verdict::AsIs,
        }
        self.repair(now)
    }

    fn advance(&mut self, now: Instant, number: u32) -> Verdict {
        self.acknowledged = number;
        self.duplicates = 0;
        self.moved = now;
        self.probed = false;
        if let Some((_, since)) = self.timed.take_if(|(end, _)| !is_after(*end, number)) {
            let sample = now.since(since);
            self.round_trip = Some(match self.round_trip {
                Some(round_trip) => (round_trip * 7 + sample) / 8,
                None => sample,
            });
        }
        self.resending = self.resending.filter(|&end| is_after(end, number));
        self.repairing = self.repairing.filter(|&end| is_after(end, number));
        // Partial: it uncovers the next hole.
        if self.repairing.is_none() || self.misses_fin() {
            return Verdict::AsIs;
        }
        self.repair(now)
    }

    /// Everything before it is acknowledged.
    pub(super) fn acknowledged(&self) -> u32 {
        self.acknowledged
    }

    /// When the peer was silent for so long that an acknowledgement, or the end of what was sent, must be lost.
    ///
    /// Also while smoltcp sends again what its timer took for lost: that timer waits twice as long each time, also
    /// where acknowledgements have come meanwhile, and a second repair would take seconds.
    pub(super) fn probe_at(&self, mss: u16) -> Option<Instant> {
        let outstanding = self.sent.wrapping_sub(self.acknowledged);
        if outstanding == 0 || self.probed || self.misses_fin() {
            return None;
        }
        let few = outstanding <= 2 * u32::from(mss);
        let silence = (self.round_trip? * 2).max(LEAST_SILENCE) + if few { DELAYED } else { Duration::ZERO };
        Some(self.moved + silence)
    }

    /// Asks about the silence: what is first is sent again, once.
    pub(super) fn probe(&mut self, now: Instant) {
        self.probed = true;
        self.repairing = Some(self.sent);
        self.repair(now);
    }

    fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or(DELAYED)
    }

    /// Whether all but a FIN is acknowledged.
    fn misses_fin(&self) -> bool {
        self.finished && self.sent.wrapping_sub(self.acknowledged) == 1
    }

    fn repair(&mut self, now: Instant) -> Verdict {
        self.repaired = now;
        self.expected = true;
        Verdict::Loss
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{AsIs, Loss, Nothing};
    use super::*;

    const MSS: u16 = 1000;

    fn data(sequence: u32, payload: usize) -> Segment {
        Segment {
            source_port: 1,
            destination_port: 2,
            sequence,
            acknowledgement: 0,
            flags: Tcp::ACK,
            header: 20,
            payload,
        }
    }

    fn ack(acknowledgement: u32) -> Segment {
        Segment { acknowledgement, ..data(0, 0) }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Ten segments are out, the first at sequence number `first`.
    fn under_way(first: u32) -> Recovery {
        let mut recovery = Recovery::default();
        for nth in 0..10 {
            recovery.sent(at(0), &data(first.wrapping_add(nth * 1000), 1000));
        }
        recovery
    }

    #[test]
    fn three_duplicates_are_a_loss_and_partial_acknowledgements_the_next() {
        for first in [0, u32::MAX - 4999] {
            let mut flow = under_way(first);
            let number = |n: u32| first.wrapping_add(n);
            assert_eq!(flow.received(at(10), &ack(number(1000)), 0, MSS), AsIs);
            for _ in 0..2 {
                assert_eq!(flow.received(at(10), &ack(number(1000)), 0, MSS), AsIs);
            }
            assert_eq!(flow.received(at(10), &ack(number(1000)), 0, MSS), Loss);
            assert_eq!(flow.received(at(11), &ack(number(1000)), 0, MSS), AsIs, "told once");
            flow.sent(at(11), &data(number(1000), 1000));
            assert_eq!(flow.received(at(20), &ack(number(5000)), 0, MSS), Loss, "the next hole");
            flow.sent(at(21), &data(number(5000), 1000));
            assert_eq!(flow.received(at(30), &ack(number(10_000)), 0, MSS), AsIs, "all is well");
        }
    }

    #[test]
    fn one_acknowledgement_is_enough_if_it_says_what_else_arrived() {
        let mut flow = under_way(0);
        assert_eq!(flow.received(at(10), &ack(0), 2999, MSS), AsIs);
        assert_eq!(flow.received(at(10), &ack(0), 3000, MSS), Loss);
    }

    #[test]
    fn a_repair_that_was_lost_is_repeated_after_a_round_trip() {
        let mut flow = under_way(0);
        assert_eq!(flow.received(at(10), &ack(1000), 0, MSS), AsIs);
        assert_eq!(flow.received(at(10), &ack(1000), 5000, MSS), Loss);
        flow.sent(at(10), &data(1000, 1000));
        assert_eq!(flow.received(at(15), &ack(1000), 5000, MSS), AsIs);
        assert_eq!(flow.received(at(20), &ack(1000), 5000, MSS), Loss);
    }

    #[test]
    fn after_a_timeout_duplicates_say_nothing_new() {
        let mut flow = under_way(0);
        flow.sent(at(300), &data(0, 1000));
        for _ in 0..5 {
            assert_eq!(flow.received(at(310), &ack(0), 9000, MSS), AsIs);
        }
        assert_eq!(flow.received(at(320), &ack(10_000), 0, MSS), AsIs);
        flow.sent(at(330), &data(10_000, 1000));
        assert_eq!(flow.received(at(340), &ack(10_000), 3000, MSS), Loss);
    }

    #[test]
    fn a_timer_that_has_struck_is_not_the_only_one_to_ask() {
        let mut flow = under_way(0);
        assert_eq!(flow.received(at(10), &ack(1000), 0, MSS), AsIs);
        flow.sent(at(210), &data(1000, 1000));
        assert_eq!(flow.probe_at(MSS), Some(at(230)), "smoltcp's own waits longer");
        assert_eq!(flow.received(at(220), &ack(2000), 0, MSS), AsIs);
        assert_eq!(flow.probe_at(MSS), Some(at(240)));
        flow.probe(at(240));
        flow.sent(at(240), &data(2000, 1000));
        assert_eq!(flow.probe_at(MSS), None, "only where something moved");
        assert_eq!(flow.received(at(250), &ack(3000), 0, MSS), Loss);
        flow.sent(at(250), &data(3000, 1000));
        assert_eq!(flow.probe_at(MSS), Some(at(270)));
    }

    #[test]
    fn a_silence_is_asked_about_once() {
        let mut flow = under_way(0);
        assert_eq!(flow.probe_at(MSS), None, "how long is a silence?");
        assert_eq!(flow.received(at(30), &ack(1000), 0, MSS), AsIs);
        assert_eq!(flow.probe_at(MSS), Some(at(90)));
        flow.probe(at(90));
        flow.sent(at(90), &data(1000, 1000));
        assert_eq!(flow.probe_at(MSS), None);
        assert_eq!(flow.received(at(120), &ack(8000), 0, MSS), Loss, "the end was lost");
        flow.sent(at(120), &data(8000, 1000));
        assert_eq!(flow.probe_at(MSS), Some(at(220)), "the last two may be acknowledged late");
        assert_eq!(flow.received(at(150), &ack(10_000), 0, MSS), AsIs);
        assert_eq!(flow.probe_at(MSS), None);
    }

    #[test]
    fn a_fin_is_left_to_the_timer() {
        let mut flow = under_way(0);
        flow.sent(at(1), &Segment { flags: Tcp::FIN | Tcp::ACK, ..data(10_000, 0) });
        assert_eq!(flow.received(at(10), &ack(5000), 3000, MSS), AsIs);
        assert_eq!(flow.received(at(10), &ack(5000), 3000, MSS), Loss);
        assert_eq!(flow.received(at(12), &ack(10_000), 0, MSS), AsIs, "the FIN is no hole");
        assert_eq!(flow.received(at(13), &ack(10_000), 0, MSS), Nothing);
        assert_eq!(flow.received(at(14), &ack(10_001), 0, MSS), AsIs);
    }

    #[test]
    fn what_acknowledges_nothing_of_ours_is_ignored() {
        let mut flow = under_way(0);
        for _ in 0..5 {
            assert_eq!(flow.received(at(10), &ack(20_000), 0, MSS), AsIs);
            assert_eq!(flow.received(at(10), &ack(u32::MAX), 0, MSS), AsIs);
            let reset = Segment { flags: Tcp::RST | Tcp::ACK, ..ack(0) };
            assert_eq!(flow.received(at(10), &reset, 0, MSS), AsIs);
            let payload = Segment { payload: 5, ..ack(0) };
            assert_eq!(flow.received(at(10), &payload, 0, MSS), AsIs);
        }
        assert_eq!(Recovery::default().received(at(1), &ack(0), 9000, MSS), AsIs);
    }
}
