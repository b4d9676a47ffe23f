//! Several sources' views of the nodes, made one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{MachineType, Member, NodeId};
use crate::key::PublicKey;

/// A source of members, such as one discovery service. A higher number has the last word on what can
/// have only one value: a cache of old news comes first, the live service last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TierId(pub u16);

/// A node after merging, and who vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What all tiers together say about it.
    pub member: Member,
    /// The tiers that list it now, ascending. Empty: every tier forgot it, and only its live tunnel
    /// keeps it.
    pub tiers: Vec<TierId>,
}

/// What every tier last said, remembered for as long as it is of use.
///
/// A tier that falls silent takes nothing with it: its last words stand until it speaks again. What a
/// tier takes back stays while the node's tunnel is alive, because a tunnel that carries traffic is
/// better evidence than a record that expired.
#[derive(Debug)]
pub struct Roster {
    own: NodeId,
    /// Of each node, ascending by tier. Most are known to few tiers: a list has room for no more.
    views: BTreeMap<NodeId, Vec<View>>,
}

#[derive(Debug, PartialEq)]
struct View {
    tier: TierId,
    member: Member,
    /// The tier has taken it back since.
    lapsed: bool,
}

impl Roster {
    /// An empty roster of the node `own`, whose own record is skipped wherever it appears.
    pub fn new(own: NodeId) -> Self {
        Roster { own, views: BTreeMap::new() }
    }

    /// Takes the complete list of a tier; whom it does not name, it has forgotten.
    pub fn snapshot(&mut self, tier: TierId, members: impl IntoIterator<Item = Member>) {
        self.lapse_all(tier);
        for member in members {
            self.update(tier, member);
        }
    }

    /// Takes one member as the tier now describes it. Whether that is news: members are published again and again
    /// only so that they are not forgotten.
    pub fn update(&mut self, tier: TierId, member: Member) -> bool {
        if member.node_id == self.own {
            return false;
        }
        let views = self.views.entry(member.node_id.clone()).or_default();
        let view = View { tier, member, lapsed: false };
        match views.binary_search_by_key(&tier, |view| view.tier) {
            Ok(place) if views[place] == view => return false,
            Ok(place) => views[place] = view,
            Err(place) => {
                views.reserve_exact(1);
                views.insert(place, view);
            }
        }
        true
    }

    /// Takes note that the tier no longer lists the node. Whether it did.
    pub fn remove(&mut self, tier: TierId, node: &NodeId) -> bool {
        let view = self.views.get_mut(node).and_then(|views| views.iter_mut().find(|view| view.tier == tier));
        view.is_some_and(|view| !core::mem::replace(&mut view.lapsed, true))
    }

    /// Takes note that the tier is no longer asked at all. A tier that merely lost its connection keeps
    /// its members: do not call this for it.
    pub fn lapse_all(&mut self, tier: TierId) {
        for view in self.views.values_mut().flatten().filter(|view| view.tier == tier) {
            view.lapsed = true;
        }
    }

    /// Everyone known, ascending by node id. `alive` tells whether the tunnel to a key works; what no
    /// tier vouches for is dropped for good where it does not, so call this again when a tunnel dies.
    pub fn members(&mut self, mut alive: impl FnMut(&PublicKey) -> bool) -> Vec<Known> {
        self.drop_stale(&mut alive);
        self.views
            .values()
            .filter_map(|views| {
                let tiers = views.iter().filter(|view| !view.lapsed).map(|view| view.tier).collect();
                // Lapsed views go first: whoever still speaks overrides them.
                let lapsed = views.iter().filter(|view| view.lapsed);
                let current = views.iter().filter(|view| !view.lapsed);
                let member = merge(lapsed.chain(current).map(|view| &view.member))?;
                Some(Known { member, tiers })
            })
            .collect()
    }

    fn drop_stale(&mut self, alive: &mut impl FnMut(&PublicKey) -> bool) {
        let current: BTreeSet<PublicKey> =
            self.views.values().flatten().filter(|v| !v.lapsed).filter_map(View::key).collect();
        self.views.retain(|_, views| {
            let own: Vec<PublicKey> = views.iter().filter(|v| !v.lapsed).filter_map(View::key).collect();
            views.retain(|view| {
                !view.lapsed
                    || view.key().is_some_and(|key| {
                        // A node that has a new key, or a key that has a new node id, left this behind.
                        let superseded =
                            if own.is_empty() { current.contains(&key) } else { !own.contains(&key) };
                        !superseded && alive(&key)
                    })
            });
            !views.is_empty()
        });
    }
}

impl View {
    fn key(&self) -> Option<PublicKey> {
        self.member.kubespan.as_ref().map(|kubespan| kubespan.public_key)
    }
}

/// Merges views of one node, the weakest first, as Talos does: the later one overrides names, role,
/// key, suites and overlay address where it has any; lists are unions in order; the operating system of the
/// first that knows it stays. `None` for no views.
pub fn merge<'a>(views: impl IntoIterator<Item = &'a Member>) -> Option<Member> {
    let mut views = views.into_iter();
    let mut merged = views.next()?.clone();
    for view in views {
        replace_text(&mut merged.hostname, &view.hostname);
        replace_text(&mut merged.nodename, &view.nodename);
        if merged.operating_system.is_empty() {
            replace_text(&mut merged.operating_system, &view.operating_system);
        }
        match view.machine_type {
            MachineType::Unknown => {}
            known @ (MachineType::Init | MachineType::ControlPlane | MachineType::Worker) => {
                merged.machine_type = known;
            }
        }
        merged.control_plane = view.control_plane.or(merged.control_plane);
        unite(&mut merged.addresses, &view.addresses);
        unite(&mut merged.endpoints, &view.endpoints);
        match (&mut merged.kubespan, &view.kubespan) {
            (Some(merged), Some(view)) => {
                merged.public_key = view.public_key;
                merged.address = view.address.or(merged.address);
                merged.suites = view.suites;
                unite(&mut merged.additional_addresses, &view.additional_addresses);
                unite(&mut merged.exclude_advertised_addresses, &view.exclude_advertised_addresses);
            }
            (none @ None, Some(view)) => *none = Some(view.clone()),
            (_, None) => {}
        }
    }
    Some(merged)
}

fn replace_text(text: &mut alloc::string::String, newer: &str) {
    if !newer.is_empty() {
        text.clear();
        text.push_str(newer);
    }
}

fn unite<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Suite, Suites};
    use crate::mesh::test::{member, net};
    use crate::mesh::{ControlPlane, KubeSpan};
    use alloc::string::ToString as _;
    use std::vec;

    const CACHE: TierId = TierId(0);
    const KUBERNETES: TierId = TierId(1);
    const SERVICE: TierId = TierId(2);

    fn nobody(_: &PublicKey) -> bool {
        false
    }

    fn ids(known: &[Known]) -> Vec<&str> {
        known.iter().map(|known| known.member.node_id.as_str()).collect()
    }

    #[test]
    fn the_last_word_on_suites_is_the_newest() {
        let aes = Suites::NONE.with(Suite::Aes256Gcm);
        let with = |suites| {
            let mut view = member("a", 1);
            view.kubespan.as_mut().unwrap().suites = suites;
            view
        };
        for (old, new) in [(aes, Suites::NONE), (Suites::NONE, aes)] {
            let merged = merge([&with(old), &with(new)]).unwrap();
            assert_eq!(merged.kubespan.unwrap().suites, new, "a member that takes it back is believed");
        }
    }

    #[test]
    fn later_views_override_what_is_single_and_add_to_what_is_many() {
        let mut first = member("a", 1);
        first.operating_system = "Talos (v1)".to_string();
        first.machine_type = MachineType::Worker;
        first.addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        first.endpoints = vec!["10.0.0.1:51820".parse().unwrap()];
        let mut second = member("a", 2);
        second.operating_system = "Talos (v2)".to_string();
        second.hostname = "renamed".to_string();
        second.nodename.clear();
        second.machine_type = MachineType::Unknown;
        second.control_plane = Some(ControlPlane { api_server_port: 6443 });
        second.addresses = vec!["10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()];
        second.endpoints = vec!["192.0.2.1:4".parse().unwrap(), "10.0.0.1:51820".parse().unwrap()];
        second.kubespan.as_mut().unwrap().address = None;
        second.kubespan.as_mut().unwrap().additional_addresses = vec![net("10.244.1.0/24")];

        let merged = merge([&first, &second]).unwrap();
        assert_eq!(merged.hostname, "renamed");
        assert_eq!(merged.nodename, first.nodename);
        assert_eq!(merged.operating_system, "Talos (v1)");
        assert_eq!(merged.machine_type, MachineType::Worker);
        assert_eq!(merged.control_plane, second.control_plane);
        assert_eq!(merged.addresses.len(), 3);
        assert_eq!(merged.endpoints, [first.endpoints[0], second.endpoints[0]]);
        let kubespan = merged.kubespan.unwrap();
        assert_eq!(kubespan.public_key, PublicKey::from_bytes([2; 32]));
        assert_eq!(kubespan.address, first.kubespan.unwrap().address);
        assert_eq!(kubespan.additional_addresses, [net("10.244.1.0/24")]);
    }

    #[test]
    fn a_view_without_key_takes_no_key_away() {
        let (with, mut without) = (member("a", 1), member("a", 1));
        without.kubespan = None;
        assert_eq!(merge([&with, &without]).unwrap().kubespan, with.kubespan);
        assert_eq!(merge([&without, &with]).unwrap().kubespan, with.kubespan);
    }

    #[test]
    fn the_own_node_and_the_tier_order_are_minded() {
        let mut roster = Roster::new(NodeId::new("me").unwrap());
        roster.update(SERVICE, member("a", 9));
        roster.snapshot(KUBERNETES, [member("b", 2), member("me", 7), member("a", 1)]);
        let known = roster.members(nobody);
        assert_eq!(ids(&known), ["a", "b"]);
        assert_eq!(known[0].tiers, [KUBERNETES, SERVICE]);
        assert_eq!(known[0].member.kubespan.as_ref().unwrap().public_key, PublicKey::from_bytes([9; 32]));
    }

    #[test]
    fn what_is_only_repeated_is_no_news() {
        let (mut roster, id) = (Roster::new(NodeId::new("me").unwrap()), NodeId::new("a").unwrap());
        assert!(!roster.update(SERVICE, member("me", 7)));
        assert!(!roster.remove(SERVICE, &id));
        assert!(roster.update(SERVICE, member("a", 1)));
        assert!(!roster.update(SERVICE, member("a", 1)));
        assert!(roster.update(KUBERNETES, member("a", 1)), "another says it too");
        assert!(roster.update(SERVICE, member("a", 2)));
        assert!(roster.remove(SERVICE, &id));
        assert!(!roster.remove(SERVICE, &id));
        assert!(roster.update(SERVICE, member("a", 2)), "it is back");
    }

    #[test]
    fn what_one_tier_takes_back_another_still_says() {
        let mut roster = Roster::new(NodeId::new("me").unwrap());
        roster.snapshot(CACHE, [member("a", 1)]);
        roster.snapshot(SERVICE, [member("a", 1), member("b", 2)]);
        roster.snapshot(SERVICE, []);
        assert_eq!(ids(&roster.members(nobody)), ["a"]);
    }

    #[test]
    fn a_forgotten_member_stays_while_its_tunnel_lives() {
        let mut roster = Roster::new(NodeId::new("me").unwrap());
        let (key_a, key_b) = (PublicKey::from_bytes([1; 32]), PublicKey::from_bytes([2; 32]));
        let mut rich = member("b", 2);
        rich.addresses.push("10.9.9.9".parse().unwrap());
        roster.snapshot(KUBERNETES, [member("b", 2)]);
        roster.snapshot(SERVICE, [member("a", 1), rich.clone()]);
        // The service lost its memory: one node is known to nobody, of the other half a record is left.
        roster.snapshot(SERVICE, []);
        let known = roster.members(|key| *key == key_a || *key == key_b);
        assert_eq!(ids(&known), ["a", "b"]);
        assert!(known[0].tiers.is_empty());
        assert_eq!(known[1].tiers, [KUBERNETES]);
        assert!(known[1].member.addresses.contains(&"10.9.9.9".parse().unwrap()));

        assert_eq!(ids(&roster.members(|key| *key == key_b)), ["b"]);
        // Dropped is dropped: a tunnel cannot bring back a record that is gone.
        assert_eq!(ids(&roster.members(|_| true)), ["b"]);
    }

    #[test]
    fn a_new_key_or_a_new_id_leaves_the_forgotten_record_behind() {
        let mut roster = Roster::new(NodeId::new("me").unwrap());
        roster.update(SERVICE, member("a", 1));
        roster.remove(SERVICE, &NodeId::new("a").unwrap());
        roster.update(KUBERNETES, member("a", 5));
        let known = roster.members(|_| true);
        assert_eq!(known[0].member.kubespan.as_ref().unwrap().public_key, PublicKey::from_bytes([5; 32]));

        roster.remove(KUBERNETES, &NodeId::new("a").unwrap());
        roster.update(SERVICE, member("reinstalled", 5));
        assert_eq!(ids(&roster.members(|_| true)), ["reinstalled"]);
    }

    #[test]
    fn a_member_without_a_key_is_known_but_never_outlives_its_tiers() {
        let mut roster = Roster::new(NodeId::new("me").unwrap());
        let mut bare = member("a", 1);
        bare.kubespan = None::<KubeSpan>;
        roster.update(SERVICE, bare);
        assert_eq!(ids(&roster.members(nobody)), ["a"]);
        roster.lapse_all(SERVICE);
        assert!(roster.members(|_| true).is_empty());
    }
}
