//! What a service says about the other members. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use ring::digest::{Context, Digest, SHA256};
use span_core::mesh::{Member, NodeId};

use crate::seal::ClusterSecret;
use crate::tier::TierEvent;
use crate::wire::server::Affiliate;

/// Affiliates taken from a service; one that keeps to the protocol has 1,024 per cluster.
const AFFILIATES: usize = 4096;

/// Endpoints taken of one affiliate; a service that keeps to the protocol has no more.
const ENDPOINTS: usize = 64;

pub(super) struct View {
    secret: ClusterSecret,
    me: NodeId,
    entries: HashMap<NodeId, Entry>,
}

struct Entry {
    /// Of everything the service said, good or bad: the same again is no news.
    digest: Digest,
    /// What could be made of it; of an older record if the newest could not be read.
    member: Option<Member>,
    /// The service no longer mentioned it when the connection came back.
    missing: bool,
}

impl View {
    pub(super) fn new(secret: ClusterSecret, me: NodeId) -> Self {
        View { secret, me, entries: HashMap::new() }
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.entries.values().filter(|entry| entry.member.is_some()).count()
    }

    /// The member, if the service told of it.
    pub(super) fn member(&self, id: &NodeId) -> Option<&Member> {
        self.entries.get(id)?.member.as_ref()
    }

    /// Takes everything the service knows, as a stream begins with it. Members known from an earlier stream
    /// that are not in it are kept until [`drop_missing`](View::drop_missing): a service that was restarted
    /// without a memory gets it back from the nodes within seconds. Returns whether there are any.
    pub(super) fn replace(&mut self, affiliates: &[Affiliate], events: &mut impl Extend<TierEvent>) -> bool {
        for entry in self.entries.values_mut() {
            entry.missing = true;
        }
        let mut refusals = Vec::new();
        for affiliate in affiliates {
            self.take(affiliate, &mut refusals);
        }
        let members = self.entries.values().filter_map(|entry| entry.member.clone()).collect();
        events.extend([TierEvent::Snapshot(members)]);
        events.extend(refusals);
        self.entries.values().any(|entry| entry.missing)
    }

    /// Takes one affiliate in full.
    pub(super) fn update(&mut self, affiliate: &Affiliate, events: &mut impl Extend<TierEvent>) {
        let mut refusals = Vec::new();
        if let Some(member) = self.take(affiliate, &mut refusals) {
            events.extend([TierEvent::Updated(member.clone())]);
        }
        events.extend(refusals);
    }

    /// Takes the news that an affiliate is gone.
    pub(super) fn remove(&mut self, id: &NodeId, events: &mut impl Extend<TierEvent>) {
        if self.entries.remove(id).is_some_and(|entry| entry.member.is_some()) {
            events.extend([TierEvent::Removed(id.clone())]);
        }
    }

    /// Drops the members that were missing when the connection came back, and still are.
    pub(super) fn drop_missing(&mut self, events: &mut impl Extend<TierEvent>) {
        let gone: Vec<NodeId> =
            self.entries.iter().filter(|(_, entry)| entry.missing).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.remove(&id, events);
        }
    }

    /// Takes an affiliate in, and returns the member if that changed it.
    fn take(&mut self, affiliate: &Affiliate, refusals: &mut Vec<TierEvent>) -> Option<&Member> {
        let id = match NodeId::new(&affiliate.id) {
            Ok(id) => id,
            Err(why) => {
                refusals.push(refusal("an affiliate".to_owned(), &why));
                return None;
            }
        };
        if id == self.me {
            return None;
        }
        let digest = digest(affiliate);
        let full = self.entries.len() >= AFFILIATES;
        match self.entries.get_mut(&id) {
            Some(known) if known.digest.as_ref() == digest.as_ref() => {
                known.missing = false;
                return None;
            }
            None if full => {
                let what = format!("affiliate {:?}", id.as_str());
                refusals.push(refusal(what, &"the service lists more affiliates than a cluster can have"));
                return None;
            }
            Some(_) | None => {}
        }
        let opened = self.open(&id, affiliate, refusals);
        let entry = self.entries.entry(id).or_insert(Entry { digest, member: None, missing: false });
        entry.digest = digest;
        entry.missing = false;
        if opened.is_none() || opened == entry.member {
            return None;
        }
        entry.member = opened;
        entry.member.as_ref()
    }

    fn open(&self, id: &NodeId, affiliate: &Affiliate, refusals: &mut Vec<TierEvent>) -> Option<Member> {
        // Known only because others reported endpoints of it.
        if affiliate.data.is_empty() {
            return None;
        }
        let mut member = match self.secret.open_member(id, &affiliate.data) {
            Ok(member) => member,
            Err(why) => {
                refusals.push(refusal(format!("the record of {:?}", id.as_str()), &why));
                return None;
            }
        };
        let mut refused = affiliate.endpoints.len().saturating_sub(ENDPOINTS);
        let mut why = "there are more than an affiliate can have".to_owned();
        for sealed in affiliate.endpoints.iter().take(ENDPOINTS) {
            match self.secret.open_endpoint(sealed) {
                Ok(endpoint) if is_endpoint(endpoint) => {
                    if !member.endpoints.contains(&endpoint) {
                        member.endpoints.push(endpoint);
                    }
                }
                Ok(endpoint) => {
                    refused += 1;
                    why = format!("{endpoint} is an endpoint nobody can reach");
                }
                Err(error) => {
                    refused += 1;
                    why = error.to_string();
                }
            }
        }
        if refused > 0 {
            let of = affiliate.endpoints.len();
            refusals.push(refusal(format!("{refused} of {of} endpoints of {:?}", id.as_str()), &why));
        }
        Some(member)
    }
}

/// Whether another machine could be reached there. Link-local addresses mean something on one link only, and
/// the seal has no room to say on which.
pub(super) fn is_endpoint(endpoint: SocketAddr) -> bool {
    let reachable = match endpoint.ip().to_canonical() {
        std::net::IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        std::net::IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    };
    reachable && endpoint.port() != 0
}

fn refusal(what: String, why: &dyn std::fmt::Display) -> TierEvent {
    TierEvent::Refused { what, why: why.to_string() }
}

fn digest(affiliate: &Affiliate) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in std::iter::once(&affiliate.data).chain(&affiliate.endpoints) {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    context.finish()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
