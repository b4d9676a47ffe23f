//! No datagram costs an allocation, on any transport that talks to a network.
#![cfg(unix)]

use std::net::Ipv4Addr;

use span_core::path::{Path, Source};
use span_core::wireguard::Reserve;
use span_nat::transport::udp::{Config, Udp};
use span_nat::transport::{RecvBatch, SendBatch, Transport};

#[test]
fn sending_and_receiving_over_udp_allocates_nothing() {
    let loopback = Config { ipv4: Some(Ipv4Addr::LOCALHOST), ipv6: None, ..Config::default() };
    let mut sender = Udp::bind(Config { ipv4: Some(Ipv4Addr::UNSPECIFIED), ..loopback.clone() }).unwrap();
    let mut receiver = Udp::bind(loopback).unwrap();
    let remote = receiver.local_addresses().next().unwrap();
    // Bursts, interleaved with other paths, losses, and a source that is of no use.
    let foreign = Source { ip: [192, 0, 2, 1].into(), interface: 0 };
    let paths = [Path::udp(remote), Path::udp_from(remote, foreign), Path::Custom(1)];
    let (mut send, mut recv) = (SendBatch::default(), RecvBatch::new(4));

    let mut received = 0;
    let counted = allocation_counter::measure(|| {
        for round in 0..50 {
            for index in 0..60 {
                for path in &paths {
                    if let Some(slot) = send.reserve(path, 100 + round + index / 20) {
                        slot.fill(1);
                    }
                }
            }
            let outcome = send.flush(&mut sender);
            assert!(outcome.datagrams > 0 && outcome.drops.total() > 0 && !outcome.blocked);
            recv.clear();
            while receiver.recv(&mut recv).unwrap() > 0 {
                received += recv.entries().iter().map(|entry| entry.datagrams().len()).sum::<usize>();
                recv.clear();
            }
        }
    });
    assert_eq!(received, 50 * 120);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
