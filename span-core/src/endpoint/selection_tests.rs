use super::*;
use crate::path::UdpPath;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use std::format;

const INITIATION: [u8; INITIATION_LEN] = [7; INITIATION_LEN];

/// A selection with its clock and its randomness.
struct Bench {
    selection: Selection,
    now: Instant,
    random: ChaCha8Rng,
}

impl Bench {
    fn new(candidates: usize) -> Self {
        let now = Instant::from_secs(1000);
        let mut bench = Bench { selection: Selection::new(now), now, random: ChaCha8Rng::from_seed([5; 32]) };
        let paths: Vec<Path> = (0..candidates).map(path).collect();
        bench.name(&paths);
        bench
    }

    fn name(&mut self, paths: &[Path]) {
        self.selection.set_candidates(self.now, CandidateSource::Published, paths, |_| false);
    }

    /// Connected over path 0, nothing under way.
    fn connected(candidates: usize) -> Self {
        let mut bench = Bench::new(candidates);
        bench.run(Duration::ZERO);
        bench.selection.established(bench.now, &path(0));
        assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Up));
        bench
    }

    /// Lets time pass; gives initiations as they are wanted. What was sent where, and when after the start.
    fn run(&mut self, time: Duration) -> Vec<(Duration, Path)> {
        let start = self.now;
        let mut sent = Vec::new();
        loop {
            if self.selection.wants_initiation() {
                self.selection.asked(self.now);
                self.selection.launch(self.now, &INITIATION, &mut self.random);
            }
            while let Some(target) = self.selection.next_probe(self.now).copied() {
                let probe = self.selection.poll_probe(self.now).unwrap();
                assert_eq!((probe.initiation, probe.path), (&INITIATION, target));
                sent.push((self.now - start, target));
            }
            match self.selection.poll_timeout() {
                Some((due, _)) if due <= start + time => {
                    assert!(due >= self.now, "work of the past is left undone");
                    self.now = due;
                    self.selection.handle_timeout(due);
                }
                Some(_) | None => break,
            }
        }
        self.now = start + time;
        sent
    }
}

fn path(n: usize) -> Path {
    Path::udp(format!("192.0.2.{}:51820", n + 1).parse().unwrap())
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn destinations(sent: &[(Duration, Path)]) -> Vec<Path> {
    let mut paths: Vec<Path> = sent.iter().map(|(_, path)| *path).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[test]
fn a_new_peer_is_tried_everywhere_at_once() {
    let mut bench = Bench::new(8);
    assert_eq!(destinations(&bench.run(ms(10))).len(), 8);
    assert_eq!(bench.selection.liveness(), Liveness::Unknown);
    let (cause, moved) = bench.selection.established(bench.now, &path(7));
    assert_eq!((cause, moved), (Some(Cause::New), true));
    assert_eq!(bench.selection.current(), Some(&path(7)));
    assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Up));
    assert_eq!(bench.selection.poll_timeout(), None, "an idle connected peer costs no timer");
}

#[test]
fn a_peer_without_candidates_is_waited_for() {
    let mut bench = Bench::new(0);
    assert!(bench.run(Duration::from_secs(60)).is_empty());
    assert!(bench.selection.learnt(bench.now, &path(3)));
    assert_eq!(bench.selection.current(), Some(&path(3)));
}

#[test]
fn more_candidates_than_fit_all_have_their_turn() {
    let mut bench = Bench::new(64);
    assert_eq!(destinations(&bench.run(ms(499))).len(), Race::WIDTH);
    let second = bench.run(ms(1000));
    assert_eq!(second.len(), Race::WIDTH);
    assert!(bench.selection.candidates().iter().all(|candidate| candidate.last_probe().is_some()));
}

#[test]
fn an_unanswering_peer_goes_down_and_is_never_given_up() {
    let mut bench = Bench::new(2);
    bench.run(DOWN_AFTER - Duration::from_nanos(1));
    assert_eq!(bench.selection.liveness(), Liveness::Unknown);
    bench.run(Duration::from_nanos(1));
    assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Down));
    let hour = bench.run(Duration::from_secs(3600));
    assert!((200..=260).contains(&hour.len()), "{} probes in an hour", hour.len());
    bench.selection.established(bench.now, &path(1));
    assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Up));
}

#[test]
fn silence_is_questioned_in_seconds_and_the_old_path_stays_meanwhile() {
    let mut bench = Bench::connected(3);
    bench.selection.sent(bench.now);
    let sent = bench.run(Duration::from_secs(2));
    assert_eq!(sent[0], (ms(1500), path(0)), "the current path is asked first");
    assert_eq!(sent[1..].iter().map(|(at, _)| *at).collect::<Vec<_>>(), [ms(1600), ms(1600)]);
    assert_eq!(bench.selection.current(), Some(&path(0)));
    assert_eq!(bench.selection.liveness(), Liveness::Up);
    let (cause, moved) = bench.selection.established(bench.now, &path(2));
    assert_eq!((cause, moved), (Some(Cause::Silence), true));
    // A new path is watched as closely as the first.
    bench.selection.sent(bench.now);
    assert_eq!(bench.run(ms(1550)).len(), 1);
}

#[test]
fn one_way_traffic_is_asked_about_ever_more_rarely() {
    let mut bench = Bench::connected(2);
    let mut questions = 0;
    for second in 1..=60 {
        bench.selection.sent(bench.now);
        if !bench.run(Duration::from_secs(1)).is_empty() {
            questions += 1;
            bench.selection.established(bench.now, &path(0));
        }
        // The passive keepalive.
        if second % 10 == 0 {
            bench.selection.heard(bench.now);
        }
    }
    assert_eq!(questions, 3);
    assert_eq!(bench.selection.poll_event(), None, "it was up all the time");
}

#[test]
fn roaming_during_a_race_is_no_false_alarm() {
    let mut bench = Bench::connected(2);
    bench.selection.sent(bench.now);
    bench.run(ms(1550));
    bench.selection.learnt(bench.now, &path(1));
    bench.selection.heard(bench.now);
    assert!(bench.selection.race().is_none());
    bench.selection.sent(bench.now);
    assert_eq!(bench.run(ms(1550)), [(ms(1500), path(1))]);
}

#[test]
fn a_late_answer_ends_the_doubt() {
    let mut bench = Bench::connected(2);
    bench.selection.sent(bench.now);
    bench.run(ms(1550));
    assert!(bench.selection.race().is_some());
    assert!(bench.selection.heard(bench.now));
    assert!(bench.selection.race().is_none());
    assert!(bench.run(Duration::from_secs(10)).is_empty());
}

#[test]
fn a_renewal_bothers_the_other_paths_only_if_the_current_one_fails() {
    let mut bench = Bench::connected(3);
    bench.now += Duration::from_secs(120);
    bench.selection.launch(bench.now, &INITIATION, &mut bench.random);
    assert_eq!(bench.run(ms(999)), [(ms(0), path(0))]);
    let mut failing =
        Bench { selection: bench.selection.clone(), now: bench.now, random: bench.random.clone() };

    bench.selection.established(bench.now, &path(0));
    assert!(bench.run(Duration::from_secs(60)).is_empty());

    assert_eq!(destinations(&failing.run(ms(1))), [path(1), path(2)]);
    failing.run(DOWN_AFTER - Duration::from_secs(1) - Duration::from_nanos(1));
    assert_eq!(failing.selection.liveness(), Liveness::Up);
    failing.run(Duration::from_nanos(1));
    assert_eq!(failing.selection.liveness(), Liveness::Down);
}

#[test]
fn traffic_in_the_old_session_keeps_a_peer_up_through_a_failing_renewal() {
    let mut bench = Bench::connected(1);
    bench.selection.launch(bench.now, &INITIATION, &mut bench.random);
    for _ in 0..40 {
        bench.run(Duration::from_secs(1));
        bench.selection.heard(bench.now);
    }
    assert_eq!(bench.selection.liveness(), Liveness::Up);
}

#[test]
fn a_sign_of_life_brings_a_down_peer_up() {
    let mut bench = Bench::connected(1);
    bench.selection.sent(bench.now);
    bench.run(Duration::from_secs(30));
    assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Down));
    bench.selection.heard(bench.now);
    assert_eq!(bench.selection.poll_event(), Some(SelectionEvent::Up));
    bench.run(Duration::from_secs(5));
    assert_eq!(bench.selection.poll_event(), None);
}

#[test]
fn new_candidates_are_tried_at_once_unless_the_peer_is_up() {
    let mut bench = Bench::new(1);
    bench.run(Duration::from_secs(100));
    bench.name(&[path(0), path(1)]);
    assert_eq!(destinations(&bench.run(ms(1))), [path(0), path(1)]);
    bench.selection.established(bench.now, &path(1));
    bench.name(&[path(0), path(1), path(2)]);
    assert!(bench.run(Duration::from_secs(10)).is_empty());
    // What is known already is no reason to start over.
    let mut bench = Bench::new(1);
    bench.run(Duration::from_secs(100));
    bench.name(&[path(0)]);
    assert!(bench.run(ms(1)).is_empty());
}

#[test]
fn a_peer_that_no_longer_names_its_path_is_asked_whether_it_moved() {
    let mut bench = Bench::connected(2);
    bench.name(&[path(0), path(3)]);
    assert!(bench.run(Duration::from_secs(5)).is_empty(), "the path in use still stands");
    bench.name(&[path(3)]);
    assert!(bench.run(Duration::from_secs(5)).is_empty(), "nothing new to try");
    bench.name(&[path(0)]);
    bench.name(&[path(4)]);
    assert_eq!(bench.run(ms(200)), [(ms(0), path(0)), (ms(100), path(4))]);
    assert_eq!(bench.selection.current(), Some(&path(0)));
}

#[test]
fn candidates_that_arrive_during_a_round_join_it() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.run(ms(30)), [(ms(0), path(0))]);
    bench.name(&[path(0), path(1)]);
    assert_eq!(bench.run(ms(1)), [(ms(0), path(1))]);
}

#[test]
fn roaming_moves_the_path_and_remembers_the_old_one() {
    let mut bench = Bench::connected(2);
    let away: Path = Path::udp("203.0.113.9:7".parse().unwrap());
    assert!(bench.selection.learnt(bench.now, &away));
    assert_eq!(bench.selection.current(), Some(&away));
    let Path::Udp(UdpPath { remote, .. }) = away else { unreachable!() };
    let from = Path::udp_from(remote, Source { ip: "198.51.100.1".parse().unwrap(), interface: 3 });
    assert!(!bench.selection.learnt(bench.now, &from), "only the local address changed");
    assert_eq!(bench.selection.current(), Some(&from));
    let verdicts: Vec<Verdict> =
        bench.selection.candidates().iter().map(|c| bench.selection.verdict(c)).collect();
    assert_eq!(verdicts, [Verdict::Left, Verdict::Beaten, Verdict::InUse]);
}

#[test]
fn a_lost_local_address_is_dropped_and_the_peer_asked_again() {
    let mut bench = Bench::connected(2);
    let Path::Udp(UdpPath { remote, .. }) = path(0) else { unreachable!() };
    let gone = Source { ip: "198.51.100.1".parse().unwrap(), interface: 3 };
    bench.selection.learnt(bench.now, &Path::udp_from(remote, gone));
    bench.selection.network_changed(bench.now, |_| true);
    assert!(bench.run(ms(1)).is_empty());
    bench.selection.network_changed(bench.now, |source| *source != gone);
    assert_eq!(bench.selection.current(), Some(&path(0)));
    assert_eq!(bench.run(ms(99)), [(ms(0), path(0))]);
    assert_eq!(destinations(&bench.run(ms(1))), [path(1)]);
}

#[test]
fn a_forbidden_path_is_neither_tried_nor_kept() {
    let mut bench = Bench::new(0);
    bench
        .selection
        .set_candidates(bench.now, CandidateSource::Published, &[path(0), path(1)], |p| *p == path(1));
    assert_eq!(destinations(&bench.run(ms(10))), [path(0)]);
    bench.selection.established(bench.now, &path(0));
    assert_eq!(bench.selection.verdict(&bench.selection.candidates()[1]), Verdict::Forbidden);
    bench.selection.forbid(bench.now, |p| *p == path(0));
    assert_eq!(bench.selection.current(), None);
    assert_eq!(destinations(&bench.run(ms(10))), [path(1)]);
}

#[test]
fn verdicts_tell_why_not() {
    let mut bench = Bench::new(2);
    let verdicts = |bench: &Bench| {
        let selection = &bench.selection;
        selection.candidates().iter().map(|candidate| selection.verdict(candidate)).collect::<Vec<_>>()
    };
    assert_eq!(verdicts(&bench), [Verdict::Untried; 2]);
    bench.run(ms(10));
    assert_eq!(verdicts(&bench), [Verdict::Waiting; 2]);
    bench.selection.established(bench.now, &path(1));
    assert_eq!(verdicts(&bench), [Verdict::Beaten, Verdict::InUse]);
    let mut alone = Bench::new(1);
    alone.run(ms(10));
    alone.name(&[path(1)]);
    alone.run(ms(600));
    assert_eq!(alone.selection.candidates()[0].unanswered(), 2);
    alone.selection.learnt(alone.now, &path(5));
    alone.selection.established(alone.now, &path(5));
    assert_eq!(verdicts(&alone), [Verdict::Beaten, Verdict::InUse]);

    let explained = alone.selection.explain(alone.now + ms(40));
    assert_eq!(explained.liveness, Liveness::Up);
    assert_eq!(explained.path, Some((path(5), ms(40))));
    assert_eq!(explained.candidates[1].last_answer, Some(ms(40)));
    assert_eq!(explained.candidates[1].source, CandidateSource::Learnt);
    assert_eq!(explained.candidates[0].unanswered, 2);
}

#[test]
fn the_same_seed_gives_the_same_probes() {
    let history = || {
        let mut bench = Bench::new(20);
        let sent = bench.run(Duration::from_secs(200));
        format!("{sent:?}")
    };
    assert_eq!(history(), history());
}
