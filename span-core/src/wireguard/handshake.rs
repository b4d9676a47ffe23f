//! The handshake: Noise_IKpsk2 (WireGuard paper, section 5.4).
//!
//! The initiator keeps an [`InitiatorState`] until its response comes; it may be tried on several
//! messages, because anyone can send a bad one. The responder keeps nothing: it goes from
//! [`ReceivedInitiation`] to [`OpenedInitiation`] to the session in one go, each step consuming the last.

use rand_core::Rng;
use zeroize::Zeroizing;

use super::message::{INITIATION_LEN, Initiation, RESPONSE_LEN, Response};
use crate::crypto::{
    Aead, AeadKey, EphemeralKey, Forged, Suite, Suites, TAG_LEN, diffie_hellman, hash, hkdf1, hkdf2, hkdf3,
};
use crate::key::{PresharedKey, PrivateKey, PublicKey};
use crate::time::Tai64N;

/// The protocol's name (Noise specification, section 8), from which both sides begin their transcript.
const fn construction(suite: Suite) -> &'static [u8] {
    match suite {
        Suite::ChaCha20Poly1305 => b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s",
        Suite::Aes256Gcm => b"Noise_IKpsk2_25519_AESGCM_BLAKE2s",
    }
}

const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// What a completed handshake yields.
pub(super) struct TransportKeys {
    pub(super) suite: Suite,
    pub(super) sending: Zeroizing<[u8; 32]>,
    pub(super) receiving: Zeroizing<[u8; 32]>,
    /// The peer's index for the session.
    pub(super) receiver: u32,
}

/// The secret shared between both static keys, computed once per peer. `None` for a public key of low
/// order: such a peer exists, but no handshake with it is possible.
pub(super) type StaticStatic = Option<Zeroizing<[u8; 32]>>;

/// An initiation that waits for its response.
pub(super) struct InitiatorState {
    /// Our index, and the session's if the response comes.
    pub(super) index: u32,
    noise: Noise,
    ephemeral: EphemeralKey,
}

impl InitiatorState {
    /// Writes an initiation, but for its MACs.
    pub(super) fn begin(
        rng: &mut impl Rng,
        suite: Suite,
        index: u32,
        own_public: &PublicKey,
        peer: &PublicKey,
        static_static: &[u8; 32],
        timestamp: Tai64N,
    ) -> Result<(Self, [u8; INITIATION_LEN]), Forged> {
        let mut noise = Noise::new(suite, peer);
        let ephemeral = EphemeralKey::generate(rng);
        let ephemeral_public = ephemeral.public();
        noise.mix_ephemeral(&ephemeral_public);
        let key = noise.mix_key(&*ephemeral.agree(peer.as_bytes()).ok_or(Forged)?);
        let mut sealed_static = [0; 48];
        noise.seal(&key, own_public.as_bytes(), &mut sealed_static);
        let key = noise.mix_key(static_static);
        let mut sealed_timestamp = [0; 28];
        noise.seal(&key, timestamp.as_bytes(), &mut sealed_timestamp);
        let message = Initiation::write(index, &ephemeral_public, &sealed_static, &sealed_timestamp);
        Ok((InitiatorState { index, noise, ephemeral }, message))
    }

    /// Tries a response. The state stays as it is, whatever the response.
    pub(super) fn finish(
        &self,
        private: &PrivateKey,
        preshared: &PresharedKey,
        response: Response<'_>,
    ) -> Result<TransportKeys, Forged> {
        let ephemeral = response.ephemeral();
        let mut noise = self.noise.clone();
        noise.mix_ephemeral(ephemeral);
        noise.mix_secret(&*self.ephemeral.agree(ephemeral).ok_or(Forged)?);
        noise.mix_secret(&*diffie_hellman(private, &PublicKey::from_bytes(*ephemeral)).ok_or(Forged)?);
        let key = noise.mix_preshared(preshared);
        noise.open::<0>(&key, response.sealed_nothing())?;
        let suite = noise.suite;
        let [sending, receiving] = noise.split();
        Ok(TransportKeys { suite, sending, receiving, receiver: response.sender() })
    }
}

/// An initiation whose sender is known, but not yet that it is fresh.
pub(super) struct ReceivedInitiation<'a> {
    /// Who claims to have sent it: proven only by the next step.
    pub(super) peer: PublicKey,
    message: Initiation<'a>,
    noise: Noise,
}

impl<'a> ReceivedInitiation<'a> {
    /// Opens the sender's static key, in the first of the accepted suites in which it opens. Costs one key
    /// agreement, and some hashes for each suite.
    pub(super) fn open(
        private: &PrivateKey,
        own_public: &PublicKey,
        accepted: Suites,
        message: Initiation<'a>,
    ) -> Result<Self, Forged> {
        let ephemeral = PublicKey::from_bytes(*message.ephemeral());
        let shared = diffie_hellman(private, &ephemeral).ok_or(Forged)?;
        let open = |suite| {
            let mut noise = Noise::new(suite, own_public);
            noise.mix_ephemeral(ephemeral.as_bytes());
            let key = noise.mix_key(&shared);
            let peer = PublicKey::from_bytes(noise.open(&key, message.sealed_static()).ok()?);
            Some(ReceivedInitiation { peer, message, noise })
        };
        accepted.iter().find_map(open).ok_or(Forged)
    }

    /// Opens the timestamp, which proves that the sender has the static key.
    pub(super) fn open_timestamp(mut self, static_static: &[u8; 32]) -> Result<OpenedInitiation, Forged> {
        let key = self.noise.mix_key(static_static);
        let timestamp = Tai64N::from_bytes(self.noise.open(&key, self.message.sealed_timestamp())?);
        Ok(OpenedInitiation {
            timestamp,
            peer: self.peer,
            ephemeral: *self.message.ephemeral(),
            sender: self.message.sender(),
            noise: self.noise,
        })
    }
}

/// An authentic initiation.
pub(super) struct OpenedInitiation {
    pub(super) timestamp: Tai64N,
    peer: PublicKey,
    ephemeral: [u8; 32],
    sender: u32,
    noise: Noise,
}

impl OpenedInitiation {
    /// Writes the response, but for its MACs, and derives the keys.
    pub(super) fn respond(
        mut self,
        rng: &mut impl Rng,
        index: u32,
        preshared: &PresharedKey,
    ) -> Result<(TransportKeys, [u8; RESPONSE_LEN]), Forged> {
        let ephemeral = EphemeralKey::generate(rng);
        let ephemeral_public = ephemeral.public();
        self.noise.mix_ephemeral(&ephemeral_public);
        self.noise.mix_secret(&*ephemeral.agree(&self.ephemeral).ok_or(Forged)?);
        self.noise.mix_secret(&*ephemeral.agree(self.peer.as_bytes()).ok_or(Forged)?);
        let key = self.noise.mix_preshared(preshared);
        let mut sealed_nothing = [0; 16];
        self.noise.seal(&key, &[], &mut sealed_nothing);
        let suite = self.noise.suite;
        let [receiving, sending] = self.noise.split();
        let message = Response::write(index, self.sender, &ephemeral_public, &sealed_nothing);
        Ok((TransportKeys { suite, sending, receiving, receiver: self.sender }, message))
    }
}

/// The chaining key and the hash of all that was said.
#[derive(Clone)]
struct Noise {
    suite: Suite,
    chain: Zeroizing<[u8; 32]>,
    hash: [u8; 32],
}

impl Noise {
    fn new(suite: Suite, responder: &PublicKey) -> Self {
        let chain = hash(&[construction(suite)]);
        let mut noise = Noise { suite, hash: hash(&[&chain, IDENTIFIER]), chain: Zeroizing::new(chain) };
        noise.mix_hash(responder.as_bytes());
        noise
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_secret(public);
    }

    fn mix_secret(&mut self, input: &[u8; 32]) {
        self.chain = hkdf1(&self.chain, input);
    }

    fn mix_key(&mut self, input: &[u8; 32]) -> AeadKey {
        let [chain, key] = hkdf2(&self.chain, input);
        self.chain = chain;
        AeadKey::new(self.suite, &key)
    }

    fn mix_preshared(&mut self, preshared: &PresharedKey) -> AeadKey {
        let [chain, hash, key] = hkdf3(&self.chain, preshared.as_bytes());
        self.chain = chain;
        self.mix_hash(&*hash);
        AeadKey::new(self.suite, &key)
    }

    /// Seals `plain` into `sealed`, which is longer by a tag.
    fn seal(&mut self, key: &AeadKey, plain: &[u8], sealed: &mut [u8]) {
        let (data, tag) = sealed.split_at_mut(plain.len());
        data.copy_from_slice(plain);
        tag.copy_from_slice(&key.seal(0, &self.hash, data));
        self.mix_hash(sealed);
    }

    /// Opens `sealed`, which is longer than the plaintext by a tag.
    fn open<const LEN: usize>(&mut self, key: &AeadKey, sealed: &[u8]) -> Result<[u8; LEN], Forged> {
        // The longest is the static key.
        let mut buffer = [0; 32 + TAG_LEN];
        let data = &mut buffer[..LEN + TAG_LEN];
        data.copy_from_slice(sealed);
        key.open(0, &self.hash, data)?;
        self.mix_hash(sealed);
        let mut plain = [0; LEN];
        plain.copy_from_slice(&buffer[..LEN]);
        Ok(plain)
    }

    /// The two transport keys, the initiator's sending key first.
    fn split(self) -> [Zeroizing<[u8; 32]>; 2] {
        hkdf2(&self.chain, &[])
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
