//! What happens to a node, as its embedder hears of it.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use span_core::key::PublicKey;
use span_core::mesh::NodeId;
use span_core::path::Path;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A node of the cluster became known: from discovery, or from what an earlier run kept.
    MemberJoined(MemberRef),
    /// No source of members knows the node any more, and no tunnel to it works.
    MemberLeft(MemberRef),
    /// A member became a peer: it has a key, and a tunnel to it is tried.
    PeerAdded(PeerRef),
    /// A member is no peer any more.
    PeerRemoved(PeerRef),
    /// The tunnel to a peer works.
    PeerUp(PeerRef),
    /// A peer leaves every handshake unanswered. It is tried further.
    PeerDown(PeerRef),
    /// Datagrams to a peer go elsewhere than before.
    PathChanged {
        /// Who.
        peer: PeerRef,
        /// Where to now.
        path: Path,
    },
    /// A source of members works.
    DiscoveryUp {
        /// The source: a service's URL, a file's path.
        name: String,
    },
    /// A source of members does not work, or no more. It is tried further, and running links stay up.
    DiscoveryDown {
        /// The source: a service's URL, a file's path.
        name: String,
        /// Why.
        reason: String,
    },
    /// Events before the next were lost, because nobody read them in time.
    /// [`Node::status`](super::Node::status) tells how things are now.
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The node has ended: routes, interface and sockets are gone. Nothing follows.
    Stopped(StopReason),
}

/// A member an [`Event`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRef {
    /// Its id in discovery.
    pub node_id: NodeId,
    /// A name for people: node name, else host name, else id.
    pub name: String,
}

/// A peer an [`Event`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRef {
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Its id in discovery.
    pub node_id: NodeId,
    /// A name for people: node name, else host name, else id.
    pub name: String,
    /// Its overlay address, if it has one that leads to it. A name is what a peer says of itself; its key has got it
    /// the address.
    pub address: Option<IpAddr>,
}

/// Why a node has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was asked to.
    Asked,
    /// It could not go on; the text says why. [`Node::wait`](super::Node::wait) has the error itself.
    Failed(String),
}

/// Why there is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEvent {
    /// Nothing has happened.
    #[error("nothing has happened yet")]
    Yet,
    /// The node has stopped, and all its events were read.
    #[error("the node has stopped")]
    Stopped,
}

/// The events of a node, from its start on, in the order in which they happened.
///
/// All readers of one node take from the same bounded queue: each event goes to one of them. It may be read by
/// blocking, by polling [its descriptor](AsFd), or as a future. It ends with [`Event::Stopped`].
#[derive(Clone, Debug)]
pub struct Events(Arc<Queue>);

impl Events {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Events(queue)
    }

    /// The next event; waits for it. `None` when the node has stopped and all was read.
    pub fn recv(&self) -> Option<Event> {
        let mut state = self.0.lock();
        loop {
            match state.take(&self.0.bell) {
                Ok(event) => return Some(event),
                Err(NoEvent::Stopped) => return None,
                Err(NoEvent::Yet) => {
                    state = self.0.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The next event, if there is one.
    ///
    /// # Errors
    /// See [`NoEvent`].
    pub fn try_recv(&self) -> Result<Event, NoEvent> {
        self.0.lock().take(&self.0.bell)
    }

    /// The next event; waits for it, but no longer than `timeout`.
    ///
    /// # Errors
    /// See [`NoEvent`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, NoEvent> {
        let empty = |state: &mut State| state.is_empty() && !state.closed;
        let waited = self.0.filled.wait_timeout_while(self.0.lock(), timeout, empty);
        waited.unwrap_or_else(PoisonError::into_inner).0.take(&self.0.bell)
    }

    /// As [`recv`](Self::recv), for a task: pending until there is something.
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.0.lock();
        match state.take(&self.0.bell) {
            Ok(event) => Poll::Ready(Some(event)),
            Err(NoEvent::Stopped) => Poll::Ready(None),
            Err(NoEvent::Yet) => {
                if !state.tasks.iter().any(|task| task.will_wake(cx.waker())) {
                    state.tasks.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// As [`recv`](Self::recv), for asynchronous programs of any runtime. A future that is dropped has taken
    /// nothing.
    pub async fn recv_async(&self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }
}

/// Readable while [`try_recv`](Events::try_recv) has something to tell, the end included. Only to be polled:
/// whatever is read from or written to it confuses that.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.bell.0.as_fd()
    }
}

/// [`recv`](Events::recv) again and again, until the node has stopped.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

/// The queue behind [`Events`].
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    bell: Bell,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Event>,
    capacity: usize,
    /// Events lost before those that wait.
    missed: u64,
    closed: bool,
    tasks: Vec<Waker>,
}

impl Queue {
    /// Events that are kept unless told otherwise.
    pub(super) const CAPACITY: usize = 1024;

    pub(super) fn new(capacity: usize) -> io::Result<Arc<Self>> {
        let state = State { waiting: VecDeque::new(), capacity, missed: 0, closed: false, tasks: Vec::new() };
        Ok(Arc::new(Queue { state: Mutex::new(state), filled: Condvar::new(), bell: Bell::new()? }))
    }

    /// Adds an event without waiting. Where there is no room, the oldest is lost.
    pub(super) fn push(&self, event: Event) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.waiting.len() == state.capacity {
            state.waiting.pop_front();
            state.missed += 1;
        }
        state.waiting.push_back(event);
        self.tell(state);
    }

    /// Takes note of events that were lost on their way here.
    pub(super) fn missed(&self, events: u64) {
        let mut state = self.lock();
        state.missed += events;
        self.tell(state);
    }

    /// Adds the last event.
    pub(super) fn close(&self, reason: StopReason) {
        self.push(Event::Stopped(reason));
        let mut state = self.lock();
        state.closed = true;
        self.tell(state);
    }

    fn tell(&self, mut state: MutexGuard<'_, State>) {
        let tasks = std::mem::take(&mut state.tasks);
        self.bell.ring();
        drop(state);
        self.filled.notify_all();
        tasks.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent after every statement that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missed == 0
    }

    fn take(&mut self, bell: &Bell) -> Result<Event, NoEvent> {
        let event = match std::mem::take(&mut self.missed) {
            0 => self.waiting.pop_front(),
            missed => Some(Event::Lagged { missed }),
        };
        // Rings for ever once the node has stopped, so that nobody waits in vain.
        if self.is_empty() && !self.closed {
            bell.clear();
        }
        event.ok_or(if self.closed { NoEvent::Stopped } else { NoEvent::Yet })
    }
}

/// A descriptor that is readable or not. Only used under the lock of its queue.
#[derive(Debug)]
struct Bell(OwnedFd);

impl Bell {
    fn new() -> io::Result<Self> {
        Ok(Bell(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    fn ring(&self) {
        // Fails only when the counter is full, and then it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn up(name: &str) -> Event {
        Event::DiscoveryUp { name: name.to_owned() }
    }

    fn queue(capacity: usize) -> (Arc<Queue>, Events) {
        let queue = Queue::new(capacity).unwrap();
        (Arc::clone(&queue), Events::new(queue))
    }

    fn readable(events: &Events) -> bool {
        poll(&mut [PollFd::new(events, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn the_newest_events_stay_and_the_loss_is_told_first() {
        let (queue, events) = queue(2);
        for name in ["a", "b", "c", "d"] {
            queue.push(up(name));
        }
        assert_eq!(events.try_recv(), Ok(Event::Lagged { missed: 2 }));
        assert_eq!(events.try_recv(), Ok(up("c")));
        queue.close(StopReason::Asked);
        queue.push(up("too late"));
        let rest: Vec<Event> = events.collect();
        assert_eq!(rest, [up("d"), Event::Stopped(StopReason::Asked)]);
    }

    #[test]
    fn the_descriptor_is_readable_exactly_while_there_is_something_to_tell() {
        let (queue, events) = queue(4);
        assert!(!readable(&events));
        assert_eq!(events.try_recv(), Err(NoEvent::Yet));
        queue.push(up("a"));
        queue.push(up("b"));
        assert!(readable(&events));
        events.try_recv().unwrap();
        assert!(readable(&events));
        events.try_recv().unwrap();
        assert!(!readable(&events));
        queue.missed(3);
        assert!(readable(&events));
        assert_eq!(events.recv(), Some(Event::Lagged { missed: 3 }));
        assert!(!readable(&events));
        queue.close(StopReason::Asked);
        assert_eq!(events.recv(), Some(Event::Stopped(StopReason::Asked)));
        assert!(readable(&events), "the end can be seen by who polls late");
        assert_eq!((events.try_recv(), events.recv()), (Err(NoEvent::Stopped), None));
    }

    #[test]
    fn readers_that_wait_are_woken_by_events_and_by_the_end() {
        let (queue, events) = queue(4);
        assert_eq!(events.recv_timeout(Duration::ZERO), Err(NoEvent::Yet));
        let reader = std::thread::spawn({
            let events = events.clone();
            move || events.collect::<Vec<_>>()
        });
        queue.push(up("a"));
        queue.close(StopReason::Failed("no".to_owned()));
        assert_eq!(reader.join().unwrap(), [up("a"), Event::Stopped(StopReason::Failed("no".to_owned()))]);
        assert_eq!(events.recv_timeout(Duration::MAX), Err(NoEvent::Stopped));
    }

    #[test]
    fn tasks_that_wait_are_woken_once() {
        struct Count(std::sync::atomic::AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let (queue, events) = queue(4);
        let count = Arc::new(Count(0.into()));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(events.poll_recv(&mut cx).is_pending() && events.poll_recv(&mut cx).is_pending());
        queue.push(up("a"));
        queue.push(up("b"));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert_eq!(events.poll_recv(&mut cx), Poll::Ready(Some(up("a"))));
    }
}
