//! What a network card would do: cutting a super-packet, and putting a burst together again.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use span_benches::packets::{self, Kind, MTU, super_packet};
use span_core::wireguard::Sealer;
use span_tun::offload::{Coalescer, split};

const KINDS: [(&str, Kind); 3] = [("tcp4", Kind::Tcp4), ("tcp6", Kind::Tcp6), ("udp4", Kind::Udp4)];
/// What fits into 64 KiB sealed, and into one message with UDP segmentation offload.
const SEGMENTS: usize = 45;
const STRIDE: usize = MTU + Sealer::OVERHEAD;

fn cut(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("split into {SEGMENTS}"));
    group.throughput(Throughput::Bytes((SEGMENTS * MTU) as u64));
    for (name, kind) in KINDS {
        group.bench_function(name, |bench| {
            let (header, mut frame) = super_packet(kind, SEGMENTS);
            let mut slots = vec![0; SEGMENTS * STRIDE];
            bench.iter(|| {
                let segments = split(&header, black_box(&mut frame)).expect("a valid frame");
                for (segment, slot) in segments.zip(slots.chunks_exact_mut(STRIDE)) {
                    segment.write_to(&mut slot[Sealer::PLAINTEXT_AT..]);
                }
            });
        });
    }
    group.bench_function("copy alone", |bench| {
        let (_, frame) = super_packet(Kind::Tcp4, SEGMENTS);
        let mut slots = vec![0; SEGMENTS * STRIDE];
        bench.iter(|| {
            for (packet, slot) in black_box(&frame).chunks(MTU).zip(slots.chunks_exact_mut(STRIDE)) {
                slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(packet);
            }
            black_box(&mut slots);
        });
    });
    group.finish();
}

fn coalesce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coalesce");
    for (name, kind) in KINDS {
        for count in [1, SEGMENTS] {
            group.throughput(Throughput::Bytes((count * MTU) as u64));
            group.bench_function(format!("{count} x {name}"), |bench| {
                let (mut arena, ranges) = packets::burst(kind, count, Sealer::OVERHEAD);
                let mut coalescer = Coalescer::new(true);
                // Merging rewrites the first packet's headers, 72 bytes at most.
                let first = ranges[0].start..ranges[0].start + 72;
                let headers = arena[first.clone()].to_vec();
                bench.iter(|| {
                    arena[first.clone()].copy_from_slice(&headers);
                    for range in &ranges {
                        coalescer.push(&arena, range.clone());
                    }
                    let mut frames = 0;
                    coalescer
                        .flush(&mut arena, &mut |header, parts| {
                            black_box((header, parts));
                            frames += 1;
                            Ok(())
                        })
                        .expect("this sink takes everything");
                    assert_eq!(frames, 1);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, cut, coalesce);
criterion_main!(benches);
