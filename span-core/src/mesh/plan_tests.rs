use super::*;
use crate::mesh::test::{member, net, prefix, ula};
use alloc::string::ToString as _;
use proptest::prelude::*;
use std::{format, vec};

fn local() -> Local {
    Local {
        node_id: NodeId::new("me").unwrap(),
        public_key: PublicKey::from_bytes([200; 32]),
        overlay: prefix(),
        addresses: vec![net("172.20.0.200/24"), IpNet::new(ula(200).into(), 64).unwrap()],
        networks: vec![net("10.244.200.0/24")],
        excluded: vec![],
        peer_endpoints: None,
        suites: Suites::NONE,
    }
}

fn kubespan(member: &mut Member) -> &mut KubeSpan {
    member.kubespan.as_mut().unwrap()
}

fn allowed(plan: &Plan, id: &str) -> Vec<alloc::string::String> {
    let peer = plan.peers.iter().find(|peer| peer.node_id.as_str() == id).unwrap();
    // Overlay addresses are in every list; the tests are about the rest.
    let rest = peer.allowed_ips.iter().filter(|net| Some(net.addr()) != peer.address);
    rest.map(IpNet::to_string).collect()
}

fn refused(plan: &Plan, id: &str) -> Vec<Refused> {
    assert_eq!(plan.refusals.len(), plan.refused);
    plan.refusals.iter().filter(|refusal| refusal.node_id.as_str() == id).map(|r| r.what.clone()).collect()
}

#[test]
fn a_peer_gets_its_networks_its_addresses_and_its_overlay_address() {
    let mut a = member("a", 1);
    kubespan(&mut a).additional_addresses = vec![net("10.244.1.1/25"), net("10.244.1.128/25")];
    a.nodename.clear();
    let plan = plan(&local(), [&a]);
    let [peer] = plan.peers.as_slice() else { panic!("one peer") };
    assert_eq!(
        peer.allowed_ips,
        [net("10.244.1.0/24"), net("172.20.0.1/32"), IpNet::from(IpAddr::V6(ula(1)))]
    );
    assert_eq!(peer.address, Some(ula(1).into()));
    assert_eq!(peer.label, "a");
    assert_eq!(peer.endpoints, a.endpoints);
    assert_eq!(plan.refused, 0);
}

/// AES-256-GCM is used where both announce it.
#[test]
fn a_suite_is_used_where_both_have_it() {
    let aes = Suites::NONE.with(Suite::Aes256Gcm);
    let chacha = Suites::NONE.with(Suite::ChaCha20Poly1305);
    let cases = [(aes, aes, Suite::Aes256Gcm), (aes, Suites::NONE, Suite::ChaCha20Poly1305)];
    let mirrored = [(Suites::NONE, aes, Suite::ChaCha20Poly1305), (chacha, chacha, Suite::ChaCha20Poly1305)];
    for (ours, theirs, expected) in cases.into_iter().chain(mirrored) {
        let mut a = member("a", 1);
        kubespan(&mut a).suites = theirs;
        let plan = plan(&Local { suites: ours, ..local() }, [&a]);
        assert_eq!(plan.peers[0].suite, expected, "{ours:?} and {theirs:?}");
    }
}

#[test]
fn exclusions_of_either_side_are_taken_out_but_never_the_overlay_address() {
    let mut a = member("a", 1);
    kubespan(&mut a).additional_addresses = vec![net("192.168.0.0/23"), net("10.1.0.0/24")];
    kubespan(&mut a).exclude_advertised_addresses = vec![net("192.168.1.0/24"), net("::/0")];
    let local = Local { excluded: vec![net("10.1.0.128/25"), net("fd00::/8")], ..local() };
    let plan = plan(&local, [&a]);
    assert_eq!(allowed(&plan, "a"), ["10.1.0.0/25", "172.20.0.1/32", "192.168.0.0/24"]);
    assert!(plan.peers[0].allowed_ips.contains(&IpNet::from(IpAddr::V6(ula(1)))));
    assert_eq!(plan.refused, 0);
}

#[test]
fn the_smaller_id_keeps_what_two_claim() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    kubespan(&mut a).additional_addresses = vec![net("10.0.0.0/25")];
    kubespan(&mut b).additional_addresses = vec![net("10.0.0.0/24")];
    let plan = plan(&local(), [&b, &a]);
    assert_eq!(allowed(&plan, "a"), ["10.0.0.0/25", "172.20.0.1/32"]);
    assert_eq!(allowed(&plan, "b"), ["10.0.0.128/25", "172.20.0.2/32"]);
    let holder = NodeId::new("a").unwrap();
    assert_eq!(refused(&plan, "b"), [Refused::Held { net: net("10.0.0.0/25"), holder }]);
}

#[test]
fn a_peer_that_lost_everything_is_still_a_peer() {
    let (a, mut b) = (member("a", 1), member("b", 2));
    b.addresses = a.addresses.clone();
    kubespan(&mut b).address = a.kubespan.as_ref().unwrap().address;
    let plan = plan(&local(), [&a, &b]);
    assert_eq!(plan.peers.len(), 2);
    assert!(plan.peers[1].allowed_ips.is_empty());
    assert_eq!(refused(&plan, "b").len(), 2);
}

#[test]
fn no_network_swallows_an_overlay_address() {
    let (mut a, b) = (member("a", 1), member("b", 2));
    kubespan(&mut a).additional_addresses = vec![IpNet::V6(prefix()), net("fd00::/8")];
    let plan = plan(&local(), [&a, &b]);
    let overlay_of_b = IpNet::from(IpAddr::V6(ula(2)));
    assert!(plan.peers[1].allowed_ips.contains(&overlay_of_b));
    assert!(!plan.peers[0].allowed_ips.iter().any(|net| net.contains(&overlay_of_b)));
    // The rest of what it asked for it has.
    assert!(plan.peers[0].allowed_ips.iter().any(|net| net.contains(&"fd00::1".parse::<IpAddr>().unwrap())));
    assert_eq!(refused(&plan, "a"), [Refused::Overlay(IpNet::V6(prefix()))]);
}

#[test]
fn nobody_is_given_this_nodes_addresses() {
    let mut a = member("a", 1);
    a.addresses.push("172.20.0.200".parse().unwrap());
    kubespan(&mut a).address = Some(ula(200).into());
    kubespan(&mut a).additional_addresses = vec![net("10.244.200.64/26"), net("10.244.201.0/24")];
    let plan = plan(&local(), [&a]);
    let overlay = IpNet::from(IpAddr::V6(ula(200)));
    assert!(!plan.peers[0].allowed_ips.contains(&overlay));
    assert!(!plan.peers[0].allowed_ips.contains(&net("172.20.0.200/32")));
    assert!(plan.peers[0].allowed_ips.contains(&net("10.244.201.0/24")));
    let what = refused(&plan, "a");
    for expected in [
        Refused::Ours(overlay),
        Refused::Ours(net("10.244.200.64/26")),
        Refused::Ours(net("172.20.0.200/32")),
        // Its address list still names its own, for which its record no longer vouches.
        Refused::Overlay(IpNet::from(IpAddr::V6(ula(1)))),
    ] {
        assert!(what.contains(&expected), "{expected:?} in {what:?}");
    }
}

#[test]
fn nonsense_is_refused_and_the_rest_kept() {
    let mut a = member("a", 1);
    a.addresses.extend(["127.0.0.1", "fe80::1", "::ffff:10.9.9.9"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    kubespan(&mut a).additional_addresses =
        vec![net("0.0.0.0/0"), net("128.0.0.0/1"), net("::/0"), net("224.0.0.0/8"), net("10.5.0.0/16")];
    let plan = plan(&local(), [&a]);
    assert_eq!(allowed(&plan, "a"), ["10.5.0.0/16", "10.9.9.9/32", "172.20.0.1/32"]);
    let what = refused(&plan, "a");
    assert_eq!(what.iter().filter(|what| matches!(what, Refused::TooWide(_))).count(), 3);
    assert_eq!(what.iter().filter(|what| matches!(what, Refused::NotUnicast(_))).count(), 3);
}

#[test]
fn keys_are_unique() {
    let (a, mut b, mut c) = (member("a", 1), member("b", 2), member("c", 3));
    kubespan(&mut b).public_key = PublicKey::from_bytes([1; 32]);
    kubespan(&mut c).public_key = PublicKey::from_bytes([200; 32]);
    let me = member("me", 200);
    let plan = plan(&local(), [&c, &b, &a, &me]);
    assert_eq!(plan.peers.iter().map(|peer| peer.node_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(refused(&plan, "b"), [Refused::KeyOf(NodeId::new("a").unwrap())]);
    assert_eq!(refused(&plan, "c"), [Refused::OwnKey]);
    assert_eq!(refused(&plan, "me"), []);
}

#[test]
fn endpoints_are_cleaned_and_filtered() {
    let mut a = member("a", 1);
    a.endpoints =
        ["10.0.0.1:51820", "[::ffff:10.0.0.1]:51820", "10.0.0.1:0", "203.0.113.1:7", "192.168.1.1:51820"]
            .map(|text| text.parse().unwrap())
            .to_vec();
    a.endpoints.push((ula(1), 51820).into());
    let rules = ["203.0.113.0/24", "0.0.0.0/0", "!192.168.0.0/16"].map(|rule| rule.parse().unwrap());
    let local = Local { peer_endpoints: Some(Filter::new(rules.to_vec())), ..local() };
    let plan = plan(&local, [&a]);
    let endpoints: Vec<_> = plan.peers[0].endpoints.iter().map(SocketAddr::to_string).collect();
    assert_eq!(endpoints, ["203.0.113.1:7", "10.0.0.1:51820"]);
    assert_eq!(
        refused(&plan, "a"),
        [
            Refused::EndpointUnusable("10.0.0.1:0".parse().unwrap()),
            Refused::EndpointInside((ula(1), 51820).into()),
            Refused::EndpointFiltered("192.168.1.1:51820".parse().unwrap()),
        ]
    );
}

#[test]
fn forbidden_is_what_only_the_mesh_reaches() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    kubespan(&mut a).additional_addresses =
        vec![net("10.244.1.0/24"), net("192.168.5.0/30"), net("172.20.0.0/24")];
    b.addresses.push("192.168.5.2".parse().unwrap());
    let plan = plan(&local(), [&a, &b]);
    let forbidden: PrefixSet = plan.forbidden.iter().copied().collect();
    let is_forbidden = |ip: &str| forbidden.contains(ip.parse().unwrap());
    assert!(is_forbidden("10.244.1.7"));
    assert!(is_forbidden("192.168.5.1"));
    assert!(is_forbidden(&ula(77).to_string()));
    // The address of a member is where its tunnel ends, whoever claims the network around it.
    assert!(!is_forbidden("192.168.5.2"));
    assert!(!is_forbidden("172.20.0.1"));
    // This node stands in that network itself.
    assert!(!is_forbidden("172.20.0.99"));
    assert!(!is_forbidden("198.51.100.1"));
}

#[test]
fn refusals_are_counted_beyond_what_is_kept() {
    let (mut a, mut b) = (member("a", 1), member("b", 2));
    let many = (0..100u8).map(|n| net(&format!("10.{n}.0.0/24"))).collect::<Vec<_>>();
    kubespan(&mut a).additional_addresses.clone_from(&many);
    kubespan(&mut b).additional_addresses = many;
    let plan = plan(&local(), [&a, &b]);
    assert_eq!((plan.refused, plan.refusals.len()), (100, Plan::REFUSALS_PER_MEMBER));
}

#[test]
fn changes_name_what_differs_and_nothing_else() {
    let (a, mut b, c) = (member("a", 1), member("b", 2), member("c", 3));
    let before = plan(&local(), [&a, &b]);
    assert!(before.changes_since(&before).is_empty());
    b.endpoints.push("203.0.113.1:7".parse().unwrap());
    let mut rekeyed = a.clone();
    kubespan(&mut rekeyed).public_key = PublicKey::from_bytes([9; 32]);
    let after = plan(&local(), [&rekeyed, &b, &c]);
    let changes = after.changes_since(&before);
    let keys =
        |peers: &[&PeerSpec]| peers.iter().map(|peer| peer.public_key.as_bytes()[0]).collect::<Vec<_>>();
    assert_eq!(keys(&changes.removed), [1]);
    assert_eq!(keys(&changes.added), [9, 3]);
    let [update] = changes.updated.as_slice() else { panic!("one update") };
    assert_eq!((update.before, update.after), (&before.peers[1], &after.peers[1]));
}

#[test]
fn ten_thousand_members_are_planned_without_a_quadratic() {
    let members: Vec<Member> = (0..10_000u32)
        .map(|n| {
            let mut member = member(&format!("{n:05}"), 1);
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            kubespan(&mut member).public_key = PublicKey::from_bytes(key);
            kubespan(&mut member).address =
                Some(overlay::address_from_key(prefix(), &PublicKey::from_bytes(key)).into());
            let [_, _, high, low] = n.to_be_bytes();
            // Everybody has the bridge of a container runtime.
            member.addresses = vec![IpAddr::V4([10, 1, high, low].into()), "172.17.0.1".parse().unwrap()];
            kubespan(&mut member).additional_addresses = vec![net(&format!("10.{}.{low}.0/24", 2 + high))];
            member
        })
        .collect();
    let plan = plan(&local(), &members);
    assert_eq!(plan.peers.len(), 10_000);
    assert_eq!(plan.refused, 9_999);
    assert!(plan.peers.iter().skip(1).all(|peer| peer.allowed_ips.len() == 3));
}

proptest! {
    /// Whatever members claim, no address is given twice, none of ours is given away, and the order in
    /// which they are listed does not matter.
    #[test]
    fn no_address_is_given_twice(claims in prop::collection::vec((0u8..12, any::<[u8; 4]>(), 0u8..=32), 1..40), seed in any::<u64>()) {
        let mut members: Vec<Member> = (0..12).map(|n| member(&format!("{n}"), n)).collect();
        for (who, ip, len) in claims {
            // A small corner of the address space, so that claims meet.
            let ip = [10, ip[1] & 3, ip[2] & 1, ip[3]];
            let claim = IpNet::new(IpAddr::V4(ip.into()), len).unwrap();
            kubespan(&mut members[usize::from(who)]).additional_addresses.push(claim);
        }
        let local = Local { networks: vec![net("10.1.0.0/24")], ..local() };
        let forward = plan(&local, &members);
        members.rotate_left((seed % 12) as usize);
        prop_assert_eq!(&forward, &plan(&local, members.iter().rev()));

        let mut given = PrefixSet::new();
        for peer in &forward.peers {
            for net in &peer.allowed_ips {
                prop_assert!(!given.overlaps(*net));
                given.insert(*net);
            }
        }
        for own in [net("10.1.0.0/24"), net("172.20.0.200/32"), IpNet::from(IpAddr::V6(ula(200)))] {
            prop_assert!(!given.overlaps(own));
        }
        // Nothing that one of them claims, and that may be given, is lost between two claimants.
        for member in &members {
            for claim in &member.kubespan.as_ref().unwrap().additional_addresses {
                let mut rest: PrefixSet = [*claim].into_iter().collect();
                if claim.prefix_len() >= MIN_PREFIX_LEN {
                    rest.remove(net("10.1.0.0/24"));
                    rest.subtract(&given);
                    prop_assert!(rest.is_empty(), "{:?} of {claim} is with nobody", rest.prefixes());
                }
            }
        }
    }
}
