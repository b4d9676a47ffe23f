use rand_core::Rng;
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

use crate::key::{PrivateKey, PublicKey};

/// A key pair made for one handshake, wiped when dropped.
pub struct EphemeralKey(StaticSecret);

impl EphemeralKey {
    /// Draws a key pair from `rng`.
    pub fn generate(rng: &mut impl Rng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        let key = EphemeralKey(StaticSecret::from(bytes));
        bytes.zeroize();
        key
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&self.0).to_bytes()
    }

    /// The secret shared with the owner of `public`; `None` if `public` is of low order, so that the
    /// result would be zero whatever our key is.
    pub fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        agree(&self.0, public)
    }
}

/// The secret shared between a static key and `public`; `None` if `public` is of low order.
pub fn diffie_hellman(private: &PrivateKey, public: &PublicKey) -> Option<Zeroizing<[u8; 32]>> {
    agree(&StaticSecret::from(*private.as_bytes()), public.as_bytes())
}

fn agree(private: &StaticSecret, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
    #[cfg(test)]
    AGREEMENTS.set(AGREEMENTS.get() + 1);
    let shared = private.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

#[cfg(test)]
std::thread_local! {
    /// Key agreements of this thread, the costliest thing a stranger can make us do.
    pub(crate) static AGREEMENTS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
}
