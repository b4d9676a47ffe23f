//! The stack behind its lock, and how threads wait for it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use span_core::time::Instant;

use super::config::Clock;
use super::stack::Stack;
use super::wait::Waiters;
use crate::device::bell::Bell;

#[derive(Debug)]
pub(super) struct Shared {
    stack: Mutex<Stack>,
    /// Wakes the packet thread. Rung and cleared under the lock.
    pub(super) bell: Bell,
    /// When the device is due, in nanoseconds of the clock; [`NEVER`] if it is not.
    due: AtomicU64,
    pub(super) clock: Clock,
}

const NEVER: u64 = u64::MAX;

/// How a call waits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Not at all.
    Nonblocking,
    /// That long, or for ever.
    Blocking(Option<Duration>),
}

impl Shared {
    pub(super) fn new(stack: Stack, clock: Clock) -> io::Result<Self> {
        Ok(Self { stack: Mutex::new(stack), bell: Bell::new()?, due: AtomicU64::new(NEVER), clock })
    }

    fn lock(&self) -> MutexGuard<'_, Stack> {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let due = self.due.load(Ordering::Acquire);
        (due != NEVER).then(|| Instant::from_nanos(due))
    }

    /// Works on the stack as the packet thread does, which knows by itself when it is due.
    pub(super) fn carry<R>(&self, work: impl FnOnce(&mut Stack, Instant) -> R) -> R {
        let now = self.clock.now();
        let mut stack = self.lock();
        let result = work(&mut stack, now);
        self.publish(&stack);
        Self::release(stack);
        result
    }

    /// Works on the stack for the application, and wakes the packet thread if that gave it something to do.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Stack, Instant) -> R) -> R {
        let now = self.clock.now();
        let mut stack = self.lock();
        let result = work(&mut stack, now);
        self.alert(&mut stack);
        Self::release(stack);
        result
    }

    /// Does `attempt` until it is ready, waiting at `waiters` in between.
    ///
    /// # Errors
    /// Those of `attempt`, `WouldBlock` instead of waiting, and `TimedOut`.
    pub(super) fn wait<R>(
        &self,
        patience: Patience,
        mut attempt: impl FnMut(&mut Stack, Instant) -> Poll<io::Result<R>>,
        waiters: impl Fn(&mut Stack) -> Option<&mut Waiters>,
    ) -> io::Result<R> {
        let mut until = None;
        let mut stack = self.lock();
        loop {
            let outcome = attempt(&mut stack, self.clock.now());
            self.alert(&mut stack);
            if let Poll::Ready(result) = outcome {
                Self::release(stack);
                return result;
            }
            if !stack.wakers.is_empty() {
                Self::release(stack);
                stack = self.lock();
                continue;
            }
            let Patience::Blocking(timeout) = patience else {
                Self::release(stack);
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let remaining = match timeout {
                None => None,
                Some(timeout) => {
                    let now = std::time::Instant::now();
                    let until = *until.get_or_insert_with(|| now.checked_add(timeout));
                    let remaining = until.map(|until| until.saturating_duration_since(now));
                    if remaining.is_some_and(|remaining| remaining.is_zero()) {
                        Self::release(stack);
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    remaining
                }
            };
            let Some(here) = waiters(&mut stack) else {
                Self::release(stack);
                return Err(io::ErrorKind::NotConnected.into());
            };
            let condvar = here.block();
            stack = match remaining {
                None => condvar.wait(stack).unwrap_or_else(PoisonError::into_inner),
                Some(remaining) => {
                    condvar.wait_timeout(stack, remaining).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            if let Some(here) = waiters(&mut stack) {
                here.unblock();
            }
        }
    }

    /// Does `attempt` once, and registers the task at `waiters` if it is not ready.
    pub(super) fn poll<R>(
        &self,
        context: &Context<'_>,
        attempt: impl FnOnce(&mut Stack, Instant) -> Poll<io::Result<R>>,
        waiters: impl FnOnce(&mut Stack) -> Option<&mut Waiters>,
    ) -> Poll<io::Result<R>> {
        self.with(|stack, now| {
            let outcome = attempt(stack, now);
            if outcome.is_pending()
                && let Some(here) = waiters(stack)
            {
                here.register(context);
            }
            outcome
        })
    }

    /// Makes sure that the packet thread comes in time.
    fn alert(&self, stack: &mut Stack) {
        let before = self.due.load(Ordering::Relaxed);
        let due = self.publish(stack);
        if stack.asleep && due < before {
            stack.asleep = false;
            stack.rung = true;
            self.bell.ring();
        }
    }

    fn publish(&self, stack: &Stack) -> u64 {
        let due = stack.due().map_or(NEVER, Instant::as_nanos);
        self.due.store(due, Ordering::Release);
        due
    }

    /// Unlocks, and only then wakes tasks: they may run at once, and want the lock.
    fn release(mut stack: MutexGuard<'_, Stack>) {
        let wakers = std::mem::take(&mut stack.wakers);
        drop(stack);
        for waker in wakers {
            waker.wake();
        }
    }
}
