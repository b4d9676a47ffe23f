use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use zeroize::Zeroize;

use super::{Aead, Forged, Suite, TAG_LEN};

const SUITE: Suite = Suite::ChaCha20Poly1305;

/// ChaCha20-Poly1305 in pure Rust: for targets `ring` does not build for.
pub struct ChaChaKey([u8; 32]);

impl Aead for ChaChaKey {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        assert!(suite == SUITE, "this provider has no {suite}");
        ChaChaKey(*key)
    }

    fn seal(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        self.cipher()
            .encrypt_inout_detached(&SUITE.nonce(counter).into(), aad, InOutBuf::from(data))
            .expect("a packet is far below the AEAD's limit of 256 GiB")
            .into()
    }

    fn open(&self, counter: u64, aad: &[u8], data: &mut [u8]) -> Result<(), Forged> {
        let (text, tag) = data.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        self.cipher()
            .decrypt_inout_detached(&SUITE.nonce(counter).into(), aad, InOutBuf::from(text), &(*tag).into())
            .map_err(|_| Forged)
    }
}

impl ChaChaKey {
    fn cipher(&self) -> ChaCha20Poly1305 {
        // Keying ChaCha20 is a copy of 32 bytes; the cipher wipes its copy when dropped.
        ChaCha20Poly1305::new(&self.0.into())
    }
}

impl Drop for ChaChaKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Encrypts `data` in place with XChaCha20-Poly1305 and a random nonce, for cookie replies.
pub fn xchacha_seal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
    XChaCha20Poly1305::new(&(*key).into())
        .encrypt_inout_detached(&(*nonce).into(), aad, InOutBuf::from(data))
        .expect("a cookie is far below the AEAD's limit")
        .into()
}

/// Decrypts `data` in place with XChaCha20-Poly1305.
pub fn xchacha_open(
    key: &[u8; 32],
    nonce: &[u8; 24],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Forged> {
    XChaCha20Poly1305::new(&(*key).into())
        .decrypt_inout_detached(&(*nonce).into(), aad, InOutBuf::from(data), &(*tag).into())
        .map_err(|_| Forged)
}
