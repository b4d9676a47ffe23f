//! The manager: from what the tiers say to what the packet thread and the kernel do.
//!
//! It owns the tiers, the roster of members, the plan made from it and the routes. Everything happens in
//! [`Manager::poll`]; nothing in it waits for the network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipnet::IpNet;
use span_core::key::{PresharedKey, PublicKey};
use span_core::mesh::{self, Changes, Known, Member, Plan, Refusal, Roster, TierId};
use span_core::path::Path;
use span_core::time::Instant;
use span_discovery::tier::{Tier, TierEvent};
use span_nat::monitor::{Interfaces, Monitor};
use tracing::{debug, error, info, warn};

use super::events::{Event, PeerRef, Queue};
use super::me::Me;
use super::news::{peer_ref, tell_members};
use super::routing::Routing;
use super::runtime::Inbox;
use super::saved::Saved;
use super::sources::{Named, Origin};
use crate::clock::Clock;
use crate::packet::{self, Core};
use crate::state::State;

/// How often the kernel's routes and rules are compared with what they should be, changes or not.
const RECONCILE: Duration = Duration::from_secs(30);

/// The members of the last run, heard until every tier has told who is there now. The lowest tier.
const SAVED: TierId = TierId(0);

/// Events taken from one tier before the next has its turn.
const TIER_TURN: usize = 256;

/// What other threads tell the manager.
pub(super) enum Message {
    /// A peer's tunnel came up or went down.
    Peer { key: PublicKey, up: bool },
    /// Datagrams to a peer go elsewhere than before.
    Path { key: PublicKey, path: Path },
    /// Interfaces, addresses or routes of the host changed.
    Network,
    /// A question to answer between two polls.
    Ask(Box<dyn FnOnce(&mut Manager) + Send>),
}

/// See the module.
pub(super) struct Manager {
    pub(super) me: Me,
    pub(super) sources: Vec<Source>,
    pub(super) known: Vec<Known>,
    pub(super) plan: Arc<Plan>,
    pub(super) started: Instant,
    pub(super) packets: packet::Handle,
    pub(super) interfaces: Interfaces,
    /// The record published last.
    pub(super) published: Option<Member>,
    roster: Roster,
    /// The plan's peers, as they are told of.
    refs: BTreeMap<PublicKey, PeerRef>,
    up: BTreeSet<PublicKey>,
    inbox: Inbox<Message>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<Queue>,
    /// `None` where nothing depends on the host's network.
    monitor: Option<Monitor>,
    /// `None` where the host's network is the embedder's affair.
    pub(super) routing: Option<Routing>,
    saved: Saved,
    /// `None` for a node that keeps nothing.
    state: Option<State>,
    /// When the clock of the handshakes is written down next.
    clock_due: Instant,
    reconcile_at: Instant,
    /// When the next plan may be made.
    plan_from: Instant,
    pub(super) todo: Todo,
}

/// What changed and has not been acted on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Todo {
    pub(super) look: bool,
    pub(super) plan: bool,
    observe: bool,
    pub(super) reconcile: bool,
}

/// A tier, and what it said about us and itself.
pub(super) struct Source {
    pub(super) tier: Box<dyn Tier>,
    pub(super) origin: Origin,
    id: TierId,
    /// Whether it has ever told who is there.
    spoken: bool,
    /// This node's address as the tier sees it.
    public: Option<IpAddr>,
    /// When it last came to work, or ceased to.
    pub(super) since: Instant,
    pub(super) last_error: Option<String>,
    pub(super) last_refusal: Option<String>,
}

/// What a manager is made of.
pub(super) struct Parts {
    pub(super) me: Me,
    pub(super) tiers: Vec<Named>,
    pub(super) packets: packet::Handle,
    pub(super) inbox: Inbox<Message>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) events: Arc<Queue>,
    pub(super) monitor: Option<Monitor>,
    pub(super) routing: Option<Routing>,
    pub(super) saved: Saved,
    pub(super) state: Option<State>,
}

impl Manager {
    pub(super) fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let mut roster = Roster::new(parts.me.node_id.clone());
        // Old news: whatever a tier says has the last word over it.
        roster.snapshot(SAVED, parts.saved.members().iter().cloned());
        let mut manager = Manager {
            me: parts.me,
            sources: Vec::new(),
            known: Vec::new(),
            plan: Arc::default(),
            started: now,
            packets: parts.packets,
            interfaces: Interfaces::default(),
            published: None,
            roster,
            refs: BTreeMap::new(),
            up: BTreeSet::new(),
            inbox: parts.inbox,
            clock: parts.clock,
            events: parts.events,
            monitor: parts.monitor,
            routing: parts.routing,
            saved: parts.saved,
            state: parts.state,
            clock_due: now,
            reconcile_at: now,
            plan_from: now,
            todo: Todo { look: true, plan: true, observe: false, reconcile: true },
        };
        parts.tiers.into_iter().for_each(|tier| manager.add_source(tier));
        manager
    }

    /// Listens to another tier from now on. Those of the embedder have the last word over those of the
    /// configuration, and among these the later ones over the earlier.
    pub(super) fn add_source(&mut self, (origin, mut tier): Named) {
        /// The numbers of the embedder's tiers begin here.
        const GIVEN: u16 = 1 << 15;
        let first = if origin == Origin::Given { GIVEN } else { SAVED.0 + 1 };
        let taken: BTreeSet<u16> = self.sources.iter().map(|source| source.id.0).collect();
        // After the last of its kind; where there is no room after it, the first gap.
        let end = if origin == Origin::Given { u16::MAX } else { GIVEN - 1 };
        let after = taken.range(first..=end).next_back().map_or(Some(first), |last| last.checked_add(1));
        let free = after.filter(|id| *id <= end).or_else(|| (first..=end).find(|id| !taken.contains(id)));
        let Some(id) = free else { return };
        if let Some(me) = &self.published {
            tier.publish(me);
        }
        let place = self.sources.partition_point(|source| source.id.0 < id);
        self.sources.insert(
            place,
            Source {
                tier,
                origin,
                id: TierId(id),
                spoken: false,
                public: None,
                since: self.clock.now(),
                last_error: None,
                last_refusal: None,
            },
        );
    }

    /// Listens no more to those tiers. Members that only they know stay as long as their tunnels work.
    pub(super) fn remove_sources(&mut self, mut which: impl FnMut(&Source) -> bool) -> usize {
        let before = self.sources.len();
        let roster = &mut self.roster;
        self.sources.retain(|source| {
            let removed = which(source);
            if removed {
                roster.lapse_all(source.id);
            }
            !removed
        });
        let removed = before - self.sources.len();
        self.todo.plan |= removed > 0;
        self.todo.look |= removed > 0;
        removed
    }

    /// Does what there is to do. Ready when told to stop; routes and rules are gone then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.inbox.stopped()
            && let Poll::Ready(message) = self.inbox.poll(cx)
        {
            match message {
                Message::Peer { key, up } => self.peer(key, up),
                Message::Path { key, path } => self.path(&key, path),
                Message::Network => self.todo.look = true,
                Message::Ask(question) => question(self),
            }
        }
        if self.inbox.stopped() {
            self.end();
            return Poll::Ready(());
        }
        for index in 0..self.sources.len() {
            self.listen(index, cx);
        }
        if std::mem::take(&mut self.todo.look) {
            self.look();
        }
        if self.todo.plan && self.clock.now() >= self.plan_from {
            self.todo.plan = false;
            let begun = self.clock.now();
            self.plan();
            self.plan_from = rest(begun, self.clock.now());
        }
        if std::mem::take(&mut self.todo.observe) {
            self.publish_observed();
        }
        let now = self.clock.now();
        let due = now >= self.reconcile_at;
        if due {
            self.recount();
        }
        if std::mem::take(&mut self.todo.reconcile) || due {
            self.reconcile_at = now + RECONCILE;
            self.reconcile();
        }
        self.saved.tick(now);
        self.keep_clock(now);
        Poll::Pending
    }

    fn peer(&mut self, key: PublicKey, up: bool) {
        let peer = self.refs.get(&key);
        let label = peer.map(|peer| peer.name.as_str());
        // An answer to a question may have told it already.
        let news = if up { self.up.insert(key) } else { self.up.remove(&key) };
        if up {
            info!(peer = label, "connected");
        } else {
            warn!(peer = label, "not connected, trying all of its endpoints");
            // A member that no tier vouches for stays only as long as its tunnel works.
            self.todo.plan = true;
        }
        if let Some(peer) = peer.filter(|_| news || !up) {
            self.events.push(if up { Event::PeerUp(peer.clone()) } else { Event::PeerDown(peer.clone()) });
        }
        self.todo.reconcile |= self.me.config.allow_down_peer_bypass;
        self.todo.observe = true;
    }

    fn path(&self, key: &PublicKey, path: Path) {
        // A peer that is no member is none that was told of.
        if let Some(peer) = self.refs.get(key) {
            self.events.push(Event::PathChanged { peer: peer.clone(), path });
        }
    }

    /// Asks the tunnel who is up: a notice may have been lost while there were too many.
    fn recount(&mut self) {
        let keys: Vec<PublicKey> = self.plan.peers.iter().map(|peer| peer.public_key).collect();
        let up = self
            .packets
            .ask(move |core| keys.into_iter().filter(|key| core.tunnel.is_up(key)).collect::<BTreeSet<_>>());
        let Ok(up) = up else { return };
        for key in up.symmetric_difference(&std::mem::take(&mut self.up)) {
            self.todo.plan = true;
            if let Some(peer) = self.refs.get(key).cloned() {
                self.events.push(if up.contains(key) { Event::PeerUp(peer) } else { Event::PeerDown(peer) });
            }
        }
        self.up = up;
    }

    /// Takes what a tier has to tell.
    fn listen(&mut self, index: usize, cx: &mut Context<'_>) {
        for _ in 0..TIER_TURN {
            let source = &mut self.sources[index];
            let Poll::Ready(event) = source.tier.poll(cx) else { return };
            let name = source.tier.name();
            match event {
                TierEvent::Snapshot(members) => {
                    debug!(tier = name, members = members.len(), "all members");
                    self.roster.snapshot(source.id, members);
                    source.spoken = true;
                    if self.sources.iter().all(|source| source.spoken) {
                        self.roster.lapse_all(SAVED);
                    }
                    self.todo.plan = true;
                }
                TierEvent::Updated(member) => {
                    debug!(tier = name, node = %member.node_id, "member");
                    self.todo.plan |= self.roster.update(source.id, member);
                }
                TierEvent::Removed(node) => {
                    debug!(tier = name, %node, "member removed");
                    self.todo.plan |= self.roster.remove(source.id, &node);
                }
                TierEvent::PublicAddress(address) => {
                    debug!(tier = name, %address, "seen from outside");
                    self.todo.look |= source.public.replace(address) != Some(address);
                }
                TierEvent::Connected => {
                    info!(tier = name, "connected");
                    self.events.push(Event::DiscoveryUp { name: name.to_owned() });
                    source.since = self.clock.now();
                }
                TierEvent::Disconnected { reason } => {
                    warn!(tier = name, reason, "not connected; running links stay up, trying again");
                    let name = name.to_owned();
                    self.events.push(Event::DiscoveryDown { name, reason: reason.clone() });
                    source.since = self.clock.now();
                    source.last_error = Some(reason);
                }
                TierEvent::Refused { what, why } => {
                    warn!(tier = name, what, why, "refused");
                    source.last_refusal = Some(format!("{what}: {why}"));
                }
            }
        }
        // More may be waiting: the others first, then again.
        cx.waker().wake_by_ref();
    }

    /// Looks at the host's network, and tells the tiers if it changes what this node is.
    fn look(&mut self) {
        match self.monitor.as_mut().map(Monitor::snapshot).transpose() {
            Ok(interfaces) => self.interfaces = interfaces.unwrap_or_default(),
            Err(error) => return warn!(%error, "cannot list the host's addresses"),
        }
        let public: Vec<IpAddr> = self.sources.iter().filter_map(|source| source.public).collect();
        let member = self.me.describe(&self.interfaces, &public);
        if self.published.as_ref() != Some(&member) {
            info!(endpoints = ?member.endpoints, "publishing");
            for source in &mut self.sources {
                source.tier.publish(&member);
            }
            self.published = Some(member);
            self.todo.plan = true;
        }
        self.todo.reconcile = true;
    }

    /// Turns members into peers, and touches those that changed.
    fn plan(&mut self) {
        let up = &self.up;
        let known = self.roster.members(|key| up.contains(key));
        tell_members(&self.events, &self.known, &known);
        self.known = known;
        let local = self.me.local(&self.interfaces);
        let plan = mesh::plan(&local, self.known.iter().map(|known| &known.member));
        let told: BTreeSet<&Refusal> = self.plan.refusals.iter().collect();
        for refusal in &plan.refusals {
            if !told.contains(refusal) {
                warn!(node = %refusal.node_id, refused = %refusal.what, "refused a member's claim");
            }
        }
        if plan != *self.plan {
            let (before, after) = (std::mem::replace(&mut self.plan, Arc::new(plan)), Arc::clone(&self.plan));
            let changes = after.changes_since(&before);
            for peer in &changes.removed {
                info!(peer = peer.label, "left the mesh");
                self.up.remove(&peer.public_key);
                self.refs.remove(&peer.public_key);
                self.events.push(Event::PeerRemoved(peer_ref(peer)));
            }
            for update in &changes.updated {
                self.refs.insert(update.after.public_key, peer_ref(update.after));
            }
            for peer in &changes.added {
                self.refs.insert(peer.public_key, peer_ref(peer));
                self.events.push(Event::PeerAdded(peer_ref(peer)));
            }
            let preshared_key = self.me.preshared_key.clone();
            // The packet thread gets what differs and nothing else: it neither compares nor frees whole plans.
            let [from, to] = only(&changes);
            let forbidden = (before.forbidden != after.forbidden).then(|| after.forbidden.clone());
            // Without the packet thread the node is ending anyway.
            let _ = self.packets.post(move |core| follow(core, &from, &to, forbidden, &preshared_key));
            self.todo.reconcile = true;
        }
        self.saved.keep(self.clock.now(), self.known.iter().map(|known| &known.member));
        self.todo.observe = true;
    }

    /// Brings the kernel's routes and rules to where they should be.
    fn reconcile(&mut self) {
        let Some(routing) = &mut self.routing else { return };
        let bypass = self.me.config.allow_down_peer_bypass;
        let routed: Vec<IpNet> = self
            .plan
            .peers
            .iter()
            .filter(|peer| !bypass || self.up.contains(&peer.public_key))
            .flat_map(|peer| peer.allowed_ips.iter().copied())
            .filter(|prefix| !mesh::overlay::is_overlay(prefix.addr()))
            .collect();
        routing.reconcile(routed);
    }

    /// Shares where the other members are seen, if asked to.
    fn publish_observed(&mut self) {
        if !self.me.config.harvest_extra_endpoints {
            return;
        }
        let Ok(seen) = self.packets.ask(|core| core.tunnel.observed(core.clock.now())) else { return };
        let observed = mesh::harvest(&self.plan.peers, seen);
        for source in &mut self.sources {
            source.tier.publish_observed(&observed);
        }
    }

    /// Lets the next run begin its handshakes where this one is, whatever the wall clock does meanwhile.
    fn keep_clock(&mut self, now: Instant) {
        if now < self.clock_due {
            return;
        }
        let Some(state) = &mut self.state else { return };
        match state.keep_clock(now) {
            Ok(due) => self.clock_due = due,
            Err(error) => {
                warn!("{error}; trying again");
                self.clock_due = now + RECONCILE;
            }
        }
    }

    /// Leaves the host's network as it was found.
    pub(super) fn end(&mut self) {
        if let Some(routing) = &mut self.routing {
            routing.remove();
        }
        self.saved.save_now();
        let stopped = self.state.as_mut().map_or(Ok(()), |state| state.stop_clock(self.clock.now()));
        if let Err(error) = stopped {
            warn!("{error}");
        }
    }
}

/// When the next plan may be made after one that took from `begun` to `ended`. A plan looks at every member: in a mesh
/// so large that it takes long, changes that come one after the other are taken together, so that they cost a
/// tenth of a core and not a whole one.
fn rest(begun: Instant, ended: Instant) -> Instant {
    const SHORT: Duration = Duration::from_millis(5);
    let took = ended.since(begun);
    if took < SHORT { ended } else { ended + 9 * took }
}

/// Two plans of the peers that differ, as they were and as they shall be.
fn only(changes: &Changes<'_>) -> [Plan; 2] {
    let updated = changes.updated.iter();
    let from = changes.removed.iter().copied().chain(updated.clone().map(|update| update.before));
    let to = changes.added.iter().copied().chain(updated.map(|update| update.after));
    [from.cloned().collect(), to.cloned().collect()].map(|peers| Plan { peers, ..Plan::default() })
}

/// Brings the tunnel from one plan to the next; runs on the packet thread.
fn follow(
    core: &mut Core<'_>,
    from: &Plan,
    to: &Plan,
    forbidden: Option<Vec<IpNet>>,
    preshared_key: &PresharedKey,
) {
    let now = core.clock.now();
    // First, so that no candidate slips through.
    if let Some(forbidden) = forbidden {
        core.tunnel.set_forbidden(now, &forbidden);
    }
    if let Err(error) = core.tunnel.apply(now, &to.changes_since(from), preshared_key) {
        error!("a member was not added: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_plans_are_followed_by_a_rest() {
        let begun = Instant::from_secs(100);
        let after = |millis| rest(begun, begun + Duration::from_millis(millis)).since(begun);
        assert_eq!(after(4), Duration::from_millis(4));
        assert_eq!(after(40), Duration::from_millis(400));
    }
}
