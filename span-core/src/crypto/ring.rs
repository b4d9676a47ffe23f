use core::hint::black_box;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, Forged, Suite, TAG_LEN};

/// Either suite by `ring`: the fastest on hosts. It picks its code by what the CPU has, and runs in constant
/// time on every CPU.
pub struct RingKey {
    suite: Suite,
    key: LessSafeKey,
}

impl Aead for RingKey {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        RingKey { suite, key: expand(suite, key) }
    }

    #[inline]
    fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(counter), Aad::from(aad), data)
            .expect("a packet is far below the 64 GiB that either suite takes");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    #[inline]
    fn open(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> Result<(), Forged> {
        match self.key.open_in_place(self.nonce(counter), Aad::from(aad), data) {
            Ok(_) => Ok(()),
            Err(_) => Err(Forged),
        }
    }
}

impl RingKey {
    #[inline]
    fn nonce(&self, counter: u64) -> Nonce {
        Nonce::assume_unique_for_key(self.suite.nonce(counter))
    }
}

impl Drop for RingKey {
    fn drop(&mut self) {
        // `ring` does not wipe its keys. Another key of the same kind in the same place does, and the compiler
        // is kept from seeing that nobody will use it.
        self.key = expand(self.suite, &[0; 32]);
        black_box(&self.key);
    }
}

fn expand(suite: Suite, key: &[u8; 32]) -> LessSafeKey {
    let algorithm = match suite {
        Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        Suite::Aes256Gcm => &AES_256_GCM,
    };
    LessSafeKey::new(UnboundKey::new(algorithm, key).expect("the key has 32 bytes"))
}
