//! Node identities: random bytes in the base62 of Talos.
//!
//! Bits are taken from the end of the bytes, six at a time, lowest first. A six-bit value that ends in the
//! bits `1111x` has no letter of its own: five of its bits are written, the sixth starts the next letter.

use span_core::mesh::NodeId;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The low bits that make a value five bits wide, whatever its lowest bit.
const NARROW: u8 = 0b01_1110;

/// Why a text is not base62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node identity has letters and digits only, not what stands at byte {at}")]
pub struct DecodeError {
    at: usize,
}

/// The identity of a new node, from 32 bytes of the caller's randomness.
pub fn new_node_id(random: &[u8; 32]) -> NodeId {
    NodeId::new(&encode(random)).expect("32 bytes make 43 to 52 letters")
}

/// Writes bytes as base62.
pub fn encode(bytes: &[u8]) -> String {
    let total = 8 * bytes.len();
    let mut text = String::with_capacity(total.div_ceil(5));
    let mut taken = 0;
    while taken < total {
        let left = total - taken;
        let value = bits_at(bytes, taken, left.min(6));
        if value & NARROW == NARROW {
            taken += if left > 6 || value > 31 { 5 } else { left.min(6) };
            text.push(char::from(ALPHABET[usize::from(value & 31)]));
        } else {
            taken += left.min(6);
            text.push(char::from(ALPHABET[usize::from(value)]));
        }
    }
    text
}

/// Reads base62 back into bytes.
pub fn decode(text: &str) -> Result<Vec<u8>, DecodeError> {
    // Least significant byte first while it grows.
    let mut bytes: Vec<u8> = Vec::with_capacity(text.len());
    let mut filled = 0;
    for (at, letter) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|&l| l == letter).ok_or(DecodeError { at })? as u8;
        let width = match (at + 1 == text.len(), value & NARROW == NARROW) {
            (true, _) => (u8::BITS - value.leading_zeros()) as usize,
            (false, true) => 5,
            (false, false) => 6,
        };
        bytes.resize((filled + width).div_ceil(8), 0);
        for bit in (0..width).filter(|bit| value >> bit & 1 == 1) {
            bytes[(filled + bit) / 8] |= 1 << ((filled + bit) % 8);
        }
        filled += width;
    }
    bytes.reverse();
    Ok(bytes)
}

/// `width` bits of `bytes`, `offset` bits from their end.
fn bits_at(bytes: &[u8], offset: usize, width: usize) -> u8 {
    (0..width).fold(0, |value, bit| {
        let position = offset + bit;
        let byte = bytes[bytes.len() - 1 - position / 8];
        value | (byte >> (position % 8) & 1) << bit
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vectors() {
        let talos: [u8; 32] = [
            0xbe, 0x87, 0x1a, 0xc0, 0xd0, 0xdd, 0x31, 0xfa, 0x4c, 0xac, 0xa7, 0x53, 0xb0, 0xf3, 0xf1, 0xb2,
            0x97, 0x0f, 0x5c, 0x19, 0xdf, 0xbd, 0xe7, 0xdd, 0x79, 0x32, 0xe3, 0x7c, 0xb2, 0xee, 0xea, 0x2c,
        ];
        for (bytes, text) in [
            (talos, "sou7yy34ykX3n373Zw1DXKb8zD7UnyKT6HT3QDsGH6L".to_owned()),
            (
                std::array::from_fn(|i| 0x60 + i as u8),
                "fzvex3e0LP8uzu6obO5iDu3crN2WTt0Q7MzKjsxELMwA".to_owned(),
            ),
            ([0; 32], "A".repeat(43)),
            ([0xff; 32], "f".repeat(51) + "B"),
        ] {
            assert_eq!(encode(&bytes), text);
            assert_eq!(decode(&text).unwrap(), bytes);
            assert_eq!(new_node_id(&bytes).as_str(), text);
        }
    }

    #[test]
    fn other_characters_are_refused() {
        assert_eq!(decode("ab-c"), Err(DecodeError { at: 2 }));
        assert_eq!(decode("é"), Err(DecodeError { at: 0 }));
    }

    proptest! {
        #[test]
        fn identities_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&encode(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn decoding_never_panics(text: String) {
            let _ = decode(&text);
        }
    }
}
