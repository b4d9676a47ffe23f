//! What a tunnel tells.

use span_core::tunnel;

use super::peers::SPAN_PEER_NONE;
use super::{State, Tunnel};
use crate::address::Path;
use crate::boundary::change;
use crate::pointer::{self, Versioned};
use crate::status::Status;

/// What happened. More may come: ignore what you do not know.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing more.
    None = 0,
    /// A handshake is complete, over `path`.
    Established = 1,
    /// The peer is sent to `path` from now on.
    PathChanged = 2,
    /// A peer with candidates answers.
    PeerUp = 3,
    /// A peer with candidates has left every handshake unanswered for a while. It is tried further.
    PeerDown = 4,
    /// No handshake succeeded for 90 s: packets staged for the peer are dropped.
    HandshakeFailed = 5,
    /// `lost` events that nobody read gave way to newer ones.
    Overflow = 6,
}

/// Something that happened.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// sizeof(span_event), set before the call; after it, how many bytes the library wrote.
    pub size: u32,
    /// A span_event_kind.
    pub kind: u32,
    /// To which peer; SPAN_PEER_NONE if it concerns all.
    pub peer: u64,
    /// Over which path.
    pub path: Path,
    /// SPAN_EVENT_KIND_OVERFLOW: how many.
    pub lost: u64,
}

// SAFETY: numbers and bytes, the first of which is the size.
unsafe impl Versioned for Event {
    const FIRST_SIZE: usize = 80;
}

impl Event {
    fn new(kind: EventKind) -> Self {
        Event { size: 0, kind: kind as u32, peer: SPAN_PEER_NONE, path: Path::default(), lost: 0 }
    }
}

impl State {
    fn poll_event(&mut self) -> Event {
        let lost = self.tunnel.counters().events_lost;
        if lost > self.lost {
            // Before those that came after them.
            let event = Event { lost: lost - self.lost, ..Event::new(EventKind::Overflow) };
            self.lost = lost;
            return event;
        }
        loop {
            let Some(event) = self.tunnel.poll_event() else { return Event::new(EventKind::None) };
            let (kind, peer, path) = match event {
                tunnel::Event::PeerUp { peer } => (EventKind::PeerUp, peer, None),
                tunnel::Event::PeerDown { peer } => (EventKind::PeerDown, peer, None),
                tunnel::Event::PathChanged { peer, path, .. } => (EventKind::PathChanged, peer, Some(path)),
                tunnel::Event::Established { peer, path, .. } => (EventKind::Established, peer, Some(path)),
                tunnel::Event::HandshakeFailed { peer } => (EventKind::HandshakeFailed, peer, None),
                // One that the core has and this interface has no number for yet.
                _ => continue,
            };
            let path = path.map_or(Path::default(), |path| Path::from(&path));
            return Event { peer: self.names.name(peer), path, ..Event::new(kind) };
        }
    }
}

/// Takes the next event, SPAN_EVENT_KIND_NONE if there is none. Events are kept until they are taken, some thousands;
/// then the oldest give way, which is an event itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_tunnel_poll_event(tunnel: *mut Tunnel, event: *mut Event) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(tunnel, |state| {
            let place = pointer::report(event)?;
            place.write(&state.poll_event());
            Ok(())
        })
    }
}
