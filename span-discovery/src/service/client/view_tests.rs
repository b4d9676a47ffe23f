//! What becomes of what a service says, honest or not.

use super::*;
use bytes::Bytes;
use span_core::mesh::MachineType;

fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes([1; 32])
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn member(name: &str, hostname: &str) -> Member {
    Member {
        node_id: id(name),
        addresses: Vec::new(),
        hostname: hostname.to_owned(),
        nodename: String::new(),
        machine_type: MachineType::Worker,
        operating_system: String::new(),
        kubespan: None,
        control_plane: None,
        endpoints: Vec::new(),
    }
}

fn affiliate(name: &str, hostname: &str, endpoints: &[&str]) -> Affiliate {
    let seal = |endpoint: &&str| Bytes::from(secret().seal_endpoint(endpoint.parse().unwrap()));
    Affiliate {
        id: name.to_owned(),
        data: secret().seal_member(&member(name, hostname), [7; 12]).unwrap().into(),
        endpoints: endpoints.iter().map(seal).collect(),
    }
}

fn view() -> View {
    View::new(secret(), id("me"))
}

fn update(view: &mut View, affiliate: &Affiliate) -> Vec<TierEvent> {
    let mut events = Vec::new();
    view.update(affiliate, &mut events);
    events
}

fn refused(events: &[TierEvent]) -> Vec<(&str, &str)> {
    events
        .iter()
        .filter_map(|event| match event {
            TierEvent::Refused { what, why } => Some((what.as_str(), why.as_str())),
            TierEvent::Snapshot(_)
            | TierEvent::Updated(_)
            | TierEvent::Removed(_)
            | TierEvent::PublicAddress(_)
            | TierEvent::Connected
            | TierEvent::Disconnected { .. } => None,
        })
        .collect()
}

#[test]
fn members_come_with_their_endpoints_and_news_is_told_once() {
    let mut view = view();
    let mut expected = member("a", "1");
    expected.endpoints = vec!["192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap()];
    let first = affiliate("a", "1", &["192.0.2.1:1", "[2001:db8::1]:2"]);
    assert_eq!(update(&mut view, &first), [TierEvent::Updated(expected.clone())]);
    assert!(update(&mut view, &first).is_empty());
    expected.endpoints.truncate(1);
    assert_eq!(update(&mut view, &affiliate("a", "1", &["192.0.2.1:1"])), [TierEvent::Updated(expected)]);
    let mut events = Vec::new();
    view.remove(&id("a"), &mut events);
    view.remove(&id("a"), &mut events);
    assert_eq!(events, [TierEvent::Removed(id("a"))]);
}

#[test]
fn the_own_record_and_empty_ones_are_skipped_in_silence() {
    let mut view = view();
    assert!(update(&mut view, &affiliate("me", "1", &[])).is_empty());
    let mut events = Vec::new();
    let hearsay = Affiliate { data: Bytes::new(), ..affiliate("a", "1", &["192.0.2.1:1"]) };
    view.replace(&[affiliate("me", "1", &[]), hearsay], &mut events);
    assert_eq!(events, [TierEvent::Snapshot(Vec::new())]);
    view.remove(&id("a"), &mut events);
    assert_eq!(events.len(), 1);
}

#[test]
fn what_cannot_be_read_is_refused_with_a_reason_and_the_rest_goes_on() {
    let mut view = view();
    let foreign = ClusterSecret::from_bytes([2; 32]);
    let sealed_by = |secret: &ClusterSecret, under: &str, inside: &str| Affiliate {
        id: under.to_owned(),
        data: secret.seal_member(&member(inside, "1"), [7; 12]).unwrap().into(),
        endpoints: Vec::new(),
    };
    let raw =
        |id: &str, data: Vec<u8>| Affiliate { id: id.to_owned(), data: data.into(), endpoints: Vec::new() };
    let mut events = Vec::new();
    let everything = [
        sealed_by(&foreign, "foreign", "foreign"),
        sealed_by(&secret(), "replayed", "a"),
        raw("short", vec![1; 27]),
        raw("oversized", vec![1; 5000]),
        raw("garbage", vec![1; 300]),
        raw("", vec![1; 300]),
        affiliate("good", "1", &["192.0.2.1:1"]),
    ];
    view.replace(&everything, &mut events);
    let TierEvent::Snapshot(members) = &events[0] else { panic!("{events:?}") };
    assert_eq!(members.iter().map(|m| m.node_id.as_str()).collect::<Vec<_>>(), ["good"]);
    let refused = refused(&events);
    for (what, why) in [
        ("foreign", "another cluster's secret"),
        ("replayed", "another node, \"a\""),
        ("short", "27"),
        ("oversized", "5000"),
        ("garbage", "damaged"),
        ("an affiliate", "1 to 256"),
    ] {
        assert!(refused.iter().any(|r| r.0.contains(what) && r.1.contains(why)), "{what}: {refused:?}");
    }
    assert_eq!(refused.len(), 6);
    assert!(update(&mut view, &everything[0]).is_empty(), "the same garbage is told of once");
}

#[test]
fn bad_endpoints_cost_only_themselves() {
    let mut view = view();
    let mut bad =
        affiliate("a", "1", &["192.0.2.1:1", "0.0.0.0:1", "192.0.2.2:0", "[fe80::1]:1", "224.0.0.1:1"]);
    bad.endpoints.push(Bytes::new());
    bad.endpoints.push(Bytes::from_static(&[0xff; 16]));
    bad.endpoints.push(bad.endpoints[0].clone());
    let events = update(&mut view, &bad);
    assert_eq!(view.member(&id("a")).unwrap().endpoints, ["192.0.2.1:1".parse().unwrap()]);
    assert_eq!(refused(&events).len(), 1);
    assert!(refused(&events)[0].0.contains("6 of 8"), "{events:?}");

    let many: Vec<String> = (1..=100).map(|port| format!("192.0.2.1:{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let events = update(&mut view, &affiliate("b", "1", &many));
    assert_eq!(view.member(&id("b")).unwrap().endpoints.len(), 64);
    assert!(refused(&events)[0].0.contains("36 of 100"));
}

#[test]
fn garbage_does_not_displace_a_good_record() {
    let mut view = view();
    update(&mut view, &affiliate("a", "1", &[]));
    let garbage = Affiliate { id: "a".to_owned(), data: vec![1; 100].into(), endpoints: Vec::new() };
    assert_eq!(refused(&update(&mut view, &garbage)).len(), 1);
    assert_eq!(view.member(&id("a")).unwrap().hostname, "1");
    let mut events = Vec::new();
    assert!(!view.replace(&[garbage], &mut events));
    assert_eq!(events, [TierEvent::Snapshot(vec![member("a", "1")])]);
    assert_eq!(update(&mut view, &affiliate("a", "2", &[])), [TierEvent::Updated(member("a", "2"))]);
}

#[test]
fn a_service_that_lost_its_memory_gets_time_to_regain_it() {
    let mut view = view();
    let mut events = Vec::new();
    assert!(!view.replace(&[affiliate("a", "1", &[]), affiliate("b", "1", &[])], &mut events));
    events.clear();
    assert!(view.replace(&[], &mut events));
    let TierEvent::Snapshot(members) = &events[0] else { panic!("{events:?}") };
    assert_eq!(members.len(), 2);
    assert!(update(&mut view, &affiliate("a", "1", &[])).is_empty(), "it is back, and never was away");
    events.clear();
    view.drop_missing(&mut events);
    assert_eq!(events, [TierEvent::Removed(id("b"))]);
}

#[test]
fn a_service_cannot_fill_the_memory() {
    let mut view = view();
    let mut refusals = 0;
    for n in 0..5000 {
        let hearsay = Affiliate { id: n.to_string(), data: Bytes::new(), endpoints: Vec::new() };
        refusals += refused(&update(&mut view, &hearsay)).len();
    }
    assert_eq!((view.entries.len(), refusals), (4096, 5000 - 4096));
}

proptest::proptest! {
    #[test]
    fn whatever_a_service_says_nothing_panics(
        messages in proptest::collection::vec((
            "[a-c]{0,2}",
            proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..4),
        ), 0..8)
    ) {
        let mut view = view();
        let affiliates: Vec<Affiliate> = messages
            .into_iter()
            .map(|(id, data, endpoints)| Affiliate {
                id,
                data: data.into(),
                endpoints: endpoints.into_iter().map(Bytes::from).collect(),
            })
            .collect();
        let mut events = Vec::new();
        view.replace(&affiliates, &mut events);
        for affiliate in &affiliates {
            view.update(affiliate, &mut events);
        }
        proptest::prop_assert_eq!(view.len(), 0);
    }
}
