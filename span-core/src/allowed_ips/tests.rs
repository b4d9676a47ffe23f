use super::*;
use hashbrown::HashMap;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::vec::Vec;

fn peer(index: u32) -> PeerId {
    PeerId::for_tests(index)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_longest_prefix_decides() {
    let mut table = AllowedIps::new();
    let [a, b, c, d, e] = core::array::from_fn(|index| peer(index as u32));
    for (prefix, owner) in [
        ("0.0.0.0/0", a),
        ("10.0.0.0/8", b),
        ("10.20.0.0/16", c),
        ("10.20.30.0/24", d),
        ("10.20.30.40/32", e),
        ("10.20.30.128/25", b),
        ("172.16.0.0/31", c),
        ("172.16.0.2/31", d),
        ("128.0.0.0/1", e),
        ("::/0", b),
        ("fd00::/8", a),
        ("fd00:1::/32", c),
        ("fd00:1:2:3::/64", d),
        ("fd00:1:2:3::4/128", e),
        ("fd00:1:2:3::/126", b),
        ("8000::/1", c),
    ] {
        table.insert(net(prefix), owner);
    }
    for (address, owner) in [
        ("0.0.0.0", a),
        ("9.255.255.255", a),
        ("10.0.0.0", b),
        ("10.19.255.255", b),
        ("10.20.0.1", c),
        ("10.20.29.255", c),
        ("10.20.30.39", d),
        ("10.20.30.40", e),
        ("10.20.30.41", d),
        ("10.20.30.127", d),
        ("10.20.30.128", b),
        ("10.20.31.0", c),
        ("172.16.0.1", c),
        ("172.16.0.2", d),
        ("172.16.0.4", e),
        ("127.255.255.255", a),
        ("128.0.0.0", e),
        ("255.255.255.255", e),
        ("::", b),
        ("7fff::1", b),
        ("8000::", c),
        ("fcff::1", c),
        ("fd00::1", a),
        ("fd00:1::1", c),
        ("fd00:1:2:3:8000::", d),
        ("fd00:1:2:3::3", b),
        ("fd00:1:2:3::4", e),
        ("fd00:1:2:3::5", d),
        ("fe00::", c),
    ] {
        assert_eq!(table.lookup(ip(address)), Some(owner), "{address}");
    }
}

#[test]
fn a_prefix_moves_to_the_peer_that_claims_it() {
    let mut table = AllowedIps::new();
    assert_eq!(table.insert(net("10.0.0.0/8"), peer(0)), None);
    assert_eq!(table.insert(net("10.1.2.3/8"), peer(1)), Some(peer(0)), "host bits do not matter");
    assert_eq!(table.insert(net("10.0.0.0/8"), peer(1)), None, "nothing moved");
    assert_eq!(table.lookup(ip("10.9.9.9")), Some(peer(1)));
    assert_eq!((table.of(peer(0)).len(), table.of(peer(1)).len()), (0, 1));
    assert!(!table.remove(net("10.0.0.0/8"), peer(0)), "not peer 0's to give");
    assert_eq!(table.lookup(ip("10.9.9.9")), Some(peer(1)));
    assert!(table.remove(net("10.0.0.0/8"), peer(1)));
    assert_eq!(table.lookup(ip("10.9.9.9")), None);
}

#[test]
fn families_do_not_mix() {
    let mut table = AllowedIps::new();
    table.insert(net("::/0"), peer(0));
    assert_eq!(table.lookup(ip("1.2.3.4")), None);
    table.insert(net("0.0.0.0/0"), peer(1));
    assert_eq!(table.lookup(ip("::1")), Some(peer(0)));
    assert_eq!(table.lookup(ip("0.0.0.0")), Some(peer(1)));
}

/// The plainest thing that can be right.
#[derive(Default)]
struct Naive(BTreeMap<IpNet, PeerId>);

impl Naive {
    fn lookup(&self, address: IpAddr) -> Option<PeerId> {
        self.0
            .iter()
            .filter(|(net, _)| net.contains(&address))
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, peer)| *peer)
    }
}

#[test]
fn equals_a_naive_table_under_random_changes() {
    for seed in 0..8 {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let (mut table, mut naive) = (AllowedIps::new(), Naive::default());
        for step in 0..3000 {
            let prefix = random_prefix(&mut rng);
            let owner = peer(rng.next_u32() % 20);
            match rng.next_u32() % 8 {
                0..=4 => {
                    let before = naive.0.insert(prefix, owner).filter(|before| *before != owner);
                    assert_eq!(table.insert(prefix, owner), before);
                }
                5 | 6 => {
                    let Some((prefix, owner)) = naive.0.range(prefix..).next().map(|(k, v)| (*k, *v)) else {
                        continue;
                    };
                    naive.0.remove(&prefix);
                    assert!(table.remove(prefix, owner));
                    assert!(!table.remove(prefix, owner));
                }
                _ if step % 50 == 0 => {
                    naive.0.retain(|_, value| *value != owner);
                    table.remove_all(owner);
                }
                _ => {}
            }
            for _ in 0..4 {
                let address = random_prefix(&mut rng).addr();
                assert_eq!(table.lookup(address), naive.lookup(address), "seed {seed}, {address}");
            }
        }
        for owner in (0..20).map(peer) {
            let expected: Vec<IpNet> =
                naive.0.iter().filter(|(_, value)| **value == owner).map(|(k, _)| *k).collect();
            assert!(table.of(owner).eq(expected));
            table.remove_all(owner);
        }
        assert_eq!(table.v4.allotted(), (0, 0, 0), "nothing is left");
        assert_eq!(table.v6.allotted(), (0, 0, 0), "nothing is left");
    }
}

/// How prefixes and addresses of a large table are drawn.
type Draw = fn(&mut ChaCha20Rng) -> IpNet;

const LARGE: [Draw; 4] = [
    |rng| v4(rng.next_u32(), 8 + rng.next_u32() % 25),
    // One network of hosts, as an overlay is, and networks behind some of them.
    |rng| match rng.next_u32() % 4 {
        0 => v4(0x0a00_0000 | rng.next_u32() >> 8, 24),
        _ => v4(0x6440_0000 | rng.next_u32() >> 10, 32),
    },
    |rng| {
        let len = if rng.next_u32() % 4 == 0 { 128 } else { 32 + rng.next_u32() % 33 };
        v6(wide(rng), len)
    },
    |rng| match rng.next_u32() % 4 {
        0 => v6(0xfd00 << 112 | wide(rng) >> 16, 64),
        _ => v6(0xfd75_28c9_dd5c_ef02 << 64 | u128::from(rng.next_u64()), 128),
    },
];

#[test]
fn a_large_table_equals_one_hash_map_for_each_length() {
    for (seed, draw) in (0..).zip(LARGE) {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut table = AllowedIps::new();
        let mut model: BTreeMap<u8, HashMap<IpNet, PeerId>> = BTreeMap::new();
        let mut there = Vec::new();
        // It grows, is turned over and shrinks away.
        for step in 0..60_000_u32 {
            if step < 20_000 || (step < 30_000 && step % 2 == 0) {
                let (prefix, owner) = (draw(&mut rng), peer(rng.next_u32() % 50));
                let lengths = model.entry(prefix.prefix_len()).or_default();
                let before = lengths.insert(prefix, owner);
                assert_eq!(table.insert(prefix, owner), before.filter(|before| *before != owner));
                if before.is_none() {
                    there.push(prefix);
                }
            } else if !there.is_empty() {
                let prefix = there.swap_remove(rng.next_u32() as usize % there.len());
                let owner = model.get_mut(&prefix.prefix_len()).unwrap().remove(&prefix).unwrap();
                assert!(table.remove(prefix, owner));
            }
            let address = match there.get(rng.next_u32() as usize % (2 * there.len().max(1))) {
                Some(prefix) => prefix.addr(),
                None => draw(&mut rng).addr(),
            };
            let holds = |(len, prefixes): (&u8, &HashMap<IpNet, PeerId>)| {
                prefixes.get(&IpNet::new(address, *len).unwrap().trunc()).copied()
            };
            assert_eq!(table.lookup(address), model.iter().rev().find_map(holds), "{address}");
        }
        assert!(there.is_empty());
        assert_eq!(table.v4.allotted(), (0, 0, 0), "nothing is left");
        assert_eq!(table.v6.allotted(), (0, 0, 0), "nothing is left");
    }
}

#[test]
fn a_lookup_among_a_hundred_thousand_takes_three_steps() {
    for ((seed, draw), limit) in (0..).zip(LARGE).zip([3, 4, 3, 4]) {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let mut table = AllowedIps::new();
        let prefixes: Vec<IpNet> = (0..100_000).map(|_| draw(&mut rng)).collect();
        for prefix in &prefixes {
            table.insert(*prefix, peer(7));
        }
        let (mut nodes, mut leaves) = (0, 0);
        for prefix in &prefixes {
            let steps = match *prefix {
                IpNet::V4(net) => table.v4.steps(net.addr().into()),
                IpNet::V6(net) => table.v6.steps(net.addr().into()),
            };
            (nodes, leaves) = (nodes + steps.0, leaves + steps.1);
        }
        let mean = |count: usize| count as f64 / prefixes.len() as f64;
        assert!(mean(nodes) < f64::from(limit), "{} nodes on average", mean(nodes));
        assert!(mean(leaves) < 6.0, "{} prefixes looked at on average", mean(leaves));
    }
}

fn wide(rng: &mut ChaCha20Rng) -> u128 {
    u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
}

/// Prefixes crowded together, so that they nest, touch and share chunks; some are far from all others.
fn random_prefix(rng: &mut impl Rng) -> IpNet {
    let (bits, len) = (rng.next_u64(), rng.next_u32());
    match rng.next_u32() % 5 {
        0 | 1 => v4((bits as u32 & 0x0303_00ff) | 0x0a00_0000, len % 33),
        2 => v4(bits as u32, len % 33),
        3 => {
            let low = u128::from(bits & 0x8000_0000_0000_00ff) | u128::from(bits & 0x3) << 70;
            v6(0xfd00 << 112 | low, len % 129)
        }
        _ => v6(u128::from(bits & 7) << 125 | u128::from(bits) << (bits % 60), len % 129),
    }
}

fn v4(address: u32, len: u32) -> IpNet {
    IpNet::new(core::net::Ipv4Addr::from(address).into(), len as u8).unwrap().trunc()
}

fn v6(address: u128, len: u32) -> IpNet {
    IpNet::new(core::net::Ipv6Addr::from(address).into(), len as u8).unwrap().trunc()
}
