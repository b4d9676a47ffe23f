//! The seam to cryptography: X25519, BLAKE2s with HMAC and HKDF, and the AEADs of the two [`Suite`]s.
//!
//! The AEAD has two providers with one shape, [`Aead`]. [`AeadKey`] is the one this build uses: `ring` with
//! the feature of that name (the default), else the pure-Rust `chacha20poly1305`, which builds everywhere and
//! has WireGuard's own suite only.
//! Hashes and the key agreement are the same crates everywhere.

mod blake2s;
mod chacha;
#[cfg(feature = "ring")]
mod ring;
mod suite;
mod x25519;

pub use blake2s::{hash, hkdf1, hkdf2, hkdf3, keyed_mac};
pub use chacha::{ChaChaKey, xchacha_open, xchacha_seal};
#[cfg(feature = "ring")]
pub use ring::RingKey;
pub use suite::{Suite, Suites, UnknownSuite};
#[cfg(test)]
pub(crate) use x25519::AGREEMENTS;
pub use x25519::{EphemeralKey, diffie_hellman};

/// The AEAD provider of this build.
#[cfg(feature = "ring")]
pub type AeadKey = RingKey;
/// The AEAD provider of this build.
#[cfg(not(feature = "ring"))]
pub type AeadKey = ChaChaKey;

/// Length of an authentication tag in bytes.
pub const TAG_LEN: usize = 16;

/// The bytes do not carry a valid authentication tag: forged, damaged or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;

/// The AEAD of a suite under one key, with Noise's nonces: four zero bytes and a counter.
///
/// Callers never use a counter twice under one key. A key is wiped when dropped.
pub trait Aead: Send + Sync {
    /// Expands `key`. Panics for a suite that the provider does not have: see [`Suite::is_available`].
    fn new(suite: Suite, key: &[u8; 32]) -> Self;

    /// Encrypts `data` in place and returns the tag over it and `aad`.
    fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts `data`, which ends in the tag, in place: on success the plaintext is at its front. On
    /// failure the contents of `data` are unspecified, but never plaintext.
    fn open(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> Result<(), Forged>;

    /// Seals many texts under consecutive counters, without `aad`. Each stands in a slot of `stride` bytes:
    /// `text_at` bytes that are left alone, the text, room for the tag.
    ///
    /// A provider that is faster at many than at one does it here.
    #[inline]
    fn seal_burst(&self, first: u64, slots: &mut [u8], stride: usize, text_at: usize)
    where
        Self: Sized,
    {
        seal_singly(self, first, slots, stride, text_at);
    }

    /// Opens many at once, laid out as for [`seal_burst`](Aead::seal_burst), each with its own counter, and
    /// says of each whether it was authentic. There are as many counters and verdicts as slots.
    #[inline]
    fn open_burst(
        &self,
        counters: &[u64],
        slots: &mut [u8],
        stride: usize,
        text_at: usize,
        authentic: &mut [bool],
    ) where
        Self: Sized,
    {
        open_singly(self, counters, slots, stride, text_at, authentic);
    }
}

/// [`Aead::seal_burst`], one after the other.
#[inline]
fn seal_singly<A: Aead>(aead: &A, first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
    for (counter, slot) in (first..).zip(slots.chunks_exact_mut(stride)) {
        let (text, tag) = slot[text_at..].split_at_mut(stride - text_at - TAG_LEN);
        tag.copy_from_slice(&aead.seal(counter, &[], text));
    }
}

/// [`Aead::open_burst`], one after the other.
#[inline]
fn open_singly<A: Aead>(
    aead: &A,
    counters: &[u64],
    slots: &mut [u8],
    stride: usize,
    text_at: usize,
    authentic: &mut [bool],
) {
    for ((counter, slot), authentic) in counters.iter().zip(slots.chunks_exact_mut(stride)).zip(authentic) {
        *authentic = aead.open(*counter, &[], &mut slot[text_at..]).is_ok();
    }
}

#[cfg(test)]
mod tests;
