//! The Internet checksum (RFC 1071), fast enough to run over every packet.
//!
//! Sums are kept as unfolded `u64`s over 16-bit words in the byte order of this machine: the ones' complement
//! sum does not care (RFC 1071, section 2 B), and the compiler can use whole vectors. A value that joins such a
//! sum is given as it stands in memory: [`word`] for a host integer, and [`fold`] gives bytes to write as they
//! are.

/// Adds `bytes` to the running `sum`. An odd last byte counts as if a zero followed, so only the last piece of a
/// checksummed range may be odd. A sum takes 2^32 pieces of 64 KiB before it could overflow.
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    const BLOCK: usize = 64;
    let mut lanes = [0u64; BLOCK / 4];
    let mut blocks = bytes.chunks_exact(BLOCK);
    for block in &mut blocks {
        for (lane, quad) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([quad[0], quad[1], quad[2], quad[3]]));
        }
    }
    let mut sum = lanes.iter().fold(sum, |sum, lane| sum + lane);
    let mut quads = blocks.remainder().chunks_exact(4);
    for quad in &mut quads {
        sum += u64::from(u32::from_ne_bytes([quad[0], quad[1], quad[2], quad[3]]));
    }
    match *quads.remainder() {
        [a, b, c] => sum + u64::from(u16::from_ne_bytes([a, b])) + u64::from(u16::from_ne_bytes([c, 0])),
        [a, b] => sum + u64::from(u16::from_ne_bytes([a, b])),
        [a] => sum + u64::from(u16::from_ne_bytes([a, 0])),
        _ => sum,
    }
}

/// A host-order integer of the packet as it joins a sum.
#[inline]
pub fn word(value: u16) -> u64 {
    u64::from(value.to_be())
}

/// The two bytes of the ones' complement sum, not inverted.
#[inline]
pub fn fold(sum: u64) -> [u8; 2] {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum as u16).to_ne_bytes()
}

/// The two bytes of the checksum: the inverted sum, as they are written into the packet.
#[inline]
pub fn finish(sum: u64) -> [u8; 2] {
    let [a, b] = fold(sum);
    [!a, !b]
}

/// Like [`finish`], for UDP, where zero means "no checksum" and its other representation is sent instead.
#[inline]
pub fn finish_nonzero(sum: u64) -> [u8; 2] {
    match finish(sum) {
        [0, 0] => [0xff, 0xff],
        bytes => bytes,
    }
}

/// Whether a range whose checksum field is part of `sum` is intact.
#[inline]
pub fn is_valid(sum: u64) -> bool {
    fold(sum) == [0xff, 0xff]
}

/// The pseudo-header of TCP and UDP without its length: `addresses` are source and destination, one after the
/// other as in the packet.
#[inline]
pub fn pseudo(addresses: &[u8], protocol: u8) -> u64 {
    add(word(u16::from(protocol)), addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 to the letter: 16-bit big-endian words, end-around carry after each.
    fn reference(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |sum, pair| {
            let value = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(value);
            sum + u16::from(carry)
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_rfc(bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut in 0usize..1500) {
            prop_assert_eq!(u16::from_be_bytes(fold(add(0, &bytes))), reference(&bytes));
            let cut = (cut * 2).min(bytes.len() & !1);
            let pieces = add(add(0, &bytes[..cut]), &bytes[cut..]);
            prop_assert_eq!(u16::from_be_bytes(fold(pieces)), reference(&bytes));
        }

        #[test]
        fn fold_keeps_every_sum(sum: u64) {
            // Modulo 65535 is what a ones' complement sum means; zero and 65535 are told apart by fold alone.
            prop_assert_eq!(u64::from(u16::from_ne_bytes(fold(sum))) % 65535, sum % 65535);
            prop_assert_eq!(fold(sum) == [0, 0], sum == 0);
        }
    }

    #[test]
    fn of_the_example_in_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &bytes)), [0xdd, 0xf2]);
    }
}
