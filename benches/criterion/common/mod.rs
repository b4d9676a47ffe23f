//! boringtun and the bare ciphers, in the places Span's own code stands in.
#![allow(dead_code, unreachable_pub, reason = "each benchmark uses its part")]

use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use span_core::crypto::{Aead, ChaChaKey, Suite, TAG_LEN};

/// Two boringtun tunnels.
pub struct Boring {
    pub alice: Tunn,
    pub bob: Tunn,
}

impl Boring {
    /// Two that know each other's keys and have never met.
    pub fn new() -> Self {
        let secret = |byte| StaticSecret::from([byte; 32]);
        let tunnel = |own, other| {
            let public = PublicKey::from(&secret(own));
            // A benchmark is a flood: nobody may be asked for cookies.
            let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
            Tunn::new(secret(own), PublicKey::from(&secret(other)), None, None, own.into(), Some(limiter))
        };
        Self { alice: tunnel(1, 2), bob: tunnel(2, 1) }
    }

    /// The same with a session.
    pub fn connected() -> Self {
        let mut tunnels = Self::new();
        let response = tunnels.respond();
        let keepalive = written(tunnels.alice.decapsulate(None, &response, &mut [0; 2048]));
        assert!(matches!(tunnels.bob.decapsulate(None, &keepalive, &mut [0; 2048]), TunnResult::Done));
        tunnels
    }

    /// Alice's next initiation.
    pub fn initiate(&mut self) -> Vec<u8> {
        written(self.alice.format_handshake_initiation(&mut [0; 2048], true))
    }

    /// Bob's response to it.
    pub fn respond(&mut self) -> Vec<u8> {
        let initiation = self.initiate();
        written(self.bob.decapsulate(None, &initiation, &mut [0; 2048]))
    }

    /// A packet of Alice's, sealed.
    pub fn sealed(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; packet.len() + 148];
        written(self.alice.encapsulate(packet, &mut buffer))
    }
}

/// The datagram boringtun wants sent.
pub fn written(result: TunnResult<'_>) -> Vec<u8> {
    match result {
        TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
        other => panic!("a datagram expected, {other:?} found"),
    }
}

/// Span's suites, and what to call Span with them.
pub const SUITES: [(&str, Suite); 2] =
    [("span", Suite::ChaCha20Poly1305), ("span AES-256-GCM", Suite::Aes256Gcm)];

/// A cipher without a protocol around it, under WireGuard's nonces.
pub trait Cipher {
    /// Encrypts all of `data` but its last [`TAG_LEN`] bytes, which become the tag.
    fn seal(&self, counter: u64, data: &mut [u8]);
    /// Decrypts what [`seal`](Cipher::seal) made.
    fn open(&self, counter: u64, data: &mut [u8]);
}

/// The ciphers to compare with, and what to call them.
pub fn ciphers() -> [(&'static str, Box<dyn Cipher>); 3] {
    [
        ("ring ChaCha20-Poly1305", Box::new(Ring::new(&CHACHA20_POLY1305))),
        ("ring AES-256-GCM", Box::new(Ring::new(&AES_256_GCM))),
        (
            "RustCrypto ChaCha20-Poly1305",
            Box::new(RustCrypto(ChaChaKey::new(Suite::ChaCha20Poly1305, &[7; 32]))),
        ),
    ]
}

struct Ring(LessSafeKey);

impl Ring {
    fn new(algorithm: &'static Algorithm) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(algorithm, &[7; 32]).expect("the key has 32 bytes")))
    }

    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Cipher for Ring {
    fn seal(&self, counter: u64, data: &mut [u8]) {
        let (text, tag) = data.split_at_mut(data.len() - TAG_LEN);
        let sum = self.0.seal_in_place_separate_tag(Self::nonce(counter), Aad::empty(), text);
        tag.copy_from_slice(sum.expect("a packet is short").as_ref());
    }

    fn open(&self, counter: u64, data: &mut [u8]) {
        self.0.open_in_place(Self::nonce(counter), Aad::empty(), data).expect("an intact packet");
    }
}

struct RustCrypto(ChaChaKey);

impl Cipher for RustCrypto {
    fn seal(&self, counter: u64, data: &mut [u8]) {
        let (text, tag) = data.split_at_mut(data.len() - TAG_LEN);
        tag.copy_from_slice(&self.0.seal(counter, &[], text));
    }

    fn open(&self, counter: u64, data: &mut [u8]) {
        self.0.open(counter, &[], data).expect("an intact packet");
    }
}
