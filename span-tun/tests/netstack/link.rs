//! A mesh of two: what one stack sends is cut, lost, delayed and merged as on a real way, and given to the other.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use span_core::time::Instant;
use span_tun::device::{Device, MAX_FRAME};
use span_tun::netstack::{Clock, Config, Netstack, NetstackDevice};
use span_tun::offload::{Coalescer, split};

/// What happens to packets on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Way {
    /// Packets lost, of a million.
    pub(crate) loss: u64,
    /// Packets that are overtaken by the next, of a million.
    pub(crate) reorder: u64,
    /// How long a packet is under way.
    pub(crate) delay: Duration,
    pub(crate) seed: u64,
}

/// One direction: bursts of packets and when they arrive.
struct Direction {
    under_way: VecDeque<(Instant, Vec<Vec<u8>>)>,
    coalescer: Coalescer,
    random: u64,
    lost: u64,
}

impl Direction {
    fn happens(&mut self, of_a_million: u64) -> bool {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % 1_000_000 < of_a_million
    }
}

pub(crate) struct Link {
    way: Way,
    devices: [NetstackDevice; 2],
    directions: [Direction; 2],
    frame: Vec<u8>,
    /// Largest packet seen.
    pub(crate) longest: usize,
}

impl Link {
    pub(crate) fn new(way: Way, devices: [NetstackDevice; 2]) -> Self {
        let direction = |seed: u64| Direction {
            under_way: VecDeque::new(),
            coalescer: Coalescer::new(false),
            random: way.seed.wrapping_mul(2).wrapping_add(seed),
            lost: 0,
        };
        Self { way, devices, directions: [direction(0), direction(1)], frame: vec![0; MAX_FRAME], longest: 0 }
    }

    /// Carries what there is. True if there was anything.
    pub(crate) fn step(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for from in [0, 1] {
            moved |= self.collect(now, from);
            moved |= self.deliver(now, from);
        }
        moved
    }

    /// When something arrives or a device is due, whichever is first.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let arrivals = self.directions.iter().filter_map(|direction| Some(direction.under_way.front()?.0));
        arrivals.chain(self.devices.iter().filter_map(Device::deadline)).min()
    }

    /// From now on nothing arrives.
    pub(crate) fn cut(&mut self) {
        self.way.loss = 1_000_000;
    }

    pub(crate) fn lost(&self) -> u64 {
        self.directions.iter().map(|direction| direction.lost).sum()
    }

    fn collect(&mut self, now: Instant, from: usize) -> bool {
        let direction = &mut self.directions[from];
        let mut burst: Vec<Vec<u8>> = Vec::new();
        // A turn of a packet thread.
        for _ in 0..16 {
            let (header, len) = match self.devices[from].recv(&mut self.frame) {
                Ok(frame) => frame,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            };
            for segment in split(&header, &mut self.frame[..len]).unwrap() {
                let mut packet = vec![0; segment.len()];
                segment.write_to(&mut packet);
                self.longest = self.longest.max(packet.len());
                if direction.happens(self.way.loss) {
                    direction.lost += 1;
                    continue;
                }
                let at = burst.len();
                if at > 0 && direction.happens(self.way.reorder) {
                    burst.insert(at - 1, packet);
                } else {
                    burst.push(packet);
                }
            }
        }
        if burst.is_empty() {
            return false;
        }
        direction.under_way.push_back((now + self.way.delay, burst));
        true
    }

    fn deliver(&mut self, now: Instant, from: usize) -> bool {
        let direction = &mut self.directions[from];
        let to = &mut self.devices[1 - from];
        let mut moved = false;
        while direction.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, burst)) = direction.under_way.pop_front() else { break };
            let mut arena = Vec::new();
            let mut ranges = Vec::new();
            for packet in burst {
                ranges.push(arena.len()..arena.len() + packet.len());
                arena.extend(packet);
            }
            for range in ranges {
                direction.coalescer.push(&arena, range);
            }
            direction.coalescer.flush(&mut arena, &mut |header, parts| to.send(header, parts)).unwrap();
            moved = true;
        }
        moved
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, now: Instant) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::new(move || time.now())
    }
}

pub(crate) fn addresses(host: u8) -> [IpAddr; 2] {
    [IpAddr::from([10, 0, 0, host]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host)])]
}

pub(crate) fn config(host: u8) -> Config {
    let mut config = Config::new(addresses(host));
    config.seed = Some(u64::from(host));
    config
}

/// Two stacks whose time passes as fast as they work it off. Nothing waits for anything.
pub(crate) struct Simulation {
    pub(crate) a: Netstack,
    pub(crate) b: Netstack,
    pub(crate) link: Link,
    pub(crate) time: Time,
}

impl Simulation {
    pub(crate) fn new(way: Way, adjust: impl Fn(&mut Config)) -> Self {
        let time = Time::default();
        time.set(Instant::from_secs(1000));
        let stack = |host| {
            let mut config = config(host);
            config.clock = time.clock();
            adjust(&mut config);
            Netstack::new(config).unwrap()
        };
        let ((a, left), (b, right)) = (stack(1), stack(2));
        Self { a, b, link: Link::new(way, [left, right]), time }
    }

    /// Carries what is under way, and lets time pass if that is nothing. False if nothing will ever happen.
    pub(crate) fn step(&mut self) -> bool {
        let now = self.time.now();
        if self.link.step(now) {
            return true;
        }
        let Some(deadline) = self.link.deadline() else { return false };
        self.time.set(deadline.max(now + Duration::from_micros(1)));
        true
    }

    /// Goes on until `done` gives something.
    pub(crate) fn until<R>(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> Option<R>) -> R {
        let end = self.time.now() + Duration::from_secs(3600);
        loop {
            if let Some(result) = done(self) {
                return result;
            }
            assert!(self.step() && self.time.now() < end, "{what} never happened");
        }
    }

    /// Lets that much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.time.now() + time;
        while self.link.step(self.time.now()) || self.link.deadline().is_some_and(|at| at <= end) {
            if let Some(deadline) = self.link.deadline() {
                self.time.set(deadline.max(self.time.now() + Duration::from_nanos(1)).min(end));
            }
        }
        self.time.set(end);
    }
}

/// Two stacks joined by a thread, on the clock of the machine.
pub(crate) struct Mesh {
    pub(crate) a: Netstack,
    pub(crate) b: Netstack,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mesh {
    pub(crate) fn new(way: Way) -> Self {
        Self::with(way, |_| {})
    }

    pub(crate) fn with(way: Way, adjust: impl Fn(&mut Config)) -> Self {
        let stack = |host| {
            let mut config = config(host);
            adjust(&mut config);
            Netstack::new(config).unwrap()
        };
        let ((a, left), (b, right)) = (stack(1), stack(2));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || pump(Link::new(way, [left, right]), &stopped));
        Self { a, b, stop, thread: Some(thread) }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Rings the bell of one that is open.
        for stack in [&self.a, &self.b] {
            if let Ok(socket) = stack.bind_udp("0.0.0.0:0".parse().unwrap()) {
                let _ = socket.send_to(b"", "10.0.0.99:9".parse().unwrap());
            }
        }
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "the link panicked");
        }
    }
}

/// What a packet thread does: sleeps in one poll until a descriptor or a deadline says otherwise.
fn pump(mut link: Link, stop: &AtomicBool) {
    let clock = Clock::system();
    let mut poll = mio::Poll::new().unwrap();
    for (token, device) in link.devices.iter().enumerate() {
        let descriptor = device.descriptor().unwrap();
        let mut source = mio::unix::SourceFd(&descriptor);
        poll.registry().register(&mut source, mio::Token(token), mio::Interest::READABLE).unwrap();
    }
    let mut events = mio::Events::with_capacity(4);
    while !stop.load(Ordering::Relaxed) {
        if link.step(clock.now()) {
            continue;
        }
        let wait = link.deadline().map(|deadline| deadline.since(clock.now()));
        match poll.poll(&mut events, wait) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("{error}"),
            Ok(()) | Err(_) => {}
        }
    }
}
