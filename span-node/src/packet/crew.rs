//! Packet threads beside the leader: each carries the flows that the kernel gives to its queue and its sockets.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, ScopedJoinHandle, scope};
use std::time::Duration;

use mio::{Events, Poll, Waker};
use span_nat::transport;

use super::carrier::{Carrier, WAKER};
use super::ends::Ends;
use super::lend::{Shared, Sharer};
use super::outbound::Drops;

/// Most orders that wait for one thread; the leader waits with more.
const ORDERS: usize = 64;

/// A change to make between two packets. One that fails ends all threads.
pub(super) type Order = Box<dyn FnOnce(&mut Ends) -> io::Result<()> + Send>;

/// What a thread did not carry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) drops: Drops,
    pub(super) lost: transport::Drops,
    pub(super) refused: u64,
}

impl Counts {
    pub(super) fn plus(mut self, other: Counts) -> Counts {
        self.lost.merge(&other.lost);
        Counts { drops: self.drops + other.drops, lost: self.lost, refused: self.refused + other.refused }
    }
}

/// The leader's end of the other threads; empty where there is one thread.
#[derive(Default)]
pub(super) struct Crew {
    members: Vec<Member>,
    /// Orders not given yet: whoever gives them must not hold the lock of the tunnel, for which their receiver
    /// may wait.
    pending: Vec<(usize, Order)>,
    /// A thread has ended.
    ended: Arc<AtomicBool>,
}

#[derive(Clone)]
struct Member {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    counts: Arc<Mutex<Counts>>,
}

impl Crew {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Gives an order to one thread with the next [`dispatch`](Self::dispatch).
    pub(super) fn order(
        &mut self,
        member: usize,
        order: impl FnOnce(&mut Ends) -> io::Result<()> + Send + 'static,
    ) {
        self.pending.push((member, Box::new(order)));
    }

    /// Gives the orders that `make` makes to all threads with the next [`dispatch`](Self::dispatch).
    pub(super) fn order_all<O>(&mut self, make: impl Fn() -> O)
    where
        O: FnOnce(&mut Ends) -> io::Result<()> + Send + 'static,
    {
        for member in 0..self.len() {
            self.order(member, make());
        }
    }

    /// Gives the orders that wait.
    pub(super) fn dispatch(&mut self) {
        for (member, order) in self.pending.drain(..) {
            self.members[member].give(order);
        }
    }

    /// What each thread did not carry, as of its last turn.
    pub(super) fn counts(&self) -> impl Iterator<Item = Counts> + '_ {
        self.members.iter().map(|member| *member.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Makes the thread that will carry between `ends`.
    pub(super) fn enlist(&mut self, shared: &Arc<Shared>, ends: Ends) -> io::Result<Hand> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (orders, receiver) = sync_channel(ORDERS);
        let member = Member { orders, waker, counts: Arc::default() };
        let hand = Hand {
            carrier: Carrier::new(poll, Sharer::new(Arc::clone(shared)), ends)?,
            orders: receiver,
            counts: Arc::clone(&member.counts),
        };
        self.members.push(member);
        Ok(hand)
    }

    /// What starts and ends the threads.
    pub(super) fn threads(&self) -> Threads {
        Threads { members: self.members.clone(), ended: Arc::clone(&self.ended) }
    }
}

/// What starts the threads, and ends them.
pub(super) struct Threads {
    /// A waker that is gone before its thread has woken up wakes nobody: these outlive the threads.
    members: Vec<Member>,
    ended: Arc<AtomicBool>,
}

impl Threads {
    /// Runs `lead` beside the threads, and ends them after it.
    pub(super) fn run(
        self,
        hands: Vec<Hand>,
        leader: &Arc<Waker>,
        lead: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Threads { members, ended } = self;
        scope(|scope| {
            // Also if `lead` panics: a scope waits for its threads.
            let stop = Stop(&members);
            let mut threads: Vec<ScopedJoinHandle<'_, io::Result<()>>> = Vec::new();
            let mut result = Ok(());
            for (number, hand) in hands.into_iter().enumerate() {
                let name = format!("span-packets-{}", number + 1);
                let ended = Ended { ended: Arc::clone(&ended), leader: Arc::clone(leader) };
                let run = move || {
                    let _ended = ended;
                    hand.run()
                };
                match Builder::new().name(name).spawn_scoped(scope, run) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                }
            }
            let mut result = result.and_then(|()| lead());
            drop(stop);
            for thread in threads {
                let panicked = |_| Err(io::Error::other("a packet thread panicked"));
                result = result.and(thread.join().unwrap_or_else(panicked));
            }
            result
        })
    }
}

impl Member {
    fn give(&self, order: Order) {
        // Fails only if the thread is gone, and then all ends.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }
}

/// Ends the threads when dropped.
struct Stop<'a>(&'a [Member]);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        for member in self.0 {
            member.give(Box::new(|ends| {
                ends.stopping = true;
                Ok(())
            }));
        }
    }
}

/// Tells the leader that a thread has ended, panics included.
struct Ended {
    ended: Arc<AtomicBool>,
    leader: Arc<Waker>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _ = self.leader.wake();
    }
}

/// The loop of a packet thread that is not the leader.
pub(super) struct Hand {
    carrier: Carrier<Sharer>,
    orders: Receiver<Order>,
    counts: Arc<Mutex<Counts>>,
}

impl Hand {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(16);
        loop {
            let timeout = self.carrier.is_busy().then_some(Duration::ZERO);
            self.carrier.wait(&mut events, timeout)?;
            for event in &events {
                self.carrier.note(event);
            }
            while let Ok(order) = self.orders.try_recv() {
                order(&mut self.carrier.ends)?;
            }
            if self.carrier.ends.stopping {
                return Ok(());
            }
            self.carrier.follow_rebinding()?;
            let now = self.carrier.ends.clock.now();
            self.carrier.turn(now)?;
            self.carrier.tunnel.hand_over(now);
            self.carrier.await_room()?;
            self.carrier.count();
            *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = self.carrier.ends.counts();
        }
    }
}
