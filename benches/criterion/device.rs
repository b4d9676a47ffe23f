//! What a device with many peers costs beside the cipher: finding the session, the replay window, timers.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use span_benches::devices::{Hub, Pair, join, sealed, with_keepalives, with_strangers};
use span_benches::packets;
use span_benches::random::Random;
use span_core::crypto::Suite;
use span_core::wireguard::{DropReason, Inbound, Outbound, Sealer};

const PEERS: [usize; 3] = [1, 1_000, 10_000];

/// Datagrams prepared at a time: they are in the cache, as those just received are; their peers are not.
const PREPARED: BatchSize = BatchSize::NumIterations(16);

/// The peers send in random order, so that with many of them nothing of a peer is in the cache.
fn datagrams(criterion: &mut Criterion) {
    // Made only for those that are run: ten thousand handshakes take seconds.
    let hubs = PEERS.map(|peers| (peers, OnceCell::new()));

    // Parsed, its session found, and refused by the replay window: all that comes before the cipher.
    let mut group = criterion.benchmark_group("device/refuse a replayed datagram, by peers");
    for (peers, hub) in &hubs {
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            let mut hub = hub.get_or_init(|| RefCell::new(Hub::new(*peers))).borrow_mut();
            let Hub { now, device, spokes } = &mut *hub;
            let order = Random::new(1).order(*peers);
            let mut next = order.iter().cycle();
            bench.iter_batched_ref(
                || {
                    let spoke = &spokes[*next.next().expect("a cycle")];
                    (spoke.path, spoke.seen.clone())
                },
                |(path, datagram)| {
                    let inbound = device.handle_datagram(*now, path, datagram);
                    assert_eq!(inbound, Inbound::Dropped(DropReason::Replayed));
                },
                PREPARED,
            );
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("device/open 64 bytes, by peers");
    for (peers, hub) in &hubs {
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            let mut hub = hub.get_or_init(|| RefCell::new(Hub::new(*peers))).borrow_mut();
            let Hub { now, device, spokes } = &mut *hub;
            let order = Random::new(2).order(*peers);
            let mut next = order.iter().cycle();
            bench.iter_batched_ref(
                || {
                    let spoke = &spokes[*next.next().expect("a cycle")];
                    (spoke.path, sealed(&spoke.sealer, &packets::ipv4_from(spoke.address, 64)))
                },
                |(path, datagram)| {
                    let inbound = device.handle_datagram(*now, path, datagram);
                    assert!(matches!(inbound, Inbound::Packet { .. }));
                },
                PREPARED,
            );
        });
    }
    group.finish();

    // What a burst costs beside sealing it: route, session, and telling the device.
    let mut group = criterion.benchmark_group("device/route, outbound, sent, by peers");
    for (peers, hub) in &hubs {
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            let mut hub = hub.get_or_init(|| RefCell::new(Hub::new(*peers))).borrow_mut();
            let Hub { now, device, spokes } = &mut *hub;
            let order = Random::new(3).order(*peers);
            let mut next = order.iter().cycle();
            bench.iter(|| {
                let spoke = &spokes[*next.next().expect("a cycle")];
                let peer = device.route(spoke.address.into()).expect("a peer");
                let ready = matches!(device.outbound(*now, peer), Outbound::Ready(_));
                assert!(ready);
                device.sent(*now, peer, 44, 44 * 1452);
            });
        });
    }
    group.finish();
}

/// Moving one peer's deadline behind all others, and asking for the next.
fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("device/move a timer, by peers");
    for peers in PEERS {
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            let (mut device, ids, mut now) = with_keepalives(peers);
            let order = Random::new(4).order(peers);
            let mut next = order.iter().cycle();
            bench.iter(|| {
                now += Duration::from_nanos(1);
                device.set_keepalive(now, ids[*next.next().expect("a cycle")], Some(25));
                device.poll_timeout().expect("a keepalive is due some time")
            });
        });
    }
    group.finish();
}

/// Empty packets under the cheaper cipher: what differs is the order of their counters.
fn replay_window(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("device/open an empty packet");
    // The next datagram of a session, out of those still to come.
    type Pick = fn(&Sealer, &mut Vec<Vec<u8>>, &mut Random) -> Vec<u8>;
    let orders: [(&str, Pick); 3] = [
        ("in order", |sealer, _, _| sealed(sealer, &[])),
        ("in random order within 4096", |sealer, waiting, random| {
            if waiting.is_empty() {
                let mut sealed: Vec<_> = (0..4096).map(|_| sealed(sealer, &[])).collect();
                waiting.extend(random.order(4096).into_iter().map(|at| std::mem::take(&mut sealed[at])));
            }
            waiting.pop().expect("it was filled")
        }),
        ("one of 64, the rest lost", |sealer, _, _| {
            (1..64).for_each(|_| drop(sealed(sealer, &[])));
            sealed(sealer, &[])
        }),
    ];
    for (name, pick) in orders {
        group.bench_function(name, |bench| {
            let mut pair = Pair::connected_with(Suite::Aes256Gcm);
            let sealer = pair.alice.sealer(pair.now);
            let (mut waiting, mut random) = (Vec::new(), Random::new(6));
            bench.iter_batched_ref(
                || pick(&sealer, &mut waiting, &mut random),
                |datagram| {
                    let inbound = pair.bob.device.handle_datagram(pair.now, &pair.bob.path, datagram);
                    assert!(matches!(inbound, Inbound::Keepalive { .. }));
                },
                PREPARED,
            );
        });
    }
    group.finish();
}

/// A peer with two addresses and a path comes and goes. Where the device has a private key, each that comes costs a key
/// agreement besides.
fn peers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("device/add and remove a peer, by other peers");
    for peers in [10, 1_000, 10_000] {
        group.bench_function(BenchmarkId::from_parameter(peers), |bench| {
            let (mut device, now) = with_strangers(peers);
            bench.iter(|| {
                let peer = join(&mut device, now, peers);
                device.remove_peer(peer);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, datagrams, replay_window, timers, peers);
criterion_main!(benches);
