//! One handshake over many paths at once.

use alloc::vec::Vec;
use core::time::Duration;

use rand_core::Rng;

use crate::path::Path;
use crate::time::Instant;
use crate::wireguard::INITIATION_LEN;

/// Why handshakes are being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The peer is new, or has new candidates, and no path is known to work.
    New,
    /// The session is due for renewal; the path is believed to work and is asked first.
    Renewal,
    /// There is no session any more, and something to send.
    Expired,
    /// Data was sent and nothing came back.
    Silence,
    /// The peer begins one handshake after another: what is sent to it does not arrive.
    Unheard,
    /// The peer has other addresses now, and the path in use is no longer among them.
    Moved,
    /// The host's own addresses or routes changed.
    Network,
}

/// Handshakes under way until one is answered: round after round, each a fresh initiation sent to every
/// candidate.
#[derive(Clone, Debug)]
pub(super) struct Race {
    pub(super) cause: Cause,
    pub(super) started: Instant,
    /// The path in use when it began.
    pub(super) from: Option<Path>,
    /// Rounds begun.
    round: u32,
    /// When the current round began.
    launched: Option<Instant>,
    /// An initiation for the next round is wanted.
    wanted: bool,
    next_round: Option<Instant>,
    initiation: [u8; INITIATION_LEN],
    /// What is still to be sent of this round, the next one last.
    shots: Vec<Shot>,
    /// No copy of this initiation was sent yet.
    unsent: bool,
}

/// A copy of an initiation that is due.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Where it goes.
    pub path: Path,
    /// What goes there.
    pub initiation: &'a [u8; INITIATION_LEN],
    /// Whether it is the first copy of this initiation.
    pub first: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shot {
    due: Instant,
    path: Path,
}

impl Race {
    /// Paths tried in one round.
    pub(super) const WIDTH: usize = 32;
    /// Initiations of the first round that leave together, and the pause before the next so many: a full
    /// round is over in 7 ms and never a burst that a small queue would drop.
    const VOLLEY: usize = 4;
    const PAUSE: Duration = Duration::from_millis(1);
    /// Wait after the first round. Longer than most round trips, since a fresh initiation invalidates the
    /// answer to the one before; doubled each time, so that any round trip fits soon.
    const FIRST_WAIT: Duration = Duration::from_millis(500);
    /// Longest wait. A peer that comes back calls by itself; this is for what it cannot know.
    const LAST_WAIT: Duration = Duration::from_secs(30);
    /// How far the shots of later rounds are spread at most. The peer answers only the first copy that
    /// reaches it, over the path it came by; where that path works in one direction only, another one
    /// must arrive first. Random order and a spread above the difference of their latencies see to it.
    const SPREAD: Duration = Duration::from_millis(400);
    /// How long the current path is asked alone when it may be fine: longer than the latency of other
    /// paths is shorter, so that a path does not change without need.
    const HEAD_START_SILENT: Duration = Duration::from_millis(100);
    const HEAD_START_RENEWAL: Duration = Duration::from_secs(1);

    pub(super) fn new(now: Instant, cause: Cause, from: Option<Path>) -> Self {
        Race {
            cause,
            started: now,
            from,
            round: 0,
            launched: None,
            wanted: true,
            next_round: None,
            initiation: [0; INITIATION_LEN],
            shots: Vec::new(),
            unsent: true,
        }
    }

    /// Begins a round with a fresh initiation. `targets` are the paths in the order of rank, `current`
    /// among them if it may be tried.
    pub(super) fn launch(
        &mut self,
        now: Instant,
        initiation: &[u8; INITIATION_LEN],
        targets: Vec<Path>,
        current: Option<&Path>,
        random: &mut impl Rng,
    ) {
        self.initiation = *initiation;
        self.unsent = true;
        self.launched = Some(now);
        self.wanted = false;
        let first_round = self.round == 0;
        self.round = self.round.saturating_add(1);
        let wait = self.wait();
        let head_start = if first_round { self.head_start() } else { Duration::ZERO };
        self.shots = if first_round {
            volleys(now, head_start, targets, current)
        } else {
            spread(now, Self::SPREAD.min(wait / 2), targets, random)
        };
        self.shots.reverse();
        self.next_round = Some(now + head_start + wait + jitter(wait / 8, random));
    }

    /// The initiation was asked for: ask again if none comes.
    pub(super) fn asked(&mut self, now: Instant) {
        self.wanted = false;
        self.next_round = Some(now + self.wait());
    }

    /// Starts over: something changed that makes the next attempt more hopeful than the last. An
    /// initiation that only just left keeps its chance, and goes to `fresh` paths as well.
    pub(super) fn restart(&mut self, now: Instant, cause: Cause, fresh: &[Path]) {
        self.cause = cause;
        self.round = 0;
        match self.launched {
            Some(launched) if now.since(launched) < Self::FIRST_WAIT => {
                // Taken from the end, so what is due now goes there.
                self.shots.extend(fresh.iter().rev().map(|path| Shot { due: now, path: *path }));
                self.next_round = Some(now + Self::FIRST_WAIT);
            }
            Some(_) | None => {
                self.next_round = None;
                self.shots.clear();
                self.wanted = true;
            }
        }
    }

    pub(super) const fn wants_initiation(&self) -> bool {
        self.wanted
    }

    pub(super) const fn rounds(&self) -> u32 {
        self.round
    }

    pub(super) const fn launched(&self) -> Option<Instant> {
        self.launched
    }

    /// The next copy of the initiation that is due.
    pub(super) fn shoot(&mut self, now: Instant) -> Option<Probe<'_>> {
        let shot = self.shots.pop_if(|shot| shot.due <= now)?;
        let first = core::mem::take(&mut self.unsent);
        Some(Probe { path: shot.path, initiation: &self.initiation, first })
    }

    /// Where the next copy goes that is due.
    pub(super) fn target(&self, now: Instant) -> Option<&Path> {
        self.shots.last().filter(|shot| shot.due <= now).map(|shot| &shot.path)
    }

    /// Takes a path out of what is still to be sent.
    pub(super) fn skip(&mut self, mut unwanted: impl FnMut(&Path) -> bool) {
        self.shots.retain(|shot| !unwanted(&shot.path));
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next_round.is_some_and(|due| due <= now) {
            self.next_round = None;
            self.wanted = true;
        }
    }

    pub(super) fn next_shot(&self) -> Option<Instant> {
        self.shots.last().map(|shot| shot.due)
    }

    pub(super) const fn next_round(&self) -> Option<Instant> {
        self.next_round
    }

    fn wait(&self) -> Duration {
        let doubled = Self::FIRST_WAIT * (1 << self.round.saturating_sub(1).min(6));
        doubled.min(Self::LAST_WAIT)
    }

    fn head_start(&self) -> Duration {
        match self.cause {
            Cause::Renewal => Self::HEAD_START_RENEWAL,
            Cause::Silence | Cause::Expired | Cause::Moved | Cause::Network => Self::HEAD_START_SILENT,
            Cause::New | Cause::Unheard => Duration::ZERO,
        }
    }
}

/// The first round: by rank, the current path ahead of the rest.
fn volleys(now: Instant, head_start: Duration, targets: Vec<Path>, current: Option<&Path>) -> Vec<Shot> {
    let is_current = |path: &Path| current.is_some_and(|current| current.same_remote(path));
    let (favourite, others): (Vec<Path>, Vec<Path>) = targets.into_iter().partition(is_current);
    let start = if favourite.is_empty() { now } else { now + head_start };
    let others = others.into_iter().enumerate().map(|(place, path)| {
        let volleys = u32::try_from(place / Race::VOLLEY).unwrap_or(u32::MAX);
        Shot { due: start + Race::PAUSE * volleys, path }
    });
    favourite.into_iter().map(|path| Shot { due: now, path }).chain(others).collect()
}

/// A later round: in random order, evenly spread.
fn spread(now: Instant, over: Duration, mut targets: Vec<Path>, random: &mut impl Rng) -> Vec<Shot> {
    for place in (1..targets.len()).rev() {
        targets.swap(place, below(place + 1, random));
    }
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
    let step = over / count;
    let shots = targets.into_iter().zip(0u32..);
    shots.map(|(path, place)| Shot { due: now + step * place, path }).collect()
}

/// A number below `bound`; not exactly uniform, which nothing here needs.
fn below(bound: usize, random: &mut impl Rng) -> usize {
    ((u64::from(random.next_u32()) * bound as u64) >> 32) as usize
}

fn jitter(most: Duration, random: &mut impl Rng) -> Duration {
    let part = u128::from(random.next_u32());
    Duration::from_nanos(u64::try_from((most.as_nanos() * part) >> 32).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng as _;
    use std::format;

    const START: Instant = Instant::from_secs(9);
    const INITIATION: [u8; INITIATION_LEN] = [1; INITIATION_LEN];

    fn path(n: usize) -> Path {
        Path::udp(format!("192.0.2.{}:51820", n + 1).parse().unwrap())
    }

    fn paths(count: usize) -> Vec<Path> {
        (0..count).map(path).collect()
    }

    fn random(seed: u8) -> ChaCha8Rng {
        ChaCha8Rng::from_seed([seed; 32])
    }

    /// Every shot of the round with its time after `start`.
    fn fire(race: &mut Race, start: Instant) -> Vec<(Duration, Path)> {
        let mut fired = Vec::new();
        while let Some(due) = race.next_shot() {
            assert!(race.shoot(due - Duration::from_nanos(1)).is_none());
            assert!(race.target(due).is_some());
            let probe = race.shoot(due).unwrap();
            assert_eq!(probe.initiation, &INITIATION);
            assert_eq!(probe.first, fired.is_empty());
            fired.push((due - start, probe.path));
        }
        fired
    }

    #[test]
    fn the_first_round_reaches_everybody_within_milliseconds_and_in_order() {
        let mut race = Race::new(START, Cause::New, None);
        assert!(race.wants_initiation());
        race.launch(START, &INITIATION, paths(Race::WIDTH), None, &mut random(1));
        assert!(!race.wants_initiation());
        let fired = fire(&mut race, START);
        assert_eq!(fired.iter().map(|(_, path)| *path).collect::<Vec<_>>(), paths(Race::WIDTH));
        assert_eq!(fired.last().unwrap().0, Duration::from_millis(7));
        assert!(fired.chunk_by(|a, b| a.0 == b.0).all(|volley| volley.len() == Race::VOLLEY));
    }

    #[test]
    fn a_path_that_may_be_fine_is_asked_first() {
        for (cause, ahead) in [(Cause::Silence, 100), (Cause::Renewal, 1000)] {
            let mut race = Race::new(START, cause, None);
            race.launch(START, &INITIATION, paths(3), Some(&path(2)), &mut random(1));
            let fired = fire(&mut race, START);
            let ahead = Duration::from_millis(ahead);
            assert_eq!(fired, [(Duration::ZERO, path(2)), (ahead, path(0)), (ahead, path(1))]);
        }
    }

    #[test]
    fn later_rounds_change_the_order_and_come_ever_slower() {
        let mut random = random(3);
        let mut race = Race::new(START, Cause::New, None);
        let mut now = START;
        let mut leaders = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..12 {
            race.launch(now, &INITIATION, paths(4), None, &mut random);
            let fired = fire(&mut race, now);
            assert_eq!(fired.len(), 4);
            assert!(fired.last().unwrap().0 <= Race::SPREAD);
            leaders.push(fired[0].1);
            let next = race.next_round().unwrap();
            waits.push(next - now);
            race.handle_timeout(next - Duration::from_nanos(1));
            assert!(!race.wants_initiation());
            race.handle_timeout(next);
            assert!(race.wants_initiation());
            now = next;
        }
        leaders.sort();
        leaders.dedup();
        assert_eq!(leaders.len(), 4, "each leads a round sooner or later");
        assert!(waits[0] >= Race::FIRST_WAIT && waits[0] <= Race::FIRST_WAIT * 9 / 8);
        assert!(waits.iter().all(|wait| *wait <= Race::LAST_WAIT * 9 / 8));
        assert!(waits[11] >= Race::LAST_WAIT);
    }

    #[test]
    fn a_restart_leaves_a_fresh_initiation_its_chance() {
        let mut race = Race::new(START, Cause::New, None);
        race.launch(START, &INITIATION, paths(2), None, &mut random(1));
        fire(&mut race, START);
        let now = START + Duration::from_millis(20);
        race.restart(now, Cause::New, &[path(2), path(3)]);
        assert!(!race.wants_initiation());
        assert_eq!(race.shoot(now).unwrap().path, path(2));
        assert_eq!(race.shoot(now).unwrap().path, path(3));
        race.restart(START + Duration::from_secs(20), Cause::New, &[path(4)]);
        assert!(race.wants_initiation());
        assert_eq!((race.next_shot(), race.next_round()), (None, None));
    }

    #[test]
    fn an_initiation_that_does_not_come_is_asked_for_again() {
        let mut race = Race::new(START, Cause::New, None);
        race.asked(START);
        assert!(!race.wants_initiation());
        race.handle_timeout(START + Race::FIRST_WAIT);
        assert!(race.wants_initiation());
    }
}
