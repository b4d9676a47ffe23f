//! Two span devices under seeded random operations on a network that does its worst.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Draws, Outbox, deliver, drain, ipv4, key, path, send};
use span_core::crypto::{Suite, Suites};
use span_core::key::PresharedKey;
use span_core::path::Path;
use span_core::time::{Instant, UnixTime};
use span_core::wireguard::{Device, PeerId, Reason};

struct Side {
    device: Device,
    peer: PeerId,
    at: Path,
    private: u8,
    /// Its policy.
    accepts_aes: bool,
}

struct World {
    draws: Draws,
    now: Instant,
    sides: [Side; 2],
    preshared: [u8; 32],
    /// To whom, from where, and what.
    network: Vec<(usize, Path, Path, Vec<u8>)>,
    /// Inner packets on their way to each side.
    expected: [BTreeSet<Vec<u8>>; 2],
    delivered: [u64; 2],
    /// How often they came to use ChaCha20-Poly1305, and AES-256-GCM.
    agreed: [u64; 2],
    serial: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed);
        let now = Instant::from_secs(50);
        let at = [path("192.0.2.1:1000"), path("[2001:db8::2]:2000")];
        let sides = [0, 1].map(|side| device(side, [1, 2], at, now, UnixTime::default(), &mut draws));
        World {
            draws,
            now,
            sides,
            preshared: [0; 32],
            network: Vec::new(),
            expected: [BTreeSet::new(), BTreeSet::new()],
            delivered: [0; 2],
            agreed: [0; 2],
            serial: 0,
        }
    }

    fn step(&mut self) {
        let side = self.draws.below(2) as usize;
        match self.draws.below(200) {
            0..70 => self.send(side),
            70..150 => self.deliver_one(),
            150..160 => drop(self.take()),
            160..166 => {
                if let Some(datagram) = self.take() {
                    self.network.extend([datagram.clone(), datagram]);
                }
            }
            166..170 => {
                if let Some((to, from, destination, mut bytes)) = self.take() {
                    let bit = self.draws.below(bytes.len() as u64 * 8) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    if self.draws.below(4) == 0 {
                        bytes.truncate(bit / 8);
                    }
                    self.network.push((to, from, destination, bytes));
                }
            }
            170..188 => {
                let nanos = self.draws.below(3_000_000_000);
                self.advance(Duration::from_nanos(nanos));
            }
            188..190 => {
                let secs = self.draws.below(250);
                self.advance(Duration::from_secs(secs));
            }
            190..192 => {
                let host = self.draws.below(250);
                self.sides[side].at = path(&format!("198.51.{side}.{host}:{}", 1000 + host));
            }
            192 => {
                let unix = self.sides[side].device.unix_time(self.now);
                let keys = self.keys();
                let at = self.places();
                let accepts_aes = self.sides[side].accepts_aes;
                self.sides[side] = device(side, keys, at, self.now, unix, &mut self.draws);
                self.sides[side].accepts_aes = accepts_aes;
                self.apply_policy(side);
                self.share_preshared_key();
            }
            193 => {
                self.preshared = self.draws.seed();
                self.share_preshared_key();
            }
            194 => {
                // A new private key, which the other side is told.
                let new = self.sides[side].private % 100 + 1 + self.draws.below(100) as u8;
                if new != self.sides[1 - side].private && new != self.sides[side].private {
                    self.change_private_key(side, new);
                }
            }
            195 => {
                let seconds = (self.draws.below(2) == 0).then_some(25);
                let Side { device, peer, .. } = &mut self.sides[side];
                device.set_keepalive(self.now, *peer, seconds);
            }
            196 => {
                let Side { device, peer, .. } = &mut self.sides[side];
                device.initiate_now(self.now, *peer);
            }
            197 => {
                // Another policy; the other side hears of it, or goes on by what it knows.
                self.sides[side].accepts_aes ^= true;
                self.apply_policy(side);
                self.sides[side].learn_suite(self.now, self.sides[1 - side].accepts_aes);
                if self.draws.below(2) == 0 {
                    self.sides[1 - side].learn_suite(self.now, self.sides[side].accepts_aes);
                }
            }
            _ => self.introduce(),
        }
        self.pump();
    }

    fn keys(&self) -> [u8; 2] {
        [self.sides[0].private, self.sides[1].private]
    }

    fn places(&self) -> [Path; 2] {
        [self.sides[0].at, self.sides[1].at]
    }

    fn share_preshared_key(&mut self) {
        for Side { device, peer, .. } in &mut self.sides {
            device.set_preshared_key(*peer, PresharedKey::from_bytes(self.preshared));
        }
    }

    fn apply_policy(&mut self, side: usize) {
        let Side { device, accepts_aes, .. } = &mut self.sides[side];
        device.accept_suites(accepts_aes.then_some(Suite::Aes256Gcm).into_iter().collect::<Suites>());
    }

    fn change_private_key(&mut self, side: usize, new: u8) {
        self.sides[side].device.set_private_key(self.now, Some(key(new)));
        self.sides[side].private = new;
        let other = &mut self.sides[1 - side];
        let old = other.peer;
        other.peer = other.device.add_peer(self.now, key(new).public_key()).expect("not its own");
        other.device.add_allowed_ip(other.peer, format!("10.0.0.{}/32", side + 1).parse().expect("a prefix"));
        other.device.remove_peer(old);
        self.share_preshared_key();
    }

    fn send(&mut self, side: usize) {
        self.serial += 1;
        let mut payload = self.serial.to_be_bytes().to_vec();
        let len = self.draws.below(300) as usize;
        payload.extend(self.draws.bytes(len));
        let packet = ipv4([10, 0, 0, side as u8 + 1], [10, 0, 0, 2 - side as u8], &payload);
        self.expected[1 - side].insert(packet.clone());
        let mut out = Outbox::default();
        let Side { device, peer, .. } = &mut self.sides[side];
        send(device, self.now, *peer, &packet, &mut out);
        self.post(side, out);
    }

    fn post(&mut self, side: usize, out: Outbox) {
        let from = self.sides[side].at;
        self.network.extend(out.datagrams.into_iter().map(|(to, bytes)| (1 - side, from, to, bytes)));
    }

    fn pump(&mut self) {
        for side in 0..2 {
            let mut out = Outbox::default();
            drain(&mut self.sides[side].device, self.now, &mut out);
            self.post(side, out);
            while self.sides[side].device.poll_event().is_some() {}
        }
    }

    fn take(&mut self) -> Option<(usize, Path, Path, Vec<u8>)> {
        if self.network.is_empty() {
            return None;
        }
        let any = self.draws.below(4) == 0;
        let place = if any { self.draws.below(self.network.len() as u64) as usize } else { 0 };
        Some(self.network.remove(place))
    }

    fn deliver_one(&mut self) {
        let Some((to, from, destination, bytes)) = self.take() else { return };
        if !destination.same_remote(&self.sides[to].at) {
            return;
        }
        let (_, packet) = deliver(&mut self.sides[to].device, self.now, &from, &bytes);
        if let Some(packet) = packet {
            assert!(self.expected[to].remove(&packet), "delivered twice, or never sent");
            self.delivered[to] += 1;
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.pump();
            let due =
                self.sides.iter_mut().filter_map(|side| side.device.poll_timeout()).map(|due| due.0).min();
            let Some(due) = due.filter(|due| *due <= end) else { break };
            self.now = due.max(self.now);
            for side in &mut self.sides {
                side.device.handle_timeout(self.now);
            }
        }
        self.now = end;
    }

    fn introduce(&mut self) {
        let at = self.places();
        for (side, Side { device, peer, .. }) in self.sides.iter_mut().enumerate() {
            device.set_path(self.now, *peer, Some(at[1 - side]));
        }
    }

    /// The faults end and both learn where the other is: then all that is sent arrives.
    fn calm(&mut self) {
        self.introduce();
        for _ in 0..25 {
            self.advance(Duration::from_secs(1));
            for side in 0..2 {
                self.send(side);
            }
            self.flush();
        }
        let before = self.delivered;
        for side in [0, 1, 1, 0, 1, 0, 0] {
            self.send(side);
        }
        self.flush();
        assert_eq!(self.delivered, [before[0] + 3, before[1] + 4]);
        for side in &mut self.sides {
            let due = side.device.poll_timeout();
            assert!(due.is_none_or(|due| matches!(due.1, Reason::Timer(..))), "all is said: {due:?}");
        }
    }

    /// Both know what the other accepts: so will their next session be.
    fn agree_on_a_suite(&mut self) {
        let accept = [0, 1].map(|side| self.sides[side].accepts_aes);
        for side in [0, 1] {
            self.sides[side].learn_suite(self.now, accept[1 - side]);
        }
        let both = accept == [true; 2] && Suite::Aes256Gcm.is_available();
        let wanted = if both { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        self.calm();
        for Side { device, peer, .. } in &self.sides {
            let suite = device.peer(self.now, *peer).and_then(|peer| peer.suite);
            assert_eq!(suite, Some(wanted));
        }
        self.agreed[usize::from(both)] += 1;
    }

    fn flush(&mut self) {
        self.pump();
        while !self.network.is_empty() {
            self.deliver_one();
            self.pump();
        }
    }
}

fn device(
    side: usize,
    keys: [u8; 2],
    at: [Path; 2],
    now: Instant,
    unix: UnixTime,
    draws: &mut Draws,
) -> Side {
    let mut device = Device::new(Some(key(keys[side])), now, unix, draws.seed());
    let peer = device.add_peer(now, key(keys[1 - side]).public_key()).expect("another's key");
    device.add_allowed_ip(peer, format!("10.0.0.{}/32", 2 - side).parse().expect("a prefix"));
    device.set_path(now, peer, Some(at[1 - side]));
    Side { device, peer, at: at[side], private: keys[side], accepts_aes: false }
}

impl Side {
    /// Its record of the other side says so.
    fn learn_suite(&mut self, now: Instant, other_accepts_aes: bool) {
        let suite =
            if self.accepts_aes && other_accepts_aes { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        self.device.set_suite(now, self.peer, suite);
    }
}

#[test]
fn nothing_twice_nothing_forged_and_always_back() {
    let (mut plain, mut aes) = (0, 0);
    for seed in 1..=6 {
        let mut world = World::new(seed);
        for step in 0..3000 {
            world.step();
            if step % 300 == 299 {
                world.calm();
                world.agree_on_a_suite();
            }
        }
        plain += world.agreed[0];
        aes += world.agreed[1];
        assert!(
            world.delivered.iter().all(|delivered| *delivered > 300),
            "seed {seed}: {:?}",
            world.delivered
        );
    }
    assert!(plain > 10 && (aes > 10 || !Suite::Aes256Gcm.is_available()), "{plain} and {aes}");
}
