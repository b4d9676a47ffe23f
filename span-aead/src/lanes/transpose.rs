//! From one word of each packet to all words of one packet.
//!
//! ChaCha20 leaves register `i` with word `i` of sixteen blocks, while memory wants sixteen words of one block.
//! Poly1305 in turn wants each register to hold the same eight bytes of eight packets. Both are transpositions,
//! done in stages: pairs within each 128-bit quarter first, then whole quarters between registers.

use core::arch::x86_64::*;

/// 16 × 16 words of 32 bits: word `j` of row `i` becomes word `i` of row `j`. The last stage is left to the caller,
/// who wants the rows four by four: [`quarters`] of rows `i`, `4 + i`, `8 + i` and `12 + i`, in their places.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn words(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut rows = *rows;
    for i in 0..8 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        rows[2 * i] = _mm512_unpacklo_epi32(a, b);
        rows[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    for i in 0..4 {
        let [a, b, c, d] = [rows[4 * i], rows[4 * i + 1], rows[4 * i + 2], rows[4 * i + 3]];
        rows[4 * i] = _mm512_unpacklo_epi64(a, c);
        rows[4 * i + 1] = _mm512_unpackhi_epi64(a, c);
        rows[4 * i + 2] = _mm512_unpacklo_epi64(b, d);
        rows[4 * i + 3] = _mm512_unpackhi_epi64(b, d);
    }
    rows
}

/// 8 × 8 words of 64 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn double_words(mut rows: [__m512i; 8]) -> [__m512i; 8] {
    for i in 0..4 {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        rows[2 * i] = _mm512_unpacklo_epi64(a, b);
        rows[2 * i + 1] = _mm512_unpackhi_epi64(a, b);
    }
    for i in 0..2 {
        let column = [rows[i], rows[2 + i], rows[4 + i], rows[6 + i]];
        [rows[i], rows[2 + i], rows[4 + i], rows[6 + i]] = quarters(column);
    }
    rows
}

/// 4 × 4 quarters of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let even = [_mm512_shuffle_i64x2::<0x88>(a, b), _mm512_shuffle_i64x2::<0x88>(c, d)];
    let odd = [_mm512_shuffle_i64x2::<0xdd>(a, b), _mm512_shuffle_i64x2::<0xdd>(c, d)];
    [
        _mm512_shuffle_i64x2::<0x88>(even[0], even[1]),
        _mm512_shuffle_i64x2::<0x88>(odd[0], odd[1]),
        _mm512_shuffle_i64x2::<0xdd>(even[0], even[1]),
        _mm512_shuffle_i64x2::<0xdd>(odd[0], odd[1]),
    ]
}
