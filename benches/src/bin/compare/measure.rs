//! The measurements.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::Value;
use span_tests::traffic::first_ping;
use span_tests::{Process, eventually, holds};

use crate::lab::{Lab, MTU};
use crate::usage::{self, Others};

/// Set by Ctrl-C and its like: what is under way ends at once.
pub(crate) static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Test {
    /// Round trips on an idle tunnel.
    Ping,
    /// One TCP stream.
    Tcp1,
    /// Four TCP streams.
    Tcp4,
    /// One TCP stream in the other direction.
    Tcp1r,
    /// UDP without limit, the largest packets that fit.
    Udp,
    /// UDP without limit, payloads of 512 bytes.
    Udp512,
    /// UDP without limit, payloads of 64 bytes.
    Udp64,
    /// Round trips beside one TCP stream.
    Loaded,
}

impl Test {
    /// What is measured if nobody says otherwise.
    pub(crate) const USUAL: [Self; 5] = [Self::Ping, Self::Tcp1, Self::Tcp4, Self::Udp, Self::Loaded];
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no test is hidden").get_name())
    }
}

/// What was found, by the keys of [`crate::metric`].
pub(crate) type Figures = BTreeMap<String, f64>;

/// Measures everything asked for, one after the other.
///
/// # Panics
/// If something fails.
pub(crate) fn all(lab: &mut Lab, tests: &[Test], seconds: u32) -> Figures {
    first_ping(&lab.a, lab.target, Duration::from_secs(10));
    pause(Duration::from_millis(200));
    let server = server(lab);
    let mut figures = Figures::new();
    for test in tests {
        lab.assert_alive();
        match test {
            Test::Ping => {
                let times = ping(lab, 200);
                put(&mut figures, [("rtt50", quantile(&times, 0.5)), ("rtt99", quantile(&times, 0.99))]);
            }
            Test::Tcp1 => tcp(lab, &mut figures, seconds, "1", "-P 1"),
            Test::Tcp4 => tcp(lab, &mut figures, seconds, "4", "-P 4"),
            Test::Tcp1r => tcp(lab, &mut figures, seconds, "1r", "-P 1 -R"),
            Test::Udp => udp(lab, &mut figures, seconds, "udp", MTU - 28),
            Test::Udp512 => udp(lab, &mut figures, seconds, "udp512", 512),
            Test::Udp64 => udp(lab, &mut figures, seconds, "udp64", 64),
            Test::Loaded => {
                let times = loaded(lab);
                put(&mut figures, [("load50", quantile(&times, 0.5)), ("load99", quantile(&times, 0.99))]);
            }
        }
        pause(Duration::from_millis(150));
    }
    lab.assert_alive();
    drop(server);
    if let Some(memory) = usage::memory(lab) {
        put(&mut figures, [("rss", memory)]);
    }
    figures
}

fn put<const N: usize>(figures: &mut Figures, found: [(&str, f64); N]) {
    figures.extend(found.map(|(key, value)| (key.to_owned(), value)));
}

/// Bytes in a GiB.
const GIB: f64 = (1u64 << 30) as f64;

fn tcp(lab: &Lab, figures: &mut Figures, seconds: u32, suffix: &str, options: &str) {
    let before = usage::tunnel(lab);
    // Every socket says which congestion control it wants: the host's default may be another.
    let end = iperf(lab, figures, seconds, &format!("-C cubic {options}"));
    let used = usage::tunnel(lab) - before;
    let received = &end["sum_received"];
    let (bytes, rate) = (number(received, "bytes"), number(received, "bits_per_second"));
    figures.insert(format!("tcp{suffix}"), rate / 1e9);
    bill(lab, figures, &format!("cpu{suffix}"), used, bytes);
}

fn udp(lab: &Lab, figures: &mut Figures, seconds: u32, key: &str, payload: u32) {
    let before = (usage::tunnel(lab), usage::datagrams(&lab.b));
    let end = iperf(lab, figures, seconds, &format!("-u -b 0 -l {payload} -w 2M"));
    // What the receiving socket took; iperf3 itself counts only until the sender has finished.
    let arrived = (usage::datagrams(&lab.b) - before.1) as f64;
    let used = usage::tunnel(lab) - before.0;
    let sum = &end["sum"];
    let sent = (number(sum, "bytes") / f64::from(payload)).max(number(sum, "packets")).max(1.0);
    let bytes = arrived * f64::from(payload);
    figures.insert(key.to_owned(), bytes * 8.0 / number(sum, "seconds").max(0.1) / 1e9);
    figures.insert(format!("{key}_loss"), (100.0 * (1.0 - arrived / sent)).max(0.0));
    bill(lab, figures, &format!("{key}_cpu"), used, bytes);
}

/// Notes the processor time for each GiB, where there is a process to bill.
fn bill(lab: &Lab, figures: &mut Figures, key: &str, used: Duration, bytes: f64) {
    if !lab.tunnel.is_empty() && bytes > 0.0 {
        figures.insert(key.to_owned(), used.as_secs_f64() / (bytes / GIB));
    }
}

/// Round trips while one TCP stream runs from the same host.
fn loaded(lab: &Lab) -> Vec<f64> {
    let mut stream = client(lab, 3, "-C cubic -P 1");
    let stream = Running(stream.stdout(Stdio::null()).spawn().expect("iperf3"));
    pause(Duration::from_millis(800));
    let times = ping(lab, 150);
    drop(stream);
    times
}

/// A server that stays for all transfers, on the host that receives.
fn server(lab: &Lab) -> Process {
    let mut server = lab.b.spawn("iperf3", ["-s", "-p", "5201"]);
    eventually(Duration::from_secs(5), "iperf3 listens", || {
        assert!(server.runs(), "iperf3: {}{}", server.out(), server.err());
        holds(lab.b.run("ss -Hltn sport = 5201").contains(":5201"))
    });
    server
}

fn client(lab: &Lab, seconds: u32, options: &str) -> Command {
    let mut command = lab.a.command("iperf3");
    command.args(["-J", "-c", lab.target, "-p", "5201", "-t", &seconds.to_string()]);
    command.args(options.split_whitespace()).stdin(Stdio::null());
    command
}

/// One transfer, and the end of iperf3's report on it. What others did meanwhile is noted.
fn iperf(lab: &Lab, figures: &mut Figures, seconds: u32, options: &str) -> Value {
    let others = Others::watch(lab);
    let output = finish(client(lab, seconds, options), Duration::from_secs(u64::from(seconds) + 20));
    let cores = others.cores(lab);
    let most = figures.get("foreign").copied().unwrap_or(0.0).max(cores);
    put(figures, [("foreign", most)]);
    // It may print a warning first.
    let json = output.find('{').map_or("", |start| &output[start..]);
    let mut report: Value = serde_json::from_str(json).unwrap_or_default();
    assert!(report["error"].is_null() && report["end"].is_object(), "iperf3 {options}: {}", report["error"]);
    report["end"].take()
}

/// Round trips in microseconds, one every 10 ms.
fn ping(lab: &Lab, count: u32) -> Vec<f64> {
    let mut command = lab.a.command("ping");
    command.args(["-n", "-c", &count.to_string(), "-i", "0.01", "-W", "1", lab.target]).stdin(Stdio::null());
    let times = times_in(&finish(command, Duration::from_secs(u64::from(count) / 100 + 15)));
    assert!(!times.is_empty(), "no ping was answered");
    times
}

/// The times in ping's output, in microseconds and in order.
fn times_in(output: &str) -> Vec<f64> {
    let words = output.split_whitespace().filter_map(|word| word.strip_prefix("time="));
    let mut times: Vec<f64> = words.filter_map(|time| time.parse().ok()).map(|ms: f64| ms * 1e3).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The value at this part of an ordered list.
fn quantile(ordered: &[f64], part: f64) -> f64 {
    ordered[((ordered.len() - 1) as f64 * part).round() as usize]
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or(0.0)
}

/// A process that ends with this value, unless it has ended before.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end and gives what it printed.
fn finish(mut command: Command, bound: Duration) -> String {
    let output = tempfile::NamedTempFile::new().expect("a temporary file");
    command.stdout(output.reopen().expect("a temporary file")).stderr(Stdio::null());
    let mut running = Running(command.spawn().expect("nsenter"));
    let start = Instant::now();
    while running.0.try_wait().expect("a child").is_none() {
        assert!(start.elapsed() < bound, "{command:?} hangs");
        pause(Duration::from_millis(10));
    }
    std::fs::read_to_string(output.path()).expect("text")
}

/// Sleeps, unless everything is to end.
fn pause(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        assert!(!STOP.load(Ordering::Relaxed), "interrupted");
        std::thread::sleep(Duration::from_millis(10).min(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_read_and_ordered() {
        let output = "64 bytes from 198.18.0.2: icmp_seq=1 ttl=64 time=0.300 ms\n\
                      64 bytes from 198.18.0.2: icmp_seq=2 ttl=64 time=0.100 ms\n\
                      64 bytes from 198.18.0.2: icmp_seq=3 ttl=64 time=12 ms\n\
                      rtt min/avg/max/mdev = 0.1/4.1/12/5 ms\n";
        assert_eq!(times_in(output), [100.0, 300.0, 12000.0]);
    }

    #[test]
    fn quantiles_are_values_of_the_list() {
        let list: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((quantile(&list, 0.5), quantile(&list, 0.99), quantile(&list, 1.0)), (51.0, 99.0, 100.0));
        assert_eq!(quantile(&[7.0], 0.5), 7.0);
    }
}
