//! The window of counters already received (WireGuard paper, section 5.4.6; RFC 6479).

use alloc::boxed::Box;

use super::constants::REJECT_AFTER_MESSAGES;

/// How far behind the newest counter a packet may arrive.
const WINDOW: u64 = 8192;
const WORDS: usize = (WINDOW / 64) as usize;
/// Counters below this fit into the struct itself.
const SMALL: u64 = 128;

/// Which of the last 8192 counters have been received.
///
/// A session that only carries keepalives never counts beyond a few: the kilobyte of the whole window is
/// allocated once, by the first counter that needs it.
pub(super) struct Replay {
    /// One more than the highest counter received.
    next: u64,
    /// Counters 0 to 127, until there is a window.
    small: [u64; (SMALL / 64) as usize],
    /// A ring of bits, the counter modulo 8192 being the place. Bits of counters from `next` on are those
    /// of counters one window older.
    window: Option<Box<[u64; WORDS]>>,
}

impl Replay {
    pub(super) const fn new() -> Self {
        Replay { next: 0, small: [0; 2], window: None }
    }

    /// Whether a packet with this counter is worth decrypting: it is neither seen nor too old.
    #[inline]
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES {
            return false;
        }
        if counter >= self.next {
            return true;
        }
        match &self.window {
            Some(window) => self.next - counter <= WINDOW && window[word(counter)] & bit(counter) == 0,
            // Without a window, `next` and so the counter are below 128.
            None => self.small[(counter / 64) as usize & 1] & bit(counter) == 0,
        }
    }

    /// Notes a counter whose packet was authenticated. False if it was not fresh, which is asked again
    /// here because only now it counts.
    #[inline]
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if !self.is_fresh(counter) {
            return false;
        }
        if self.window.is_none() {
            if counter < SMALL {
                self.small[(counter / 64) as usize & 1] |= bit(counter);
                self.next = self.next.max(counter + 1);
                return true;
            }
            self.grow();
        }
        if let Some(window) = &mut self.window {
            if counter >= self.next {
                forget(window, self.next, counter);
                self.next = counter + 1;
            }
            window[word(counter)] |= bit(counter);
        }
        true
    }

    #[cold]
    fn grow(&mut self) {
        let mut window = Box::new([0; WORDS]);
        window[..2].copy_from_slice(&self.small);
        self.window = Some(window);
    }
}

/// Clears the bits of the counters from `from` up to and including `to`: they stood for counters that the
/// window has now passed.
#[inline]
fn forget(window: &mut [u64; WORDS], from: u64, to: u64) {
    if to - from >= WINDOW {
        window.fill(0);
        return;
    }
    let mut counter = from;
    while counter <= to {
        let last = to.min(counter | 63);
        let span = u64::MAX >> (63 - (last - counter)) << (counter % 64);
        window[word(counter)] &= !span;
        counter = last + 1;
    }
}

#[inline]
const fn word(counter: u64) -> usize {
    (counter / 64) as usize % WORDS
}

#[inline]
const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn check(cases: &[(u64, bool)]) {
        let mut replay = Replay::new();
        for (counter, expected) in cases {
            assert_eq!(replay.accept(*counter), *expected, "counter {counter}");
        }
    }

    #[test]
    fn fixed_cases() {
        const T: u64 = WINDOW;
        check(&[
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (T, true),
            (T - 1, true),
            (T - 1, false),
            (T - 2, true),
            (2, true),
            (2, false),
            (T + 16, true),
            (3, false),
            (T + 16, false),
            (T * 4, true),
            (T * 4 - (T - 1), true),
            (10, false),
            (T * 4 - T, false),
            (T * 4 - (T + 1), false),
            (T * 4 - (T - 2), true),
            (T * 4 + 1 - T, false),
            (0, false),
            (REJECT_AFTER_MESSAGES, false),
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES, false),
            (REJECT_AFTER_MESSAGES - 1, false),
            (REJECT_AFTER_MESSAGES - 2, true),
            (REJECT_AFTER_MESSAGES + 1, false),
            (REJECT_AFTER_MESSAGES + 2, false),
            (u64::MAX, false),
            (REJECT_AFTER_MESSAGES - 3, true),
            (0, false),
        ]);
    }

    #[test]
    fn sweeps_around_the_window() {
        // Upwards, downwards, and downwards with one end beyond the window, as in the kernel's selftest.
        let mut replay = Replay::new();
        assert!((1..WINDOW).all(|counter| replay.accept(counter)));
        assert!(replay.accept(0), "the window's last place");
        assert!((0..WINDOW).all(|counter| !replay.accept(counter)));

        let mut replay = Replay::new();
        assert!((0..WINDOW).rev().all(|counter| replay.accept(counter)));

        let mut replay = Replay::new();
        assert!((1..=WINDOW).rev().all(|counter| replay.accept(counter)));
        assert!(!replay.accept(0), "one beyond the window");
        assert!(replay.accept(WINDOW + 1) && !replay.accept(1));

        let mut replay = Replay::new();
        assert!(replay.accept(WINDOW - 1) && replay.accept(0) && !replay.accept(0));
        let mut replay = Replay::new();
        assert!(replay.accept(WINDOW) && !replay.accept(0) && replay.accept(1));
    }

    #[test]
    fn equals_a_set_of_counters() {
        let mut random = 1_u64;
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..20 {
            let mut replay = Replay::new();
            let mut seen = BTreeSet::new();
            let mut highest = 0;
            for step in 0..20_000 {
                let counter = match draw(16) {
                    0 => highest + draw(3 * WINDOW),
                    1..=4 => highest + draw(70),
                    5..=7 => (highest + 1).saturating_sub(WINDOW - 2 + draw(4)),
                    _ => highest.saturating_sub(draw(WINDOW + 100)),
                };
                // Small steps first, so that the window is also built from the small one.
                let counter = if step < 150 { counter % (100 + round * 3) } else { counter };
                let in_window = highest < WINDOW || counter > highest - WINDOW;
                let expected = in_window && seen.insert(counter);
                assert_eq!(replay.is_fresh(counter), expected, "counter {counter} after {highest}");
                assert_eq!(replay.accept(counter), expected, "counter {counter} after {highest}");
                highest = highest.max(counter);
            }
        }
    }

    #[test]
    fn an_idle_session_needs_no_window() {
        let mut replay = Replay::new();
        assert!((0..SMALL).all(|counter| replay.accept(counter)));
        assert!(replay.window.is_none());
        assert!(replay.accept(SMALL) && replay.window.is_some());
        assert!((0..=SMALL).all(|counter| !replay.accept(counter)));
    }
}
