//! Names of members.

use std::net::IpAddr;

use span_core::mesh::{Member, PeerSpec};

use super::manager::Manager;

impl Manager {
    /// See [`Node::resolve`](super::Node::resolve).
    pub(super) fn resolve(&self, name: &str) -> Option<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let others = self.known.iter().map(|known| &known.member);
        let granted =
            |member: &Member| address(self.plan.peers.iter().find(|peer| peer.node_id == member.node_id)?);
        let own = self.published.iter().filter(|me| is_called(me, name)).map(|_| self.me.address.into());
        let mut found = others.filter(|member| is_called(member, name)).filter_map(granted).chain(own);
        match (found.next(), found.next()) {
            (Some(address), None) => Some(address),
            (_, _) => None,
        }
    }
}

/// Where a peer is reached: what the plan has granted it, not what it claims.
pub(super) fn address(peer: &PeerSpec) -> Option<IpAddr> {
    peer.address.filter(|address| peer.allowed_ips.iter().any(|net| net.contains(address)))
}

fn is_called(member: &Member, name: &str) -> bool {
    let names = [member.nodename.as_str(), member.hostname.as_str()];
    // Ids are told apart by their case.
    member.node_id.as_str() == name
        || names.into_iter().any(|own| !own.is_empty() && own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use span_core::crypto::Suite;
    use span_core::key::PublicKey;
    use span_core::mesh::NodeId;

    use super::*;

    #[test]
    fn an_address_that_a_peer_claims_and_has_not_got_is_not_its_own() {
        let mut peer = PeerSpec {
            node_id: NodeId::new("n").unwrap(),
            label: "thief".to_owned(),
            public_key: PublicKey::from_bytes([1; 32]),
            address: Some("fd00::1".parse().unwrap()),
            allowed_ips: vec!["fd00::2/127".parse().unwrap()],
            endpoints: Vec::new(),
            suite: Suite::default(),
        };
        assert_eq!(address(&peer), None);
        peer.address = Some("fd00::3".parse().unwrap());
        assert_eq!(address(&peer), peer.address);
        peer.address = None;
        assert_eq!(address(&peer), None);
    }
}
