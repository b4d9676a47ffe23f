//! How a packet thread reaches the tunnel: it owns it, or it shares it with other packet threads.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;
use span_core::path::Path;
use span_core::time::Instant;
use span_core::tunnel::Tunnel;
use span_core::wireguard::{self, Inbound, Opening, Outbound, PeerId, Sealer, Sending};
use span_nat::transport::Received;

use super::outbound::is_own_datagram;

/// What the two directions want of the tunnel.
pub(super) trait Lend: Send {
    /// Whether other threads use the tunnel as well.
    const SHARED: bool;

    /// Does something with the tunnel. No system call belongs here, and no packet is sealed or opened here.
    fn with<R>(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> R) -> R;

    /// Lets the tunnel send what it has to say. `work` returns whether packets that waited for a session could
    /// not leave: then no packet goes before them until it returns otherwise.
    fn drain(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> bool);

    /// When the tunnel wants attention next, after which nobody looks at it until then or until woken.
    fn rest(&mut self) -> Option<Instant>;

    /// Opens what arrived. `each` is given the entries one by one, with the places of their packets, relative
    /// to the entry, in order.
    fn receive(
        &mut self,
        now: Instant,
        arena: &mut [u8],
        entries: &[Received],
        each: &mut impl FnMut(&mut [u8], &Received, &[Range<usize>]),
    );

    /// Whom a packet of the host is for.
    fn route(&mut self, now: Instant, destination: IpAddr, packet: &[u8]) -> Route;

    /// How to send to the peer that was just [routed](Self::route) to.
    fn outbound(&mut self, now: Instant, peer: PeerId) -> Outbound<'_>;

    /// See [`Tunnel::sent`].
    fn sent(&mut self, now: Instant, peer: PeerId, packets: u32, bytes: u64);
}

/// Whom a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// This peer.
    Peer(PeerId),
    /// Nobody.
    Nobody,
    /// It is a datagram of the tunnel itself.
    Own,
}

/// The tunnel of the only packet thread.
pub(super) struct Owned {
    tunnel: Tunnel,
    /// Where the packets of the entry at hand stand.
    opened: Vec<Range<usize>>,
}

impl Owned {
    pub(super) fn new(tunnel: Tunnel) -> Self {
        Owned { tunnel, opened: Vec::new() }
    }
}

impl Lend for Owned {
    const SHARED: bool = false;

    #[inline]
    fn with<R>(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> R) -> R {
        work(&mut self.tunnel, now)
    }

    #[inline]
    fn drain(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> bool) {
        // Whatever comes later is behind them in the one batch there is.
        work(&mut self.tunnel, now);
    }

    #[inline]
    fn rest(&mut self) -> Option<Instant> {
        self.tunnel.poll_timeout().map(|(at, _)| at)
    }

    #[inline]
    fn receive(
        &mut self,
        now: Instant,
        arena: &mut [u8],
        entries: &[Received],
        each: &mut impl FnMut(&mut [u8], &Received, &[Range<usize>]),
    ) {
        for entry in entries {
            self.opened.clear();
            let opened = &mut self.opened;
            let burst = &mut arena[entry.range.clone()];
            self.tunnel.handle_burst(now, &entry.path, burst, entry.stride, &mut |inbound| {
                keep(opened, inbound);
            });
            each(arena, entry, &self.opened);
        }
    }

    #[inline]
    fn route(&mut self, now: Instant, destination: IpAddr, packet: &[u8]) -> Route {
        match self.tunnel.route(destination) {
            None => Route::Nobody,
            Some(peer) if is_own_datagram(packet, now, peer, &self.tunnel) => Route::Own,
            Some(peer) => Route::Peer(peer),
        }
    }

    #[inline]
    fn outbound(&mut self, now: Instant, peer: PeerId) -> Outbound<'_> {
        self.tunnel.outbound(now, peer)
    }

    #[inline]
    fn sent(&mut self, now: Instant, peer: PeerId, packets: u32, bytes: u64) {
        self.tunnel.sent(now, peer, packets, bytes);
    }
}

/// Takes note of a packet. The tunnel counts what it drops, and answers by itself what wants an answer.
#[inline]
fn keep(opened: &mut Vec<Range<usize>>, inbound: Inbound) {
    match inbound {
        Inbound::Packet { range, .. } => opened.push(range),
        Inbound::Keepalive { .. } | Inbound::Handshake | Inbound::Dropped(_) => {}
    }
}

/// A tunnel that several packet threads share. The first of them, the leader, does all that is not packets.
pub(super) struct Shared {
    state: Mutex<State>,
    leader: Arc<Waker>,
}

struct State {
    tunnel: Tunnel,
    /// The latest time anybody brought: threads may get the lock in another order than they read the clock.
    latest: Instant,
    /// When the leader looks at the tunnel by itself.
    leader_rests_until: Instant,
    /// Packets that waited for a session have not left yet: none may overtake them.
    held: bool,
}

impl Shared {
    pub(super) fn new(tunnel: Tunnel, now: Instant, leader: Arc<Waker>) -> Arc<Self> {
        let state = State { tunnel, latest: now, leader_rests_until: Instant::ORIGIN, held: false };
        Arc::new(Shared { state: Mutex::new(state), leader })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked ends the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Brings the time, and what was sealed meanwhile.
    fn settle(&mut self, now: Instant, sealed: &mut Vec<Sealed>) -> Instant {
        self.latest = self.latest.max(now);
        for Sealed { peer, packets, bytes } in sealed.drain(..) {
            self.tunnel.sent(self.latest, peer, packets, bytes);
        }
        self.latest
    }
}

/// One thread's way to a tunnel that is [`Shared`]. It holds the lock once for a frame of the host and twice for
/// what one system call received, and never while packets are sealed or opened.
pub(super) struct Sharer {
    shared: Arc<Shared>,
    /// What the tunnel is yet to be told.
    sealed: Vec<Sealed>,
    /// How to send to the peer that was routed to last.
    way: Way,
    /// With what and where to, if there is a session. Kept for one turn.
    sending: Option<(Arc<Sealer>, Path)>,
    openings: Vec<Opening>,
    opened: Vec<Range<usize>>,
    /// Where the openings of each entry end, then where its packets do.
    ends: Vec<usize>,
}

/// What went out to one peer.
struct Sealed {
    peer: PeerId,
    packets: u32,
    bytes: u64,
}

/// [`Outbound`] without what it borrows.
#[derive(Clone, Copy, Debug)]
enum Way {
    Ready,
    Stage,
    Gone,
}

impl Sharer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Sharer {
            shared,
            sealed: Vec::new(),
            way: Way::Gone,
            sending: None,
            openings: Vec::new(),
            opened: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Ends a turn of a thread that is not the leader: tells the tunnel what was sealed, and wakes the leader if
    /// the tunnel wants it earlier than it would come by itself.
    pub(super) fn hand_over(&mut self, now: Instant) {
        // Keys are not to outlive their sessions.
        self.sending = None;
        let mut state = self.shared.lock();
        state.settle(now, &mut self.sealed);
        let wanted = state.tunnel.poll_timeout().map(|(at, _)| at);
        let wakes = wanted.is_some_and(|at| at < state.leader_rests_until);
        if wakes {
            // Once is enough, however many threads come here before the leader does.
            state.leader_rests_until = Instant::ORIGIN;
        }
        drop(state);
        if wakes {
            // Fails only if the leader is gone, and then all ends.
            let _ = self.shared.leader.wake();
        }
    }
}

impl Lend for Sharer {
    const SHARED: bool = true;

    fn with<R>(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> R) -> R {
        let mut state = self.shared.lock();
        let now = state.settle(now, &mut self.sealed);
        work(&mut state.tunnel, now)
    }

    fn drain(&mut self, now: Instant, work: impl FnOnce(&mut Tunnel, Instant) -> bool) {
        let mut state = self.shared.lock();
        let now = state.settle(now, &mut self.sealed);
        state.held = work(&mut state.tunnel, now);
    }

    fn rest(&mut self) -> Option<Instant> {
        self.sending = None;
        let mut state = self.shared.lock();
        let latest = state.latest;
        state.settle(latest, &mut self.sealed);
        let wanted = state.tunnel.poll_timeout().map(|(at, _)| at);
        state.leader_rests_until = wanted.unwrap_or(Instant::from_nanos(u64::MAX));
        wanted
    }

    fn receive(
        &mut self,
        now: Instant,
        arena: &mut [u8],
        entries: &[Received],
        each: &mut impl FnMut(&mut [u8], &Received, &[Range<usize>]),
    ) {
        let Sharer { shared, sealed, openings, opened, ends, .. } = self;
        ends.clear();
        let mut state = shared.lock();
        let now = state.settle(now, sealed);
        for entry in entries {
            let burst = &arena[entry.range.clone()];
            // What is not a packet is settled here.
            let ignored = &mut |_: Inbound| {};
            state.tunnel.begin_burst(now, &entry.path, burst, entry.stride, openings, ignored);
            ends.push(openings.len());
        }
        drop(state);

        let mut rest = &mut openings[..];
        let mut from = 0;
        for (entry, end) in entries.iter().zip(&*ends) {
            let (these, others) = rest.split_at_mut(end - from);
            for opening in these {
                opening.open(&mut arena[entry.range.clone()]);
            }
            (rest, from) = (others, *end);
        }

        opened.clear();
        let mut state = shared.lock();
        let now = state.settle(now, sealed);
        let mut from = 0;
        for (entry, end) in entries.iter().zip(&mut *ends) {
            let burst = &arena[entry.range.clone()];
            let these = &mut openings[from..*end];
            state.tunnel.finish_burst(now, &entry.path, these, burst, &mut |inbound| keep(opened, inbound));
            from = std::mem::replace(end, opened.len());
        }
        drop(state);
        openings.clear();

        let mut from = 0;
        for (entry, end) in entries.iter().zip(&*ends) {
            each(arena, entry, &opened[from..*end]);
            from = *end;
        }
    }

    /// Asks everything at once, so that one frame needs the lock once.
    fn route(&mut self, now: Instant, destination: IpAddr, packet: &[u8]) -> Route {
        let mut state = self.shared.lock();
        let now = state.settle(now, &mut self.sealed);
        let Some(peer) = state.tunnel.route(destination) else { return Route::Nobody };
        if is_own_datagram(packet, now, peer, &state.tunnel) {
            return Route::Own;
        }
        let held = state.held;
        self.way = match state.tunnel.outbound(now, peer) {
            Outbound::Ready(_) if held => Way::Stage,
            Outbound::Ready(wireguard::Sending { sealer, path }) => {
                match &mut self.sending {
                    Some((before, to)) if Arc::ptr_eq(before, sealer) => *to = *path,
                    sending => *sending = Some((Arc::clone(sealer), *path)),
                }
                Way::Ready
            }
            Outbound::Stage | Outbound::NoPath => Way::Stage,
            Outbound::Gone => Way::Gone,
        };
        Route::Peer(peer)
    }

    fn outbound(&mut self, _: Instant, _: PeerId) -> Outbound<'_> {
        match (self.way, &self.sending) {
            (Way::Ready, Some((sealer, path))) => Outbound::Ready(Sending { sealer, path }),
            (Way::Stage, _) => Outbound::Stage,
            (Way::Ready, None) | (Way::Gone, _) => Outbound::Gone,
        }
    }

    fn sent(&mut self, _: Instant, peer: PeerId, packets: u32, bytes: u64) {
        match self.sealed.last_mut() {
            Some(last) if last.peer == peer => {
                last.packets += packets;
                last.bytes += bytes;
            }
            Some(_) | None => self.sealed.push(Sealed { peer, packets, bytes }),
        }
    }
}
