use core::fmt;
use core::str::FromStr;

/// An authenticated cipher that handshakes and sessions are made with.
///
/// A handshake carries no field for it: the suite is part of the name both sides begin their transcript with,
/// so that a message of one suite is noise to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439): WireGuard's own.
    #[default]
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D): several times faster where the CPU has instructions for it. Only Span
    /// speaks it.
    Aes256Gcm,
}

/// The text names no suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cipher suite: it is chacha20-poly1305 or aes-256-gcm")]
pub struct UnknownSuite;

impl Suite {
    /// Every suite, in the order a responder tries them.
    pub const ALL: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

    /// Its name in configuration and status, lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Suite::ChaCha20Poly1305 => "chacha20-poly1305",
            Suite::Aes256Gcm => "aes-256-gcm",
        }
    }

    /// Whether this build has the suite: AES-256-GCM comes with the feature `ring`. Whether it is worth using
    /// on this CPU is another question, and the caller's.
    pub const fn is_available(self) -> bool {
        match self {
            Suite::ChaCha20Poly1305 => true,
            Suite::Aes256Gcm => cfg!(feature = "ring"),
        }
    }

    /// The nonce of a counter (Noise specification, section 12): four zero bytes, then the counter,
    /// little-endian with ChaCha20-Poly1305, big-endian with AES-GCM.
    #[inline]
    pub(super) const fn nonce(self, counter: u64) -> [u8; 12] {
        let [a, b, c, d, e, f, g, h] = match self {
            Suite::ChaCha20Poly1305 => counter.to_le_bytes(),
            Suite::Aes256Gcm => counter.to_be_bytes(),
        };
        [0, 0, 0, 0, a, b, c, d, e, f, g, h]
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        Suite::ALL.into_iter().find(|suite| suite.name() == text).ok_or(UnknownSuite)
    }
}

/// A set of suites.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Suites(u8);

impl Suites {
    /// None.
    pub const NONE: Suites = Suites(0);

    /// Whether `suite` is one of them.
    pub const fn contains(self, suite: Suite) -> bool {
        self.0 & Suites::of(suite).0 != 0
    }

    /// These, and `suite`.
    #[must_use]
    pub const fn with(self, suite: Suite) -> Suites {
        Suites(self.0 | Suites::of(suite).0)
    }

    /// These, in the order of [`Suite::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Suite> {
        Suite::ALL.into_iter().filter(move |suite| self.contains(*suite))
    }

    const fn of(suite: Suite) -> Suites {
        Suites(1 << suite as u8)
    }
}

impl FromIterator<Suite> for Suites {
    fn from_iter<I: IntoIterator<Item = Suite>>(suites: I) -> Self {
        suites.into_iter().fold(Suites::NONE, Suites::with)
    }
}

impl fmt::Debug for Suites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn names_are_read_back() {
        for suite in Suite::ALL {
            assert_eq!(suite.to_string().parse(), Ok(suite));
        }
        for wrong in ["", "AES-256-GCM", "aes-128-gcm", "chacha20", "auto"] {
            assert_eq!(wrong.parse::<Suite>(), Err(UnknownSuite), "{wrong:?}");
        }
        assert_eq!(Suite::default(), Suite::ChaCha20Poly1305);
    }

    #[test]
    fn sets_hold_what_is_put_in() {
        let both: Suites = Suite::ALL.into_iter().rev().collect();
        assert!(both.iter().eq(Suite::ALL), "in the order they are tried");
        let aes = Suites::NONE.with(Suite::Aes256Gcm).with(Suite::Aes256Gcm);
        assert!(aes.iter().eq([Suite::Aes256Gcm]));
        assert!(!aes.contains(Suite::ChaCha20Poly1305) && Suites::default().iter().next().is_none());
    }

    /// Noise specification, section 12.3 and 12.4.
    #[test]
    fn nonces_are_those_of_noise() {
        let counter = 0x0102_0304_0506_0708;
        assert_eq!(Suite::ChaCha20Poly1305.nonce(counter), [0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(Suite::Aes256Gcm.nonce(counter), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
