//! Sealing and opening packets: one, and bursts as a super-packet gives them.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use std::cell::RefCell;
use std::hint::black_box;

use common::{Boring, SUITES, ciphers};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use span_benches::devices::{Pair, sealed};
use span_benches::packets;
use span_core::crypto::TAG_LEN;
use span_core::wireguard::{Inbound, Sealer};

/// Lengths of inner packets, in bytes.
const LENGTHS: [usize; 4] = [64, 512, 1420, 8192];

/// Datagrams prepared at a time: few enough to stay in the cache, as those just received are.
const PREPARED: BatchSize = BatchSize::NumIterations(16);

/// Packets of this length in one burst: what fits into one message with segmentation offload.
const fn burst(len: usize) -> usize {
    let most = 65_507 / (len + Sealer::OVERHEAD);
    if most < 64 { most } else { 64 }
}

fn seal(criterion: &mut Criterion) {
    for len in LENGTHS {
        let mut group = criterion.benchmark_group(format!("seal/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        for (name, suite) in SUITES {
            group.bench_function(name, |bench| {
                let mut pair = Pair::connected_with(suite);
                let sealer = pair.alice.sealer(pair.now);
                let mut slot = vec![0; len + Sealer::OVERHEAD];
                bench.iter(|| sealer.seal(black_box(&mut slot)).expect("a fresh session"));
            });
        }
        group.bench_function("boringtun", |bench| {
            let mut tunnels = Boring::connected();
            let packet = packets::ipv4(len);
            let mut datagram = vec![0; len + 148];
            bench.iter(|| {
                black_box(tunnels.alice.encapsulate(black_box(&packet), &mut datagram));
            });
        });
        for (name, cipher) in ciphers() {
            group.bench_function(name, |bench| {
                let mut data = vec![0; len + TAG_LEN];
                let mut counter = 0;
                bench.iter(|| {
                    counter += 1;
                    cipher.seal(counter, black_box(&mut data));
                });
            });
        }
        group.finish();
    }
}

fn seal_burst(criterion: &mut Criterion) {
    for len in LENGTHS {
        let (count, stride) = (burst(len), len + Sealer::OVERHEAD);
        let mut group = criterion.benchmark_group(format!("seal {count} x {len}"));
        group.throughput(Throughput::Bytes((count * len) as u64));
        for (name, suite) in SUITES {
            group.bench_function(name, |bench| {
                let mut pair = Pair::connected_with(suite);
                let sealer = pair.alice.sealer(pair.now);
                let mut slots = vec![0; count * stride];
                bench.iter(|| sealer.seal_burst(black_box(&mut slots), stride).expect("a fresh session"));
            });
        }
        group.bench_function("boringtun", |bench| {
            let mut tunnels = Boring::connected();
            let packet = packets::ipv4(len);
            let mut datagrams = vec![0; count * (len + 148)];
            bench.iter(|| {
                for datagram in datagrams.chunks_exact_mut(len + 148) {
                    black_box(tunnels.alice.encapsulate(black_box(&packet), datagram));
                }
            });
        });
        for (name, cipher) in ciphers() {
            group.bench_function(name, |bench| {
                let mut slots = vec![0; count * stride];
                let mut counter = 0;
                bench.iter(|| {
                    for slot in black_box(&mut slots).chunks_exact_mut(stride) {
                        counter += 1;
                        cipher.seal(counter, &mut slot[Sealer::PLAINTEXT_AT..]);
                    }
                });
            });
        }
        group.finish();
    }
}

fn open(criterion: &mut Criterion) {
    for len in LENGTHS {
        let mut group = criterion.benchmark_group(format!("open/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let packet = packets::ipv4(len);
        for (name, suite) in SUITES {
            group.bench_function(name, |bench| {
                let mut pair = Pair::connected_with(suite);
                let sealer = pair.alice.sealer(pair.now);
                bench.iter_batched_ref(
                    || sealed(&sealer, &packet),
                    |datagram| {
                        let inbound = pair.bob.device.handle_datagram(pair.now, &pair.bob.path, datagram);
                        assert!(matches!(inbound, Inbound::Packet { .. }));
                    },
                    PREPARED,
                );
            });
        }
        group.bench_function("boringtun", |bench| {
            let tunnels = RefCell::new(Boring::connected());
            let mut plain = vec![0; len + 148];
            bench.iter_batched_ref(
                || tunnels.borrow_mut().sealed(&packet),
                |datagram| {
                    let mut tunnels = tunnels.borrow_mut();
                    let result = tunnels.bob.decapsulate(None, datagram, &mut plain);
                    assert!(matches!(result, boringtun::noise::TunnResult::WriteToTunnelV4(..)));
                },
                PREPARED,
            );
        });
        for (name, cipher) in ciphers() {
            group.bench_function(name, |bench| {
                let mut data = [&packet[..], &[0; TAG_LEN]].concat();
                cipher.seal(0, &mut data);
                bench.iter_batched_ref(|| data.clone(), |data| cipher.open(0, data), PREPARED);
            });
        }
        group.finish();
    }
}

fn open_burst(criterion: &mut Criterion) {
    for len in LENGTHS {
        let (count, stride) = (burst(len), len + Sealer::OVERHEAD);
        let mut group = criterion.benchmark_group(format!("open {count} x {len}"));
        group.throughput(Throughput::Bytes((count * len) as u64));
        let packet = packets::ipv4(len);
        for (name, suite) in SUITES {
            group.bench_function(name, |bench| {
                let mut pair = Pair::connected_with(suite);
                let sealer = pair.alice.sealer(pair.now);
                let mut slots = vec![0; count * stride];
                for slot in slots.chunks_exact_mut(stride) {
                    slot[Sealer::PLAINTEXT_AT..][..len].copy_from_slice(&packet);
                }
                bench.iter_batched_ref(
                    || {
                        let mut slots = slots.clone();
                        sealer.seal_burst(&mut slots, stride).expect("a fresh session");
                        slots
                    },
                    |slots| {
                        let mut packets = 0;
                        let each =
                            &mut |inbound| packets += usize::from(matches!(inbound, Inbound::Packet { .. }));
                        pair.bob.device.handle_burst(pair.now, &pair.bob.path, slots, stride, each);
                        assert_eq!(packets, count);
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.bench_function("boringtun", |bench| {
            let tunnels = RefCell::new(Boring::connected());
            let mut plain = vec![0; len + 148];
            bench.iter_batched_ref(
                || (0..count).map(|_| tunnels.borrow_mut().sealed(&packet)).collect::<Vec<_>>(),
                |datagrams| {
                    let mut tunnels = tunnels.borrow_mut();
                    for datagram in datagrams {
                        let result = tunnels.bob.decapsulate(None, datagram, &mut plain);
                        assert!(matches!(result, boringtun::noise::TunnResult::WriteToTunnelV4(..)));
                    }
                },
                BatchSize::PerIteration,
            );
        });
        for (name, cipher) in ciphers() {
            group.bench_function(name, |bench| {
                let mut data = [&packet[..], &[0; TAG_LEN]].concat();
                cipher.seal(0, &mut data);
                let slots = data.repeat(count);
                bench.iter_batched_ref(
                    || slots.clone(),
                    |slots| slots.chunks_exact_mut(data.len()).for_each(|slot| cipher.open(0, slot)),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group!(benches, seal, seal_burst, open, open_burst);
criterion_main!(benches);
