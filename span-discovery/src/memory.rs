//! Members of one process that tell each other directly, without a service: for programs that run several
//! nodes, and for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use span_core::mesh::{Member, NodeId, Observed};

use crate::tier::{Connection, Published, Tier, TierEvent, TierStatus};

/// Where the members are known. Its clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<NodeId, Member>,
    /// Grows with every change.
    version: u64,
    /// Who waits for the next one.
    waiting: Vec<Waker>,
}

/// One member's view of a [`Registry`]. Dropping it takes the member's record back.
#[derive(Debug)]
pub struct MemoryTier {
    registry: Registry,
    me: Option<NodeId>,
    connected: bool,
    /// The version told last; `None` before the first.
    told: Option<u64>,
}

impl Registry {
    /// A registry without members.
    pub fn new() -> Self {
        Registry::default()
    }

    /// A tier for one node.
    pub fn tier(&self) -> MemoryTier {
        MemoryTier { registry: self.clone(), me: None, connected: false, told: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made at once: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn changed(&mut self) {
        self.version += 1;
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Tier for MemoryTier {
    fn name(&self) -> &str {
        "memory"
    }

    fn publish(&mut self, me: &Member) {
        if self.me.as_ref() != Some(&me.node_id) {
            self.withdraw();
        }
        self.me = Some(me.node_id.clone());
        let mut state = self.registry.state();
        if state.members.get(&me.node_id) != Some(me) {
            state.members.insert(me.node_id.clone(), me.clone());
            state.changed();
        }
    }

    /// Nothing: who is in the same process needs no hint where it is.
    fn publish_observed(&mut self, _observed: &[Observed]) {}

    fn withdraw(&mut self) {
        if let Some(me) = self.me.take() {
            let mut state = self.registry.state();
            if state.members.remove(&me).is_some() {
                state.changed();
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TierEvent> {
        if !std::mem::replace(&mut self.connected, true) {
            return Poll::Ready(TierEvent::Connected);
        }
        let mut state = self.registry.state();
        if self.told != Some(state.version) {
            self.told = Some(state.version);
            let others = state.members.values().filter(|member| Some(&member.node_id) != self.me.as_ref());
            return Poll::Ready(TierEvent::Snapshot(others.cloned().collect()));
        }
        if !state.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn status(&self) -> TierStatus {
        let published = if self.me.is_some() { Published::Current } else { Published::Nothing };
        let members = self.registry.state().members.len() - usize::from(self.me.is_some());
        TierStatus { connection: Connection::Connected, members, published, refused: 0 }
    }
}

impl Drop for MemoryTier {
    fn drop(&mut self) {
        self.withdraw();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use span_core::mesh::MachineType;

    fn member(id: &str) -> Member {
        Member {
            node_id: NodeId::new(id).unwrap(),
            addresses: Vec::new(),
            hostname: id.to_owned(),
            nodename: id.to_owned(),
            machine_type: MachineType::Worker,
            operating_system: String::new(),
            kubespan: None,
            control_plane: None,
            endpoints: Vec::new(),
        }
    }

    /// The members told last, if anything was.
    fn told(tier: &mut MemoryTier) -> Option<Vec<Member>> {
        let mut last = None;
        while let Poll::Ready(event) = tier.poll(&mut Context::from_waker(Waker::noop())) {
            if let TierEvent::Snapshot(members) = event {
                last = Some(members);
            }
        }
        last
    }

    #[test]
    fn members_see_the_others_come_change_and_go() {
        let registry = Registry::new();
        let (mut one, mut two) = (registry.tier(), registry.tier());
        one.publish(&member("one"));
        assert_eq!(told(&mut one), Some(Vec::new()));
        two.publish(&member("two"));
        assert_eq!(told(&mut one), Some(vec![member("two")]));
        assert_eq!(told(&mut two), Some(vec![member("one")]));
        two.publish(&member("two"));
        assert_eq!(told(&mut one), None, "nothing has changed");
        let renamed = Member { hostname: "other".to_owned(), ..member("two") };
        two.publish(&renamed);
        assert_eq!(told(&mut one), Some(vec![renamed]));
        assert_eq!(one.status().members, 1);
        drop(two);
        assert_eq!(told(&mut one), Some(Vec::new()));
    }

    #[test]
    fn whoever_waits_is_woken_by_a_change() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let registry = Registry::new();
        let (mut one, mut two) = (registry.tier(), registry.tier());
        let flag = Arc::new(Flag(false.into()));
        let waker = Waker::from(Arc::clone(&flag));
        while one.poll(&mut Context::from_waker(&waker)).is_ready() {}
        two.publish(&member("two"));
        assert!(flag.0.load(std::sync::atomic::Ordering::Relaxed));
    }
}
