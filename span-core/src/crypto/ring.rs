use core::hint::black_box;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

#[cfg(feature = "lanes")]
use span_aead::Lanes;
#[cfg(feature = "lanes")]
use zeroize::Zeroizing;

use super::{Aead, Forged, Suite, TAG_LEN, open_singly, seal_singly};

/// Either suite by `ring`: the fastest on hosts. It picks its code by what the CPU has, and runs in constant
/// time on every CPU.
///
/// Bursts of WireGuard's own suite go through `span-aead`, many packets at once, where the CPU can do that.
pub struct RingKey {
    suite: Suite,
    key: LessSafeKey,
    #[cfg(feature = "lanes")]
    lanes: Option<LanesKey>,
}

/// What the lanes need: they expand the key themselves, for each burst.
#[cfg(feature = "lanes")]
struct LanesKey {
    lanes: Lanes,
    key: Zeroizing<[u8; 32]>,
}

impl Aead for RingKey {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        RingKey {
            suite,
            key: expand(suite, key),
            #[cfg(feature = "lanes")]
            lanes: match suite {
                Suite::ChaCha20Poly1305 => {
                    Lanes::detect().map(|lanes| LanesKey { lanes, key: Zeroizing::new(*key) })
                }
                Suite::Aes256Gcm => None,
            },
        }
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

    #[inline]
    fn seal_burst(&self, first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
        #[cfg(feature = "lanes")]
        if let Some(LanesKey { lanes, key }) = &self.lanes
            && slots.len() >= stride * Lanes::WORTHWHILE
        {
            return lanes.seal(key, first, slots, stride, text_at);
        }
        seal_singly(self, first, slots, stride, text_at);
    }

    #[inline]
    fn open_burst(
        &self,
        counters: &[u64],
        slots: &mut [u8],
        stride: usize,
        text_at: usize,
        authentic: &mut [bool],
    ) {
        #[cfg(feature = "lanes")]
        if let Some(LanesKey { lanes, key }) = &self.lanes
            && counters.len() >= Lanes::WORTHWHILE
        {
            return lanes.open(key, counters, slots, stride, text_at, authentic);
        }
        open_singly(self, counters, slots, stride, text_at, authentic);
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
