//! Sealing and opening what members tell each other.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod common;

use std::hint::black_box;
use std::net::SocketAddr;

use common::ciphers;
use criterion::{Criterion, criterion_group, criterion_main};
use span_core::crypto::{Suites, TAG_LEN};
use span_core::key::PrivateKey;
use span_core::mesh::{KubeSpan, MachineType, Member, NodeId};
use span_discovery::seal::{ClusterSecret, NONCE_LEN};

fn member() -> Member {
    Member {
        node_id: NodeId::new("fzvex3e0LP8uzu6obO5iDu3crN2WTt0Q7MzKjsxELMwA").expect("an id"),
        addresses: vec![
            "172.20.0.2".parse().expect("an address"),
            "fd7f:175a::1".parse().expect("an address"),
        ],
        hostname: "node-1.example.org".to_owned(),
        nodename: "node-1".to_owned(),
        machine_type: MachineType::Worker,
        operating_system: "Talos (v1.13.0)".to_owned(),
        kubespan: Some(KubeSpan {
            public_key: PrivateKey::from_bytes([1; 32]).public_key(),
            address: Some("fd7f:175a:b97c:5602:2c1a:b6ff:fe53:8169".parse().expect("an address")),
            additional_addresses: vec!["10.244.1.0/24".parse().expect("a prefix")],
            exclude_advertised_addresses: Vec::new(),
            suites: Suites::NONE,
        }),
        control_plane: None,
        endpoints: Vec::new(),
    }
}

fn records(criterion: &mut Criterion) {
    let secret = ClusterSecret::from_bytes([5; 32]);
    let member = member();
    let mut group = criterion.benchmark_group("member record");
    group.bench_function("seal", |bench| {
        bench.iter(|| secret.seal_member(black_box(&member), [1; NONCE_LEN]).expect("a short record"));
    });
    group.bench_function("open", |bench| {
        let sealed = secret.seal_member(&member, [1; NONCE_LEN]).expect("a short record");
        bench.iter(|| secret.open_member(&member.node_id, black_box(&sealed)).expect("an intact record"));
    });
    // As many bytes, which nobody has to encode.
    let (name, cipher) = &ciphers()[1];
    group.bench_function(format!("seal, {name} alone"), |bench| {
        let sealed = secret.seal_member(&member, [1; NONCE_LEN]).expect("a short record");
        let mut data = vec![0; sealed.len() - NONCE_LEN];
        assert!(data.len() > TAG_LEN, "a record has text");
        bench.iter(|| cipher.seal(1, black_box(&mut data)));
    });
    group.finish();
}

fn endpoints(criterion: &mut Criterion) {
    let secret = ClusterSecret::from_bytes([5; 32]);
    let mut group = criterion.benchmark_group("endpoint");
    for (name, text) in [("v4", "192.0.2.1:51820"), ("v6", "[2001:db8::1]:51820")] {
        let endpoint: SocketAddr = text.parse().expect("an endpoint");
        group.bench_function(format!("seal {name}"), |bench| {
            bench.iter(|| secret.seal_endpoint(black_box(endpoint)));
        });
        group.bench_function(format!("open {name}"), |bench| {
            let sealed = secret.seal_endpoint(endpoint);
            bench.iter(|| secret.open_endpoint(black_box(&sealed)).expect("an intact endpoint"));
        });
    }
    group.finish();
}

criterion_group!(benches, records, endpoints);
criterion_main!(benches);
