//! Longest-prefix match, beside hash tables that can only find whole addresses: the standard library's, and the one
//! with the fastest hash that is commonly used.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::net::IpAddr;

use criterion::{Criterion, criterion_group, criterion_main};
use span_benches::prefixes::{Family, Table};
use span_core::allowed_ips::AllowedIps;
use span_core::wireguard::PeerId;

fn lookup(criterion: &mut Criterion) {
    for (name, family) in [("v4", Family::V4), ("v6", Family::V6)] {
        for count in [10, 1_000, 100_000] {
            let mut group = criterion.benchmark_group(format!("allowed IPs/{name}, {count} prefixes"));
            group.bench_function("span", |bench| {
                let Table { table, addresses, .. } = Table::new(family, count);
                let mut next = addresses.iter().cycle();
                bench.iter(|| table.lookup(*next.next().expect("a cycle")));
            });
            group.bench_function("hash table of addresses, SipHash", |bench| {
                let Table { table, addresses, .. } = Table::new(family, count);
                let owners: std::collections::HashMap<IpAddr, PeerId> = owners(&table, &addresses).collect();
                let mut next = addresses.iter().cycle();
                bench.iter(|| owners.get(next.next().expect("a cycle")));
            });
            group.bench_function("hash table of addresses, foldhash", |bench| {
                let Table { table, addresses, .. } = Table::new(family, count);
                let owners: hashbrown::HashMap<IpAddr, PeerId> = owners(&table, &addresses).collect();
                let mut next = addresses.iter().cycle();
                bench.iter(|| owners.get(next.next().expect("a cycle")));
            });
            group.finish();
        }
    }
}

/// Each address with its owner.
fn owners(table: &AllowedIps, addresses: &[IpAddr]) -> impl Iterator<Item = (IpAddr, PeerId)> {
    addresses.iter().map(|address| (*address, table.lookup(*address).expect("an owner")))
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("allowed IPs/remove and insert, 100000 prefixes");
    for (name, family) in [("v4", Family::V4), ("v6", Family::V6)] {
        group.bench_function(name, |bench| {
            let Table { mut table, prefixes, .. } = Table::new(family, 100_000);
            let mut next = prefixes.iter().cycle();
            bench.iter(|| {
                let (prefix, owner) = next.next().expect("a cycle");
                table.remove(*prefix, *owner);
                black_box(table.insert(*prefix, *owner))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, change);
criterion_main!(benches);
