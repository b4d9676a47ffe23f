//! Whom the kernel billed for what.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use span_tests::Namespace;

use crate::lab::Lab;

/// The processor time of the tunnel's processes so far, all threads of both ends.
pub(crate) fn tunnel(lab: &Lab) -> Duration {
    lab.tunnel.iter().map(span_tests::Process::processor_time).sum()
}

/// The largest peak of the resident memory of the tunnel's processes, in MiB.
pub(crate) fn memory(lab: &Lab) -> Option<f64> {
    lab.tunnel.iter().map(|process| process.peak_memory() as f64 / 1024.0).reduce(f64::max)
}

/// UDP datagrams that sockets of `namespace` received so far.
///
/// # Panics
/// If the kernel does not say.
pub(crate) fn datagrams(namespace: &Namespace) -> u64 {
    let path = format!("/proc/{}/net/snmp", namespace.pid());
    let text = std::fs::read_to_string(path).expect("the kernel's counters");
    datagrams_in(&text).expect("a counter of UDP datagrams")
}

/// Two lines of each protocol: names, and numbers.
fn datagrams_in(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let place = lines.next()?.split(' ').position(|name| name == "InDatagrams")?;
    lines.next()?.split(' ').nth(place)?.parse().ok()
}

/// How busy programs that have nothing to do with this kept the machine.
#[derive(Debug)]
pub(crate) struct Others {
    since: Instant,
    before: Duration,
}

impl Others {
    /// Begins to watch.
    pub(crate) fn watch(lab: &Lab) -> Self {
        Self { since: Instant::now(), before: others(lab) }
    }

    /// How many cores they used since.
    pub(crate) fn cores(&self, lab: &Lab) -> f64 {
        others(lab).saturating_sub(self.before).as_secs_f64() / self.since.elapsed().as_secs_f64()
    }
}

/// The processor time of every process, with the children it has waited for, that is neither this one, nor in one of
/// our namespaces, nor the kernel's.
fn others(lab: &Lab) -> Duration {
    let ours = [&lab.a, &lab.b].map(|namespace| network(namespace.pid()));
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ticks = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| network(*pid).is_none_or(|network| !ours.contains(&Some(network))))
        .filter_map(|pid| ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// The inode of a process' network namespace.
fn network(pid: u32) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|metadata| metadata.ino())
}

/// User and system time, own and of children; nothing for threads of the kernel, whose parent is 2.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    if fields.get(1)? == &"2" {
        return None;
    }
    Some(fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_by_its_name() {
        let text = "Ip: Forwarding DefaultTTL\nIp: 1 64\nUdp: NoPorts InDatagrams InErrors\nUdp: 3 4711 0\n";
        assert_eq!(datagrams_in(text), Some(4711));
        assert_eq!(datagrams_in("Ip: 1\n"), None);
    }

    #[test]
    fn a_process_is_read_and_the_kernel_left_out() {
        let line = |parent: u32| format!("7 (a (b) c) S {parent} 7 7 0 -1 0 0 0 0 0 10 20 3 4 20 0 1 0");
        assert_eq!(ticks(&line(1)), Some(37));
        assert_eq!(ticks(&line(2)), None);
    }
}
