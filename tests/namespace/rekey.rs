//! Sessions are replaced every two minutes, and nobody who uses them notices.

use std::time::Duration;

use span_tests::traffic::assert_ping;
use span_tests::wg::{self, Program};
use span_tests::{eventually, holds, ready};

use crate::pair::{Family, Pair};

/// REKEY_AFTER_TIME is 120 s. All pairs wait it out together, each with a ping every 50 ms.
#[test]
fn a_session_is_replaced_without_loss() {
    use Program::{Boringtun, Span, SpanThreads, WireguardGo};
    if !ready() {
        return;
    }
    let mut pairs: Vec<Pair> = [
        (Span, Span),
        (Span, WireguardGo),
        (WireguardGo, Span),
        (Span, Boringtun),
        (Boringtun, Span),
        (SpanThreads, SpanThreads),
    ]
    .into_iter()
    .map(|(initiator, responder)| {
        let pair = Pair::new(initiator, responder, Family::V4);
        pair.configure();
        assert_ping(&pair.a, Pair::B_INNER, 1);
        pair
    })
    .collect();
    let span_side = |pair: &Pair| {
        if pair.programs[0].is_span() { wg::peer(&pair.a, "wg0") } else { wg::peer(&pair.b, "wg0") }
    };
    let first: Vec<u64> = pairs.iter().map(|pair| span_side(pair).latest_handshake).collect();

    let mut pings: Vec<_> = pairs
        .iter()
        .map(|pair| pair.a.spawn("ping", ["-q", "-n", "-i", "0.05", "-c", "2600", "-W", "1", Pair::B_INNER]))
        .collect();
    for ((pair, ping), first) in pairs.iter_mut().zip(&mut pings).zip(first) {
        let programs = pair.programs;
        ping.wait(Duration::from_secs(170));
        assert!(ping.out().contains(" 0% packet loss"), "{programs:?}: {}", ping.out());
        let what = format!("{programs:?}: a handshake 120 s after the first");
        eventually(Duration::from_secs(1), &what, || {
            let latest = span_side(pair).latest_handshake;
            holds((first + 115..=first + 130).contains(&latest))
        });
        pair.both_run();
    }
}
