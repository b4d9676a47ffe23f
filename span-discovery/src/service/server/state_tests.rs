//! The service's state under a virtual clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use proptest::prelude::*;

use super::*;

const NOW: Instant = Instant::from_secs(1_000_000);
const TTL: Duration = Duration::from_secs(1800);

fn at(secs: u64) -> Instant {
    NOW + Duration::from_secs(secs)
}

fn update(id: &str, data: &str, endpoints: &[&str], ttl: Duration) -> Update {
    Update {
        affiliate: id.to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        endpoints: endpoints.iter().map(|e| Bytes::copy_from_slice(e.as_bytes())).collect(),
        ttl,
    }
}

fn affiliate(id: &str, data: &str, endpoints: &[&str]) -> Affiliate {
    let Update { affiliate, data, endpoints, .. } = update(id, data, endpoints, TTL);
    Affiliate { id: affiliate, data, endpoints }
}

fn next(state: &mut State, watching: &Watching) -> Next {
    state.next(watching, Waker::noop())
}

fn updated(id: &str, data: &str, endpoints: &[&str]) -> Next {
    Next::Change(Change::Updated(affiliate(id, data, endpoints)))
}

#[test]
fn a_watch_begins_with_everything_even_if_that_is_nothing() {
    let mut state = State::new(100);
    let early = state.watch("c");
    assert_eq!(next(&mut state, &early), Next::Change(Change::All(Vec::new())));
    assert_eq!(next(&mut state, &early), Next::Wait);
    state.update(NOW, "c", &update("a", "1", &["e"], TTL)).unwrap();
    state.update(NOW, "other", &update("x", "1", &[], TTL)).unwrap();
    assert_eq!(next(&mut state, &early), updated("a", "1", &["e"]));
    assert_eq!(next(&mut state, &early), Next::Wait);
    let late = state.watch("c");
    assert_eq!(next(&mut state, &late), Next::Change(Change::All(vec![affiliate("a", "1", &["e"])])));
    assert_eq!(next(&mut state, &late), Next::Wait);
}

#[test]
fn updates_merge_endpoints_and_replace_data() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &["e", "f"], TTL)).unwrap();
    state.update(NOW, "c", &update("a", "", &["f", "g"], TTL)).unwrap();
    assert_eq!(state.list("c"), [affiliate("a", "1", &["e", "f", "g"])]);
    state.update(NOW, "c", &update("a", "2", &[], TTL)).unwrap();
    assert_eq!(state.list("c"), [affiliate("a", "2", &["e", "f", "g"])]);
    state.update(NOW, "c", &update("unheard-of", "", &["e"], TTL)).unwrap();
    assert_eq!(state.totals(), Totals { clusters: 1, affiliates: 2, endpoints: 4, watchers: 0 });
}

#[test]
fn a_refresh_is_no_news() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &["e"], TTL)).unwrap();
    let watching = state.watch("c");
    next(&mut state, &watching);
    state.update(at(900), "c", &update("a", "1", &["e"], TTL)).unwrap();
    assert_eq!(next(&mut state, &watching), Next::Wait);
    state.collect(at(1801));
    assert_eq!(state.list("c").len(), 1, "but it is a refresh");
}

#[test]
fn endpoints_expire_on_their_own_and_the_watchers_hear_what_is_left() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &["stale"], Duration::from_secs(60))).unwrap();
    state.update(NOW, "c", &update("a", "1", &["fresh"], TTL)).unwrap();
    let watching = state.watch("c");
    next(&mut state, &watching);
    assert_eq!(state.collect(at(59)), Collected::default());
    assert_eq!(next(&mut state, &watching), Next::Wait);
    assert_eq!(state.collect(at(60)).endpoints, 1);
    assert_eq!(next(&mut state, &watching), updated("a", "1", &["fresh"]), "not a deletion");
}

#[test]
fn affiliates_expire_and_take_idle_clusters_with_them() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &[], Duration::from_secs(60))).unwrap();
    let watching = state.watch("c");
    next(&mut state, &watching);
    assert_eq!(state.collect(at(60)).affiliates, 0, "not before it is over");
    assert_eq!(state.collect(at(61)), Collected { clusters: 0, affiliates: 1, endpoints: 0 });
    assert_eq!(next(&mut state, &watching), Next::Change(Change::Deleted("a".to_owned())));
    assert_eq!(state.totals().clusters, 1, "someone watches it");
    state.unwatch(&watching);
    assert_eq!(state.collect(at(62)).clusters, 1);
    assert_eq!(state.totals(), Totals::default());
}

#[test]
fn an_endpoint_from_a_peer_keeps_the_affiliate_alive_and_data_may_shorten_its_life() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &[], Duration::from_secs(60))).unwrap();
    state.update(NOW, "c", &update("a", "", &["seen"], TTL)).unwrap();
    state.collect(at(1800));
    assert_eq!(state.list("c").len(), 1);
    state.update(at(1800), "c", &update("a", "2", &[], Duration::ZERO)).unwrap();
    state.collect(at(1801));
    assert!(state.list("c").is_empty());
}

#[test]
fn deleting_is_told_once_and_only_of_what_was_there() {
    let mut state = State::new(100);
    state.update(NOW, "c", &update("a", "1", &[], TTL)).unwrap();
    let watching = state.watch("c");
    next(&mut state, &watching);
    state.delete("c", "a");
    state.delete("c", "a");
    state.delete("c", "b");
    state.delete("d", "b");
    assert_eq!(next(&mut state, &watching), Next::Change(Change::Deleted("a".to_owned())));
    assert_eq!(next(&mut state, &watching), Next::Wait);
    assert_eq!(state.totals().clusters, 1, "asking creates nothing");
}

#[test]
fn a_slow_watcher_hears_the_latest_of_each_affiliate_once() {
    let mut state = State::new(100);
    let watching = state.watch("c");
    next(&mut state, &watching);
    for round in 0..1000 {
        for id in ["a", "b"] {
            state.update(NOW, "c", &update(id, &format!("{id}{round}"), &[], TTL)).unwrap();
        }
        state.delete("c", "x");
        state.update(NOW, "c", &update("x", "x", &[], TTL)).unwrap();
    }
    state.delete("c", "a");
    assert_eq!(next(&mut state, &watching), updated("b", "b999", &[]));
    assert_eq!(next(&mut state, &watching), updated("x", "x", &[]));
    assert_eq!(next(&mut state, &watching), Next::Change(Change::Deleted("a".to_owned())));
    assert_eq!(next(&mut state, &watching), Next::Wait);
}

#[test]
fn a_watcher_that_missed_too_many_deletions_is_told_so_and_no_other() {
    let mut state = State::new(10_000);
    let (slow, quick) = (state.watch("c"), state.watch("c"));
    next(&mut state, &slow);
    next(&mut state, &quick);
    for n in 0..10_000 {
        state.update(NOW, "c", &update(&n.to_string(), "1", &[], TTL)).unwrap();
        state.delete("c", &n.to_string());
        assert_eq!(next(&mut state, &quick), Next::Change(Change::Deleted(n.to_string())));
    }
    assert_eq!(next(&mut state, &slow), Next::Lost);
    state.unwatch(&slow);
    state.unwatch(&quick);
    state.collect(NOW);
    assert_eq!(state.totals(), Totals::default());
}

#[test]
fn the_limits_hold() {
    let mut state = State::new(1100);
    for n in 0..1024 {
        state.update(NOW, "c", &update(&n.to_string(), "1", &[], TTL)).unwrap();
    }
    assert_eq!(state.update(NOW, "c", &update("one-more", "1", &[], TTL)), Err(Full::Cluster));
    state.update(NOW, "c", &update("7", "2", &[], TTL)).unwrap();

    let watching = state.watch("d");
    next(&mut state, &watching);
    let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(state.update(NOW, "d", &update("a", "1", &many, TTL)), Err(Full::Affiliate));
    assert_eq!(next(&mut state, &watching), updated("a", "1", &many[..64]), "what fits is kept and told");
    state.update(NOW, "d", &update("a", "2", &many[..64], TTL)).unwrap();

    for n in 0..75 {
        state.update(NOW, "e", &update(&n.to_string(), "1", &[], TTL)).unwrap();
    }
    assert_eq!(state.update(NOW, "e", &update("one-more", "1", &[], TTL)), Err(Full::Service));
    state.delete("e", "1");
    state.update(NOW, "e", &update("one-more", "1", &[], TTL)).unwrap();
    state.collect(at(1801));
    state.update(at(1801), "f", &update("a", "1", &[], TTL)).unwrap();
    assert_eq!(state.totals().affiliates, 1);
}

#[test]
fn waiting_watchers_are_woken_by_changes_of_their_cluster_and_by_the_end() {
    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut state = State::new(100);
    let watching = state.watch("c");
    next(&mut state, &watching);
    assert_eq!(state.next(&watching, &waker), Next::Wait);
    state.update(NOW, "d", &update("a", "1", &[], TTL)).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 0);
    state.update(NOW, "c", &update("a", "1", &[], TTL)).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    next(&mut state, &watching);
    assert_eq!(state.next(&watching, &waker), Next::Wait);
    state.close();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert_eq!(next(&mut state, &watching), Next::Closed);
}

#[derive(Clone, Debug)]
enum Step {
    Update { id: u8, data: u8, endpoint: u8, ttl: u8 },
    Delete { id: u8 },
    Pass { secs: u8 },
    Listen { watcher: usize, times: u8 },
    Reconnect { watcher: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..3u8, 0..4u8, 0..40u8)
            .prop_map(|(id, data, endpoint, ttl)| Step::Update { id, data, endpoint, ttl }),
        2 => (0..6u8).prop_map(|id| Step::Delete { id }),
        1 => (0..30u8).prop_map(|secs| Step::Pass { secs }),
        2 => (0..3usize, 0..4u8).prop_map(|(watcher, times)| Step::Listen { watcher, times }),
        1 => (0..3usize).prop_map(|watcher| Step::Reconnect { watcher }),
    ]
}

/// What a client makes of what it hears.
fn hear(known: &mut BTreeMap<String, Affiliate>, next: Next) -> bool {
    match next {
        Next::Change(Change::All(all)) => *known = all.into_iter().map(|a| (a.id.clone(), a)).collect(),
        Next::Change(Change::Updated(affiliate)) => {
            known.insert(affiliate.id.clone(), affiliate);
        }
        Next::Change(Change::Deleted(id)) => {
            known.remove(&id);
        }
        Next::Wait => return false,
        Next::Lost | Next::Closed => panic!("{next:?}"),
    }
    true
}

proptest! {
    #[test]
    fn whoever_listens_to_the_end_knows_what_is_there(steps in proptest::collection::vec(step(), 0..200)) {
        let mut state = State::new(100);
        let mut now = NOW;
        let mut watchers: Vec<_> = (0..3).map(|_| (state.watch("c"), BTreeMap::new())).collect();
        for step in steps {
            match step {
                Step::Update { id, data, endpoint, ttl } => {
                    let data = if data == 0 { String::new() } else { data.to_string() };
                    let ttl = Duration::from_secs(ttl.into());
                    let update = update(&id.to_string(), &data, &[&endpoint.to_string()], ttl);
                    state.update(now, "c", &update).unwrap();
                }
                Step::Delete { id } => state.delete("c", &id.to_string()),
                Step::Pass { secs } => {
                    now += Duration::from_secs(secs.into());
                    state.collect(now);
                }
                Step::Listen { watcher, times } => {
                    let (watching, known) = &mut watchers[watcher];
                    for _ in 0..times {
                        hear(known, state.next(watching, Waker::noop()));
                    }
                }
                Step::Reconnect { watcher } => {
                    state.unwatch(&watchers[watcher].0);
                    watchers[watcher] = (state.watch("c"), BTreeMap::new());
                }
            }
            prop_assert_eq!(state.totals().affiliates, state.list("c").len());
        }
        let there: BTreeMap<_, _> = state.list("c").into_iter().map(|a| (a.id.clone(), a)).collect();
        for (watching, known) in &mut watchers {
            while hear(known, state.next(watching, Waker::noop())) {}
            prop_assert_eq!(&*known, &there);
        }
        watchers.iter().for_each(|(watching, _)| state.unwatch(watching));
        state.collect(now + TTL);
        prop_assert_eq!(state.totals(), Totals::default());
    }
}
