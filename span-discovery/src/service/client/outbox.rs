//! What a node wants the service to know. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use span_core::mesh::NodeId;

use super::view::View;
use crate::seal::{ClusterId, ClusterSecret};
use crate::wire::server::AffiliateUpdateRequest;

/// Endpoints of one affiliate a service takes.
pub(super) const ENDPOINTS: usize = 64;

/// What is wanted; replaced as a whole with every change.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    /// The node's own record, sealed once per change.
    pub(super) own: Own,
    /// Counts the changes of `own`.
    pub(super) version: u64,
    /// Where the others were seen.
    pub(super) observed: BTreeMap<NodeId, BTreeSet<SocketAddr>>,
}

/// What is wanted of the node's own record.
#[derive(Clone, Default)]
pub(super) enum Own {
    #[default]
    Nothing,
    Published {
        data: Bytes,
        endpoints: Vec<Bytes>,
    },
    Withdrawn,
}

/// What this connection has achieved of it.
#[derive(Default)]
pub(super) struct Achieved {
    /// The version of the own record the service has.
    pub(super) own: Option<u64>,
    /// Endpoints of others that this node sent, and keeps alive.
    pub(super) observed: BTreeSet<(NodeId, SocketAddr)>,
}

impl Achieved {
    /// The service has nothing of `node` any more.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.observed.retain(|(of, _)| of != node);
    }
}

/// One call to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Publish(AffiliateUpdateRequest),
    Withdraw,
    Observe(NodeId, Vec<SocketAddr>, AffiliateUpdateRequest),
}

pub(super) struct Terms<'a> {
    pub(super) cluster: &'a ClusterId,
    pub(super) secret: &'a ClusterSecret,
    pub(super) me: &'a NodeId,
    pub(super) ttl: Duration,
}

impl Wanted {
    /// The calls that bring the service up to date, or, if `all`, keep everything alive as well.
    ///
    /// Of the endpoints seen, those are sent that the service does not list yet, and those that it lists
    /// because of this node: what the member itself or a third node keeps alive needs no help, or every node
    /// would refresh every other.
    pub(super) fn calls(
        &self,
        terms: &Terms<'_>,
        view: &View,
        achieved: &mut Achieved,
        all: bool,
    ) -> Vec<Call> {
        let mut calls = Vec::new();
        let update =
            |affiliate: &NodeId, data: Option<Bytes>, endpoints: Vec<Bytes>| AffiliateUpdateRequest {
                cluster_id: terms.cluster.as_str().to_owned(),
                affiliate_id: affiliate.as_str().to_owned(),
                affiliate_data: data,
                affiliate_endpoints: endpoints,
                ttl: prost_types::Duration::try_from(terms.ttl).ok(),
            };
        let current = achieved.own == Some(self.version);
        match &self.own {
            Own::Published { data, endpoints } if all || !current => {
                calls.push(Call::Publish(update(terms.me, Some(data.clone()), endpoints.clone())));
            }
            Own::Withdrawn if !current => calls.push(Call::Withdraw),
            Own::Nothing | Own::Published { .. } | Own::Withdrawn => {}
        }

        let wanted = |node: &NodeId, endpoint: &SocketAddr| {
            self.observed.get(node).is_some_and(|endpoints| endpoints.contains(endpoint))
        };
        achieved.observed.retain(|(node, endpoint)| wanted(node, endpoint));
        for (node, endpoints) in &self.observed {
            // A node the service knows nothing of would be made a ghost.
            let Some(member) = view.member(node) else { continue };
            let due = |endpoint: &&SocketAddr| {
                let ours = achieved.observed.contains(&(node.clone(), **endpoint));
                let listed = member.endpoints.contains(endpoint);
                if ours { all } else { !listed }
            };
            let due: Vec<SocketAddr> = endpoints.iter().filter(due).take(ENDPOINTS).copied().collect();
            if !due.is_empty() {
                let sealed =
                    due.iter().map(|endpoint| terms.secret.seal_endpoint(*endpoint).into()).collect();
                calls.push(Call::Observe(node.clone(), due, update(node, None, sealed)));
            }
        }
        calls
    }

    /// Whether the service should hear of something at once.
    pub(super) fn is_due(&self, terms: &Terms<'_>, view: &View, achieved: &mut Achieved) -> bool {
        !self.calls(terms, view, achieved, false).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tier::TierEvent;
    use crate::wire::server::Affiliate;
    use span_core::mesh::{MachineType, Member};

    struct Fixture {
        cluster: ClusterId,
        secret: ClusterSecret,
        me: NodeId,
        view: View,
        wanted: Wanted,
        achieved: Achieved,
    }

    impl Fixture {
        fn new() -> Self {
            let secret = ClusterSecret::from_bytes([1; 32]);
            let me = NodeId::new("me").unwrap();
            Fixture {
                cluster: ClusterId::new("c").unwrap(),
                view: View::new(secret.clone(), me.clone()),
                secret,
                me,
                wanted: Wanted::default(),
                achieved: Achieved::default(),
            }
        }

        fn calls(&mut self, all: bool) -> Vec<Call> {
            let Fixture { cluster, secret, me, view, wanted, achieved } = self;
            wanted.calls(&Terms { cluster, secret, me, ttl: Duration::from_secs(1800) }, view, achieved, all)
        }

        fn service_lists(&mut self, name: &str, endpoints: &[&str]) {
            let member = Member {
                node_id: NodeId::new(name).unwrap(),
                addresses: Vec::new(),
                hostname: String::new(),
                nodename: String::new(),
                machine_type: MachineType::Worker,
                operating_system: String::new(),
                kubespan: None,
                control_plane: None,
                endpoints: Vec::new(),
            };
            let affiliate = Affiliate {
                id: name.to_owned(),
                data: self.secret.seal_member(&member, [0; 12]).unwrap().into(),
                endpoints: endpoints
                    .iter()
                    .map(|endpoint| self.secret.seal_endpoint(endpoint.parse().unwrap()).into())
                    .collect(),
            };
            self.view.update(&affiliate, &mut Vec::<TierEvent>::new());
        }

        fn observe(&mut self, name: &str, endpoint: &str) {
            let endpoints = self.wanted.observed.entry(NodeId::new(name).unwrap()).or_default();
            endpoints.insert(endpoint.parse().unwrap());
        }
    }

    #[test]
    fn the_own_record_is_sent_when_it_changes_and_when_all_is_refreshed() {
        let mut fixture = Fixture::new();
        assert!(fixture.calls(true).is_empty());
        fixture.wanted.own = Own::Published { data: Bytes::from_static(b"1"), endpoints: Vec::new() };
        fixture.wanted.version = 1;
        let calls = fixture.calls(false);
        let [Call::Publish(request)] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!((request.affiliate_id.as_str(), request.ttl.unwrap().seconds), ("me", 1800));
        fixture.achieved.own = Some(1);
        assert!(fixture.calls(false).is_empty());
        assert_eq!(fixture.calls(true), calls);
        fixture.wanted.own = Own::Withdrawn;
        fixture.wanted.version = 2;
        assert_eq!(fixture.calls(false), [Call::Withdraw]);
        fixture.achieved.own = Some(2);
        assert!(fixture.calls(true).is_empty());
    }

    #[test]
    fn endpoints_are_sent_only_where_nobody_else_keeps_them() {
        let mut fixture = Fixture::new();
        fixture.observe("a", "192.0.2.1:1");
        assert!(fixture.calls(true).is_empty(), "the service does not know the node");
        fixture.service_lists("a", &["192.0.2.1:1"]);
        assert!(fixture.calls(true).is_empty(), "the node says so itself");
        fixture.service_lists("a", &[]);
        let endpoint: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let calls = fixture.calls(false);
        assert!(
            matches!(&calls[..], [Call::Observe(node, sent, _)] if node.as_str() == "a" && *sent == [endpoint])
        );
        let Call::Observe(_, _, request) = &calls[0] else { unreachable!() };
        assert_eq!(request.affiliate_data, None);

        fixture.achieved.observed.insert((NodeId::new("a").unwrap(), endpoint));
        fixture.service_lists("a", &["192.0.2.1:1"]);
        assert!(fixture.calls(false).is_empty());
        assert_eq!(fixture.calls(true).len(), 1, "this node keeps it alive");
        fixture.service_lists("a", &[]);
        assert!(fixture.calls(false).is_empty(), "what was just sent is not listed yet");
        fixture.wanted.observed.clear();
        assert!(fixture.calls(true).is_empty());
        assert!(fixture.achieved.observed.is_empty());
    }
}
