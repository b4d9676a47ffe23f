use core::hint::black_box;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::{Aead, Forged, TAG_LEN};

/// ChaCha20-Poly1305 by `ring`: the fastest on hosts.
pub struct RingKey(LessSafeKey);

impl Aead for RingKey {
    fn new(key: &[u8; 32]) -> Self {
        RingKey(expand(key))
    }

    #[inline]
    fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), data)
            .expect("a packet is far below the AEAD's limit of 256 GiB");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    #[inline]
    fn open(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> Result<(), Forged> {
        match self.0.open_in_place(nonce(counter), Aad::from(aad), data) {
            Ok(_) => Ok(()),
            Err(_) => Err(Forged),
        }
    }
}

impl Drop for RingKey {
    fn drop(&mut self) {
        // `ring` does not wipe its keys. Another key in the same place does, and the compiler is kept from
        // seeing that nobody will use it.
        self.0 = expand(&[0; 32]);
        black_box(&self.0);
    }
}

fn expand(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes"))
}

#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
