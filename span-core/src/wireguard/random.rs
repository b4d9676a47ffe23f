//! The device's randomness, all of it from the caller's seed.

use core::convert::Infallible;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::hash;

/// ChaCha20 that can forget its past: once it has moved on, not even someone who reads this memory can
/// tell which keys were drawn from it before. Without that, handshakes would have no forward secrecy.
pub(super) struct Randomness(ChaCha20Rng);

impl Randomness {
    pub(super) fn new(seed: &Zeroizing<[u8; 32]>) -> Self {
        Randomness(ChaCha20Rng::from_seed(**seed))
    }

    /// Forgets the past. To be called when something secret was drawn.
    pub(super) fn move_on(&mut self) {
        self.mix(&[]);
    }

    /// Forgets the past, and makes the future depend on `fresh` too.
    pub(super) fn mix(&mut self, fresh: &[u8]) {
        let mut own = Zeroizing::new([0; 32]);
        self.0.fill_bytes(&mut *own);
        let mut seed = hash(&[&*own, fresh]);
        // In the place of the old state, which is gone with it.
        self.0 = ChaCha20Rng::from_seed(seed);
        seed.zeroize();
    }
}

impl TryRng for Randomness {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

impl TryCryptoRng for Randomness {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_forgotten_and_the_future_is_the_seeds() {
        let seed = Zeroizing::new([1; 32]);
        let draw = |mixes: &[&[u8]]| {
            let mut random = Randomness::new(&seed);
            for mix in mixes {
                random.mix(mix);
            }
            random.next_u64()
        };
        assert_eq!(draw(&[]), draw(&[]));
        assert_eq!(draw(&[b"a"]), draw(&[b"a"]));
        assert_ne!(draw(&[]), draw(&[b""]), "moved on");
        assert_ne!(draw(&[b"a"]), draw(&[b"b"]), "what was mixed in matters");
    }
}
