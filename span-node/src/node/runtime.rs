//! What turns the manager's one `poll` into a thread: a current-thread tokio runtime where discovery speaks
//! gRPC, and nothing but parking the thread where it does not.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Longest time between two polls: tiers without a descriptor look for changes then.
const TICK: Duration = Duration::from_secs(1);

/// How long a node that ends waits for what cannot be interrupted, such as looking up a name.
#[cfg(feature = "service")]
const FAREWELL: Duration = Duration::from_secs(1);

/// Most messages that wait for the manager.
const MESSAGES: usize = 1024;

/// A bounded queue that wakes its reader.
pub(super) fn inbox<M>() -> (Outbox<M>, Inbox<M>) {
    let (sender, receiver) = sync_channel(MESSAGES);
    let shared = Arc::new(Shared { waker: Mutex::new(Waker::noop().clone()), stopped: false.into() });
    (Outbox { sender, shared: Arc::clone(&shared) }, Inbox { receiver, shared })
}

/// What both ends know.
struct Shared {
    waker: Mutex<Waker>,
    /// The reader is to end. No message, because there is always room for it.
    stopped: AtomicBool,
}

/// The writing end.
pub(super) struct Outbox<M> {
    sender: SyncSender<M>,
    shared: Arc<Shared>,
}

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Outbox { sender: self.sender.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<M> Outbox<M> {
    /// Leaves a message without waiting. False when the reader is gone or cannot keep up.
    pub(super) fn post(&self, message: M) -> bool {
        let posted = match self.sender.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        };
        self.wake();
        posted
    }

    /// Lets the reader look at everything again.
    pub(super) fn wake(&self) {
        self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }

    /// Asks the reader to end, whatever else waits.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.wake();
    }
}

/// The reading end.
pub(super) struct Inbox<M> {
    receiver: Receiver<M>,
    shared: Arc<Shared>,
}

impl<M> Inbox<M> {
    /// The next message, or nothing and a promise to wake `cx` when there is one.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<M> {
        // Registered before looking, so that a message that comes in between is not slept through.
        self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        self.receiver.try_recv().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether the reader is to end. After [`poll`](Self::poll) was pending, `cx` is woken for that too.
    pub(super) fn stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        // A waker may keep the whole runtime of its task.
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Waker::noop().clone();
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
    let output = runtime.block_on(async {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        std::future::poll_fn(|cx| {
            // Until it is pending, so that its next tick wakes this task.
            while tick.poll_tick(cx).is_ready() {}
            task.poll(cx)
        })
        .await
    });
    runtime.shutdown_timeout(FAREWELL);
    Ok(output)
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

    #[test]
    fn what_a_reader_has_not_read_goes_with_it() {
        let (outbox, inbox) = inbox();
        let (answer, receiver) = std::sync::mpsc::channel::<()>();
        assert!(outbox.post(answer));
        drop(inbox);
        // Whoever asked waits for an answer or for the end of the question.
        receiver.recv().unwrap_err();
    }

    #[test]
    fn a_reader_with_more_messages_than_it_can_read_is_stopped_all_the_same() {
        let (outbox, inbox) = inbox();
        while outbox.post(1) {}
        assert!(!inbox.stopped());
        outbox.stop();
        assert!(inbox.stopped());
    }
}
