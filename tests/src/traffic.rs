//! Packets of the host: pings and bulk data.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::namespace::Namespace;
use crate::process::Process;
use crate::{eventually, holds};

/// Pings `count` times, every 10 ms, and gives how many answers came.
#[must_use]
pub fn ping(from: &Namespace, to: &str, count: u32) -> u32 {
    ping_with(from, to, count, "-i 0.01 -W 1")
}

/// The same with options of `ping`.
#[must_use]
pub fn ping_with(from: &Namespace, to: &str, count: u32, options: &str) -> u32 {
    let answers = answers(from, to, count, options);
    u32::try_from(answers.len()).expect("as many as were sent")
}

/// Asserts that every one of `count` pings is answered.
#[track_caller]
pub fn assert_ping(from: &Namespace, to: &str, count: u32) {
    // Without a deadline, ping waits for the last answer only as long as the others took, twice. With one it
    // pings on until `count` were answered.
    let came = answers(from, to, count, "-i 0.01 -w 5");
    let missing: Vec<u32> = (1..=count).filter(|number| !came.contains(number)).collect();
    assert!(missing.is_empty(), "of {count} pings from {} to {to}, unanswered: {missing:?}", from.name());
}

/// The numbers of the pings that were answered. Where none could be sent ("Network is unreachable"), none.
fn answers(from: &Namespace, to: &str, count: u32, options: &str) -> BTreeSet<u32> {
    let mut command = from.command("ping");
    command.args(["-n", "-c", &count.to_string()]).args(options.split_whitespace()).arg(to);
    let output = command.output().expect("ping, of iputils-ping");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("DUP!"), "a packet came twice: {text}");
    let numbers = text
        .lines()
        .filter(|line| line.contains("time="))
        .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok());
    numbers.collect()
}

/// Pings until an answer comes, and how long that took.
#[track_caller]
pub fn first_ping(from: &Namespace, to: &str, bound: Duration) -> Duration {
    let start = Instant::now();
    let what = format!("{} reaches {to}", from.name());
    eventually(bound, &what, || holds(ping_with(from, to, 1, "-W 0.2") == 1));
    start.elapsed()
}

/// What one iperf3 transfer found.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Goodput in bits per second.
    pub bits_per_second: f64,
    /// Datagrams lost, in percent; 0 for TCP.
    pub lost_percent: f64,
}

/// Moves bulk data from `from` to an address of `to` with iperf3 (`options` are the client's).
///
/// # Panics
/// If it fails or takes a minute.
#[track_caller]
pub fn bulk(from: &Namespace, to: &Namespace, address: IpAddr, options: &str) -> Transfer {
    let text = address.to_string();
    let mut server: Process = to.spawn("iperf3", ["--server", "--one-off", "--bind", &text]);
    eventually(Duration::from_secs(5), "iperf3 listens", || {
        assert!(server.runs(), "iperf3: {}{}", server.out(), server.err());
        holds(to.run("ss -Hltn sport = 5201").contains(":5201"))
    });
    let mut command = from.command("timeout");
    command.args(["60", "iperf3", "--json", "--client", &text]).args(options.split_whitespace());
    let output = command.output().expect("iperf3");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(output.status.success(), "iperf3 {options}: {}", report["error"]);
    server.wait(Duration::from_secs(5));
    let end = &report["end"];
    let (sum, lost) = if end["sum_received"].is_object() {
        (&end["sum_received"], end["sum"]["lost_percent"].as_f64().unwrap_or(0.0))
    } else {
        (&end["sum"], end["sum"]["lost_percent"].as_f64().unwrap_or(0.0))
    };
    Transfer {
        bytes: sum["bytes"].as_u64().unwrap_or(0),
        bits_per_second: sum["bits_per_second"].as_f64().unwrap_or(0.0),
        lost_percent: lost,
    }
}

/// Moves `mebibytes` by TCP and asserts that all arrived as they were sent.
#[track_caller]
pub fn assert_tcp(from: &Namespace, to: &Namespace, address: &str, mebibytes: u64) {
    let address: IpAddr = address.parse().expect("an address");
    let listener = to.inside(|| TcpListener::bind((address, 0)).expect("an address of this namespace"));
    let target = listener.local_addr().expect("a listener");
    let total = mebibytes << 20;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || received_intact(&listener.accept().expect("a connection").0));
        from.inside(move || {
            let mut stream = TcpStream::connect_timeout(&target, BULK_BOUND).expect("a connection");
            stream.set_write_timeout(Some(BULK_BOUND)).expect("a socket");
            for chunk in 0..total / PATTERN_LEN as u64 {
                stream.write_all(&pattern(chunk)).expect("the other side reads");
            }
        });
        assert_eq!(receiver.join().expect("intact data"), total, "bytes from {} to {target}", from.name());
    });
}

/// No single wait of a transfer is longer.
const BULK_BOUND: Duration = Duration::from_secs(20);
const PATTERN_LEN: usize = 64 << 10;

/// Different in each chunk and at each place, so that nothing can be lost, swapped or repeated unnoticed.
fn pattern(chunk: u64) -> Vec<u8> {
    (0..PATTERN_LEN as u64 / 8)
        .flat_map(|word| (chunk << 32 | word).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn received_intact(mut stream: &TcpStream) -> u64 {
    stream.set_read_timeout(Some(BULK_BOUND)).expect("a socket");
    let mut buffer = vec![0; PATTERN_LEN];
    for chunk in 0.. {
        let mut filled = 0;
        while filled < PATTERN_LEN {
            match stream.read(&mut buffer[filled..]).expect("data or an end") {
                0 => return chunk * PATTERN_LEN as u64 + filled as u64,
                more => filled += more,
            }
        }
        assert!(buffer == pattern(chunk), "chunk {chunk} arrived otherwise than it was sent");
    }
    unreachable!("more data than there is")
}
