//! Names of members.

use std::net::IpAddr;

use span_core::mesh::Member;

use super::manager::Manager;

impl Manager {
    /// See [`Node::resolve`](super::Node::resolve).
    pub(super) fn resolve(&self, name: &str) -> Option<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let others = self.known.iter().map(|known| &known.member);
        // What others are reached at is what the plan has granted them, not what they claim.
        let granted = |member: &Member| {
            let mut peers = self.plan.peers.iter();
            let peer = peers.find(|peer| peer.node_id == member.node_id)?;
            peer.address.filter(|address| peer.allowed_ips.iter().any(|net| net.contains(address)))
        };
        let own = self.published.iter().filter(|me| is_called(me, name)).map(|_| self.me.address.into());
        let mut found = others.filter(|member| is_called(member, name)).filter_map(granted).chain(own);
        match (found.next(), found.next()) {
            (Some(address), None) => Some(address),
            (_, _) => None,
        }
    }
}

fn is_called(member: &Member, name: &str) -> bool {
    let names = [member.nodename.as_str(), member.hostname.as_str()];
    // Ids are told apart by their case.
    member.node_id.as_str() == name
        || names.into_iter().any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
}
