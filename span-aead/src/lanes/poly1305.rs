//! Poly1305 (RFC 8439, section 2.5) of eight messages: lane `i` of every register belongs to message `i`.
//!
//! Numbers modulo 2¹³⁰ − 5 are three limbs of 44, 44 and 42 bits, so that the 52-bit multiplier of the CPU takes
//! them with room to spare. Products are added up unreduced: four blocks are multiplied by r⁴, r³, r² and r, and
//! carried once.

use core::arch::x86_64::*;

use zeroize::Zeroize;

const LIMB: i64 = (1 << 44) - 1;
const TOP_LIMB: i64 = (1 << 42) - 1;
/// Bit 128 of a block, in the highest limb.
const BLOCK_BIT: i64 = 1 << 40;

/// Limbs of eight numbers.
pub(super) type Number = [__m512i; 3];

/// The hash of eight messages.
pub(super) struct Poly1305 {
    sum: Number,
    /// r, and behind it r², r³ and r⁴ where [`prepare_four`](Self::prepare_four) was called.
    powers: [Factor; 4],
    pad: [__m512i; 2],
}

/// A number to multiply by.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    pub(super) limbs: Number,
    /// Twenty times the upper two limbs: what passes 2¹³² comes back four times five fold.
    wrapped: [__m512i; 2],
}

/// Sums of products, not yet carried: low and high 52 bits by the limb they belong to.
pub(super) struct Product {
    low: Number,
    high: Number,
}

impl Poly1305 {
    /// Of one-time keys: four numbers of 64 bits each, the two of r first.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi2")]
    pub(super) fn new(key: [__m512i; 4]) -> Self {
        let r = Factor::new(clamped(key[0], key[1]));
        Self { sum: [_mm512_setzero_si512(); 3], powers: [r; 4], pad: [key[2], key[3]] }
    }

    /// Computes the powers of r that [`accumulate`](Self::accumulate) needs.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn prepare_four(&mut self) {
        let r = self.powers[0];
        for i in 1..4 {
            let mut product = Product::zero();
            product.add(self.powers[i - 1].limbs, &r);
            self.powers[i] = Factor::new(product.carried());
        }
    }

    /// Hashes block number `index` of a run of four into `product`; the first takes what was hashed before.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn accumulate(&self, product: &mut Product, index: usize, low: __m512i, high: __m512i) {
        let mut block = block(low, high);
        if index == 0 {
            block = added(block, self.sum);
        }
        product.add(block, &self.powers[3 - index]);
    }

    /// Ends a run of four.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn carry(&mut self, product: &Product) {
        self.sum = product.carried();
    }

    /// Hashes one block.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma,avx512vbmi2")]
    pub(super) fn absorb(&mut self, low: __m512i, high: __m512i) {
        let mut product = Product::zero();
        product.add(added(block(low, high), self.sum), &self.powers[0]);
        self.carry(&product);
    }

    /// The tags, as two registers of four.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn finish(&self) -> [__m512i; 2] {
        tags(self.sum, self.pad)
    }
}

impl Drop for Poly1305 {
    fn drop(&mut self) {
        self.sum.zeroize();
        self.powers.zeroize();
        self.pad.zeroize();
    }
}

impl Zeroize for Factor {
    fn zeroize(&mut self) {
        self.limbs.zeroize();
        self.wrapped.zeroize();
    }
}

impl Factor {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new(limbs: Number) -> Self {
        Self { limbs, wrapped: [times_twenty(limbs[1]), times_twenty(limbs[2])] }
    }
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn zero() -> Self {
        Self { low: [_mm512_setzero_si512(); 3], high: [_mm512_setzero_si512(); 3] }
    }

    /// Adds `number` times `factor`. The limbs of both must have less than 52 bits; the sums have room for more
    /// products than anybody adds.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(super) fn add(&mut self, number: Number, factor: &Factor) {
        let [r0, r1, r2] = factor.limbs;
        let [s1, s2] = factor.wrapped;
        let by_limb = [[r0, r1, r2], [s2, r0, r1], [s1, s2, r0]];
        for (limb, factors) in number.into_iter().zip(by_limb) {
            for (i, factor) in factors.into_iter().enumerate() {
                self.low[i] = _mm512_madd52lo_epu64(self.low[i], limb, factor);
                self.high[i] = _mm512_madd52hi_epu64(self.high[i], limb, factor);
            }
        }
    }

    /// The number, its limbs as long as they should be but for the middle one, which may be a little longer.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn carried(&self) -> Number {
        let limb = _mm512_set1_epi64(LIMB);
        let [a, b, c] = self.low;
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<44>(a), _mm512_slli_epi64::<8>(self.high[0]));
        let b = _mm512_add_epi64(b, carry);
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<44>(b), _mm512_slli_epi64::<8>(self.high[1]));
        let c = _mm512_add_epi64(c, carry);
        let carry = _mm512_add_epi64(_mm512_srli_epi64::<42>(c), _mm512_slli_epi64::<10>(self.high[2]));
        let a = _mm512_add_epi64(_mm512_and_si512(a, limb), times_five(carry));
        let b = _mm512_add_epi64(_mm512_and_si512(b, limb), _mm512_srli_epi64::<44>(a));
        [_mm512_and_si512(a, limb), b, _mm512_and_si512(c, _mm512_set1_epi64(TOP_LIMB))]
    }
}

/// The tags: sums modulo 2¹³⁰ - 5, plus the pads, modulo 2¹²⁸. As two registers of four. The limbs of a sum may be
/// some bits longer than they should be.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn tags(sum: Number, pad: [__m512i; 2]) -> [__m512i; 2] {
    // Below twice 2¹³⁰ - 5, which is then taken off where five more reach 2¹³⁰: they are added and 2¹³⁰ is cut off.
    let [a, b, c] = carried_round(sum);
    let reached = overflow([_mm512_add_epi64(a, _mm512_set1_epi64(5)), b, c]);
    let [a, b, c] = cut([_mm512_add_epi64(a, times_five(reached)), b, c]);

    let low = _mm512_or_si512(a, _mm512_slli_epi64::<44>(b));
    let high = _mm512_or_si512(_mm512_srli_epi64::<20>(b), _mm512_slli_epi64::<24>(c));
    let low = _mm512_add_epi64(low, pad[0]);
    let carry = _mm512_cmplt_epu64_mask(low, pad[0]);
    let high = _mm512_add_epi64(high, pad[1]);
    let high = _mm512_mask_add_epi64(high, carry, high, _mm512_set1_epi64(1));
    [
        _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high),
        _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), high),
    ]
}

/// The number r of a one-time key, without the bits that RFC 8439 takes from it.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
pub(super) fn clamped(low: __m512i, high: __m512i) -> Number {
    limbs(
        _mm512_and_si512(low, _mm512_set1_epi64(0x0fff_fffc_0fff_ffff)),
        _mm512_and_si512(high, _mm512_set1_epi64(0x0fff_fffc_0fff_fffc)),
    )
}

/// A full block of the message, with the bit behind its end.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
pub(super) fn block(low: __m512i, high: __m512i) -> Number {
    let [a, b, c] = limbs(low, high);
    [a, b, _mm512_or_si512(c, _mm512_set1_epi64(BLOCK_BIT))]
}

/// 128 bits as limbs.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
pub(super) fn limbs(low: __m512i, high: __m512i) -> Number {
    let limb = _mm512_set1_epi64(LIMB);
    [
        _mm512_and_si512(low, limb),
        _mm512_and_si512(_mm512_shrdi_epi64::<44>(low, high), limb),
        _mm512_srli_epi64::<24>(high),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn added(a: Number, b: Number) -> Number {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

/// What a number has above its 130 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn overflow([a, b, c]: Number) -> __m512i {
    let b = _mm512_add_epi64(b, _mm512_srli_epi64::<44>(a));
    let c = _mm512_add_epi64(c, _mm512_srli_epi64::<44>(b));
    _mm512_srli_epi64::<42>(c)
}

/// The lower 130 bits of a number, every limb as long as it should be.
#[inline]
#[target_feature(enable = "avx512f")]
fn cut([a, b, c]: Number) -> Number {
    let limb = _mm512_set1_epi64(LIMB);
    let b = _mm512_add_epi64(b, _mm512_srli_epi64::<44>(a));
    let c = _mm512_add_epi64(c, _mm512_srli_epi64::<44>(b));
    [_mm512_and_si512(a, limb), _mm512_and_si512(b, limb), _mm512_and_si512(c, _mm512_set1_epi64(TOP_LIMB))]
}

/// The same number modulo 2¹³⁰ - 5, with what was above its 130 bits added to the lowest limb.
#[inline]
#[target_feature(enable = "avx512f")]
fn carried_round(number: Number) -> Number {
    let above = overflow(number);
    let [a, b, c] = cut(number);
    [_mm512_add_epi64(a, times_five(above)), b, c]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn times_five(value: __m512i) -> __m512i {
    _mm512_add_epi64(value, _mm512_slli_epi64::<2>(value))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn times_twenty(value: __m512i) -> __m512i {
    _mm512_slli_epi64::<2>(times_five(value))
}
