//! Members become WireGuard peers: who gets which addresses, and where each may be reached.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv6Net};

use super::claims::Claims;
use super::prefix_set::PrefixSet;
use super::{Filter, KubeSpan, Member, NodeId, overlay, unicast};
use crate::crypto::{Suite, Suites};
use crate::key::PublicKey;

/// What the plan must know about this node.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its id, so that its own record is skipped.
    pub node_id: NodeId,
    /// Its key, which no member may claim.
    pub public_key: PublicKey,
    /// The overlay prefix of the cluster.
    pub overlay: Ipv6Net,
    /// Every address of its interfaces with the prefix length of its network, overlay address included.
    pub addresses: Vec<IpNet>,
    /// The networks it advertises itself.
    pub networks: Vec<IpNet>,
    /// `filters.excludeAdvertisedNetworks`: never routed to any peer, whoever advertises them.
    pub excluded: Vec<IpNet>,
    /// `filters.peerEndpoints`: which of the members' endpoints may be tried; `None` for all.
    pub peer_endpoints: Option<Filter>,
    /// The cipher suites this node answers in besides WireGuard's own, and uses with members that do so too.
    pub suites: Suites,
}

/// A wanted peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSpec {
    /// The node behind it.
    pub node_id: NodeId,
    /// A name for people: the node name, else the host name, else the id.
    pub label: String,
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Its overlay address, if it published one.
    pub address: Option<IpAddr>,
    /// What is routed to it and accepted from it: the fewest prefixes, ascending, no address shared with
    /// another peer. May be empty.
    pub allowed_ips: Vec<IpNet>,
    /// Where it may be reached, in the order published.
    pub endpoints: Vec<SocketAddr>,
    /// What to begin handshakes with it in: AES-256-GCM if it and this node have that, else WireGuard's own.
    pub suite: Suite,
}

/// The peers that the members amount to, and what was refused on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The peers, ascending by node id.
    pub peers: Vec<PeerSpec>,
    /// Where no underlay path may lead: the overlay, and networks that only the mesh reaches.
    pub forbidden: Vec<IpNet>,
    /// What was refused, with at most [`Plan::REFUSALS_PER_MEMBER`] details for each member.
    pub refusals: Vec<Refusal>,
    /// How much was refused altogether, details kept or not.
    pub refused: usize,
}

/// Something a member asked for and did not get. Nothing else of the member is affected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The member that asked.
    pub node_id: NodeId,
    /// What it asked for, and why it did not get it.
    pub what: Refused,
}

/// What was refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Its whole record.
    #[error("it claims the key of this node")]
    OwnKey,
    /// Its whole record: the member with the smaller id keeps a key.
    #[error("it claims the key of {0}")]
    KeyOf(NodeId),
    /// Some addresses.
    #[error("it claims {0}, which is wider than a network can be (at least /{min})", min = MIN_PREFIX_LEN)]
    TooWide(IpNet),
    /// Some addresses.
    #[error("it claims {0}, which holds addresses that are never routed")]
    NotUnicast(IpNet),
    /// Some addresses.
    #[error("it claims {0}, which belongs to this node")]
    Ours(IpNet),
    /// Some addresses.
    #[error("it claims {0} of the overlay, where a member has one address and no more")]
    Overlay(IpNet),
    /// Some addresses: the member with the smaller id keeps them.
    #[error("it claims {net}, which {holder} has")]
    Held {
        /// What it loses.
        net: IpNet,
        /// Who keeps it.
        holder: NodeId,
    },
    /// An endpoint.
    #[error("its endpoint {0} is no address that datagrams can be sent to")]
    EndpointUnusable(SocketAddr),
    /// An endpoint.
    #[error("its endpoint {0} lies inside the mesh")]
    EndpointInside(SocketAddr),
    /// An endpoint.
    #[error("its endpoint {0} is filtered out by this node's configuration")]
    EndpointFiltered(SocketAddr),
}

/// Shortest prefix a member may claim, in bits, in both families. What is wider is a default route in
/// pieces or a mistake, and would take the traffic of the whole host.
const MIN_PREFIX_LEN: u8 = 8;

impl Plan {
    /// Details kept of what one member was refused.
    pub const REFUSALS_PER_MEMBER: usize = 32;

    /// Prefixes and addresses of one member that are looked at; a sealed record holds fewer.
    const CLAIMS_PER_MEMBER: usize = 1024;
}

/// Turns members into peers. The order of `members` does not matter; the result is ascending by node id.
///
/// As KubeSpan has it: a peer is allowed its additional networks and each of its addresses, less what it
/// excludes, plus its overlay address; where two overlap, the smaller node id keeps the addresses.
/// Beyond KubeSpan: an overlay address is safe from the networks of others; nobody is given addresses of
/// this node, unroutable ones or next to everything; what is refused is reported.
pub fn plan<'a>(local: &Local, members: impl IntoIterator<Item = &'a Member>) -> Plan {
    let mut planner = Planner::new(local);
    let members = planner.admit(members);
    let overlays: Vec<PrefixSet> =
        members.iter().enumerate().map(|(index, member)| planner.overlay(index, member, &members)).collect();
    for (index, (member, overlay)) in members.iter().zip(overlays).enumerate() {
        let wanted = planner.wanted(member);
        let mut allowed = planner.grant(index, &wanted, &members);
        allowed.extend(overlay.prefixes());
        let endpoints = planner.endpoints(member);
        planner.plan.peers.push(PeerSpec {
            node_id: member.id.clone(),
            label: String::from(member.record.label()),
            public_key: member.kubespan.public_key,
            address: member.kubespan.address,
            allowed_ips: allowed.prefixes(),
            endpoints,
            suite: suite(local.suites, member.kubespan.suites),
        });
    }
    planner.plan.forbidden = forbidden(local, &planner.plan, &members);
    planner.plan
}

/// A member that becomes a peer.
#[derive(Clone, Copy)]
struct Admitted<'a> {
    id: &'a NodeId,
    record: &'a Member,
    kubespan: &'a KubeSpan,
}

struct Planner<'a> {
    local: &'a Local,
    own: PrefixSet,
    excluded: PrefixSet,
    claims: Claims,
    plan: Plan,
    /// Refusals of the member in work.
    details: usize,
}

impl<'a> Planner<'a> {
    fn new(local: &'a Local) -> Self {
        let hosts = local.addresses.iter().map(|net| IpNet::from(net.addr()));
        Planner {
            local,
            own: hosts.chain(local.networks.iter().copied()).collect(),
            excluded: local.excluded.iter().copied().collect(),
            claims: Claims::default(),
            plan: Plan::default(),
            details: 0,
        }
    }

    /// Those with a key of their own, ascending by id.
    fn admit<'m>(&mut self, members: impl IntoIterator<Item = &'m Member>) -> Vec<Admitted<'m>> {
        let by_id: BTreeMap<&NodeId, &Member> = members.into_iter().map(|m| (&m.node_id, m)).collect();
        let mut holders: BTreeMap<PublicKey, &NodeId> = BTreeMap::new();
        let mut admitted = Vec::with_capacity(by_id.len());
        for (id, record) in by_id {
            let Some(kubespan) = record.kubespan.as_ref().filter(|_| *id != self.local.node_id) else {
                continue;
            };
            self.details = 0;
            if kubespan.public_key == self.local.public_key {
                self.refuse(id, Refused::OwnKey);
            } else if let Some(holder) = holders.get(&kubespan.public_key) {
                self.refuse(id, Refused::KeyOf((*holder).clone()));
            } else {
                holders.insert(kubespan.public_key, id);
                admitted.push(Admitted { id, record, kubespan });
            }
        }
        admitted
    }

    /// Gives the member its overlay address. All of them are given before anything else, so that no
    /// network, however wide, can swallow one.
    fn overlay(&mut self, index: usize, member: &Admitted<'_>, all: &[Admitted<'_>]) -> PrefixSet {
        let own_prefix = IpNet::V6(self.local.overlay);
        let address = member.kubespan.address.filter(|address| own_prefix.contains(address));
        let wanted: PrefixSet = address.map(IpNet::from).into_iter().collect();
        let ours = wanted.intersection(&self.own);
        self.details = 0;
        self.refuse_each(member.id, &ours, Refused::Ours);
        match ours.is_empty() {
            true => self.grant(index, &wanted, all),
            false => PrefixSet::new(),
        }
    }

    /// What the member may ask for besides its overlay address.
    fn wanted(&mut self, member: &Admitted<'_>) -> PrefixSet {
        let kubespan = member.kubespan;
        self.details = 0;
        let hosts = member.record.addresses.iter().map(|ip| IpNet::from(ip.to_canonical()));
        let mut wanted = PrefixSet::new();
        let claims = kubespan.additional_addresses.iter().copied().chain(hosts);
        wanted.extend(claims.take(Plan::CLAIMS_PER_MEMBER).filter(|net| {
            let too_wide = net.prefix_len() < MIN_PREFIX_LEN;
            if too_wide {
                self.refuse(member.id, Refused::TooWide(*net));
            }
            !too_wide
        }));
        kubespan.exclude_advertised_addresses.iter().for_each(|net| wanted.remove(*net));
        wanted.subtract(&self.excluded);
        // Its overlay address it has already; one of another form counts as a plain address that
        // exclusions do not touch.
        let overlay = IpNet::V6(self.local.overlay);
        let address = kubespan.address.map(|address| IpNet::from(address.to_canonical()));
        wanted.extend(address.filter(|address| !overlay.contains(address)));
        let inside = [overlay].into_iter().collect::<PrefixSet>().intersection(&wanted);
        for net in inside.prefixes().into_iter().filter(|net| Some(*net) != address) {
            self.refuse(member.id, Refused::Overlay(net));
        }
        wanted.remove(overlay);
        self.withhold(member.id, &mut wanted, &unicast::never_routed(), Refused::NotUnicast);
        let own = core::mem::take(&mut self.own);
        self.withhold(member.id, &mut wanted, &own, Refused::Ours);
        self.own = own;
        wanted
    }

    fn withhold(&mut self, id: &NodeId, wanted: &mut PrefixSet, from: &PrefixSet, why: fn(IpNet) -> Refused) {
        let refused = from.intersection(wanted);
        if !refused.is_empty() {
            wanted.subtract(&refused);
            self.refuse_each(id, &refused, why);
        }
    }

    fn grant(&mut self, index: usize, wanted: &PrefixSet, all: &[Admitted<'_>]) -> PrefixSet {
        let mut conflicts = Vec::new();
        let granted = self.claims.take(index, wanted, |net, holder| conflicts.push((net, holder)));
        for (net, holder) in conflicts {
            self.refuse(all[index].id, Refused::Held { net, holder: all[holder].id.clone() });
        }
        granted
    }

    fn endpoints(&mut self, member: &Admitted<'_>) -> Vec<SocketAddr> {
        let mut endpoints = Vec::with_capacity(member.record.endpoints.len());
        for endpoint in &member.record.endpoints {
            let endpoint = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
            if !unicast::is_endpoint(endpoint) {
                self.refuse(member.id, Refused::EndpointUnusable(endpoint));
            } else if overlay::is_overlay(endpoint.ip()) {
                self.refuse(member.id, Refused::EndpointInside(endpoint));
            } else if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        let Some(filter) = &self.local.peer_endpoints else { return endpoints };
        let passed = filter.endpoints(&endpoints);
        for endpoint in endpoints.iter().filter(|endpoint| !passed.contains(endpoint)) {
            self.refuse(member.id, Refused::EndpointFiltered(*endpoint));
        }
        passed
    }

    fn refuse_each(&mut self, id: &NodeId, refused: &PrefixSet, why: fn(IpNet) -> Refused) {
        for net in refused.prefixes() {
            self.refuse(id, why(net));
        }
    }

    fn refuse(&mut self, id: &NodeId, what: Refused) {
        self.plan.refused += 1;
        self.details += 1;
        if self.details <= Plan::REFUSALS_PER_MEMBER {
            self.plan.refusals.push(Refusal { node_id: id.clone(), what });
        }
    }
}

/// Where the mesh must not look for its own underlay.
///
/// A member's node addresses are both routed through the tunnel and the place where its tunnel ends, so
/// they are never forbidden: marked datagrams go to them directly. A network behind a member has no
/// underlay of its own, unless this node stands in it too. Overlay addresses exist nowhere else.
fn forbidden(local: &Local, plan: &Plan, members: &[Admitted<'_>]) -> Vec<IpNet> {
    let networks = members.iter().flat_map(|member| &member.kubespan.additional_addresses).copied();
    let granted = plan.peers.iter().flat_map(|peer| &peer.allowed_ips).copied().collect::<PrefixSet>();
    let mut forbidden = granted.intersection(&networks.collect());
    for member in members {
        member.record.addresses.iter().for_each(|ip| forbidden.remove(IpNet::from(ip.to_canonical())));
    }
    local.addresses.iter().for_each(|net| forbidden.remove(*net));
    forbidden.insert(IpNet::V6(local.overlay));
    forbidden.prefixes()
}

fn suite(ours: Suites, theirs: Suites) -> Suite {
    let both = |suite: Suite| ours.contains(suite) && theirs.contains(suite);
    if both(Suite::Aes256Gcm) { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
