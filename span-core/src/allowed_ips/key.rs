//! Addresses as numbers.

use core::fmt::Debug;

/// An address as a number, taken apart from its most significant bit on.
pub(super) trait Key: Copy + Debug + Default + Eq {
    /// The first eight bits.
    fn byte(self) -> u8;

    /// The bits after the first `bits`, which are fewer than all, and zeros.
    fn after(self, bits: u32) -> Self;

    /// Only the first `bits` bits, fewer than all.
    fn first(self, bits: u32) -> Self;

    /// How many bits are the same before the first that is not.
    fn shared(self, other: Self) -> u32;

    /// Whether the first `bits` bits are the same.
    fn agrees(self, other: Self, bits: u8) -> bool;
}

impl Key for u32 {
    #[inline]
    fn byte(self) -> u8 {
        (self >> 24) as u8
    }

    #[inline]
    fn after(self, bits: u32) -> Self {
        self << bits
    }

    #[inline]
    fn first(self, bits: u32) -> Self {
        self & !(u32::MAX >> bits)
    }

    #[inline]
    fn shared(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, bits: u8) -> bool {
        // A wider shift than the number: all of it may have to go.
        u64::from(self ^ other) >> ((32 - u32::from(bits)) & 63) == 0
    }
}

impl Key for u128 {
    #[inline]
    fn byte(self) -> u8 {
        (self >> 120) as u8
    }

    #[inline]
    fn after(self, bits: u32) -> Self {
        self << bits
    }

    #[inline]
    fn first(self, bits: u32) -> Self {
        self & !(u128::MAX >> bits)
    }

    #[inline]
    fn shared(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    #[inline]
    fn agrees(self, other: Self, bits: u8) -> bool {
        self.shared(other) >= u32::from(bits)
    }
}
