//! ChaCha20 (RFC 8439, section 2.3) of sixteen blocks: lane `i` of every register belongs to block `i`.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::memory;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// One round of two states. All its quarter rounds go in step: alone each would wait for its own last instruction.
macro_rules! round {
    ($one:ident, $other:ident, $([$a:literal, $b:literal, $c:literal, $d:literal]),*) => {
        round!(step 16: $($one $a += $b => $d,)*);
        round!(step 16: $($other $a += $b => $d,)*);
        round!(step 12: $($one $c += $d => $b,)*);
        round!(step 12: $($other $c += $d => $b,)*);
        round!(step 8: $($one $a += $b => $d,)*);
        round!(step 8: $($other $a += $b => $d,)*);
        round!(step 7: $($one $c += $d => $b,)*);
        round!(step 7: $($other $c += $d => $b,)*);
    };
    (step $by:literal: $($state:ident $sum:literal += $of:literal => $mixed:literal,)*) => {
        $($state[$sum] = _mm512_add_epi32($state[$sum], $state[$of]);)*
        $($state[$mixed] = _mm512_xor_si512($state[$mixed], $state[$sum]);)*
        $($state[$mixed] = _mm512_rol_epi32::<$by>($state[$mixed]);)*
    };
}

/// The state of sixteen blocks, word by word.
pub(super) type State = [__m512i; 16];

/// What the sixteen blocks are made of.
pub(super) struct Cipher {
    key: [u32; 8],
    /// The number of the block in its stream.
    block: __m512i,
    /// From a block of one state to the same lane's in the next.
    stride: u32,
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
        Self { key: words, block: memory::from_words(&block), stride: (16 / PER) as u32, nonce }
    }

    /// Two registers full of keystream from block `block` on: the second goes on where the first ends.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn keystream(&self, block: u32) -> [State; 2] {
        let start = [self.start(block), self.start(block + self.stride)];
        let [mut a, mut b] = start;
        for _ in 0..10 {
            round!(a, b, [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]);
            round!(a, b, [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]);
        }
        for i in 0..16 {
            a[i] = _mm512_add_epi32(a[i], start[0][i]);
            b[i] = _mm512_add_epi32(b[i], start[1][i]);
        }
        [a, b]
    }

    /// The state before the first round, `block` blocks on from the start.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn start(&self, block: u32) -> State {
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
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}
