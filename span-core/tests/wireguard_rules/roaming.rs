//! Where a peer is sent to.

use crate::common::pair::{ALICE, BOB, Pair};
use crate::common::{deliver, path};
use crate::{SECOND, seconds};
use span_core::path::{Path, Source};
use span_core::wireguard::{DropReason, Event, Evidence, Inbound};

#[test]
fn roams_on_every_authenticated_initiation_response_and_data_packet() {
    // Initiation: Bob learns where Alice is without being told.
    let mut pair = Pair::new();
    assert_eq!(pair.path(BOB), None);
    pair.at[BOB] = path("198.51.100.2:2");
    pair.send(ALICE);
    assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    let (alice, bob) = (pair.peer[ALICE], pair.peer[BOB]);
    assert!(pair.events[BOB].contains(&Event::PathLearnt {
        peer: bob,
        path: pair.at[ALICE],
        by: Evidence::Initiation
    }));
    // Response: it came from where Bob answered, not from where he was called.
    assert_eq!(pair.path(ALICE), Some(pair.at[BOB]));
    assert!(pair.events[ALICE].contains(&Event::PathLearnt {
        peer: alice,
        path: pair.at[BOB],
        by: Evidence::Response
    }));
    // Data, and a keepalive is data too; address and port, and the local end without an event.
    pair.forget();
    for place in ["203.0.113.9:1000", "203.0.113.9:1001", "[2001:db8::1]:1001"] {
        pair.at[ALICE] = path(place);
        pair.send(ALICE);
        assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    }
    assert_eq!(pair.events[BOB].len(), 3);
    let remote = pair.at[ALICE].remote().expect("UDP");
    pair.at[ALICE] = Path::udp_from(remote, Source { ip: "2001:db8::9".parse().unwrap(), interface: 3 });
    pair.send(ALICE);
    assert_eq!(pair.path(BOB), Some(pair.at[ALICE]));
    assert_eq!(pair.events[BOB].len(), 3, "the peer has not moved");
}

#[test]
fn nothing_unauthenticated_moves_a_peer() {
    let mut pair = Pair::connected();
    let home = pair.path(BOB);
    let stranger = path("203.0.113.66:6");
    let old = pair.sealed(ALICE);
    let _ = pair.receive(BOB, &old);
    let mut forged = pair.sealed(ALICE);
    forged[20] ^= 1;
    pair.sleep(SECOND);
    pair.device[ALICE].initiate_now(pair.now, pair.peer[ALICE]);
    pair.settle();
    let initiation = pair.wire[ALICE].iter().find(|bytes| bytes[0] == 1).expect("an initiation").clone();
    let mut damaged = initiation.clone();
    damaged[100] ^= 1;
    let drops = [
        (old, DropReason::Replayed),
        (forged, DropReason::Forged),
        (damaged, DropReason::InvalidMac1),
        (vec![1; 148], DropReason::Malformed),
    ];
    for (datagram, reason) in drops {
        assert_eq!(
            deliver(&mut pair.device[BOB], pair.now, &stranger, &datagram).0,
            Inbound::Dropped(reason)
        );
    }
    // A replayed initiation gets past its MACs and no further.
    let stale = pair.device[BOB].counters().dropped(DropReason::StaleInitiation);
    let _ = deliver(&mut pair.device[BOB], pair.now, &stranger, &initiation);
    assert_eq!(pair.device[BOB].counters().dropped(DropReason::StaleInitiation), stale + 1);
    pair.settle();
    assert_eq!(pair.path(BOB), home);
}

#[test]
fn a_silent_peer_is_called_again_from_whatever_address_the_host_has() {
    let mut pair = Pair::connected();
    let source = Source { ip: "192.0.2.1".parse().unwrap(), interface: 2 };
    let sticky = Path::udp_from(pair.at[BOB].remote().expect("UDP"), source);
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], Some(sticky));
    pair.mute[BOB] = true;
    pair.send(ALICE);
    pair.advance(seconds(14));
    assert_eq!(pair.path(ALICE), Some(sticky));
    pair.advance(seconds(2));
    assert_eq!(pair.path(ALICE), Some(sticky.without_source()));
}
