//! Peers that come, change and go.

use crate::common::pair::{ALICE, BOB, Pair};
use crate::common::{ipv4, key, path};
use crate::{seconds, strangers_initiation};
use span_core::key::PublicKey;
use span_core::wireguard::{AddPeerError, DropReason, Inbound, Outbound};

#[test]
fn low_order_public_keys_are_accepted_as_peers_but_no_packet_leaves() {
    let mut pair = Pair::new();
    let device = &mut pair.device[ALICE];
    for point in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let peer = device.add_peer(pair.now, PublicKey::from_hex(point).unwrap()).expect("accepted");
        device.set_path(pair.now, peer, Some(path("192.0.2.9:9")));
        device.stage(pair.now, peer, &ipv4([10, 0, 0, 1], [10, 0, 0, 9], b"x"));
        device.initiate_now(pair.now, peer);
    }
    pair.advance(seconds(100));
    assert!(pair.log.is_empty(), "{:?}", pair.log);
    assert_eq!(
        pair.device[ALICE].counters().dropped(DropReason::StagedExpired),
        7,
        "nor do they wait for ever"
    );
}

#[test]
fn peers_come_and_go() {
    let mut pair = Pair::connected();
    let device = &mut pair.device[BOB];
    assert_eq!(device.add_peer(pair.now, key(2).public_key()), Err(AddPeerError::OwnKey));
    let old = pair.peer[BOB];
    assert_eq!(device.add_peer(pair.now, key(1).public_key()), Ok(old), "it is there already");
    let packet = pair.sealed(ALICE);
    let device = &mut pair.device[BOB];
    device.remove_peer(old);
    assert_eq!((device.peers().count(), device.find(&key(1).public_key())), (0, None));
    assert_eq!(device.route([10, 0, 0, 1].into()), None);
    assert!(device.peer(pair.now, old).is_none());
    assert!(matches!(device.outbound(pair.now, old), Outbound::Gone));
    assert_eq!(device.poll_timeout(), None);
    // Its place is taken by another, whom the old id does not name.
    let new = device.add_peer(pair.now, key(7).public_key()).expect("another");
    assert_eq!(new.index(), old.index());
    device.add_allowed_ip(old, "10.0.0.0/8".parse().unwrap());
    device.stage(pair.now, old, b"x");
    device.remove_peer(old);
    assert_eq!((device.peers().count(), device.allowed_ips(new).count()), (1, 0));
    assert_eq!(pair.receive(BOB, &packet), Inbound::Dropped(DropReason::UnknownIndex));
    // A private key removes the peer of that name, and without one nothing is answered.
    pair.device[BOB].set_private_key(pair.now, Some(key(7)));
    assert_eq!(pair.device[BOB].peers().count(), 0);
    pair.device[BOB].set_private_key(pair.now, None);
    let initiation = strangers_initiation(pair.now);
    assert_eq!(pair.receive(BOB, &initiation), Inbound::Dropped(DropReason::NoPrivateKey));
}

#[test]
fn a_path_that_comes_later_begins_the_handshake_at_once() {
    let mut pair = Pair::new();
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], None);
    assert!(matches!(pair.device[ALICE].outbound(pair.now, pair.peer[ALICE]), Outbound::NoPath));
    pair.send(ALICE);
    pair.advance(seconds(2));
    assert!(pair.log.is_empty());
    pair.device[ALICE].set_path(pair.now, pair.peer[ALICE], Some(pair.at[BOB]));
    pair.settle();
    assert_eq!(pair.received[BOB].len(), 1);
}
