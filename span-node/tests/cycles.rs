//! Nodes that come and go in one process leave nothing behind. Alone in this file, because it counts what the
//! whole process has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Cluster, PATIENCE};

/// Pairs of nodes: as many starts and stops again.
const CYCLES: usize = 500;
/// Until then the allocator and the libraries have what they keep.
const WARM_UP: usize = 50;
/// Memory that may be there more at the end, in KiB: an allocator never gives everything back. A node that left
/// no more than one buffer of 64 KiB behind would make it 56 MiB.
const SLACK: u64 = 8 << 10;

#[test]
fn a_thousand_nodes_leave_no_descriptor_thread_or_memory() {
    let mut before = None;
    for cycle in 0..CYCLES {
        let cluster = Cluster::new();
        let (one, two) = (cluster.start("one"), cluster.start("two"));
        one.wait_for_peer("two");
        if cycle % 2 == 0 {
            one.node.stop();
        }
        drop((one, two));
        if cycle == WARM_UP {
            before = Some((settled(), resident()));
        }
    }
    let ((descriptors, threads), memory) = before.unwrap();
    let deadline = Instant::now() + PATIENCE;
    // A thread that was joined may take a moment to leave /proc.
    while settled() != (descriptors, threads) {
        assert!(Instant::now() < deadline, "{:?}, before {:?}", settled(), (descriptors, threads));
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = resident();
    assert!(now < memory + SLACK, "{now} KiB resident, {memory} KiB before");
}

/// Open descriptors and threads.
fn settled() -> (usize, usize) {
    let count = |directory| fs::read_dir(directory).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Resident memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
