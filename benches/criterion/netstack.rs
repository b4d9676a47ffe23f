//! TCP between two stacks of one process: what their owner pays before anything is sealed.
//!
//! One thread carries what both send, cut into packets and merged again as in a node; each connection has a thread
//! that writes and one that reads.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use span_tun::device::{Device, MAX_FRAME};
use span_tun::netstack::{Clock, Config, Netstack, NetstackDevice};
use span_tun::offload::{Coalescer, split};

/// Bytes that one iteration moves over each connection.
const PORTION: usize = 1 << 20;

fn netstack(c: &mut Criterion) {
    let mut group = c.benchmark_group("netstack");
    group.sample_size(20);
    for streams in [1, 10] {
        let mesh = Mesh::new();
        let mut ends = mesh.connect(streams);
        group.throughput(Throughput::BytesDecimal((streams * PORTION) as u64));
        group.bench_function(format!("tcp, {streams} streams"), |b| {
            b.iter_custom(|iterations| {
                let total = iterations as usize * PORTION;
                let began = std::time::Instant::now();
                thread::scope(|scope| {
                    for (from, to) in &mut ends {
                        scope.spawn(move || {
                            let buf = vec![7; PORTION];
                            for _ in 0..iterations {
                                from.write_all(&buf).expect("the peer reads");
                            }
                        });
                        scope.spawn(move || {
                            let mut buf = vec![0; 256 << 10];
                            let mut rest = total;
                            while rest > 0 {
                                let len = buf.len().min(rest);
                                rest -= to.read(&mut buf[..len]).expect("the peer writes");
                            }
                        });
                    }
                });
                began.elapsed()
            });
        });
        drop(ends);
    }
    group.finish();
}

struct Mesh {
    a: Netstack,
    b: Netstack,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Mesh {
    fn new() -> Self {
        let host = |nth| {
            let config = Config::new([IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, nth])]);
            Netstack::new(config).expect("a host of the default configuration")
        };
        let ((a, left), (b, right)) = (host(1), host(2));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || carry([left, right], &stopped)));
        Self { a, b, stop, thread }
    }

    fn connect(&self, streams: usize) -> Vec<(impl Write + Send + use<>, impl Read + Send + use<>)> {
        let listener = self.b.listen(SocketAddr::from(([0; 8], 9))).expect("a free port");
        let to = SocketAddr::new(self.b.addresses()[0], 9);
        let ends = (0..streams).map(|_| {
            let from = self.a.connect(to).expect("somebody listens");
            (from, listener.accept().expect("a connection").0)
        });
        ends.collect()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes it.
        self.a.close();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the carrier ends");
        }
    }
}

fn carry(mut devices: [NetstackDevice; 2], stop: &AtomicBool) {
    let clock = Clock::system();
    let mut poll = mio::Poll::new().expect("a poll");
    for (token, device) in devices.iter().enumerate() {
        let descriptor = device.descriptor().expect("a descriptor");
        let mut source = mio::unix::SourceFd(&descriptor);
        let registry = poll.registry();
        registry.register(&mut source, mio::Token(token), mio::Interest::READABLE).expect("a descriptor");
    }
    let mut events = mio::Events::with_capacity(4);
    let mut frame = vec![0; MAX_FRAME];
    let mut arena = vec![0; 32 * MAX_FRAME];
    let mut coalescer = Coalescer::new(false);
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for from in [0, 1] {
            let [left, right] = &mut devices;
            let (near, far) = if from == 0 { (left, right) } else { (right, left) };
            let mut end = 0;
            for _ in 0..8 {
                let Ok((header, len)) = near.recv(&mut frame) else { break };
                for segment in split(&header, &mut frame[..len]).expect("a frame that can be cut") {
                    let range = end..end + segment.len();
                    segment.write_to(&mut arena[range.clone()]);
                    coalescer.push(&arena, range.clone());
                    end = range.end;
                }
                idle = false;
            }
            coalescer
                .flush(&mut arena, &mut |header, parts| far.send(header, parts))
                .expect("a device that stays");
        }
        if idle {
            let due = devices.iter().filter_map(Device::deadline).min();
            let wait = due.map(|due| due.since(clock.now()));
            let _ = poll.poll(&mut events, wait);
        }
    }
}

criterion_group!(benches, netstack);
criterion_main!(benches);
