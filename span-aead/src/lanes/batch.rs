//! Up to sixteen packets of one length, sealed or opened together.
//!
//! `PER` packets share the sixteen lanes of ChaCha20: sixteen packets have one lane each; eight have two, for
//! two successive blocks of their streams, so that half a batch is half the work. Poly1305 has eight lanes, used
//! twice over for sixteen packets.
//!
//! ChaCha20 alone leaves the multipliers idle, and its chains of additions are too long to keep the adders busy.
//! So what was sealed in one step is hashed during the rounds of the next: a block of each message after each
//! double round.

use core::arch::x86_64::*;

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
    let blocks = 16 / PER;
    let steps = (1 + len.div_ceil(64)).div_ceil(blocks);

    let keystream = cipher.keystream(0);
    let mut hash = Hash::<PER>::new(&keystream);
    if PER < 16 {
        let ciphertext = packet::apply::<PER, SEAL>(keystream, packets, 0);
        hash.absorb(&ciphertext, 4, len.div_ceil(16).min(4));
    }
    if steps > 2 {
        hash.prepare_four();
    }
    let mut ciphertext = None;
    for step in 1..steps {
        let block = step * blocks;
        let keystream = match &ciphertext {
            Some(before) => hash.absorb_during(before, &cipher, block as u32),
            None => cipher.keystream(block as u32),
        };
        ciphertext = Some(packet::apply::<PER, SEAL>(keystream, packets, block));
    }
    if let Some(last) = &ciphertext {
        let before = (steps - 1) * blocks - 1;
        hash.absorb(last, 0, len.div_ceil(16) - 4 * before);
    }
    hash.finish(len)
}

/// The hashes of the packets of a batch, of the first eight and of the others.
struct Hash<const PER: usize>([Poly1305; 2]);

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
        Self([Poly1305::new(lower), Poly1305::new(upper)])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn prepare_four(&mut self) {
        for hash in &mut self.0[..PER / 8] {
            hash.prepare_four();
        }
    }

    /// Hashes `count` blocks of each packet, from the one numbered `from` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn absorb(&mut self, ciphertext: &Ciphertext, from: usize, count: usize) {
        for index in from..from + count {
            for (i, hash) in self.0[..PER / 8].iter_mut().enumerate() {
                let (low, high) = ciphertext.block(i + index / 4, index % 4);
                hash.absorb(low, high);
            }
        }
    }

    /// Hashes four blocks of each half of the ciphertext, and makes the keystream from block `block` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn absorb_during(&mut self, ciphertext: &Ciphertext, cipher: &Cipher, block: u32) -> chacha::State {
        let mut state = cipher.start(block);
        for half in 0..2 {
            let hash = &mut self.0[half * PER / 16];
            let mut product = Product::zero();
            for index in 0..4 {
                chacha::double_round(&mut state);
                let (low, high) = ciphertext.block(half, index);
                hash.accumulate(&mut product, index, low, high);
            }
            chacha::double_round(&mut state);
            hash.carry(&product);
        }
        cipher.finish(state, block)
    }

    /// Hashes the lengths, none of associated data and `len` of text, and gives the tags.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    fn finish(mut self, len: usize) -> [__m512i; 4] {
        let mut tags = [_mm512_setzero_si512(); 4];
        for (hash, tags) in self.0[..PER / 8].iter_mut().zip(tags.as_chunks_mut().0) {
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
