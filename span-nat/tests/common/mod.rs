//! Network namespaces without names: they live as long as the test, and vanish with it however it ends.

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use span_core::path::Path;
use span_core::wireguard::Reserve;
use span_nat::transport::udp::Udp;
use span_nat::transport::{FlushOutcome, RecvBatch, SendBatch, Transport};

/// An empty network, with loopback switched on.
#[derive(Debug)]
pub(crate) struct Namespace(File);

impl Namespace {
    /// `None`, after saying so, where namespaces are not allowed: on a person's machine without
    /// privileges. With `CI=true` that is a failure.
    pub(crate) fn new() -> Option<Self> {
        // A thread of its own takes the new namespace away with it.
        let made = thread::spawn(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let namespace = match made.join().expect("no panic") {
            Ok(file) => Namespace(file),
            Err(error) if std::env::var_os("CI").is_none_or(|ci| ci != "true") => {
                eprintln!("SKIPPED: a network namespace cannot be made here ({error}); run as root");
                return None;
            }
            Err(error) => panic!("CI must be able to make network namespaces: {error}"),
        };
        namespace.run("ip link set lo up");
        Some(namespace)
    }

    /// Does `work` in a thread inside; sockets opened there stay inside.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            work()
        };
        thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Runs commands inside, one per line.
    pub(crate) fn run(&self, commands: &str) {
        self.enter(|| {
            for command in commands.lines().map(str::trim).filter(|command| !command.is_empty()) {
                let output = Command::new("sh").args(["-c", command]).output().expect("sh");
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{command}: {errors}");
            }
        });
    }

    /// A virtual cable: `near` here, `far` in `other`, both up, without duplicate address detection.
    pub(crate) fn cable(&self, near: &str, other: &Namespace, far: &str) {
        let other_ns = format!("/proc/{}/fd/{}", process::id(), other.0.as_raw_fd());
        self.run(&format!(
            "ip link add {near} type veth peer name {far} netns {other_ns}
             echo 0 > /proc/sys/net/ipv6/conf/{near}/accept_dad
             ip link set {near} up"
        ));
        other.run(&format!(
            "echo 0 > /proc/sys/net/ipv6/conf/{far}/accept_dad
             ip link set {far} up"
        ));
    }

    /// Waits until datagrams from here arrive at `ip` of `other`. A new link drops what it is given until
    /// the kernel gets round to its carrier, which takes up to a second and cannot be seen.
    pub(crate) fn await_link_to(&self, other: &Namespace, ip: &str) {
        let bind = |ip: &str| UdpSocket::bind((ip, 0)).expect("a socket for probing");
        let receiver = other.enter(|| bind(ip));
        receiver.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let sender = self.enter(|| bind(if ip.contains(':') { "::" } else { "0.0.0.0" }));
        let arrived = (0..500).any(|_| {
            let _ = sender.send_to(b"?", receiver.local_addr().expect("an address"));
            receiver.recv(&mut [0]).is_ok()
        });
        assert!(arrived, "no way to {ip}");
    }
}

/// Receives until `count` datagrams came, five seconds at most. Returns the path and the length of each.
pub(crate) fn receive(udp: &mut Udp, count: usize) -> Vec<(Path, usize)> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut batch = RecvBatch::new(8);
    let mut received = Vec::new();
    while received.len() < count && Instant::now() < deadline {
        batch.clear();
        if udp.recv(&mut batch).expect("receiving") == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        for entry in batch.entries() {
            received.extend(entry.datagrams().map(|datagram| (entry.path, datagram.len())));
        }
    }
    assert_eq!(received.len(), count, "datagrams received");
    received
}

/// Sends `count` datagrams of `len` bytes.
pub(crate) fn send(udp: &mut Udp, path: &Path, count: usize, len: usize) -> FlushOutcome {
    let mut batch = SendBatch::default();
    for _ in 0..count {
        batch.reserve(path, len).expect("room").fill(0x5a);
    }
    let outcome = batch.flush(udp);
    assert!(!outcome.blocked);
    outcome
}
