//! What turns the manager's one `poll` into a thread: a current-thread tokio runtime where discovery speaks
//! gRPC, and nothing but parking the thread where it does not.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Longest time between two polls: tiers without a descriptor look for changes then.
const TICK: Duration = Duration::from_secs(1);

/// Most messages that wait for the manager.
const MESSAGES: usize = 1024;

/// A bounded queue that wakes its reader.
pub(super) fn inbox<M>() -> (Outbox<M>, Inbox<M>) {
    let (sender, receiver) = bounded(MESSAGES);
    let waker = Arc::new(Mutex::new(Waker::noop().clone()));
    (Outbox { sender, waker: Arc::clone(&waker) }, Inbox { receiver, waker })
}

/// The writing end.
pub(super) struct Outbox<M> {
    sender: Sender<M>,
    waker: Arc<Mutex<Waker>>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Outbox { sender: self.sender.clone(), waker: Arc::clone(&self.waker) }
    }
}

impl<M> Outbox<M> {
    /// Leaves a message without waiting. False when the reader is gone or cannot keep up.
    pub(super) fn post(&self, message: M) -> bool {
        let posted = match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        posted
    }
}

/// The reading end.
pub(super) struct Inbox<M> {
    receiver: Receiver<M>,
    waker: Arc<Mutex<Waker>>,
}

impl<M> Inbox<M> {
    /// The next message, or nothing and a promise to wake `cx` when there is one.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<M> {
        // Registered before looking, so that a message that comes in between is not slept through.
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        self.receiver.try_recv().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Something that is polled until it is done.
pub(super) trait Task {
    /// What it leaves.
    type Output;

    /// Does what there is to do.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Self::Output>;
}

/// Polls `task` whenever it is woken, and every second, until it is ready.
#[cfg(feature = "service")]
pub(super) fn drive<T: Task>(mut task: T) -> io::Result<T::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    Ok(runtime.block_on(async {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        std::future::poll_fn(|cx| {
            // Until it is pending, so that its next tick wakes this task.
            while tick.poll_tick(cx).is_ready() {}
            task.poll(cx)
        })
        .await
    }))
}

/// Polls `task` whenever it is woken, and every second, until it is ready.
#[cfg(not(feature = "service"))]
pub(super) fn drive<T: Task>(mut task: T) -> io::Result<T::Output> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = task.poll(&mut cx) {
            return Ok(done);
        }
        std::thread::park_timeout(TICK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    struct Count {
        inbox: Inbox<u32>,
        sum: u32,
        polls: u32,
    }

    impl Task for Count {
        type Output = (u32, u32);

        fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(u32, u32)> {
            self.polls += 1;
            while let Poll::Ready(message) = self.inbox.poll(cx) {
                if message == 0 {
                    return Poll::Ready((self.sum, self.polls));
                }
                self.sum += message;
            }
            Poll::Pending
        }
    }

    #[test]
    fn messages_wake_the_task_and_time_does_too() {
        let (outbox, inbox) = inbox();
        let task = std::thread::spawn(move || drive(Count { inbox, sum: 0, polls: 0 }));
        let start = Instant::now();
        assert!(outbox.post(1) && outbox.post(2));
        std::thread::sleep(TICK * 2);
        assert!(outbox.clone().post(0));
        let (sum, polls) = task.join().unwrap().unwrap();
        assert_eq!(sum, 3);
        assert!(u64::from(polls) >= start.elapsed().as_secs(), "{polls} polls");
    }

    #[test]
    fn a_reader_that_does_not_read_loses_messages_and_not_the_writer() {
        let (outbox, _inbox) = inbox();
        assert!((0..MESSAGES).all(|message| outbox.post(message)));
        assert!(!outbox.post(0));
    }
}
