//! What there is to tell of members and peers.

use span_core::mesh::{Known, Member, NodeId, PeerSpec};

use super::events::{Event, MemberRef, PeerRef, Queue};
use super::resolve::address;

/// Tells who came and who went; both lists are ascending by node id.
pub(super) fn tell_members(events: &Queue, before: &[Known], after: &[Known]) {
    let is_in =
        |list: &[Known], id: &NodeId| list.binary_search_by(|known| known.member.node_id.cmp(id)).is_ok();
    for known in before.iter().filter(|known| !is_in(after, &known.member.node_id)) {
        events.push(Event::MemberLeft(member_ref(&known.member)));
    }
    for known in after.iter().filter(|known| !is_in(before, &known.member.node_id)) {
        events.push(Event::MemberJoined(member_ref(&known.member)));
    }
}

fn member_ref(member: &Member) -> MemberRef {
    MemberRef { node_id: member.node_id.clone(), name: member.label().to_owned() }
}

/// The peer, as it is told of.
pub(super) fn peer_ref(peer: &PeerSpec) -> PeerRef {
    PeerRef {
        public_key: peer.public_key,
        node_id: peer.node_id.clone(),
        name: peer.label.clone(),
        address: address(peer),
    }
}
