//! Several packet threads: no flow is ever reordered, nothing is delivered twice, and all else works as with one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, assert_tcp, first_ping};
use span_tests::wg::{self, Keys, Program};
use span_tests::{Namespace, eventually, holds, ready};

use crate::pair::{Family, Pair};

/// Inner addresses of each side besides its first: what is not TCP is one flow between two addresses.
const FLOWS: u8 = 8;

fn address(side: u8, flow: u8) -> IpAddr {
    format!("10.9.{side}.{flow}").parse().expect("an address")
}

/// Two `span wg --threads 2`, with more addresses inside; `None` where the host lets nobody steer flows.
fn pair() -> Option<Pair> {
    if !ready() {
        return None;
    }
    let pair = Pair::new(Program::SpanThreads, Program::SpanThreads, Family::V4);
    if !pair
        .processes
        .iter()
        .all(|process| thread_names(process.pid()).contains(&"span-packets-1".to_owned()))
    {
        let why = "flows cannot be steered here: needs CAP_BPF, or root outside of a user namespace";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        eprintln!("skipped: {why}");
        return None;
    }
    pair.configure();
    for (node, side, other, key) in
        [(&pair.a, 1, 2, &pair.keys[1].public), (&pair.b, 2, 1, &pair.keys[0].public)]
    {
        let lines: String =
            (1..=FLOWS).map(|flow| format!("addr add 10.9.{side}.{flow}/32 dev wg0\n")).collect();
        node.ip(&format!("{lines}route add 10.9.{other}.0/24 dev wg0\n"));
        node.run(&format!(
            "wg set wg0 peer {key} allowed-ips 10.9.0.{other}/32,fd09::{other}/128,10.9.{other}.0/24"
        ));
    }
    Some(pair)
}

fn thread_names(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

/// The processor time of each packet thread so far, in hundredths of a second.
fn worked(process: u32) -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let times = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        name.starts_with("span-packets").then(|| (name.to_owned(), ticks(11) + ticks(12)))
    });
    times.collect()
}

/// What one end of a flow saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent: u64,
    received: u64,
}

/// One flow between two addresses, in both directions, until told to stop: numbered datagrams of three lengths, the
/// longest in fragments. Asserts that the numbers only grow and the bytes are those that were sent.
fn flow(node: &Namespace, own: SocketAddr, other: SocketAddr, stop: &AtomicBool) -> Seen {
    const LENGTHS: [usize; 4] = [64, 1300, 64, 3000];
    let socket = node.inside(|| UdpSocket::bind(own).expect("an address of this namespace"));
    socket.set_nonblocking(true).expect("a socket");
    let mut seen = Seen::default();
    let mut next = 0;
    let mut buffer = [0; 4000];
    // What is under way when the sending ends still has to arrive in order.
    let mut ending: Option<Instant> = None;
    while ending.is_none_or(|at| at.elapsed() < Duration::from_millis(300)) {
        if ending.is_none() {
            for _ in 0..8 {
                let bytes = datagram(seen.sent, LENGTHS[seen.sent as usize % 4]);
                match socket.send_to(&bytes, other) {
                    Ok(_) => seen.sent += 1,
                    // Roaming: for a moment there is no way there.
                    Err(_) => break,
                }
            }
        }
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) => {
                    assert_eq!(from, other);
                    let number = u64::from_be_bytes(buffer[..8].try_into().expect("eight bytes"));
                    assert!(number >= next, "{own}: {number} from {other} after {}", next - 1);
                    let expected = datagram(number, LENGTHS[number as usize % 4]);
                    assert!(buffer[..len] == expected, "{own}: {number} arrived otherwise than it was sent");
                    next = number + 1;
                    seen.received += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("{own}: {error}"),
            }
        }
        if ending.is_none() && stop.load(Ordering::Relaxed) {
            ending = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    seen
}

fn datagram(number: u64, len: usize) -> Vec<u8> {
    let fill = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    number.to_be_bytes().into_iter().chain(fill.into_iter().cycle()).take(len).collect()
}

/// Runs `work` while all flows go on in both directions.
fn with_flows(pair: &Pair, work: impl FnOnce()) -> Vec<Seen> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ends: Vec<_> = (1..=FLOWS)
            .flat_map(|flow| [(&pair.a, 1, 2, flow), (&pair.b, 2, 1, flow)])
            .map(|(node, side, other, number)| {
                let [own, other] = [side, other].map(|side| SocketAddr::new(address(side, number), 7000));
                let stop = &stop;
                scope.spawn(move || flow(node, own, other, stop))
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let seen = ends.into_iter().map(|end| end.join().expect("a flow in order")).collect();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen
    })
}

/// From the first packet on, which waits for its session, through bulk data and a rekeying.
#[test]
fn no_flow_is_reordered() {
    let Some(mut pair) = pair() else { return };
    let seen = with_flows(&pair, || {
        assert_tcp(&pair.a, &pair.b, "10.9.2.1", 64);
        assert_tcp(&pair.b, &pair.a, Pair::A_INNER6, 64);
        std::thread::scope(|scope| {
            for flow in 1..=4 {
                let (a, b) = (&pair.a, &pair.b);
                let (there, back) = (address(2, flow).to_string(), address(1, flow + 4).to_string());
                scope.spawn(move || assert_tcp(a, b, &there, 16));
                scope.spawn(move || assert_tcp(b, a, &back, 16));
            }
        });
        // A new session under way, for which packets wait: setting the key anew ends the one before.
        let before = wg::peer(&pair.a, "wg0").latest_handshake;
        std::thread::sleep(Duration::from_millis(1100));
        for private in [&Keys::new(&pair.a).private, &pair.keys[0].private] {
            pair.a.feed("wg set wg0 private-key /dev/stdin", private);
        }
        eventually(SOON, "another handshake", || holds(wg::peer(&pair.a, "wg0").latest_handshake > before));
        assert_tcp(&pair.a, &pair.b, Pair::B_INNER, 16);
    });
    for end in &seen {
        assert!(end.sent > 500 && end.received > end.sent / 4, "{seen:?}");
    }
    for process in &pair.processes {
        let worked = worked(process.pid());
        assert_eq!(worked.len(), 2, "{worked:?}");
        assert!(worked.values().all(|ticks| *ticks > 0), "both carry: {worked:?}");
    }
    pair.both_run();
}

/// Either side moves to another address and to another port, and its threads with it.
#[test]
fn roaming_with_several_threads() {
    let Some(mut pair) = pair() else { return };
    assert_ping(&pair.a, Pair::B_INNER, 5);
    pair.a.ip(&pair.renumber(1));
    first_ping(&pair.a, Pair::B_INNER, SOON);
    let there = wg::peer(&pair.b, "wg0");
    assert_eq!(there.endpoint, pair.endpoint(1, 2, Pair::A_PORT), "the endpoint followed");

    for port in [51830, 51840] {
        pair.a.run(&format!("wg set wg0 listen-port {port}"));
        first_ping(&pair.a, Pair::B_INNER, SOON);
        assert_eq!(wg::peer(&pair.b, "wg0").endpoint, pair.endpoint(1, 2, port));
        // Every thread sends from the new port, and none listens at the old one.
        let seen = with_flows(&pair, || assert_tcp(&pair.a, &pair.b, "10.9.2.3", 8));
        assert!(seen.iter().all(|end| end.received > 0), "{seen:?}");
        assert_eq!(wg::peer(&pair.b, "wg0").endpoint, pair.endpoint(1, 2, port));
        let sockets = pair.a.run("ss -Hlun");
        assert_eq!(sockets.matches(&format!(":{port} ")).count(), 4, "two threads, two families: {sockets}");
        assert_eq!(sockets.matches(":518").count(), 4, "{sockets}");
    }
    pair.a.run("wg set wg0 fwmark 77");
    assert_ping(&pair.a, Pair::B_INNER, 5);
    let seen = with_flows(&pair, || std::thread::sleep(Duration::from_millis(500)));
    assert!(seen.iter().all(|end| end.received > 0), "{seen:?}");
    pair.both_run();
}

/// The MTU changes, the link goes down and up, and the program ends in good order.
#[test]
fn links_and_the_end_with_several_threads() {
    let Some(mut pair) = pair() else { return };
    assert_ping(&pair.a, Pair::B_INNER, 5);
    for mtu in [1300, 8000, 1420] {
        for node in [&pair.a, &pair.b] {
            node.ip(&format!("link set wg0 mtu {mtu}\n"));
        }
        for flow in 1..=4 {
            assert_tcp(&pair.a, &pair.b, &address(2, flow).to_string(), 4);
        }
    }
    pair.b.ip("link set wg0 down\nlink set wg0 up\nroute add 10.9.1.0/24 dev wg0\n");
    pair.b.ip(&format!("addr replace {}/64 dev wg0\n", Pair::B_INNER6));
    assert_ping(&pair.a, Pair::B_INNER, 5);
    let [a, b] = &mut pair.processes;
    for process in [a, b] {
        assert!(process.terminate(SOON).success(), "{}", process.err());
    }
    assert!(!pair.a.has_link("wg0") && !pair.b.has_link("wg0"));
}
