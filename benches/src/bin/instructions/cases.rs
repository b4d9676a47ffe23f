//! The work that is counted.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use span_benches::devices::{Hub, Pair, Slot, sealed, with_keepalives};
use span_benches::packets::{self, Kind, MTU};
use span_benches::prefixes::{Family, Table};
use span_benches::random::Random;
use span_core::wireguard::{DropReason, Inbound, Outbound, Sealer};
use span_tun::offload::{Coalescer, split};

/// One thing to count.
pub(crate) struct Case {
    /// What it is called in the baseline.
    pub(crate) name: &'static str,
    /// How often the work is done; the count is divided by it.
    pub(crate) calls: u32,
    /// Prepares everything the work needs, and gives the work.
    pub(crate) prepare: fn() -> Work,
}

/// What is counted; called as often as [`Case::calls`] says, and once before.
pub(crate) type Work = Box<dyn FnMut()>;

/// Packets in a burst, as one message with segmentation offload holds them.
const BURST: usize = 45;
const STRIDE: usize = MTU + Sealer::OVERHEAD;
/// Peers of the hub.
const PEERS: usize = 100;

/// Every case, in the order of the baseline.
pub(crate) const ALL: &[Case] = &[
    Case { name: "split, 45 x TCP over IPv4", calls: 10, prepare: || cut(Kind::Tcp4) },
    Case { name: "split, 45 x TCP over IPv6", calls: 10, prepare: || cut(Kind::Tcp6) },
    Case { name: "split, 45 x UDP over IPv4", calls: 10, prepare: || cut(Kind::Udp4) },
    Case { name: "coalesce, 45 x TCP over IPv4", calls: 10, prepare: || merge(Kind::Tcp4, BURST) },
    Case { name: "coalesce, 45 x TCP over IPv6", calls: 10, prepare: || merge(Kind::Tcp6, BURST) },
    Case { name: "coalesce, 45 x UDP over IPv4", calls: 10, prepare: || merge(Kind::Udp4, BURST) },
    Case { name: "coalesce, 1 x TCP over IPv4", calls: 100, prepare: || merge(Kind::Tcp4, 1) },
    Case { name: "allowed IPs, look up v4 in 1000", calls: 1000, prepare: || look_up(Family::V4, 1_000) },
    Case { name: "allowed IPs, look up v4 in 10000", calls: 10_000, prepare: || look_up(Family::V4, 10_000) },
    Case { name: "allowed IPs, look up v6 in 1000", calls: 1000, prepare: || look_up(Family::V6, 1_000) },
    Case { name: "allowed IPs, look up v6 in 10000", calls: 10_000, prepare: || look_up(Family::V6, 10_000) },
    Case { name: "allowed IPs, remove and insert v4 in 1000", calls: 1000, prepare: || change(Family::V4) },
    Case { name: "allowed IPs, remove and insert v6 in 1000", calls: 1000, prepare: || change(Family::V6) },
    Case { name: "seal, 1 packet", calls: 100, prepare: || seal(1) },
    Case { name: "seal, 45 packets", calls: 10, prepare: || seal(BURST) },
    Case { name: "open, in order", calls: OPENED, prepare: || open(|at| at) },
    // Neighbours change places.
    Case { name: "open, out of order", calls: OPENED, prepare: || open(|at| at ^ 1) },
    Case { name: "open, 45 packets", calls: 10, prepare: open_burst },
    Case { name: "refuse, replayed", calls: 100, prepare: refuse_replayed },
    Case { name: "refuse, unknown index", calls: 100, prepare: refuse_unknown },
    Case { name: "route, outbound, sent", calls: 1000, prepare: send },
    Case { name: "move a timer of 1000 peers", calls: 1000, prepare: move_timer },
    Case { name: "timeout, nothing due", calls: 100, prepare: nothing_due },
];

fn cut(kind: Kind) -> Work {
    let (header, mut frame) = packets::super_packet(kind, BURST);
    let mut slots = vec![0; BURST * STRIDE];
    Box::new(move || {
        let segments = split(&header, black_box(&mut frame)).expect("a valid frame");
        for (segment, slot) in segments.zip(slots.chunks_exact_mut(STRIDE)) {
            segment.write_to(&mut slot[Sealer::PLAINTEXT_AT..]);
        }
    })
}

fn merge(kind: Kind, count: usize) -> Work {
    let (mut arena, ranges) = packets::burst(kind, count, Sealer::OVERHEAD);
    let mut coalescer = Coalescer::new(true);
    // Merging rewrites the first packet's headers.
    let first = ranges[0].start..ranges[0].start + 72;
    let headers = arena[first.clone()].to_vec();
    Box::new(move || {
        arena[first.clone()].copy_from_slice(&headers);
        for range in &ranges {
            coalescer.push(&arena, range.clone());
        }
        let flushed = coalescer.flush(&mut arena, &mut |header, parts| {
            black_box((header, parts));
            Ok(())
        });
        flushed.expect("this sink takes everything");
    })
}

fn look_up(family: Family, count: usize) -> Work {
    let Table { table, addresses, .. } = Table::new(family, count);
    let mut next = around(count);
    Box::new(move || {
        black_box(table.lookup(addresses[next()]));
    })
}

fn change(family: Family) -> Work {
    let Table { mut table, prefixes, .. } = Table::new(family, 1000);
    let mut next = around(1000);
    Box::new(move || {
        let (prefix, owner) = prefixes[next()];
        table.remove(prefix, owner);
        black_box(table.insert(prefix, owner));
    })
}

fn seal(count: usize) -> Work {
    let mut pair = Pair::connected();
    let sealer = pair.alice.sealer(pair.now);
    let mut slots = vec![0; count * STRIDE];
    Box::new(move || {
        black_box(sealer.seal_burst(black_box(&mut slots), STRIDE)).expect("a fresh session");
    })
}

/// Two windows of counters, so that what the window allocates is in the count.
const OPENED: u32 = 2 * 8192;

fn open(place: fn(usize) -> usize) -> Work {
    let mut pair = Pair::connected();
    let sealer = pair.alice.sealer(pair.now);
    let packet = packets::ipv4(64);
    let mut datagrams: Vec<Vec<u8>> = (0..OPENED as usize + 2).map(|_| sealed(&sealer, &packet)).collect();
    let mut next = around(datagrams.len());
    Box::new(move || {
        let datagram = &mut datagrams[place(next())];
        let inbound = pair.bob.device.handle_datagram(pair.now, &pair.bob.path, datagram);
        assert!(matches!(inbound, Inbound::Packet { .. }));
    })
}

fn open_burst() -> Work {
    let mut pair = Pair::connected();
    let sealer = pair.alice.sealer(pair.now);
    let packet = packets::ipv4(MTU);
    let mut bursts: Vec<Vec<u8>> =
        (0..11).map(|_| (0..BURST).flat_map(|_| sealed(&sealer, &packet)).collect()).collect();
    let mut next = around(bursts.len());
    Box::new(move || {
        let mut opened = 0;
        let each = &mut |inbound| opened += usize::from(matches!(inbound, Inbound::Packet { .. }));
        pair.bob.device.handle_burst(pair.now, &pair.bob.path, &mut bursts[next()], STRIDE, each);
        assert_eq!(opened, BURST);
    })
}

fn refuse_replayed() -> Work {
    let mut hub = Hub::new(PEERS);
    let mut next = around(PEERS);
    Box::new(move || {
        let spoke = &mut hub.spokes[next()];
        let inbound = hub.device.handle_datagram(hub.now, &spoke.path, &mut spoke.seen);
        assert!(matches!(inbound, Inbound::Dropped(DropReason::Replayed)));
    })
}

fn refuse_unknown() -> Work {
    let mut pair = Pair::connected();
    let mut datagram = sealed(&pair.alice.sealer(pair.now), &packets::ipv4(64));
    for byte in &mut datagram[4..8] {
        *byte = !*byte;
    }
    Box::new(move || {
        let inbound = pair.bob.device.handle_datagram(pair.now, &pair.bob.path, &mut datagram);
        assert!(matches!(inbound, Inbound::Dropped(DropReason::UnknownIndex)));
    })
}

fn send() -> Work {
    let mut hub = Hub::new(PEERS);
    let mut next = around(PEERS);
    Box::new(move || {
        let address = hub.spokes[next()].address;
        let peer = hub.device.route(address.into()).expect("a peer");
        assert!(matches!(hub.device.outbound(hub.now, peer), Outbound::Ready(_)));
        hub.device.sent(hub.now, peer, BURST as u32, (BURST * STRIDE) as u64);
    })
}

fn move_timer() -> Work {
    let (mut device, peers, mut now) = with_keepalives(1000);
    let order = Random::new(4).order(1000);
    let mut next = around(1000);
    Box::new(move || {
        now += Duration::from_nanos(1);
        device.set_keepalive(now, peers[order[next()]], Some(25));
        black_box(device.poll_timeout());
    })
}

fn nothing_due() -> Work {
    let mut hub = Hub::new(PEERS);
    let mut slot = Slot::default();
    Box::new(move || {
        hub.device.handle_timeout(hub.now);
        black_box(hub.device.poll_transmit(hub.now, &mut slot));
        black_box(hub.device.poll_event());
        black_box(hub.device.poll_timeout());
    })
}

/// The numbers below `count`, again and again.
fn around(count: usize) -> impl FnMut() -> usize {
    let at = Cell::new(0);
    move || at.replace(if at.get() + 1 == count { 0 } else { at.get() + 1 })
}
