//! One packet alone: the lanes take successive blocks of the same stream.
//!
//! ChaCha20 makes 32 blocks at a time, the first of which is the one-time key. Poly1305 takes eight blocks as one
//! group, one to a lane, and multiplies all lanes by r⁸ from group to group; at the end each lane is multiplied by
//! its own power of r, and the lanes are added up.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::chacha::{self, Cipher};
use super::memory;
use super::packet::{self, Packet};
use super::poly1305::{self, Factor, Number, Product};

/// Bytes in eight blocks.
const GROUP: usize = 128;

/// Seals a text in place, and gives its tag.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
pub(super) fn seal(key: &[u8; 32], counter: u64, text: &mut [u8]) -> [u8; 16] {
    let cipher = Cipher::new(key, &[counter]);
    let mut keystream = cipher.keystream(0);
    let hash = Hash::new(&keystream[0]);
    apply::<true>(&cipher, &mut keystream, text);
    hash.tag(text)
}

/// Opens a text in place if it has this tag; else it is zeroed.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
pub(super) fn open(key: &[u8; 32], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
    let cipher = Cipher::new(key, &[counter]);
    let mut keystream = cipher.keystream(0);
    let expected = Hash::new(&keystream[0]).tag(text);
    // One comparison of all 128 bits.
    let valid = u128::from_le_bytes(expected) ^ u128::from_le_bytes(*tag) == 0;
    if valid {
        apply::<false>(&cipher, &mut keystream, text);
    } else {
        keystream.zeroize();
        text.fill(0);
    }
    valid
}

/// Adds the keystream to a text, from the 32 blocks on that are there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn apply<const SEAL: bool>(cipher: &Cipher, keystream: &mut [chacha::State; 2], text: &mut [u8]) {
    let blocks = 1 + text.len().div_ceil(64);
    let mut packets = [Some(Packet { text, tag: &mut [0; 16] })];
    let mut block = 0;
    loop {
        for state in &*keystream {
            if block < blocks {
                packet::apply::<1, SEAL>(state, &mut packets, block);
            }
            block += 16;
        }
        if block >= blocks {
            break;
        }
        *keystream = cipher.keystream(block as u32);
    }
    keystream.zeroize();
}

/// The hash of one message.
struct Hash {
    r: Factor,
    pad: [__m512i; 2],
}

impl Hash {
    /// Under the key that the keystream begins with.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    fn new(keystream: &chacha::State) -> Self {
        let mut key = [_mm512_setzero_si512(); 4];
        for (i, number) in key.iter_mut().enumerate() {
            let both = _mm_unpacklo_epi32(
                _mm512_castsi512_si128(keystream[2 * i]),
                _mm512_castsi512_si128(keystream[2 * i + 1]),
            );
            *number = _mm512_broadcastq_epi64(both);
        }
        Self { r: Factor::new(poly1305::clamped(key[0], key[1])), pad: [key[2], key[3]] }
    }

    /// The tag of a text without associated data.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn tag(self, text: &[u8]) -> [u8; 16] {
        // Lane i has r to the power of 8 - i: first r and r² in turn, then up to r⁴, then up to r⁸.
        let r = self.r.limbs;
        let square = multiplied(r, &self.r);
        let to_two = blended(0b0101_0101, r, square);
        let to_four = multiplied(to_two, &Factor::new(square));
        let fourth = first_lane(to_four);
        let to_four = blended(0b0011_0011, to_two, to_four);
        let to_eight = multiplied(to_four, &Factor::new(fourth));
        let eighth = first_lane(to_eight);
        let to_eight = blended(0b0000_1111, to_four, to_eight);

        // The first group may begin with lanes of nothing, so that the last ends with the last block.
        let blocks = text.len().div_ceil(16);
        let head = (blocks.wrapping_sub(1) % 8 + 1) * 16;
        let (head, rest) = text.split_at_checked(head).unwrap_or((text, &[]));
        let mut sum = if blocks > 0 { first_group(head) } else { [_mm512_setzero_si512(); 3] };
        if !rest.is_empty() {
            let groups = rest.len().div_ceil(GROUP);
            sum = self.absorb(sum, rest, groups, eighth);
        }
        // One more power for each lane, for the block of the lengths that follows.
        let mut product = Product::zero();
        product.add(sum, &Factor::new(multiplied(to_eight, &self.r)));
        let lengths = _mm512_maskz_set1_epi64(1, text.len() as i64);
        let lengths = masked(1, poly1305::block(_mm512_setzero_si512(), lengths));
        product.add(lengths, &self.r);
        let [tags, _] = poly1305::tags(lanes_added(product.carried()), self.pad);
        let mut bytes = [0; 64];
        memory::store(&mut bytes, tags);
        let (tags, _) = bytes.as_chunks();
        tags[0]
    }

    /// Hashes groups of eight blocks behind a first one. None but the last block may be short.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn absorb(&self, mut sum: Number, text: &[u8], groups: usize, eighth: Number) -> Number {
        // To go on by one group, two, three and four.
        let mut by = [Factor::new(eighth); 4];
        if groups > 4 {
            by[1] = Factor::new(multiplied(eighth, &by[0]));
            by[2] = Factor::new(multiplied(eighth, &by[1]));
            by[3] = Factor::new(multiplied(by[1].limbs, &by[1]));
        }
        let (runs, rest) = text.split_at((groups - 1) / 4 * 4 * GROUP);
        for run in runs.as_chunks::<{ 4 * GROUP }>().0 {
            let mut product = Product::zero();
            product.add(sum, &by[3]);
            for (i, bytes) in run[..3 * GROUP].as_chunks::<GROUP>().0.iter().enumerate() {
                product.add(group(bytes), &by[2 - i]);
            }
            sum = poly1305::added(product.carried(), group(&run[3 * GROUP..]));
        }
        for bytes in rest.chunks(GROUP) {
            sum = poly1305::added(multiplied(sum, &by[0]), group(bytes));
        }
        by.zeroize();
        sum
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        self.r.zeroize();
        self.pad.zeroize();
    }
}

/// Eight blocks, the last of which may be short.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
fn group(bytes: &[u8]) -> Number {
    let [low, high] = halves(bytes);
    poly1305::block(low, high)
}

/// Up to eight blocks, in the last lanes; zeros before them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
fn first_group(bytes: &[u8]) -> Number {
    let empty = 8 - bytes.len().div_ceil(16);
    let from = _mm512_sub_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(empty as i64));
    let [low, high] = halves(bytes);
    let number = poly1305::block(_mm512_permutexvar_epi64(from, low), _mm512_permutexvar_epi64(from, high));
    masked(0xff << empty, number)
}

/// Up to 128 bytes as blocks: the lower 64 bits of each, and the upper.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(bytes: &[u8]) -> [__m512i; 2] {
    let (front, back) = bytes.split_at_checked(64).unwrap_or((bytes, &[]));
    let (front, back) = (memory::load_part(front), memory::load_part(back));
    [
        _mm512_permutex2var_epi64(front, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), back),
        _mm512_permutex2var_epi64(front, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), back),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn multiplied(number: Number, by: &Factor) -> Number {
    let mut product = Product::zero();
    product.add(number, by);
    product.carried()
}

/// The lanes of `b` that the mask names, the others of `a`.
#[inline]
#[target_feature(enable = "avx512f")]
fn blended(mask: __mmask8, a: Number, b: Number) -> Number {
    [
        _mm512_mask_blend_epi64(mask, a[0], b[0]),
        _mm512_mask_blend_epi64(mask, a[1], b[1]),
        _mm512_mask_blend_epi64(mask, a[2], b[2]),
    ]
}

/// The lanes that the mask names; zero in the others.
#[inline]
#[target_feature(enable = "avx512f")]
fn masked(mask: __mmask8, number: Number) -> Number {
    blended(mask, [_mm512_setzero_si512(); 3], number)
}

/// The number of the first lane, in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn first_lane([a, b, c]: Number) -> Number {
    let first = |limb| _mm512_broadcastq_epi64(_mm512_castsi512_si128(limb));
    [first(a), first(b), first(c)]
}

/// The sum of all lanes, in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn lanes_added([a, b, c]: Number) -> Number {
    let sum = |limb| _mm512_set1_epi64(_mm512_reduce_add_epi64(limb));
    [sum(a), sum(b), sum(c)]
}
