//! One test for each rule that WireGuard libraries have been found to break, named after the rule, and
//! for the timers of the paper's section 6.

#[path = "../common/mod.rs"]
mod common;
mod handshake;
mod load;
mod packets;
mod peers;
mod roaming;
mod timers;

use std::time::Duration;

use common::{Outbox, drain, key, path};
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::Device;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn assert_near(actual: &[f64], earliest: &[f64], jitter: f64) {
    assert_eq!(actual.len(), earliest.len(), "{actual:?}");
    for (actual, earliest) in actual.iter().zip(earliest) {
        assert!((*earliest..=earliest + jitter).contains(actual), "{actual} is not {earliest} + {jitter}");
    }
}

/// An initiation of a stranger that Bob cannot tell from a friend's before the key agreement.
fn strangers_initiation(now: Instant) -> Vec<u8> {
    let mut stranger = Device::new(Some(key(66)), now, UnixTime::default(), [66; 32]);
    let bob = stranger.add_peer(now, key(2).public_key()).expect("Bob");
    stranger.set_path(now, bob, Some(path("192.0.2.2:1000")));
    stranger.initiate(now, bob);
    let mut out = Outbox::default();
    drain(&mut stranger, now, &mut out);
    out.datagrams.remove(0).1
}
