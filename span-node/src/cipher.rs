//! Which cipher suites a node uses, and what its CPU is made for.

use span_core::crypto::{Suite, Suites};

/// What a node may encrypt its links with. See `docs/ciphers.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256-GCM with members that announce it, if this CPU has instructions for it; ChaCha20-Poly1305 with
    /// everyone else.
    #[default]
    Auto,
    /// ChaCha20-Poly1305 with everyone: WireGuard to the byte. AES-256-GCM is neither announced nor accepted.
    ChaCha20Poly1305,
}

impl Cipher {
    /// The suites besides WireGuard's own that this node announces, answers in, and uses with members that
    /// announce them.
    pub fn suites(self) -> Suites {
        self.suites_on(has_aes())
    }

    fn suites_on(self, has_aes: bool) -> Suites {
        match self {
            Cipher::Auto if has_aes && Suite::Aes256Gcm.is_available() => Suites::NONE.with(Suite::Aes256Gcm),
            Cipher::Auto | Cipher::ChaCha20Poly1305 => Suites::NONE,
        }
    }
}

impl std::str::FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(text: &str) -> Result<Self, UnknownCipher> {
        match text {
            "auto" => Ok(Cipher::Auto),
            text if text == Suite::ChaCha20Poly1305.name() => Ok(Cipher::ChaCha20Poly1305),
            _ => Err(UnknownCipher),
        }
    }
}

/// The text names no [`Cipher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no choice of cipher; write auto or chacha20-poly1305")]
pub struct UnknownCipher;

/// Whether this CPU has instructions for AES and for the multiplication in GCM. Without them AES-256-GCM is
/// several times slower than ChaCha20-Poly1305, though no less safe.
pub fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
    }
    #[cfg(target_arch = "aarch64")]
    {
        std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_needs_the_instructions_and_the_permission() {
        let aes = Suites::NONE.with(Suite::Aes256Gcm);
        assert_eq!(Cipher::Auto.suites_on(true), aes);
        assert_eq!(Cipher::Auto.suites_on(false), Suites::NONE);
        assert_eq!(Cipher::ChaCha20Poly1305.suites_on(true), Suites::NONE);
    }

    #[test]
    fn choices_are_read() {
        assert_eq!("auto".parse(), Ok(Cipher::Auto));
        assert_eq!("chacha20-poly1305".parse(), Ok(Cipher::ChaCha20Poly1305));
        for wrong in ["aes-256-gcm", "AUTO", ""] {
            assert_eq!(wrong.parse::<Cipher>(), Err(UnknownCipher), "{wrong:?}");
        }
    }
}
