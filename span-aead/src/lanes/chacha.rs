//! ChaCha20 (RFC 8439, section 2.3) of sixteen blocks: lane `i` of every register belongs to block `i`.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::memory;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The state of sixteen blocks, word by word.
pub(super) type State = [__m512i; 16];

/// What the sixteen blocks are made of.
pub(super) struct Cipher {
    key: [u32; 8],
    /// The number of the block in its stream.
    block: __m512i,
    pub(super) nonce: [__m512i; 3],
}

impl Cipher {
    /// Lane `i` starts at block `i / PER` of the stream under the nonce made of four zeros and `counters[i % PER]`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new<const PER: usize>(key: &[u8; 32], counters: &[u64; PER]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let (mut block, mut low, mut high) = ([0; 16], [0; 16], [0; 16]);
        for lane in 0..16 {
            let counter = counters[lane % PER];
            block[lane] = (lane / PER) as u32;
            low[lane] = counter as u32;
            high[lane] = (counter >> 32) as u32;
        }
        let nonce = [_mm512_setzero_si512(), memory::from_words(&low), memory::from_words(&high)];
        Self { key: words, block: memory::from_words(&block), nonce }
    }

    /// The state before the first round, `block` blocks on from the start.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn start(&self, block: u32) -> State {
        let mut state = [_mm512_setzero_si512(); 16];
        for i in 0..4 {
            state[i] = _mm512_set1_epi32(CONSTANTS[i].cast_signed());
        }
        for i in 0..8 {
            state[4 + i] = _mm512_set1_epi32(self.key[i].cast_signed());
        }
        state[12] = _mm512_add_epi32(self.block, _mm512_set1_epi32(block.cast_signed()));
        [state[13], state[14], state[15]] = self.nonce;
        state
    }

    /// The keystream: the rounded state plus the state before the first round.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn finish(&self, mut state: State, block: u32) -> State {
        let start = self.start(block);
        for i in 0..16 {
            state[i] = _mm512_add_epi32(state[i], start[i]);
        }
        state
    }

    /// The keystream, with nothing else done meanwhile.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn keystream(&self, block: u32) -> State {
        let mut state = self.start(block);
        for _ in 0..10 {
            double_round(&mut state);
        }
        self.finish(state, block)
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// A round over the columns, a round over the diagonals.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn double_round(state: &mut State) {
    quarter_round::<0, 4, 8, 12>(state);
    quarter_round::<1, 5, 9, 13>(state);
    quarter_round::<2, 6, 10, 14>(state);
    quarter_round::<3, 7, 11, 15>(state);
    quarter_round::<0, 5, 10, 15>(state);
    quarter_round::<1, 6, 11, 12>(state);
    quarter_round::<2, 7, 8, 13>(state);
    quarter_round::<3, 4, 9, 14>(state);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn quarter_round<const A: usize, const B: usize, const C: usize, const D: usize>(state: &mut State) {
    state[A] = _mm512_add_epi32(state[A], state[B]);
    state[D] = _mm512_rol_epi32::<16>(_mm512_xor_si512(state[D], state[A]));
    state[C] = _mm512_add_epi32(state[C], state[D]);
    state[B] = _mm512_rol_epi32::<12>(_mm512_xor_si512(state[B], state[C]));
    state[A] = _mm512_add_epi32(state[A], state[B]);
    state[D] = _mm512_rol_epi32::<8>(_mm512_xor_si512(state[D], state[A]));
    state[C] = _mm512_add_epi32(state[C], state[D]);
    state[B] = _mm512_rol_epi32::<7>(_mm512_xor_si512(state[B], state[C]));
}
