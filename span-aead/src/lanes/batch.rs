//! Up to sixteen packets of one length, sealed or opened together.
//!
//! `PER` packets share the sixteen lanes of ChaCha20: sixteen packets have one lane each; eight have two, for
//! two successive blocks of their streams, so that half a batch is half the work. Poly1305 has eight lanes, used
//! twice over for sixteen packets.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::chacha::{self, Cipher};
use super::packet::{self, Ciphertext, Packet};
use super::poly1305::{Poly1305, Product};

/// Seals or opens packets in place, and gives the tags they should have, four to a register. All texts have
/// `len` bytes; where there is no packet, the tag means nothing.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
pub(super) fn run<const PER: usize, const SEAL: bool>(
    key: &[u8; 32],
    counters: &[u64; PER],
    packets: &mut [Option<Packet<'_>>; PER],
    len: usize,
) -> [__m512i; 4] {
    let cipher = Cipher::new(key, counters);
    let per_state = 16 / PER;
    let blocks = 1 + len.div_ceil(64);

    let mut keystream = cipher.keystream(0);
    let mut hash = Hash::<PER>::new(&keystream[0]);
    if blocks > 4 * per_state {
        hash.prepare_four();
    }
    let mut block = 0;
    loop {
        for state in &keystream {
            if PER < 16 || block > 0 {
                let pieces = packet::apply::<PER, SEAL>(state, packets, block);
                hash.absorb(&Ciphertext::new(pieces), block, len);
            }
            block += per_state;
        }
        if block >= blocks {
            keystream.zeroize();
            return hash.finish(len);
        }
        keystream = cipher.keystream(block as u32);
    }
}

/// The hashes of the packets of a batch.
struct Hash<const PER: usize> {
    /// Of the first eight, and of the others.
    of: [Poly1305; 2],
    /// Whether four blocks at a time can be hashed.
    four: bool,
}

impl<const PER: usize> Hash<PER> {
    /// Under the keys that each packet's keystream begins with.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    fn new(keystream: &chacha::State) -> Self {
        let (mut lower, mut upper) = ([_mm512_setzero_si512(); 4], [_mm512_setzero_si512(); 4]);
        for i in 0..4 {
            let (low, high) = (keystream[2 * i], keystream[2 * i + 1]);
            lower[i] = joined(_mm512_castsi512_si256(low), _mm512_castsi512_si256(high));
            upper[i] = joined(_mm512_extracti64x4_epi64::<1>(low), _mm512_extracti64x4_epi64::<1>(high));
        }
        Self { of: [Poly1305::new(lower), Poly1305::new(upper)], four: false }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn prepare_four(&mut self) {
        for hash in &mut self.of[..PER / 8] {
            hash.prepare_four();
        }
        self.four = true;
    }

    /// Hashes the ciphertext of one state, which begins with block `block` of the stream.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn absorb(&mut self, ciphertext: &Ciphertext, block: usize, len: usize) {
        for half in 0..2 {
            let hash = &mut self.of[half * PER / 16];
            let Some(from) = (64 * (block + half * 8 / PER)).checked_sub(64) else { continue };
            if self.four && from + 64 <= len {
                let mut product = Product::zero();
                for index in 0..4 {
                    let (low, high) = ciphertext.block(half, index);
                    hash.accumulate(&mut product, index, low, high);
                }
                hash.carry(&product);
            } else {
                for index in 0..len.saturating_sub(from).div_ceil(16).min(4) {
                    let (low, high) = ciphertext.block(half, index);
                    hash.absorb(low, high);
                }
            }
        }
    }

    /// Hashes the lengths, none of associated data and `len` of text, and gives the tags.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn finish(mut self, len: usize) -> [__m512i; 4] {
        let mut tags = [_mm512_setzero_si512(); 4];
        for (hash, tags) in self.of[..PER / 8].iter_mut().zip(tags.as_chunks_mut().0) {
            hash.absorb(_mm512_setzero_si512(), _mm512_set1_epi64(len as i64));
            *tags = hash.finish();
        }
        tags
    }
}

/// Eight numbers of 64 bits from their lower and upper halves.
#[inline]
#[target_feature(enable = "avx512f")]
fn joined(low: __m256i, high: __m256i) -> __m512i {
    let high = _mm512_slli_epi64::<32>(_mm512_cvtepu32_epi64(high));
    _mm512_or_si512(_mm512_cvtepu32_epi64(low), high)
}
