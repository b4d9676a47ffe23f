//! The path in use to one peer, and the search for another.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use rand_core::Rng;

use super::candidate::{Candidates, with_valid_source};
use super::liveness::Silence;
use super::race::{Probe, Race};
use super::{Candidate, CandidateSource, Cause, Liveness};
use crate::path::{Path, Source};
use crate::time::Instant;
use crate::wireguard::{INITIATION_LEN, REJECT_AFTER_TIME};

/// A peer that answers no handshake for this long is down: KubeSpan's endpoint connection timeout.
pub const DOWN_AFTER: Duration = Duration::from_secs(15);

/// The candidates of one peer and the choice among them.
///
/// Feed it what happens (`set_candidates`, `sent`, `heard`, `learnt`, `established`, `handle_timeout`);
/// then read [`poll_event`](Self::poll_event), give it an initiation if it
/// [`wants_initiation`](Self::wants_initiation), send what [`poll_probe`](Self::poll_probe) has, and come
/// back at [`poll_timeout`](Self::poll_timeout).
#[derive(Clone, Debug)]
pub struct Selection {
    candidates: Candidates,
    current: Option<Path>,
    /// Since when `current` leads where it leads.
    since: Instant,
    established: Option<Instant>,
    heard: Option<Instant>,
    silence: Silence,
    race: Option<Box<Race>>,
    /// Initiations of the peer that were answered since the last session.
    asked: u32,
    /// When the round began that was answered last.
    won: Option<Instant>,
    liveness: Liveness,
    event: Option<SelectionEvent>,
}

/// What a selection has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionEvent {
    /// The peer answers.
    Up,
    /// The peer has not answered for [`DOWN_AFTER`].
    Down,
}

/// Why a peer is reached the way it is, or is not reached. Answer of [`Selection::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is there.
    pub liveness: Liveness,
    /// The path in use, and for how long it has been.
    pub path: Option<(Path, Duration)>,
    /// How long ago it was last heard.
    pub last_heard: Option<Duration>,
    /// Why handshakes are under way, for how long, and in which round.
    pub race: Option<(Cause, Duration, u32)>,
    /// Every candidate.
    pub candidates: Vec<Explained>,
    /// How many candidates were given up for want of room.
    pub overflowed: u64,
}

/// One candidate of an [`Explanation`]. Times are how long ago something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The path.
    pub path: Path,
    /// The best of the sources that name it.
    pub source: CandidateSource,
    /// Since a source last named it.
    pub age: Duration,
    /// Since a handshake was last tried over it.
    pub last_probe: Option<Duration>,
    /// Since it last carried a completed handshake.
    pub last_answer: Option<Duration>,
    /// Handshakes tried since then.
    pub unanswered: u32,
    /// Why it is, or is not, the path in use.
    pub verdict: Verdict,
}

/// Why [`Selection::poll_timeout`] names an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A copy of the initiation leaves on another path.
    Probe,
    /// Nobody answered this round: the next begins.
    Round,
    /// Data was not answered.
    Silence,
    /// The peer has had its time to answer and is down.
    Down,
}

/// Why a candidate is, or is not, the path in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is the path in use.
    InUse,
    /// It lies inside the mesh itself.
    Forbidden,
    /// It was not tried yet.
    Untried,
    /// A handshake is under way over it.
    Waiting,
    /// It was tried together with others, and another answered first. Whether it works is not known.
    Beaten,
    /// It was tried, and nothing came back.
    Unanswered,
    /// It once carried a handshake, and the peer has moved to another since.
    Left,
}

impl Selection {
    /// A selection without candidates: nothing is tried until it has some.
    pub fn new(now: Instant) -> Self {
        Selection {
            candidates: Candidates::default(),
            current: None,
            since: now,
            established: None,
            heard: None,
            silence: Silence::new(),
            race: None,
            asked: 0,
            won: None,
            liveness: Liveness::Unknown,
            event: None,
        }
    }

    /// Takes the paths that `source` names now, the best first, in place of what it named before.
    /// `forbidden` says which may never be tried. If there is anything new, a peer that is not up is tried
    /// at once, and so is one whose path in use was taken from the list.
    pub fn set_candidates(
        &mut self,
        now: Instant,
        source: CandidateSource,
        paths: &[Path],
        forbidden: impl Fn(&Path) -> bool,
    ) {
        let current = self.current.as_ref();
        let named = |candidates: &Candidates| current.is_some_and(|path| candidates.names(source, path));
        let before = named(&self.candidates);
        let new = self.candidates.replace(now, source, paths, current, forbidden);
        let moved = before && !named(&self.candidates);
        match self.liveness {
            Liveness::Up if new && moved => self.start(now, Cause::Moved),
            Liveness::Unknown | Liveness::Down if new => self.start(now, Cause::New),
            Liveness::Up | Liveness::Unknown | Liveness::Down => {}
        }
    }

    /// Judges every candidate again. The path in use is given up if it is forbidden now.
    pub fn forbid(&mut self, now: Instant, forbidden: impl Fn(&Path) -> bool) {
        self.candidates.forbid(&forbidden);
        if let Some(race) = &mut self.race {
            race.skip(&forbidden);
        }
        if self.current.as_ref().is_some_and(&forbidden) {
            self.current = None;
            self.start(now, Cause::New);
        }
    }

    /// The host's addresses or routes changed. Local addresses that `keep` does not confirm are no longer
    /// insisted on; a peer whose path lost its own, or that is not up, is tried again at once.
    pub fn network_changed(&mut self, now: Instant, mut keep: impl FnMut(&Source) -> bool) {
        self.candidates.drop_sources(&mut keep);
        let current = self.current.map(|path| with_valid_source(path, &mut keep));
        let lost = current != self.current;
        self.current = current;
        if lost || self.liveness != Liveness::Up {
            self.start(now, Cause::Network);
        }
    }

    /// Data, not a mere keepalive, went out. Whether [`poll_timeout`](Self::poll_timeout) changed.
    pub fn sent(&mut self, now: Instant) -> bool {
        self.race.is_none() && self.silence.sent(now)
    }

    /// Something authenticated came in. Whether [`poll_timeout`](Self::poll_timeout) changed.
    pub fn heard(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        let mut changed = self.silence.heard(now) | self.race.is_some();
        if let Some(race) = self.race.take_if(|race| race.cause == Cause::Silence) {
            self.judge_silence(&race);
        }
        if self.liveness == Liveness::Down {
            self.turn(Liveness::Up, SelectionEvent::Up);
            changed = true;
        }
        changed
    }

    /// Authenticated traffic made `path` the peer's path. Whether it leads elsewhere than before.
    pub fn learnt(&mut self, now: Instant, path: &Path) -> bool {
        self.candidates.learn(now, path);
        let moved = !self.current.is_some_and(|current| current.same_remote(path));
        if moved {
            self.since = now;
            self.silence.reset();
        }
        self.current = Some(*path);
        moved
    }

    /// A handshake was completed by a message that came over `path`: the race is won. Answers with the
    /// cause of that race, and whether the path changed.
    pub fn established(&mut self, now: Instant, path: &Path) -> (Option<Cause>, bool) {
        let moved = self.learnt(now, path);
        self.candidates.answered(now, path);
        self.established = Some(now);
        self.asked = 0;
        self.heard = Some(now);
        self.silence.heard(now);
        let race = self.race.take();
        if let Some(race) = &race {
            self.won = race.launched();
            if race.cause == Cause::Silence {
                self.judge_silence(race);
            }
        }
        self.turn(Liveness::Up, SelectionEvent::Up);
        (race.map(|race| race.cause), moved)
    }

    /// An initiation of the peer was accepted and answered. A second one without a session in between says
    /// that the answer did not arrive, although the peer is heard well: the path carries one way only, and
    /// a peer that sticks to it needs to hear from us over another.
    pub fn answered(&mut self, now: Instant) {
        self.asked = self.asked.saturating_add(1);
        if self.asked >= 2 && self.race.is_none() {
            self.start(now, Cause::Unheard);
        }
    }

    /// Whether [`launch`](Self::launch) is waited for.
    pub fn wants_initiation(&self) -> bool {
        self.race.as_ref().is_some_and(|race| race.wants_initiation())
    }

    /// An initiation was asked for on behalf of this selection.
    pub fn asked(&mut self, now: Instant) {
        if let Some(race) = &mut self.race {
            race.asked(now);
        }
    }

    /// Takes a fresh initiation, wanted or not, and begins a round with it.
    pub fn launch(&mut self, now: Instant, initiation: &[u8; INITIATION_LEN], random: &mut impl Rng) {
        if self.race.is_none() {
            let alive = self.established.is_some_and(|at| now.since(at) < REJECT_AFTER_TIME);
            let cause = match (alive, self.established) {
                (true, _) => Cause::Renewal,
                (false, Some(_)) => Cause::Expired,
                (false, None) => Cause::New,
            };
            self.race = Some(Box::new(Race::new(now, cause, self.current)));
        }
        let later_round = self.race.as_ref().is_some_and(|race| race.rounds() > 0);
        let targets = self.targets(later_round);
        if let Some(race) = &mut self.race {
            race.launch(now, initiation, targets, self.current.as_ref(), random);
        }
    }

    /// Where the next copy of the initiation goes, if one is due.
    pub fn next_probe(&self, now: Instant) -> Option<&Path> {
        self.race.as_ref()?.target(now)
    }

    /// The next copy of the initiation that is due: it counts as sent.
    pub fn poll_probe(&mut self, now: Instant) -> Option<Probe<'_>> {
        let probe = self.race.as_mut()?.shoot(now)?;
        self.candidates.probed(now, &probe.path);
        Some(probe)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.race.is_none() && self.silence.deadline().is_some_and(|deadline| deadline <= now) {
            self.start(now, Cause::Silence);
        }
        if self.down_at().is_some_and(|deadline| deadline <= now) {
            self.turn(Liveness::Down, SelectionEvent::Down);
        }
        if let Some(race) = &mut self.race {
            race.handle_timeout(now);
        }
    }

    /// What happened since the last call; of several changes the last.
    pub fn poll_event(&mut self) -> Option<SelectionEvent> {
        self.event.take()
    }

    /// When something is to be done, and what. Wanted initiations and unread events are not waited for.
    pub fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        let race = self.race.as_deref();
        let silence = if race.is_none() { self.silence.deadline() } else { None };
        [
            race.and_then(Race::next_shot).map(|at| (at, Reason::Probe)),
            race.and_then(Race::next_round).map(|at| (at, Reason::Round)),
            silence.map(|at| (at, Reason::Silence)),
            self.down_at().map(|at| (at, Reason::Down)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The path in use.
    pub const fn current(&self) -> Option<&Path> {
        self.current.as_ref()
    }

    /// Since when the path in use leads where it leads.
    pub fn current_since(&self) -> Option<Instant> {
        self.current.map(|_| self.since)
    }

    /// Whether the peer is there.
    pub const fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// When anything authenticated last came from the peer.
    pub const fn last_heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Why handshakes are under way, since when, and in which round; `None` if none are.
    pub fn race(&self) -> Option<(Cause, Instant, u32)> {
        self.race.as_ref().map(|race| (race.cause, race.started, race.rounds()))
    }

    /// What is known, for people: ages in place of instants.
    pub fn explain(&self, now: Instant) -> Explanation {
        let age = |at: Instant| now.since(at);
        let candidates = self.candidates().iter().map(|candidate| Explained {
            path: *candidate.path(),
            source: candidate.source(),
            age: age(candidate.seen()),
            last_probe: candidate.last_probe().map(age),
            last_answer: candidate.last_answer().map(age),
            unanswered: candidate.unanswered(),
            verdict: self.verdict(candidate),
        });
        Explanation {
            liveness: self.liveness,
            path: self.current.map(|path| (path, age(self.since))),
            last_heard: self.heard.map(age),
            race: self.race().map(|(cause, started, rounds)| (cause, age(started), rounds)),
            candidates: candidates.collect(),
            overflowed: self.candidates.overflowed(),
        }
    }

    /// All candidates.
    pub fn candidates(&self) -> &[Candidate] {
        self.candidates.as_slice()
    }

    /// How many candidates were given up for want of room.
    pub const fn overflowed(&self) -> u64 {
        self.candidates.overflowed()
    }

    /// Why `candidate` is or is not in use.
    pub fn verdict(&self, candidate: &Candidate) -> Verdict {
        if self.current.is_some_and(|current| current.same_remote(candidate.path())) {
            return Verdict::InUse;
        }
        if candidate.is_forbidden() {
            return Verdict::Forbidden;
        }
        let Some(probed) = candidate.last_probe() else {
            return if candidate.last_answer().is_some() { Verdict::Left } else { Verdict::Untried };
        };
        if candidate.last_answer().is_some_and(|answered| answered >= probed) {
            Verdict::Left
        } else if self.race.as_ref().is_some_and(|race| race.launched().is_some_and(|at| probed >= at)) {
            Verdict::Waiting
        } else if self.won.is_some_and(|round| probed >= round) {
            Verdict::Beaten
        } else {
            Verdict::Unanswered
        }
    }

    /// Begins a race, or begins the one under way anew.
    fn start(&mut self, now: Instant, cause: Cause) {
        let mut open = self.candidates.as_slice().iter().filter(|candidate| !candidate.is_forbidden());
        match &mut self.race {
            Some(race) => {
                let untried = open.filter(|candidate| candidate.last_probe().is_none());
                let untried: Vec<Path> =
                    untried.map(|candidate| *candidate.path()).take(Race::WIDTH).collect();
                race.restart(now, cause, &untried);
            }
            None if self.current.is_some() || open.next().is_some() => {
                self.race = Some(Box::new(Race::new(now, cause, self.current)));
            }
            None => {}
        }
    }

    /// The paths of a round. The first takes the best; later ones take those not tried for longest, so
    /// that all have their turn where there are more than fit.
    fn targets(&self, later_round: bool) -> Vec<Path> {
        let candidates = self.candidates.as_slice();
        let mut ranked = self.candidates.ranked();
        if later_round {
            ranked.sort_by_key(|place| candidates[*place].last_probe());
        }
        let mut targets: Vec<Path> =
            ranked.into_iter().take(Race::WIDTH).map(|place| *candidates[place].path()).collect();
        if let Some(current) = self.current.filter(|path| !targets.iter().any(|t| t.same_remote(path))) {
            targets.truncate(Race::WIDTH - 1);
            targets.insert(0, current);
        }
        targets
    }

    /// The peer was heard after all: was it only slow, or is it now elsewhere?
    fn judge_silence(&mut self, race: &Race) {
        let same = match (&race.from, &self.current) {
            (Some(from), Some(current)) => from.same_remote(current),
            (Some(_) | None, _) => false,
        };
        if same {
            self.silence.was_false_alarm();
        } else {
            self.silence.reset();
        }
    }

    fn down_at(&self) -> Option<Instant> {
        let race = self.race.as_ref()?;
        // Whoever still sends in an old session is there, whatever becomes of the new one.
        let last_sign = self.heard.map_or(race.started, |heard| heard.max(race.started));
        (self.liveness != Liveness::Down).then(|| last_sign + DOWN_AFTER)
    }

    fn turn(&mut self, liveness: Liveness, event: SelectionEvent) {
        if self.liveness != liveness {
            self.liveness = liveness;
            self.event = Some(event);
        }
    }
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
