//! `span wg`, and Span's tunnel in a Go program, against itself, wireguard-go and boringtun: each pair meets with
//! either as the initiator, over IPv4 and IPv6, moves data, keeps true figures, and roams.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use span_tests::namespace::SOON;
use span_tests::traffic::{assert_ping, assert_tcp, first_ping, ping, ping_with};
use span_tests::wg::Program::{self, Boringtun, Span, SpanAes, SpanGo, WireguardGo};
use span_tests::{Namespace, Process, eventually, holds, ready, wg};

use crate::pair::{Family, Pair};

macro_rules! meetings {
    ($($name:ident: $initiator:expr => $responder:expr, $family:expr;)*) => {$(
        #[test]
        fn $name() {
            meet($initiator, $responder, $family);
        }
    )*};
}

meetings! {
    span_calls_span_over_ipv4: Span => Span, Family::V4;
    span_calls_span_over_ipv6: Span => Span, Family::V6;
    span_calls_span_in_aes: SpanAes => SpanAes, Family::V4;
    wireguard_go_calls_span_that_would_use_aes: WireguardGo => SpanAes, Family::V6;
    span_calls_wireguard_go_over_ipv4: Span => WireguardGo, Family::V4;
    span_calls_wireguard_go_over_ipv6: Span => WireguardGo, Family::V6;
    wireguard_go_calls_span_over_ipv4: WireguardGo => Span, Family::V4;
    wireguard_go_calls_span_over_ipv6: WireguardGo => Span, Family::V6;
    span_calls_boringtun_over_ipv4: Span => Boringtun, Family::V4;
    span_calls_boringtun_over_ipv6: Span => Boringtun, Family::V6;
    boringtun_calls_span_over_ipv4: Boringtun => Span, Family::V4;
    boringtun_calls_span_over_ipv6: Boringtun => Span, Family::V6;
    span_in_go_calls_wireguard_go: SpanGo => WireguardGo, Family::V4;
    wireguard_go_calls_span_in_go: WireguardGo => SpanGo, Family::V6;
    // Without Span: what fails here too is the fault of the tests or of the machine.
    control_wireguard_go_calls_boringtun: WireguardGo => Boringtun, Family::V4;
    control_boringtun_calls_wireguard_go: Boringtun => WireguardGo, Family::V6;
}

/// By signal and by deletion of the interface, as `span wg` does.
#[test]
fn span_in_go_leaves_nothing_behind() {
    if !ready() {
        return;
    }
    let node = Namespace::new("lone");
    let before = node.snapshot();
    let endings: [fn(&Namespace, &mut Process); 2] =
        [|_, process| process.signal(Signal::TERM), |node, _| node.ip("link del wg0\n")];
    for end in endings {
        let mut process = SpanGo.start(&node, "wg0");
        node.ip("addr add 10.0.0.1/24 dev wg0\nlink set wg0 up\n");
        end(&node, &mut process);
        assert!(process.wait(SOON).success(), "{}", process.err());
        assert_eq!(node.snapshot(), before);
    }
}

/// What becomes of the interface becomes of the tunnel, without anybody telling it.
#[test]
fn span_in_go_follows_its_interface() {
    if !ready() {
        return;
    }
    let pair = Pair::new(SpanGo, SpanGo, Family::V4);
    pair.configure();
    assert_ping(&pair.a, Pair::B_INNER, 5);
    pair.a.ip("link set wg0 down\n");
    assert_eq!(ping_with(&pair.b, Pair::A_INNER, 2, "-i 0.2 -W 0.3"), 0, "down is down");
    pair.a.ip("link set wg0 up\n");
    first_ping(&pair.b, Pair::A_INNER, SOON);
    for node in [&pair.a, &pair.b] {
        node.ip("link set eth0 mtu 9000\nlink set wg0 mtu 4000\n");
    }
    // The program hears of the new MTU a little later.
    eventually(SOON, "longer packets pass", || {
        holds(ping_with(&pair.a, Pair::B_INNER, 1, "-s 3900 -M do -W 0.5") == 1)
    });
    assert_tcp(&pair.a, &pair.b, Pair::B_INNER, 32);
}

fn meet(initiator: Program, responder: Program, family: Family) {
    if !ready() {
        return;
    }
    let mut pair = Pair::new(initiator, responder, family);
    pair.configure();

    assert_eq!(wg::peer(&pair.b, "wg0").endpoint, "(none)", "only one side can begin");
    let before = seconds_now();
    assert_ping(&pair.a, Pair::B_INNER, 10);
    figures_are_true(&pair, before);

    assert_ping(&pair.b, Pair::A_INNER6, 10);
    assert_ping(&pair.a, Pair::B_INNER6, 10);
    assert_tcp(&pair.a, &pair.b, Pair::B_INNER, 32);
    assert_tcp(&pair.b, &pair.a, Pair::A_INNER6, 32);

    roam(&pair);
    pair.both_run();
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Ten pings were the first traffic: the initiation or response, ten packets of 84 bytes, perhaps a keepalive.
fn figures_are_true(pair: &Pair, before: u64) {
    let [a, b] = [wg::peer(&pair.a, "wg0"), wg::peer(&pair.b, "wg0")];
    for (program, peer) in pair.programs.into_iter().zip([&a, &b]) {
        // boringtun gives the age of the handshake where its time belongs.
        if program != Boringtun {
            let (at, now) = (peer.latest_handshake, seconds_now());
            assert!((before..=now).contains(&at), "{program:?}: latest handshake {at} in {before}..={now}");
        }
    }
    assert_eq!(
        a.endpoint,
        pair.endpoint(2, 1, Pair::B_PORT),
        "the initiator keeps the endpoint it was given"
    );
    assert_eq!(b.endpoint, pair.endpoint(1, 1, Pair::A_PORT), "the responder learns the endpoint");

    // WireGuard pads an 84-byte packet to 96; boringtun does not. Message overhead is 32 bytes.
    let datagram = |program| if program == Boringtun { 84 + 32 } else { 96 + 32 };
    let [from_a, from_b] = [datagram(pair.programs[0]) * 10, datagram(pair.programs[1]) * 10];
    if pair.programs[0].is_span() {
        assert!([148 + from_a, 148 + from_a + 32].contains(&a.tx), "initiator sent {}", a.tx);
        assert_eq!(a.rx, 92 + from_b, "initiator received");
    }
    if pair.programs[1].is_span() {
        assert_eq!(b.tx, 92 + from_b, "responder sent");
        assert!([148 + from_a, 148 + from_a + 32].contains(&b.rx), "responder received {}", b.rx);
    }
}

/// Either side moves to another address, then to another port; the other follows with the first packet.
fn roam(pair: &Pair) {
    let sides = [
        (1, &pair.a, Pair::A_PORT, &pair.b, Pair::B_INNER),
        (2, &pair.b, Pair::B_PORT, &pair.a, Pair::A_INNER),
    ];
    for (host, mover, port, other, other_inner) in sides {
        mover.ip(&pair.renumber(host));
        follows(mover, other, other_inner, &pair.endpoint(host, 2, port));
        mover.run("wg set wg0 listen-port 51999");
        follows(mover, other, other_inner, &pair.endpoint(host, 2, 51999));
    }
    assert_ping(&pair.a, Pair::B_INNER, 20);
    assert_ping(&pair.b, Pair::A_INNER6, 20);
}

fn follows(mover: &Namespace, other: &Namespace, other_inner: &str, endpoint: &str) {
    first_ping(mover, other_inner, SOON);
    let what = format!("the endpoint of {} becomes {endpoint}", mover.name());
    eventually(SOON, &what, || holds(wg::peer(other, "wg0").endpoint == endpoint));
}

/// A wrong preshared key lets nothing through; the right one, set while running, does.
#[test]
fn a_preshared_key_must_match() {
    if !ready() {
        return;
    }
    for (initiator, responder) in [(Span, WireguardGo), (WireguardGo, Span)] {
        let pair = Pair::new(initiator, responder, Family::V4);
        pair.configure();
        let wrong = pair.b.run("wg genpsk");
        let key = pair.keys[0].public.clone();
        pair.b.feed(&format!("wg set wg0 peer {key} preshared-key /dev/stdin"), &wrong);
        assert_eq!(ping_with(&pair.a, Pair::B_INNER, 2, "-i 0.3 -W 0.5"), 0, "{initiator:?}: a wrong key");
        assert_eq!(wg::peer(&pair.a, "wg0").latest_handshake, 0);
        pair.b.feed(&format!("wg set wg0 peer {key} preshared-key /dev/stdin"), &pair.preshared);
        // The initiation under way was refused; the next one goes out REKEY_TIMEOUT, five seconds, later.
        first_ping(&pair.a, Pair::B_INNER, Duration::from_secs(12));
    }
}

/// What `--cipher aes-256-gcm` begins, nobody but Span understands; what others begin, it answers, and goes on
/// in their cipher.
#[test]
fn aes_is_for_span_alone() {
    if !ready() {
        return;
    }
    let pair = Pair::new(SpanAes, Span, Family::V4);
    pair.configure();
    assert_eq!(ping(&pair.a, Pair::B_INNER, 3), 0, "the other was not told to accept it");
    let endpoint = pair.endpoint(1, 1, Pair::A_PORT);
    pair.b.run(&format!("wg set wg0 peer {} endpoint {endpoint}", pair.keys[0].public));
    first_ping(&pair.b, Pair::A_INNER, SOON);
    assert_ping(&pair.a, Pair::B_INNER, 10);
}
