//! What makes a cluster: its public id and its secret.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use span_core::key::PresharedKey;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The public name of a cluster: opaque text of 1 to 256 bytes, usually 44 characters of base64.
///
/// Whoever knows it can list, replace and delete the cluster's (sealed) records on a discovery service, so
/// treat it with some discretion.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClusterId(String);

/// Why a text is not a cluster id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster id has 1 to {max} bytes, this one has {len}", max = ClusterId::MAX_LEN)]
pub struct ClusterIdError {
    len: usize,
}

impl ClusterId {
    /// Longest id the discovery service takes, in bytes.
    pub const MAX_LEN: usize = 256;

    /// Takes `text` as an id if its length allows; it is never decoded.
    pub fn new(text: &str) -> Result<Self, ClusterIdError> {
        match text.len() {
            1..=Self::MAX_LEN => Ok(ClusterId(text.to_owned())),
            len => Err(ClusterIdError { len }),
        }
    }

    /// The id of a new cluster, made of the caller's randomness: its base64.
    pub fn generate(random: [u8; 32]) -> Self {
        ClusterId(STANDARD.encode(random))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        ClusterId::new(text)
    }
}

/// The secret all members of a cluster share: the key of the seal and WireGuard's preshared key. Zeroed when
/// dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ClusterSecret([u8; 32]);

/// Why a text is not a cluster secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster secret is 44 characters of base64: 32 bytes with padding")]
pub struct ClusterSecretError;

impl ClusterSecret {
    /// The secret with these bytes; 32 bytes of the caller's randomness make a new one.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        ClusterSecret(bytes)
    }

    /// The bytes. Secret: do not print or log.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 44 characters of base64, the form of configuration files. Secret: do not print or log.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0))
    }

    /// WireGuard's preshared key between any two members.
    pub fn preshared_key(&self) -> PresharedKey {
        PresharedKey::from_bytes(self.0)
    }
}

impl FromStr for ClusterSecret {
    type Err = ClusterSecretError;

    fn from_str(text: &str) -> Result<Self, ClusterSecretError> {
        // The decoder wants room for a whole last group, one byte more than a secret has.
        let mut bytes = Zeroizing::new([0; 33]);
        if text.len() != 44 || STANDARD.decode_slice(text, &mut *bytes) != Ok(32) {
            return Err(ClusterSecretError);
        }
        let mut secret = ClusterSecret([0; 32]);
        secret.0.copy_from_slice(&bytes[..32]);
        Ok(secret)
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_opaque_but_bounded() {
        assert_eq!(ClusterId::new(""), Err(ClusterIdError { len: 0 }));
        assert!(ClusterId::new(&"x".repeat(256)).is_ok());
        assert_eq!(ClusterId::new(&"x".repeat(257)), Err(ClusterIdError { len: 257 }));
        let random = std::array::from_fn(|i| 0x20 + i as u8);
        assert_eq!(ClusterId::generate(random).as_str(), "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=");
    }

    #[test]
    fn secrets_read_and_write_base64_and_stay_out_of_logs() {
        let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let secret: ClusterSecret = text.parse().unwrap();
        assert_eq!(secret.as_bytes(), &std::array::from_fn::<u8, 32, _>(|i| i as u8));
        assert_eq!(*secret.to_base64(), text);
        assert_eq!(secret.preshared_key().to_base64(), text);
        assert_eq!(format!("{secret:?}"), "ClusterSecret(..)");
        for bad in
            ["", "AAEC", &text[..43], &format!("{text}="), &text.replace('=', "A"), &text.replace('A', "-")]
        {
            assert!(bad.parse::<ClusterSecret>().is_err(), "{bad}");
        }
    }
}
