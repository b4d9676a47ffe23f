use std::io;
#[cfg(unix)]
use std::os::fd::RawFd;

use span_core::path::Source;

use super::*;
use crate::transport::RecvBatch;

/// Notes what it is given, and answers from a script, then with success.
struct Recorder {
    max_segments: usize,
    answers: Vec<Result<Sent, SendError>>,
    calls: Vec<Call>,
}

#[derive(Debug, PartialEq, Eq)]
struct Call {
    path: Path,
    /// The first byte of each datagram.
    datagrams: Vec<u8>,
    segment_size: Option<usize>,
    ecn: Ecn,
}

impl Recorder {
    fn new() -> Self {
        Recorder { max_segments: 64, answers: Vec::new(), calls: Vec::new() }
    }

    fn answering(answers: impl IntoIterator<Item = Result<Sent, SendError>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Recorder { answers, ..Recorder::new() }
    }

    fn shape(&self) -> Vec<&[u8]> {
        self.calls.iter().map(|call| call.datagrams.as_slice()).collect()
    }
}

impl Transport for Recorder {
    fn recv(&mut self, _: &mut RecvBatch) -> io::Result<usize> {
        Ok(0)
    }

    fn send(&mut self, transmit: &Transmit<'_>) -> Result<Sent, SendError> {
        assert!(transmit.datagrams() <= self.max_segments as u64);
        assert!(transmit.contents.len() <= SendBatch::max_datagram(&transmit.path));
        let stride = transmit.segment_size.unwrap_or(transmit.contents.len());
        self.calls.push(Call {
            path: transmit.path,
            datagrams: transmit.contents.chunks(stride).map(|datagram| datagram[0]).collect(),
            segment_size: transmit.segment_size,
            ecn: transmit.ecn,
        });
        self.answers.pop().unwrap_or(Ok(Sent::Done))
    }

    fn max_segments(&self) -> usize {
        self.max_segments
    }

    #[cfg(unix)]
    fn descriptors(&self) -> &[RawFd] {
        &[]
    }
}

fn path(host: u8) -> Path {
    Path::udp(([192, 0, 2, host], 51820).into())
}

fn put(batch: &mut SendBatch, path: &Path, len: usize, mark: u8) {
    batch.reserve(path, len).expect("room")[0] = mark;
}

#[test]
fn datagrams_of_one_path_and_length_are_one_burst_that_a_shorter_one_ends() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    for (mark, len) in [1000, 1000, 1000, 400, 400, 1000].into_iter().enumerate() {
        put(&mut batch, &path(1), len, mark as u8);
    }
    let outcome = batch.flush(&mut out);
    assert_eq!(out.shape(), [&[0, 1, 2, 3][..], &[4], &[5]]);
    assert_eq!(out.calls[0].segment_size, Some(1000));
    assert_eq!(out.calls[1].segment_size, None);
    assert_eq!((outcome.datagrams, outcome.bytes, outcome.calls), (6, 4800, 3));
    assert!(batch.is_empty() && !outcome.blocked);
}

#[test]
fn interleaved_paths_still_form_bursts_and_each_keeps_its_order() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    for round in 0..10u8 {
        for host in 0..7 {
            put(&mut batch, &path(host), 100, round);
        }
    }
    let outcome = batch.flush(&mut out);
    assert_eq!((outcome.datagrams, outcome.calls), (70, 7));
    assert!(out.shape().iter().all(|datagrams| datagrams.iter().copied().eq(0..10)));
}

#[test]
fn more_paths_than_lanes_share_the_last_and_keep_their_order() {
    let (mut batch, mut out) = (SendBatch::new(3), Recorder::new());
    for round in 0..20u8 {
        for host in 0..6 {
            put(&mut batch, &path(host), 100 + usize::from(round % 3), round);
        }
    }
    assert_eq!(batch.flush(&mut out).datagrams, 120);
    for host in 0..6 {
        let order = out.calls.iter().filter(|call| call.path == path(host)).flat_map(|call| &call.datagrams);
        assert!(order.copied().eq(0..20), "host {host}");
    }
}

#[test]
fn a_short_datagram_never_slips_in_front_of_a_long_one_that_found_no_room() {
    let alternating = |mark: u8| if mark.is_multiple_of(2) { 1452 } else { 80 };
    let short_last = |mark: u8| if mark < 50 { 1452 } else { 80 };
    for (lanes, len) in
        [(1, alternating as fn(u8) -> usize), (2, alternating), (1, short_last), (2, short_last)]
    {
        let (mut batch, mut out) = (SendBatch::new(lanes), Recorder::new());
        let mut order = Vec::new();
        for mark in 0..200 {
            if let Some(slot) = batch.reserve(&path(1), len(mark)) {
                slot[0] = mark;
                order.push(mark);
            }
        }
        let _ = batch.flush(&mut out);
        assert!(order.len() > 45, "{lanes} lanes");
        assert_eq!(out.shape().concat(), order, "{lanes} lanes");
    }
}

#[test]
fn bursts_stay_within_what_a_length_field_and_the_kernel_can_take() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    for mark in 0..90 {
        put(&mut batch, &path(1), 1452, mark);
    }
    for mark in 0..90 {
        put(&mut batch, &path(2), 60, mark);
    }
    let _ = batch.flush(&mut out);
    let counts: Vec<_> = out.calls.iter().map(|call| call.datagrams.len()).collect();
    assert_eq!(counts, [45, 45, 64, 26]);

    let ipv6 = Path::udp("[2001:db8::1]:51820".parse().unwrap());
    assert!(batch.reserve(&path(1), 65_508).is_none());
    assert!(batch.reserve(&path(1), 65_507).is_some());
    assert!(batch.reserve(&ipv6, 65_528).is_none());
    assert!(batch.reserve(&ipv6, 65_527).is_some());
    assert!(batch.reserve(&path(1), 0).is_none());
}

#[test]
fn a_burst_is_reserved_whole_or_not_at_all() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    for first in [0u8, 16] {
        let area = batch.reserve_burst(&path(1), 16, 1452).unwrap();
        assert_eq!(area.len(), 16 * 1452);
        for (at, datagram) in area.chunks_mut(1452).enumerate() {
            datagram[0] = first + at as u8;
        }
    }
    // A third one would exceed the length field: it begins the next burst.
    batch.reserve_burst(&path(1), 16, 1452).unwrap().fill(99);
    put(&mut batch, &path(1), 500, 100);
    let _ = batch.flush(&mut out);
    assert_eq!(out.calls.len(), 2);
    assert!(out.calls[0].datagrams.iter().copied().eq(0..32));
    assert_eq!(out.calls[1].datagrams.len(), 17);
    assert!(batch.reserve_burst(&path(1), 65, 10).is_none());
    assert!(batch.reserve_burst(&path(1), 50, 1452).is_none());
    assert!(batch.reserve_burst(&path(1), usize::MAX, 2).is_none());
}

#[test]
fn what_is_released_was_never_there() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    put(&mut batch, &path(1), 100, 0);
    put(&mut batch, &path(1), 60, 99);
    batch.release();
    batch.release();
    // The shorter one would have ended the burst.
    put(&mut batch, &path(1), 100, 1);
    put(&mut batch, &path(2), 100, 99);
    batch.release();
    batch.reserve_burst(&path(1), 4, 200).unwrap().fill(99);
    batch.release();
    put(&mut batch, &path(1), 100, 2);
    let _ = batch.flush(&mut out);
    assert_eq!(out.shape(), [[0, 1, 2]]);
    put(&mut batch, &path(3), 100, 0);
    batch.release();
    assert!(batch.is_empty());
}

#[test]
fn blocked_keeps_the_rest_for_later_and_takes_more() {
    let mut out = Recorder::answering([Ok(Sent::Done), Err(SendError::Blocked)]);
    let mut batch = SendBatch::default();
    put(&mut batch, &path(1), 100, 0);
    put(&mut batch, &path(2), 100, 1);
    put(&mut batch, &path(3), 100, 2);
    let outcome = batch.flush(&mut out);
    assert!(outcome.blocked);
    assert_eq!(outcome.datagrams, 1);
    // The sent entry of path 1 is gone for good, the waiting one of path 2 may still grow.
    put(&mut batch, &path(1), 100, 3);
    put(&mut batch, &path(2), 100, 4);
    out.calls.clear();
    let outcome = batch.flush(&mut out);
    assert_eq!(out.shape(), [&[1, 4][..], &[2], &[3]]);
    assert_eq!((outcome.datagrams, outcome.blocked), (4, false));
    assert!(batch.is_empty());
}

#[test]
fn a_batch_blocked_for_long_fills_up_and_can_be_discarded() {
    let mut out = Recorder::answering(vec![Err(SendError::Blocked); 4]);
    let mut batch = SendBatch::new(2);
    let mut reserved = 0;
    while batch.reserve(&path(1), 1000).is_some() {
        reserved += 1;
        if reserved % 50 == 0 {
            assert!(batch.flush(&mut out).blocked);
        }
    }
    assert_eq!(reserved, 2 * 65);
    assert_eq!(batch.discard(), 130);
    assert!(batch.reserve(&path(1), 1000).is_some());
}

#[test]
fn a_burst_that_cannot_leave_as_one_leaves_singly() {
    let mut out = Recorder::answering([Err(SendError::Unsegmented), Ok(Sent::Done), Err(SendError::Blocked)]);
    let mut batch = SendBatch::default();
    for mark in 0..4 {
        put(&mut batch, &path(1), 100, mark);
    }
    put(&mut batch, &path(2), 100, 4);
    put(&mut batch, &path(2), 100, 5);
    assert!(batch.flush(&mut out).blocked);
    let outcome = batch.flush(&mut out);
    assert_eq!(outcome.datagrams, 5);
    assert_eq!(out.shape(), [&[0, 1, 2, 3][..], &[0], &[1], &[1], &[2], &[3], &[4, 5]]);
}

#[test]
fn a_transport_without_bursts_gets_single_datagrams() {
    let mut out = Recorder { max_segments: 1, ..Recorder::new() };
    let mut batch = SendBatch::default();
    batch.reserve_burst(&path(1), 5, 100).unwrap().fill(7);
    put(&mut batch, &path(1), 30, 8);
    assert_eq!(batch.flush(&mut out).calls, 6);
    assert!(out.calls.iter().all(|call| call.segment_size.is_none()));
}

#[test]
fn losses_are_counted_by_reason_and_stop_nothing() {
    let dropped = |reason| Err(SendError::Dropped(reason));
    let mut out = Recorder::answering([
        dropped(DropReason::Unreachable),
        dropped(DropReason::TooLong),
        Err(SendError::Unsegmented),
    ]);
    let mut batch = SendBatch::default();
    batch.reserve_burst(&path(1), 5, 100).unwrap().fill(0);
    put(&mut batch, &path(2), 100, 0);
    put(&mut batch, &path(3), 100, 0);
    put(&mut batch, &path(4), 100, 0);
    let outcome = batch.flush(&mut out);
    assert_eq!(outcome.drops.get(DropReason::Unreachable), 5);
    assert_eq!(outcome.drops.get(DropReason::TooLong), 1);
    assert_eq!(outcome.drops.get(DropReason::Other), 1);
    assert_eq!((outcome.drops.total(), outcome.datagrams), (7, 1));
}

#[test]
fn a_lost_source_is_told_once_and_not_used_again() {
    let remote = ([192, 0, 2, 1], 51820).into();
    let sourced = Path::udp_from(remote, Source { ip: [198, 51, 100, 1].into(), interface: 2 });
    let mut out = Recorder::answering([Ok(Sent::SourceLost)]);
    let mut batch = SendBatch::default();
    for (mark, len) in [100, 200, 300].into_iter().enumerate() {
        put(&mut batch, &sourced, len, mark as u8);
    }
    let _ = batch.flush(&mut out);
    assert_eq!(batch.lost_sources(), [sourced]);
    assert_eq!(out.calls[0].path, sourced);
    assert!(out.calls[1..].iter().all(|call| call.path == sourced.without_source()));
    put(&mut batch, &path(1), 100, 0);
    let _ = batch.flush(&mut out);
    assert_eq!(batch.lost_sources(), []);
}

#[test]
fn datagrams_of_another_congestion_mark_are_another_burst() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    put(&mut batch, &path(1), 100, 0);
    batch.set_ecn(Ecn::Ce);
    put(&mut batch, &path(1), 100, 1);
    let _ = batch.flush(&mut out);
    assert_eq!(out.shape(), [[0], [1]]);
    assert_eq!(out.calls.iter().map(|call| call.ecn).collect::<Vec<_>>(), [Ecn::NotEct, Ecn::Ce]);
}

#[test]
fn datagrams_reserved_one_after_the_other_stand_side_by_side() {
    let mut batch = SendBatch::default();
    put(&mut batch, &path(1), 100, 0);
    let first = batch.reserved();
    put(&mut batch, &path(2), 100, 9);
    put(&mut batch, &path(1), 100, 1);
    let second = batch.reserved();
    assert_eq!((first.len(), second.start), (100, first.end));
    batch.bytes_mut(first.start..second.end).fill(7);
    batch.reserve_burst(&path(1), 3, 100).unwrap().fill(7);
    assert_eq!(batch.reserved(), second.end..second.end + 300);
    let mut out = Recorder::new();
    let _ = batch.flush(&mut out);
    assert_eq!(out.shape(), [vec![7; 5], vec![9]]);
}

#[test]
fn what_is_revoked_is_not_sent() {
    let (mut batch, mut out) = (SendBatch::default(), Recorder::new());
    put(&mut batch, &path(1), 100, 0);
    put(&mut batch, &path(2), 100, 1);
    batch.reserve_burst(&path(1), 3, 100).unwrap().fill(2);
    let place = batch.reserved();
    assert_eq!(batch.revoke(&place), 3);
    // All of an entry, which then is none.
    put(&mut batch, &path(3), 50, 3);
    let place = batch.reserved();
    assert_eq!(batch.revoke(&place), 1);
    assert_eq!(batch.flush(&mut out).datagrams, 2);
    assert_eq!(out.shape(), [[0], [1]]);
    assert!(batch.is_empty());
}
