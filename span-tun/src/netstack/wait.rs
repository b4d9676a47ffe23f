use std::sync::{Arc, Condvar};
use std::task::{Context, Waker};

/// Threads and tasks that wait for one thing.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    condvar: Arc<Condvar>,
    /// Threads that wait; waking costs a system call even if there are none.
    blocked: usize,
    wakers: Vec<Waker>,
}

impl Waiters {
    /// Registers a thread that is about to wait on what is returned, under the lock of the stack.
    pub(super) fn block(&mut self) -> Arc<Condvar> {
        self.blocked += 1;
        Arc::clone(&self.condvar)
    }

    /// The thread waits no more.
    pub(super) fn unblock(&mut self) {
        self.blocked -= 1;
    }

    /// Registers a task, once however often it asks.
    pub(super) fn register(&mut self, context: &Context<'_>) {
        let waker = context.waker();
        if !self.wakers.iter().any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocked == 0 && self.wakers.is_empty()
    }

    /// Wakes all threads, and moves the wakers of tasks to `wakers`: those may run code that wants the lock.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        if self.blocked > 0 {
            self.condvar.notify_all();
        }
        wakers.append(&mut self.wakers);
    }
}
