//! The three steps of a handshake, in which nearly all is key agreements: four on each side.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use std::cell::RefCell;
use std::hint::black_box;

use boringtun::noise::TunnResult;
use common::Boring;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use span_benches::devices::Pair;
use span_core::crypto::diffie_hellman;
use span_core::key::PrivateKey;
use span_core::wireguard::TransmitKind;

// Each step depends on the one before it: none can be prepared for later.
const ONE_BY_ONE: BatchSize = BatchSize::PerIteration;

fn initiation_write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake/1 write initiation");
    group.bench_function("span", |bench| {
        let pair = RefCell::new(Pair::new());
        bench.iter_batched(
            || pair.borrow_mut().initiate(),
            |_| {
                let mut pair = pair.borrow_mut();
                let now = pair.now;
                black_box(pair.alice.initiate(now).len())
            },
            ONE_BY_ONE,
        );
    });
    group.bench_function("boringtun", |bench| {
        let mut tunnels = Boring::new();
        let mut buffer = [0; 2048];
        bench.iter(|| must_write(&tunnels.alice.format_handshake_initiation(&mut buffer, true)));
    });
    group.finish();
}

fn initiation_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake/2 read initiation, write response");
    group.bench_function("span", |bench| {
        let pair = RefCell::new(Pair::new());
        bench.iter_batched_ref(
            || {
                let mut pair = pair.borrow_mut();
                let initiation = pair.initiate();
                let now = pair.now;
                pair.bob.drain(now);
                initiation
            },
            |initiation| {
                let mut pair = pair.borrow_mut();
                let now = pair.now;
                let _ = pair.bob.receive(now, initiation);
                black_box(pair.bob.transmit(now, TransmitKind::Response).len())
            },
            ONE_BY_ONE,
        );
    });
    group.bench_function("boringtun", |bench| {
        let tunnels = RefCell::new(Boring::new());
        let mut buffer = [0; 2048];
        bench.iter_batched(
            || tunnels.borrow_mut().initiate(),
            |initiation| {
                must_write(&tunnels.borrow_mut().bob.decapsulate(None, &initiation, &mut buffer));
            },
            ONE_BY_ONE,
        );
    });
    group.finish();
}

fn response_read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake/3 read response");
    group.bench_function("span", |bench| {
        let pair = RefCell::new(Pair::new());
        bench.iter_batched_ref(
            || pair.borrow_mut().respond(),
            |response| {
                let mut pair = pair.borrow_mut();
                let now = pair.now;
                black_box(pair.alice.receive(now, response))
            },
            ONE_BY_ONE,
        );
    });
    group.bench_function("boringtun", |bench| {
        let tunnels = RefCell::new(Boring::new());
        let mut buffer = [0; 2048];
        bench.iter_batched(
            || tunnels.borrow_mut().respond(),
            |response| {
                must_write(&tunnels.borrow_mut().alice.decapsulate(None, &response, &mut buffer));
            },
            ONE_BY_ONE,
        );
    });
    group.finish();
}

/// What the steps are made of.
fn key_agreement(criterion: &mut Criterion) {
    criterion.bench_function("handshake/one key agreement", |bench| {
        let private = PrivateKey::from_bytes([1; 32]);
        let public = PrivateKey::from_bytes([2; 32]).public_key();
        bench.iter(|| diffie_hellman(black_box(&private), black_box(&public)));
    });
}

fn must_write(result: &TunnResult<'_>) {
    assert!(matches!(result, TunnResult::WriteToNetwork(_)), "{result:?}");
}

criterion_group!(benches, initiation_write, initiation_read, response_read, key_agreement);
criterion_main!(benches);
