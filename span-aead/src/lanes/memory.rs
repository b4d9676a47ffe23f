//! Between memory and registers: the only place where pointers are read or written.

use core::arch::x86_64::*;

/// 64 bytes as one register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and an unaligned load needs no more.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// The first 64 of `bytes`, or all of them and zeros behind.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn load_part(bytes: &[u8]) -> __m512i {
    // An empty slice may point to nowhere: the CPU would find that out the slow way, and load nothing.
    if bytes.is_empty() {
        return _mm512_setzero_si512();
    }
    // SAFETY: only bytes the mask selects are read, and it selects none past the end of the slice.
    unsafe { _mm512_maskz_loadu_epi8(first(bytes.len()), bytes.as_ptr().cast()) }
}

/// Writes one register.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(bytes: &mut [u8; 64], value: __m512i) {
    // SAFETY: the reference is valid for 64 bytes, and an unaligned store needs no more.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), value) }
}

/// Writes the beginning of a register, as much of it as `bytes` takes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn store_part(bytes: &mut [u8], value: __m512i) {
    // SAFETY: only bytes the mask selects are written, and it selects none past the end of the slice.
    unsafe { _mm512_mask_storeu_epi8(bytes.as_mut_ptr().cast(), first(bytes.len()), value) }
}

/// Sixteen words, the first in the lowest lane.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn from_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and an unaligned load needs no more.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// A mask of the first `len` bytes of a register, of all 64 if there are more.
#[inline]
pub(super) fn first(len: usize) -> __mmask64 {
    if len < 64 { (1 << len) - 1 } else { !0 }
}
