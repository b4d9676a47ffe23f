//! Keys of the WireGuard protocol and their two text forms.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of every key in bytes.
pub const KEY_LEN: usize = 32;

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 44 characters of base64.
    #[error("a key is 44 characters of base64, as `wg genkey` prints it")]
    Base64,
    /// Not 64 hexadecimal digits.
    #[error("a key is 64 hexadecimal digits")]
    Hex,
}

/// A Curve25519 public key: the name of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

/// A Curve25519 private key, clamped when made, zeroed when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PrivateKey([u8; KEY_LEN]);

/// The optional symmetric key of a peer; all zeros means none.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct PresharedKey([u8; KEY_LEN]);

impl PublicKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        PublicKey(bytes)
    }

    /// The bytes as they go on the wire.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits, the form of the configuration socket.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        from_hex(text).map(PublicKey)
    }
}

impl PrivateKey {
    /// Makes a key from 32 bytes of the caller's randomness, clamped as X25519 wants it.
    pub fn from_bytes(mut bytes: [u8; KEY_LEN]) -> Self {
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        PrivateKey(bytes)
    }

    /// The clamped bytes. Secret: do not print or log.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(x25519_dalek::x25519(self.0, x25519_dalek::X25519_BASEPOINT_BYTES))
    }

    /// 64 lower-case hexadecimal digits. Secret: do not print or log.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// 44 characters of base64, for a key file. Secret: do not print or log.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        from_hex(text).map(PrivateKey::from_bytes)
    }
}

impl PresharedKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        PresharedKey(bytes)
    }

    /// The bytes. Secret: do not print or log.
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether a key is set at all.
    pub fn is_set(&self) -> bool {
        !bool::from(self.0.ct_eq(&[0; KEY_LEN]))
    }

    /// 64 lower-case hexadecimal digits. Secret: do not print or log.
    pub fn to_hex(&self) -> String {
        to_hex(&self.0)
    }

    /// 44 characters of base64. Secret: do not print or log.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Parses 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        from_hex(text).map(PresharedKey)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_base64(text).map(PublicKey)
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_base64(text).map(PrivateKey::from_bytes)
    }
}

impl FromStr for PresharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        from_base64(text).map(PresharedKey)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "PresharedKey(..)" } else { "PresharedKey(none)" })
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PrivateKey {}

impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for PresharedKey {}

fn from_base64(text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    // The decoder wants room for a whole last group, one byte more than a key has.
    let mut bytes = [0; KEY_LEN + 1];
    if text.len() != 44 || STANDARD.decode_slice(text, &mut bytes) != Ok(KEY_LEN) {
        return Err(KeyError::Base64);
    }
    let mut key = [0; KEY_LEN];
    key.copy_from_slice(&bytes[..KEY_LEN]);
    bytes.zeroize();
    Ok(key)
}

fn to_hex(bytes: &[u8; KEY_LEN]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * KEY_LEN);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

fn from_hex(text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    let text = text.as_bytes();
    if text.len() != 2 * KEY_LEN {
        return Err(KeyError::Hex);
    }
    let mut key = [0; KEY_LEN];
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Ok(key)
}

fn hex_digit(digit: u8) -> Result<u8, KeyError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(KeyError::Hex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    const TEXT: &str = "PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=";

    #[test]
    fn text_forms_round_trip() {
        let key: PublicKey = TEXT.parse().unwrap();
        assert_eq!(key.to_string(), TEXT);
        assert_eq!(PublicKey::from_hex(&key.to_hex()), Ok(key));
    }

    #[test]
    fn texts_that_are_not_keys_are_refused() {
        for bad in ["", "x", &TEXT[..43], &format!("{TEXT}="), &TEXT.replace('=', "A"), &"\u{e9}".repeat(22)]
        {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Base64), "{bad}");
        }
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(65), &"\u{e9}".repeat(32)] {
            assert_eq!(PublicKey::from_hex(bad), Err(KeyError::Hex), "{bad}");
        }
    }

    /// Bob's keys of RFC 7748, section 6.1.
    #[test]
    fn public_key_of_a_private_key() {
        let private = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        assert_eq!(PrivateKey::from_hex(private).unwrap().public_key().to_hex(), public);
    }

    #[test]
    fn secrets_are_clamped_and_never_printed() {
        let key = PrivateKey::from_bytes([0xff; 32]);
        assert_eq!((key.as_bytes()[0], key.as_bytes()[31]), (0xf8, 0x7f));
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
        assert_eq!(format!("{:?}", PresharedKey::from_bytes([1; 32])), "PresharedKey(..)");
    }
}
