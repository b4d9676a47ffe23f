//! What happens to a node.

use std::ffi::{c_char, c_int};
use std::os::fd::AsFd as _;

use span_node::node::{Event, MemberRef, NoEvent, PeerRef, StopReason};

use super::{Endpoint, Node, give_descriptor, text};
use crate::address::Path;
use crate::boundary::read;
use crate::key::Key;
use crate::pointer::{self, Versioned};
use crate::status::Status;

/// Characters of the texts in an event, with the NUL at the end.
pub const SPAN_TEXT: usize = 256;

/// What happened to a node. More may come: ignore what you do not know.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEventKind {
    /// Nothing more.
    None = 0,
    /// A node of the cluster became known.
    MemberJoined = 1,
    /// No source of members knows the node any more, and no tunnel to it works.
    MemberLeft = 2,
    /// A member became a peer: a tunnel to it is tried.
    PeerAdded = 3,
    /// A member is no peer any more.
    PeerRemoved = 4,
    /// The tunnel to a peer works.
    PeerUp = 5,
    /// A peer leaves every handshake unanswered. It is tried further.
    PeerDown = 6,
    /// Datagrams to a peer go to `path` from now on.
    PathChanged = 7,
    /// A source of members works.
    DiscoveryUp = 8,
    /// A source of members does not work, for `reason`. It is tried further.
    DiscoveryDown = 9,
    /// `lost` events before the next were lost, because nobody took them in time. span_node_status tells how things
    /// are now.
    Overflow = 10,
    /// The node has ended, because it was asked to, or for `reason`. Nothing follows.
    Stopped = 11,
}

/// Something that happened to a node. Texts are UTF-8, end in a NUL, and are cut off where they do not fit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NodeEvent {
    /// sizeof(span_node_event), set before the call; after it, how many bytes the library wrote.
    pub size: u32,
    /// A span_node_event_kind.
    pub kind: u32,
    /// SPAN_NODE_EVENT_KIND_OVERFLOW: how many.
    pub lost: u64,
    /// SPAN_NODE_EVENT_KIND_PATH_CHANGED: where to.
    pub path: Path,
    /// The key of the peer it is about.
    pub public_key: Key,
    /// The name of the member or peer, or the source of members: a URL, a path.
    pub name: [c_char; SPAN_TEXT],
    /// The member's id in discovery.
    pub node_id: [c_char; SPAN_TEXT],
    /// Why.
    pub reason: [c_char; SPAN_TEXT],
    /// The overlay address of the peer it is about, with port 0; family 0 if it has none.
    pub address: Endpoint,
    /// Reserved.
    pub reserved: u32,
}

// SAFETY: numbers and bytes, the first of which is the size.
unsafe impl Versioned for NodeEvent {
    const FIRST_SIZE: usize = 104 + 3 * SPAN_TEXT;
}

impl NodeEvent {
    fn new(kind: NodeEventKind) -> Self {
        NodeEvent {
            size: 0,
            kind: kind as u32,
            lost: 0,
            path: Path::default(),
            public_key: Key { bytes: [0; 32] },
            name: [0; SPAN_TEXT],
            node_id: [0; SPAN_TEXT],
            reason: [0; SPAN_TEXT],
            address: Endpoint::default(),
            reserved: 0,
        }
    }

    fn of_member(kind: NodeEventKind, member: &MemberRef) -> Self {
        let node_id = text::array(member.node_id.as_str());
        NodeEvent { name: text::array(&member.name), node_id, ..Self::new(kind) }
    }

    fn of_peer(kind: NodeEventKind, peer: &PeerRef) -> Self {
        let public_key = Key { bytes: *peer.public_key.as_bytes() };
        let node_id = text::array(peer.node_id.as_str());
        let address = peer.address.map_or(Endpoint::default(), Endpoint::from);
        NodeEvent { public_key, name: text::array(&peer.name), node_id, address, ..Self::new(kind) }
    }

    /// The event in C's terms; `None` for one that has no number there yet.
    fn from_node(event: &Event) -> Option<Self> {
        Some(match event {
            Event::MemberJoined(member) => Self::of_member(NodeEventKind::MemberJoined, member),
            Event::MemberLeft(member) => Self::of_member(NodeEventKind::MemberLeft, member),
            Event::PeerAdded(peer) => Self::of_peer(NodeEventKind::PeerAdded, peer),
            Event::PeerRemoved(peer) => Self::of_peer(NodeEventKind::PeerRemoved, peer),
            Event::PeerUp(peer) => Self::of_peer(NodeEventKind::PeerUp, peer),
            Event::PeerDown(peer) => Self::of_peer(NodeEventKind::PeerDown, peer),
            Event::PathChanged { peer, path } => {
                NodeEvent { path: Path::from(path), ..Self::of_peer(NodeEventKind::PathChanged, peer) }
            }
            Event::DiscoveryUp { name } => {
                NodeEvent { name: text::array(name), ..Self::new(NodeEventKind::DiscoveryUp) }
            }
            Event::DiscoveryDown { name, reason } => NodeEvent {
                name: text::array(name),
                reason: text::array(reason),
                ..Self::new(NodeEventKind::DiscoveryDown)
            },
            Event::Lagged { missed } => NodeEvent { lost: *missed, ..Self::new(NodeEventKind::Overflow) },
            Event::Stopped(StopReason::Asked) => Self::new(NodeEventKind::Stopped),
            Event::Stopped(StopReason::Failed(why)) => {
                NodeEvent { reason: text::array(why), ..Self::new(NodeEventKind::Stopped) }
            }
            _ => return None,
        })
    }
}

/// Takes the next event, SPAN_NODE_EVENT_KIND_NONE if there is none. All callers take from one queue; where it is full, the
/// oldest give way, which is an event itself.
///
/// SPAN_STATUS_STOPPED after SPAN_NODE_EVENT_KIND_STOPPED was taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_poll_event(node: *const Node, event: *mut NodeEvent) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (place, events) = (pointer::report(event)?, &state.started()?.events);
            let event = loop {
                match events.try_recv() {
                    Ok(event) => {
                        if let Some(event) = NodeEvent::from_node(&event) {
                            break event;
                        }
                    }
                    Err(NoEvent::Yet) => break NodeEvent::new(NodeEventKind::None),
                    Err(NoEvent::Stopped) => return Err(Status::Stopped),
                }
            };
            place.write(&event);
            Ok(())
        })
    }
}

/// A descriptor that is readable while span_node_poll_event has something to tell. It is the caller's to close, and only
/// to be polled: what is read from it or written to it confuses others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_event_fd(node: *const Node, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(node, |state| give_descriptor(fd, state.started()?.events.as_fd())) }
}
