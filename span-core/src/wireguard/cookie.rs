//! The two MACs of handshake messages, and cookies (WireGuard paper, section 5.4.4 and 5.4.7).

use core::net::IpAddr;

use rand_core::Rng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::constants::{COOKIE_LATENCY, COOKIE_SECRET_MAX_AGE};
use super::message::{COOKIE_REPLY_LEN, CookieReply, Macs};
use crate::crypto::{Forged, hash, keyed_mac, xchacha_open, xchacha_seal};
use crate::key::PublicKey;
use crate::path::Path;
use crate::time::Instant;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";

/// The keys that follow from a public key: anyone who knows it can talk to its owner at all.
struct MacKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl MacKeys {
    fn of(public: &PublicKey) -> Self {
        MacKeys {
            mac1: hash(&[LABEL_MAC1, public.as_bytes()]),
            cookie: hash(&[LABEL_COOKIE, public.as_bytes()]),
        }
    }
}

/// The receiving side: checks MACs and bakes cookies.
pub(super) struct CookieChecker {
    keys: MacKeys,
    /// What cookies are made from, and since when.
    secret: Option<(Zeroizing<[u8; 32]>, Instant)>,
}

impl CookieChecker {
    pub(super) fn new(own_public: &PublicKey) -> Self {
        CookieChecker { keys: MacKeys::of(own_public), secret: None }
    }

    /// Whether the sender knows our public key.
    pub(super) fn has_valid_mac1(&self, macs: &Macs<'_>) -> bool {
        keyed_mac(&self.keys.mac1, &[macs.before_mac1]).ct_eq(macs.mac1).into()
    }

    /// Whether the sender has received a cookie of ours at `path`.
    pub(super) fn has_valid_mac2(
        &mut self,
        rng: &mut impl Rng,
        now: Instant,
        path: &Path,
        macs: &Macs<'_>,
    ) -> bool {
        let cookie = self.cookie(rng, now, path);
        keyed_mac(&cookie, &[macs.before_mac2]).ct_eq(macs.mac2).into()
    }

    /// Writes the answer to a message with index `sender` and first MAC `mac1`.
    pub(super) fn reply(
        &mut self,
        rng: &mut impl Rng,
        now: Instant,
        path: &Path,
        sender: u32,
        mac1: &[u8; 16],
    ) -> [u8; COOKIE_REPLY_LEN] {
        let mut cookie = self.cookie(rng, now, path);
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let tag = xchacha_seal(&self.keys.cookie, &nonce, mac1, &mut cookie);
        CookieReply::write(sender, &nonce, &cookie, &tag)
    }

    /// The cookie of whoever is at `path`: a MAC over its address and port.
    fn cookie(&mut self, rng: &mut impl Rng, now: Instant, path: &Path) -> [u8; 16] {
        if self.secret.as_ref().is_none_or(|(_, born)| now >= *born + COOKIE_SECRET_MAX_AGE) {
            let mut secret = Zeroizing::new([0; 32]);
            rng.fill_bytes(&mut *secret);
            self.secret = Some((secret, now));
        }
        let secret = self.secret.as_ref().map_or(&[0; 32], |(secret, _)| &**secret);
        match path {
            Path::Udp(udp) => {
                let port = udp.remote.port().to_be_bytes();
                match udp.remote.ip() {
                    IpAddr::V4(ip) => keyed_mac(secret, &[&ip.octets(), &port]),
                    IpAddr::V6(ip) => keyed_mac(secret, &[&ip.octets(), &port]),
                }
            }
            Path::Custom(tag) => keyed_mac(secret, &[b"custom", &tag.to_be_bytes()]),
        }
    }
}

/// The sending side: what we know of one peer's load.
pub(super) struct CookieJar {
    keys: MacKeys,
    cookie: Option<([u8; 16], Instant)>,
    /// The first MAC of the last message, until a cookie reply to it has come.
    last_mac1: Option<[u8; 16]>,
}

impl CookieJar {
    pub(super) fn new(peer: &PublicKey) -> Self {
        CookieJar { keys: MacKeys::of(peer), cookie: None, last_mac1: None }
    }

    /// Writes both MACs at the end of a handshake message.
    pub(super) fn sign<const LEN: usize>(&mut self, now: Instant, message: &mut [u8; LEN]) {
        let mac1 = keyed_mac(&self.keys.mac1, &[Macs::of(message).before_mac1]);
        message[LEN - 32..LEN - 16].copy_from_slice(&mac1);
        self.last_mac1 = Some(mac1);
        if let Some((cookie, born)) = &self.cookie
            && now < *born + (COOKIE_SECRET_MAX_AGE - COOKIE_LATENCY)
        {
            let mac2 = keyed_mac(cookie, &[Macs::of(message).before_mac2]);
            message[LEN - 16..].copy_from_slice(&mac2);
        }
    }

    /// Keeps the cookie of a reply to our last message. It is used from the next message on.
    pub(super) fn accept(&mut self, now: Instant, reply: CookieReply<'_>) -> Result<(), Forged> {
        let mac1 = self.last_mac1.ok_or(Forged)?;
        let mut cookie = *reply.cookie();
        xchacha_open(&self.keys.cookie, reply.nonce(), &mac1, &mut cookie, reply.tag())?;
        self.cookie = Some((cookie, now));
        self.last_mac1 = None;
        Ok(())
    }

    pub(super) fn erase(&mut self) {
        self.cookie = None;
        self.last_mac1 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;
    use crate::wireguard::message::{INITIATION_LEN, Message, RESPONSE_LEN};
    use core::time::Duration;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn path(text: &str) -> Path {
        Path::udp(text.parse().unwrap())
    }

    struct Pair {
        rng: ChaCha20Rng,
        checker: CookieChecker,
        jar: CookieJar,
    }

    impl Pair {
        fn new() -> Self {
            let public = PrivateKey::from_bytes([8; 32]).public_key();
            Pair {
                rng: ChaCha20Rng::from_seed([1; 32]),
                checker: CookieChecker::new(&public),
                jar: CookieJar::new(&public),
            }
        }

        fn signed(&mut self, now: Instant) -> [u8; INITIATION_LEN] {
            let mut message = [0x42; INITIATION_LEN];
            message[INITIATION_LEN - 32..].fill(0);
            self.jar.sign(now, &mut message);
            message
        }

        fn proves(&mut self, now: Instant, at: &Path, message: &[u8; INITIATION_LEN]) -> bool {
            self.checker.has_valid_mac2(&mut self.rng, now, at, &Macs::of(message))
        }

        fn deliver_cookie(
            &mut self,
            now: Instant,
            at: &Path,
            message: &[u8; INITIATION_LEN],
        ) -> Result<(), Forged> {
            let reply = self.checker.reply(&mut self.rng, now, at, 7, Macs::of(message).mac1);
            let Some(Message::CookieReply(reply)) = Message::parse(&reply) else {
                panic!("not a cookie reply")
            };
            self.jar.accept(now, reply)
        }
    }

    #[test]
    fn mac1_needs_the_public_key() {
        let mut pair = Pair::new();
        let message = pair.signed(Instant::ORIGIN);
        assert!(pair.checker.has_valid_mac1(&Macs::of(&message)));
        let other = CookieChecker::new(&PrivateKey::from_bytes([9; 32]).public_key());
        assert!(!other.has_valid_mac1(&Macs::of(&message)));
        for place in 0..INITIATION_LEN - 16 {
            let mut changed = message;
            changed[place] ^= 1;
            assert!(!pair.checker.has_valid_mac1(&Macs::of(&changed)), "byte {place}");
        }
        let mut short = [3; RESPONSE_LEN];
        pair.jar.sign(Instant::ORIGIN, &mut short);
        assert!(pair.checker.has_valid_mac1(&Macs::of(&short)));
    }

    #[test]
    fn the_cookie_covers_address_and_port() {
        let (mut pair, now, home) = (Pair::new(), Instant::ORIGIN, path("192.0.2.1:1000"));
        let first = pair.signed(now);
        assert!(!pair.proves(now, &home, &first));
        pair.deliver_cookie(now, &home, &first).unwrap();
        let second = pair.signed(now);
        assert!(pair.proves(now, &home, &second));
        for elsewhere in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            assert!(!pair.proves(now, &path(elsewhere), &second), "{elsewhere}");
        }
        assert!(!pair.proves(now, &Path::Custom(1000), &second));
    }

    #[test]
    fn a_reply_answers_the_last_message_and_once() {
        let (mut pair, now, home) = (Pair::new(), Instant::ORIGIN, path("192.0.2.1:1000"));
        let first = pair.signed(now);
        let mut other = first;
        other[50] ^= 1;
        pair.jar.sign(now, &mut other);
        assert_eq!(pair.deliver_cookie(now, &home, &first), Err(Forged), "an older message's");
        assert_eq!(pair.deliver_cookie(now, &home, &other), Ok(()));
        assert_eq!(pair.deliver_cookie(now, &home, &other), Err(Forged), "the same again");
    }

    #[test]
    fn cookies_and_their_secret_expire() {
        let (mut pair, now, home) = (Pair::new(), Instant::from_secs(50), path("[2001:db8::1]:9"));
        let first = pair.signed(now);
        pair.deliver_cookie(now, &home, &first).unwrap();
        let late = now + Duration::from_secs(115);
        let unproven = pair.signed(late);
        assert_eq!(unproven[INITIATION_LEN - 16..], [0; 16], "not used in its last five seconds");
        let second = pair.signed(late - Duration::from_nanos(1));
        assert!(pair.proves(now + Duration::from_nanos(119_999_999_999), &home, &second));
        assert!(!pair.proves(now + Duration::from_secs(120), &home, &second));
    }
}
