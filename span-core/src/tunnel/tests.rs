use super::simulation::{Network, Slots, at, key, nowhere};
use super::*;
use crate::crypto::{Suite, Suites};
use crate::endpoint::{Cause, Verdict};
use crate::wireguard::{DropReason, Inbound, TransmitKind};
use alloc::string::String;
use core::time::Duration;
use proptest::prelude::*;
use std::vec;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn all_up(net: &Network) -> bool {
    let count = net.nodes.len();
    (0..count).all(|node| (0..count).all(|other| node == other || net.is_up(node, other)))
}

/// Two nodes connected over networks 1 and 2, of which 1 is the faster.
fn pair() -> Network {
    let mut net = Network::new(2, 1);
    net.latency.insert(2, ms(30));
    net.introduce(&[2, 1]);
    net.run_until(secs(1), all_up);
    net.talk(0, 1, ms(500));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(1, 1)), Some(at(1, 0))));
    net
}

#[test]
fn both_sides_start_at_once_and_connect_in_a_round_trip() {
    let mut net = Network::new(2, 1);
    net.introduce(&[1]);
    let took = net.run_until(secs(1), all_up);
    assert!(took <= ms(31), "{took:?}");
}

#[test]
fn seven_dead_endpoints_cost_nothing() {
    let mut net = Network::new(2, 1);
    let mut paths: Vec<Path> = (1..8).map(nowhere).collect();
    paths.push(Path::udp(at(1, 1)));
    // Only one side knows anything about the other.
    net.name(0, 1, &paths);
    net.name(1, 0, &[]);
    let took = net.run_until(secs(1), all_up);
    assert!(took < ms(50), "{took:?}");
    let explained = net.nodes[0].tunnel.explain(net.now, net.peer(0, 1)).unwrap();
    let verdicts: Vec<Verdict> = explained.candidates.iter().map(|candidate| candidate.verdict).collect();
    assert_eq!(verdicts, [&[Verdict::Beaten; 7][..], &[Verdict::InUse]].concat());
}

#[test]
fn a_mesh_of_twelve_stands_within_a_second() {
    let mut net = Network::new(12, 3);
    net.latency.insert(3, ms(80));
    net.introduce(&[3, 1]);
    let took = net.run_until(secs(1), all_up);
    assert!(took < ms(200), "{took:?}");
}

#[test]
fn the_fastest_path_wins() {
    let mut net = Network::new(2, 1);
    net.latency.insert(1, ms(60));
    net.latency.insert(2, ms(50));
    net.latency.insert(3, ms(5));
    net.introduce(&[1, 2, 3]);
    net.run_until(secs(1), all_up);
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(3, 1)), Some(at(3, 0))));
}

#[test]
fn a_silent_path_is_replaced_in_seconds() {
    let mut net = pair();
    net.holes.extend([(1, 0, 1), (1, 1, 0)]);
    let cut = net.now;
    net.talk(0, 1, secs(3));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(2, 1)), Some(at(2, 0))));
    let gap = net.nodes[1].received.iter().map(|(when, _)| *when).find(|when| *when > cut).unwrap() - cut;
    assert!(gap < secs(2), "{gap:?}");
    let downs = net.nodes[0].events.iter().filter(|(_, event)| matches!(event, Event::PeerDown { .. }));
    assert_eq!(downs.count(), 0);
    let changed = net.nodes[0].events.iter().rev().find_map(|(_, event)| match event {
        Event::PathChanged { why, .. } => Some(*why),
        Event::PeerUp { .. }
        | Event::PeerDown { .. }
        | Event::Established { .. }
        | Event::HandshakeFailed { .. } => None,
    });
    // Whichever side's initiation came first.
    assert!(
        matches!(changed, Some(PathReason::Answered(Cause::Silence) | PathReason::Roamed(_))),
        "{changed:?}"
    );
}

#[test]
fn a_path_that_falls_silent_in_one_direction_is_replaced_in_seconds() {
    for hole in [(1, 0, 1), (1, 1, 0)] {
        let mut net = pair();
        net.holes.insert(hole);
        let cut = net.now;
        net.talk(0, 1, secs(10));
        assert_eq!(
            (net.path(0, 1), net.path(1, 0)),
            (Some(at(2, 1)), Some(at(2, 0))),
            "{hole:?}\n{}",
            net.log
        );
        // The end of the longest pause in which the one who asks got no answer.
        let answers = net.nodes[0].received.iter().map(|(when, _)| *when).filter(|when| *when > cut);
        let first = answers.clone().next().unwrap();
        assert!(first - cut < secs(4), "{:?} {hole:?}\n{}", first - cut, net.log);
    }
}

#[test]
fn a_path_that_carries_one_way_only_does_not_stand_in_the_way() {
    // The faster network swallows the answers, so the peer hears of us over it first.
    for hole in [(1, 1, 0), (1, 0, 1)] {
        let mut net = Network::new(2, 1);
        net.latency.insert(2, ms(60));
        net.holes.insert(hole);
        net.name(0, 1, &[Path::udp(at(1, 1)), Path::udp(at(2, 1))]);
        net.name(1, 0, &[]);
        let took = net.run_until(secs(10), |net| net.is_up(0, 1));
        assert!(took < secs(5), "{took:?}");
        assert_eq!(net.path(0, 1), Some(at(2, 1)));
    }
}

#[test]
fn a_plain_peer_that_cannot_hear_us_is_called_over_another_path() {
    // Node 1 is a kernel's WireGuard: it knows one endpoint and sticks to it.
    let mut net = Network::new(2, 1);
    net.latency.insert(2, ms(30));
    net.name(0, 1, &[Path::udp(at(1, 1)), Path::udp(at(2, 1))]);
    net.run_until(secs(1), |net| net.is_up(0, 1));
    net.talk(1, 0, ms(500));
    net.holes.insert((1, 0, 1));
    let cut = net.now;
    net.talk(1, 0, secs(25));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(2, 1)), Some(at(2, 0))), "{}", net.log);
    // It asks after 15 s and again after 5 s; the second time is one too many.
    let first =
        net.nodes[1].received.iter().map(|(when, _)| *when).find(|when| *when > cut + ms(20)).unwrap();
    assert!(first - cut < secs(21), "{:?}", first - cut);
}

#[test]
fn idle_peers_notice_a_dead_path_with_the_first_data() {
    let mut net = pair();
    net.run(secs(60));
    net.holes.extend([(1, 0, 1), (1, 1, 0)]);
    net.run(secs(5));
    net.talk(0, 1, secs(3));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(2, 1)), Some(at(2, 0))));
}

#[test]
fn an_idle_hour_costs_little_and_changes_nothing() {
    let mut net = pair();
    for (node, other) in [(0, 1), (1, 0)] {
        let (now, peer) = (net.now, net.peer(node, other));
        net.nodes[node].tunnel.device_mut().set_keepalive(now, peer, Some(25));
        net.nodes[node].events.clear();
        // Machines do not march in step.
        net.run(secs(3));
    }
    net.log.clear();
    net.run(secs(3600));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(1, 1)), Some(at(1, 0))));
    let established = |event: &Event| matches!(event, Event::Established { .. });
    assert!(net.nodes.iter().all(|node| node.events.iter().all(|(_, event)| established(event))));
    let datagrams = net.log.lines().filter(|line| line.contains(" sends ")).count();
    // A keepalive every 25 s, a handshake every two minutes.
    assert!((150..=320).contains(&datagrams), "{datagrams} datagrams\n{}", net.log);
    assert!(!net.log.contains(&std::format!("Initiation to {}", at(2, 1))), "{}", net.log);
}

#[test]
fn one_way_traffic_keeps_its_path_and_is_hardly_disturbed() {
    let mut net = pair();
    net.nodes[1].answers = false;
    let initiations = net.nodes[0].tunnel.device().counters().initiations_sent;
    net.talk(0, 1, secs(60));
    assert_eq!(net.path(0, 1), Some(at(1, 1)));
    let asked = net.nodes[0].tunnel.device().counters().initiations_sent - initiations;
    assert!(asked <= 4, "{asked} handshakes in a minute");
}

#[test]
fn a_nat_that_rebinds_is_followed() {
    let mut net = Network::new(2, 1);
    net.mappings.insert((1, 0), 40_000);
    // Nobody can know the address of node 0 beforehand.
    net.name(0, 1, &[Path::udp(at(1, 1))]);
    net.name(1, 0, &[]);
    net.run_until(secs(1), all_up);
    let mut mapped = at(1, 0);
    mapped.set_port(40_000);
    assert_eq!(net.path(1, 0), Some(mapped));
    net.talk(0, 1, ms(500));

    net.mappings.insert((1, 0), 40_001);
    let rebound = net.now;
    net.talk(0, 1, secs(1));
    mapped.set_port(40_001);
    assert_eq!(net.path(1, 0), Some(mapped));
    let first = net.nodes[0].received.iter().map(|(when, _)| *when).find(|when| *when > rebound).unwrap();
    assert!(first - rebound < ms(100));
    let roamed = |event: &Event| matches!(event, Event::PathChanged { why: PathReason::Roamed(_), .. });
    assert!(net.nodes[1].events.iter().any(|(when, event)| *when > rebound && roamed(event)));
}

#[test]
fn a_node_that_is_gone_is_down_in_time_and_up_again_at_once() {
    let mut net = pair();
    let holes = [(1, 0, 1), (1, 1, 0), (2, 0, 1), (2, 1, 0)];
    net.holes.extend(holes);
    net.talk(0, 1, secs(17));
    assert!(!net.is_up(0, 1));
    net.run(secs(120));
    net.holes.clear();
    // It comes back at another address and calls.
    let took = net.run_until(secs(40), |net| net.is_up(0, 1));
    assert!(took < secs(34), "{took:?}");
}

#[test]
fn a_restarted_node_is_back_within_a_second_from_anywhere() {
    let mut net = pair();
    net.talk(0, 1, secs(1));
    // Node 1 forgets everything and stands in network 3 now.
    let fresh = {
        let mut other = Network::new(2, 9);
        other.now = net.now;
        other.nodes.remove(1)
    };
    net.nodes[1] = fresh;
    let unix = UnixTime::from_duration(secs(3600));
    let now = net.now;
    net.nodes[1].tunnel.device_mut().set_unix_time(now, unix);
    net.holes.extend([(1, 0, 1), (1, 1, 0), (2, 0, 1), (2, 1, 0)]);
    net.name(1, 0, &[Path::udp(at(3, 0))]);
    let took = net.run_until(secs(1), |net| net.is_up(1, 0) && net.path(0, 1) == Some(at(3, 1)));
    assert!(took < ms(100), "{took:?}");
    net.talk(0, 1, secs(1));
    assert!(net.last_received(0).unwrap() + ms(200) > net.now);
}

#[test]
fn a_local_address_that_is_gone_is_not_insisted_on() {
    let mut net = pair();
    let (now, peer) = (net.now, net.peer(0, 1));
    let source = |net: &Network| match net.nodes[0].tunnel.device().peer(net.now, peer).unwrap().path {
        Some(Path::Udp(udp)) => udp.source,
        Some(Path::Custom(_)) | None => None,
    };
    assert!(source(&net).is_some());
    net.nodes[0].tunnel.network_changed(now, |_| true);
    assert!(source(&net).is_some());
    net.nodes[0].tunnel.network_changed(now, |source| source.interface != 1);
    assert_eq!(source(&net), None);
    assert_eq!(net.path(0, 1), Some(at(1, 1)));
    net.run(secs(1));
    assert!(source(&net).is_some(), "learnt again from the answer");
}

#[test]
fn the_tunnel_is_not_carried_by_itself() {
    let mut net = Network::new(2, 1);
    for node in &mut net.nodes {
        node.tunnel.set_forbidden(net.now, &["10.1.0.0/16".parse().unwrap()]);
    }
    net.latency.insert(2, ms(100));
    net.introduce(&[1, 2]);
    net.run_until(secs(1), all_up);
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(2, 1)), Some(at(2, 0))));
    assert_eq!(net.nodes[0].tunnel.counters().forbidden_candidates, 1);
    let explained = net.nodes[0].tunnel.explain(net.now, net.peer(0, 1)).unwrap();
    assert_eq!(explained.candidates[0].verdict, Verdict::Forbidden);

    // What comes from there is not even read.
    let path = Path::udp(at(1, 1));
    let inbound = net.nodes[0].tunnel.handle_datagram(net.now, &path, &mut [1; 148]);
    assert_eq!(inbound, Inbound::Dropped(DropReason::ForbiddenPath));
    assert_eq!(net.nodes[0].tunnel.counters().forbidden_datagrams, 1);

    // A path that becomes forbidden is left.
    let now = net.now;
    net.nodes[0].tunnel.set_forbidden(now, &["10.2.0.0/16".parse().unwrap()]);
    net.nodes[1].tunnel.set_forbidden(now, &[]);
    net.run(secs(2));
    assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(1, 1)), Some(at(1, 0))));
}

#[test]
fn a_peer_without_candidates_is_plain_wireguard() {
    let mut net = Network::new(2, 1);
    let (now, peer) = (net.now, net.peer(0, 1));
    net.nodes[0].tunnel.device_mut().set_path(now, peer, Some(Path::udp(at(1, 1))));
    net.run(secs(10));
    assert!(net.log.is_empty(), "nothing to send, nothing sent: {}", net.log);
    net.send(0, 1);
    net.run(secs(1));
    assert_eq!(net.nodes[1].received.len(), 1);
    assert_eq!(net.path(1, 0), Some(at(1, 0)));
    assert!(net.nodes[0].tunnel.selection(peer).is_none());
    net.holes.extend([(1, 0, 1), (1, 1, 0)]);
    net.log.clear();
    net.talk(0, 1, secs(10));
    assert!(!net.log.contains("Initiation"), "{}", net.log);
    net.talk(0, 1, secs(6));
    assert!(net.log.contains("Initiation"), "{}", net.log);
}

#[test]
fn no_room_loses_nothing() {
    struct Full(bool, Slots);
    impl crate::wireguard::Reserve for Full {
        fn reserve(&mut self, path: &Path, len: usize) -> Option<&mut [u8]> {
            if self.0 { None } else { self.1.reserve(path, len) }
        }
        fn release(&mut self) {
            self.1.release();
        }
    }
    let mut net = Network::new(2, 1);
    net.name(0, 1, &[Path::udp(at(1, 1)), Path::udp(at(2, 1))]);
    let (now, tunnel) = (net.now, &mut net.nodes[0].tunnel);
    assert!(tunnel.poll_transmit(now, &mut Full(true, Slots::default())).is_none());
    assert_eq!(tunnel.poll_timeout().map(|(at, _)| at), Some(now));
    let mut out = Full(false, Slots::default());
    let sent: Vec<_> = core::iter::from_fn(|| tunnel.poll_transmit(now, &mut out)).collect();
    assert_eq!(
        sent.iter().map(|transmit| transmit.path).collect::<Vec<_>>(),
        [at(1, 1), at(2, 1)].map(Path::udp)
    );
    assert!(sent.iter().all(|transmit| transmit.kind == TransmitKind::Initiation));
    assert_eq!(out.1.0[0].1, out.1.0[1].1, "the same bytes go everywhere");
    assert_eq!(tunnel.device().peer(now, tunnel.selected()[0]).unwrap().tx_bytes, 2 * 148);
}

#[test]
fn a_removed_peer_leaves_nothing_behind() {
    let mut net = Network::new(3, 1);
    net.introduce(&[1]);
    let peer = net.peer(0, 1);
    let tunnel = &mut net.nodes[0].tunnel;
    tunnel.remove_peer(peer);
    assert!(tunnel.selection(peer).is_none());
    // And one that is removed by its key being taken for the device's own.
    tunnel.device_mut().set_private_key(net.now, Some(key(2)));
    let now = net.now;
    let mut out = Slots::default();
    while tunnel.poll_transmit(now, &mut out).is_some() {}
    let mut end = now;
    for _ in 0..100 {
        let Some((due, _)) = tunnel.poll_timeout() else { break };
        end = end.max(due);
        tunnel.handle_timeout(end);
        while tunnel.poll_transmit(end, &mut out).is_some() {}
        while tunnel.poll_event().is_some() {}
    }
    assert_eq!(tunnel.poll_timeout(), None);
    assert!(out.0.is_empty());
}

#[test]
fn a_clock_that_steps_back_stops_nothing() {
    let mut net = Network::new(2, 1);
    net.name(0, 1, &[nowhere(1)]);
    net.run(secs(1));
    let tunnel = &mut net.nodes[0].tunnel;
    let mut now = net.now - secs(3600);
    let mut out = Slots::default();
    tunnel.handle_timeout(now);
    for _ in 0..10 {
        while tunnel.poll_transmit(now, &mut out).is_some() {}
        while tunnel.poll_event().is_some() {}
        let (due, _) = tunnel.poll_timeout().unwrap();
        assert!(due <= now + secs(40), "{due:?} at {now:?}");
        now = now.max(due);
        tunnel.handle_timeout(now);
    }
    assert!(out.0.len() >= 3);
}

#[test]
fn ten_thousand_peers_start_without_a_flood_and_idle_for_free() {
    let now = Instant::from_secs(5);
    let mut tunnel = Tunnel::new(Some(key(60_000)), now, UnixTime::default(), [3; 32]);
    let count = 2_000;
    let mut peers = Vec::new();
    for n in 0..count {
        let peer = tunnel.device_mut().add_peer(now, key(n).public_key()).unwrap();
        tunnel.set_candidates(now, peer, CandidateSource::Published, &[nowhere(1), nowhere(2)]);
        peers.push(peer);
    }
    let mut out = Slots::default();
    while tunnel.poll_transmit(now, &mut out).is_some() {}
    assert_eq!(out.0.len(), 64, "a burst of thirty-two, twice each");
    let mut at = now;
    while out.0.len() < count * 2 {
        let (due, _) = tunnel.poll_timeout().unwrap();
        at = at.max(due);
        tunnel.handle_timeout(at);
        while tunnel.poll_transmit(at, &mut out).is_some() {}
    }
    assert!(at - now < ms(1500), "{:?}", at - now);

    // Once they are connected they have no timers here.
    for peer in &peers {
        let slot = slot_mut(&mut tunnel.slots, *peer).unwrap();
        slot.selection.established(at, &nowhere(1));
        tunnel.settle(*peer);
    }
    assert_eq!(tunnel.deadlines.first(), None);
    assert!(tunnel.asking.is_empty() && tunnel.probing.is_empty());
}

/// One thing that can happen to a network.
#[derive(Clone, Debug)]
enum Step {
    Talk(usize, usize),
    Wait(u16),
    Cut(u8, usize, usize),
    Heal,
    Rebind(u8, usize, u16),
    Slow(u8, u16),
    Moved(usize),
}

fn step(nodes: usize) -> impl Strategy<Value = Step> {
    let node = 0..nodes;
    prop_oneof![
        4 => (node.clone(), 1..nodes).prop_map(move |(a, b)| Step::Talk(a, (a + b) % nodes)),
        2 => (0u16..4000).prop_map(Step::Wait),
        3 => (1u8..4, node.clone(), 1..nodes).prop_map(move |(net, a, b)| Step::Cut(net, a, (a + b) % nodes)),
        1 => Just(Step::Heal),
        1 => (1u8..4, node.clone(), 1024u16..60_000).prop_map(|(net, node, port)| Step::Rebind(net, node, port)),
        1 => (1u8..4, 1u16..300).prop_map(|(net, latency)| Step::Slow(net, latency)),
        1 => node.prop_map(Step::Moved),
    ]
}

fn play(steps: &[Step], seed: u8) -> Network {
    let mut net = Network::new(3, seed);
    net.introduce(&[1, 2, 3]);
    for step in steps {
        match *step {
            Step::Talk(node, other) => net.talk(node, other, ms(300)),
            Step::Wait(millis) => net.run(ms(millis.into())),
            Step::Cut(network, from, to) => {
                net.holes.insert((network, from, to));
            }
            Step::Heal => net.holes.clear(),
            Step::Rebind(network, node, port) => {
                net.mappings.insert((network, node), port);
            }
            Step::Slow(network, latency) => {
                net.latency.insert(network, ms(latency.into()));
            }
            Step::Moved(node) => {
                let now = net.now;
                net.nodes[node].tunnel.network_changed(now, |source| source.interface != 2);
            }
        }
    }
    net
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever happened before: as long as one network carries both ways and its addresses are known,
    /// talking connects within seconds, and goes on without a pause. Deadlines are checked all the while.
    #[test]
    fn a_working_path_is_found(steps in prop::collection::vec(step(3), 0..20), good in 1u8..4, seed in any::<u8>()) {
        let mut net = play(&steps, seed);
        // From now on two of the networks are dead and the third is as published.
        net.holes.retain(|(network, _, _)| *network != good);
        for dead in (1..4).filter(|network| *network != good) {
            for (a, b) in [(0, 1), (1, 0)] {
                net.holes.insert((dead, a, b));
            }
        }
        net.mappings.retain(|(network, _), _| *network != good);
        let start = net.now;
        net.talk(0, 1, secs(8));
        prop_assert_eq!((net.path(0, 1), net.path(1, 0)), (Some(at(good, 1)), Some(at(good, 0))), "{}", net.log);
        let settled = net.now;
        net.talk(0, 1, secs(2));
        let answers = net.nodes[0].received.iter().filter(|(when, _)| *when > settled).count();
        prop_assert!(answers >= 30, "{answers} answers, from {start:?}\n{}", net.log);
    }

    #[test]
    fn the_same_seed_gives_the_same_log(steps in prop::collection::vec(step(3), 0..12), seed in any::<u8>()) {
        let log = |net: Network| -> String { net.log };
        prop_assert_eq!(log(play(&steps, seed)), log(play(&steps, seed)));
    }
}

#[test]
fn a_plan_is_applied_step_by_step() {
    use crate::key::PresharedKey;
    use crate::mesh::{NodeId, PeerSpec, Plan};
    let now = Instant::from_secs(5);
    let mut tunnel = Tunnel::new(Some(key(0)), now, UnixTime::default(), [3; 32]);
    let spec = |n: usize, prefixes: &[&str], endpoints: &[&str]| PeerSpec {
        node_id: NodeId::new("x").unwrap(),
        label: String::new(),
        public_key: key(n).public_key(),
        address: None,
        allowed_ips: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        suite: Suite::default(),
    };
    let plan = |peers: Vec<PeerSpec>| Plan { peers, ..Plan::default() };
    let psk = PresharedKey::from_bytes([9; 32]);
    let empty = Plan::default();
    let first = plan(vec![
        spec(1, &["10.0.0.0/24", "10.0.1.0/24"], &["192.0.2.1:51820"]),
        spec(2, &["10.0.2.0/24"], &[]),
        spec(3, &[], &["192.0.2.3:51820"]),
    ]);
    tunnel.apply(now, &first.changes_since(&empty), &psk).unwrap();
    let peer = |tunnel: &Tunnel, n: usize| tunnel.device().find(&key(n).public_key()).unwrap();
    let one = peer(&tunnel, 1);
    let status = tunnel.device().peer(now, one).unwrap();
    assert_eq!(status.keepalive, Some(25));
    assert_eq!(status.preshared_key, &psk);
    assert_eq!(tunnel.selection(one).unwrap().candidates().len(), 1);
    assert!(tunnel.selection(peer(&tunnel, 2)).is_some(), "one without endpoints is waited for");

    // A prefix moves from 1 to 2, an endpoint comes, a peer goes, another comes.
    let second = plan(vec![
        spec(1, &["10.0.0.0/24"], &["192.0.2.1:51820", "192.0.2.9:51820"]),
        spec(2, &["10.0.1.0/24", "10.0.2.0/24"], &[]),
        spec(4, &["10.0.4.0/24"], &[]),
    ]);
    tunnel.apply(now, &second.changes_since(&first), &psk).unwrap();
    assert_eq!(peer(&tunnel, 1), one);
    assert_eq!(tunnel.route("10.0.1.1".parse().unwrap()), Some(peer(&tunnel, 2)));
    assert_eq!(tunnel.route("10.0.0.1".parse().unwrap()), Some(one));
    assert_eq!(tunnel.selection(one).unwrap().candidates().len(), 2);
    assert!(tunnel.device().find(&key(3).public_key()).is_none());

    // And back the other way round.
    tunnel.apply(now, &first.changes_since(&second), &psk).unwrap();
    assert_eq!(tunnel.route("10.0.1.1".parse().unwrap()), Some(one));
    let own = plan(vec![spec(0, &[], &[]), spec(5, &[], &[])]);
    assert!(tunnel.apply(now, &own.changes_since(&empty), &psk).is_err());
    assert!(tunnel.device().find(&key(5).public_key()).is_some());
}

/// The probes are in the suite of the plan: one that accepts AES-256-GCM answers, one that does not drops them.
#[cfg(feature = "ring")]
#[test]
fn the_plan_decides_on_the_suite() {
    use crate::key::PresharedKey;
    use crate::mesh::{NodeId, PeerSpec, Plan};
    let mut now = Instant::from_secs(5);
    let mut tunnel = Tunnel::new(Some(key(0)), now, UnixTime::default(), [3; 32]);
    let mut device = Device::new(Some(key(1)), now, UnixTime::default(), [4; 32]);
    device.add_peer(now, key(0).public_key()).unwrap();
    let plan = |suite| Plan {
        peers: vec![PeerSpec {
            node_id: NodeId::new("x").unwrap(),
            label: String::new(),
            public_key: key(1).public_key(),
            address: None,
            allowed_ips: vec![],
            endpoints: vec![at(1, 1)],
            suite,
        }],
        ..Plan::default()
    };
    let (chacha, aes) = (plan(Suite::ChaCha20Poly1305), plan(Suite::Aes256Gcm));
    let steps = [(&Plan::default(), &aes, [0, 1]), (&aes, &chacha, [2, 3]), (&chacha, &aes, [3, 4])];
    for (before, after, expected) in steps {
        tunnel.apply(now, &after.changes_since(before), &PresharedKey::default()).unwrap();
        for (accepted, expected) in
            [Suites::NONE, Suites::NONE.with(Suite::Aes256Gcm)].into_iter().zip(expected)
        {
            device.accept_suites(accepted);
            now += secs(6);
            tunnel.handle_timeout(now);
            let mut out = Slots::default();
            while tunnel.poll_transmit(now, &mut out).is_some() {}
            for (_, mut datagram) in out.0 {
                assert_eq!(device.handle_datagram(now, &nowhere(1), &mut datagram), Inbound::Handshake);
                device.handle_timeout(now);
            }
            assert_eq!(device.counters().initiations_accepted, expected, "{accepted:?}");
        }
    }
}

#[test]
fn a_peer_with_a_choice_is_small() {
    // A peer may have 4 KiB in all; the device's part is more than half of that.
    let candidates = 4 * size_of::<crate::endpoint::Candidate>();
    let size = size_of::<Slot>() + size_of::<Option<Box<Slot>>>() + candidates;
    assert!(size <= 1024, "{size} bytes with four candidates");
}
