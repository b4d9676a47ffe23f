//! How a node ends: whatever ends first takes the rest with it, in order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::control;
use super::error::NodeError;
use super::events::{Queue, StopReason};
use super::manager::Message;
use super::runtime::Outbox;
use crate::packet;

/// What the threads of a node and its handles share.
pub(super) struct Life {
    manager: Outbox<Message>,
    packets: packet::Handle,
    control: Option<control::Stopper>,
    events: Arc<Queue>,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that run, and the start itself until it is done.
    running: usize,
    /// What the first thread that failed says.
    failure: Option<NodeError>,
    over: bool,
}

/// What a thread does for the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Members, routes, discovery.
    Manager,
    /// Packets.
    Packets,
    /// The control socket.
    Control,
}

impl Role {
    /// The thread's name, as `ps` shows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Manager => "span-manager",
            Role::Packets => "span-packets",
            Role::Control => "span-control",
        }
    }
}

impl Life {
    /// The life of a node whose start is under way; [`started`](Self::started) ends that.
    pub(super) fn new(
        manager: Outbox<Message>,
        packets: packet::Handle,
        control: Option<control::Stopper>,
        events: Arc<Queue>,
    ) -> Arc<Self> {
        let state = Mutex::new(State { running: 1, ..State::default() });
        Arc::new(Life { manager, packets, control, events, state, over: Condvar::new() })
    }

    /// A thread begins.
    pub(super) fn begin(&self) {
        self.lock().running += 1;
    }

    /// The start is done, well or not: from now on the node lives as long as a thread of it.
    pub(super) fn started(&self) {
        self.leave(None);
    }

    /// Asks the node to end, without waiting for it. The manager goes first: routes and rules must be gone
    /// before the packets they send are carried by nobody.
    pub(super) fn stop(&self) {
        self.manager.stop();
    }

    /// A thread has ended; so do the others.
    pub(super) fn ended(&self, role: Role, end: Result<(), NodeError>) {
        match role {
            Role::Manager => {
                self.packets.stop();
                if let Some(control) = &self.control {
                    control.stop();
                }
            }
            Role::Packets | Role::Control => self.manager.stop(),
        }
        self.leave(end.err());
    }

    /// Waits until no thread runs any more.
    pub(super) fn wait(&self) {
        let over = self.over.wait_while(self.lock(), |state| !state.over);
        drop(over.unwrap_or_else(PoisonError::into_inner));
    }

    /// What ended the node, if it was not asked to. Told once.
    pub(super) fn take_failure(&self) -> Option<NodeError> {
        self.lock().failure.take()
    }

    fn leave(&self, failure: Option<NodeError>) {
        let mut state = self.lock();
        if state.failure.is_none() {
            state.failure = failure;
        }
        state.running -= 1;
        if state.running > 0 {
            return;
        }
        state.over = true;
        let reason = match &state.failure {
            Some(error) => StopReason::Failed(error.to_string()),
            None => StopReason::Asked,
        };
        drop(state);
        self.events.close(reason);
        self.over.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent after every statement that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
