//! Names of network interfaces.

use std::fmt;
use std::str::FromStr;

/// The name of an interface, as the kernel and `wg` take it: 1 to 15 letters, digits and `_=+.-`.
///
/// It can be part of a path: it is never `.` or `..` and has no slash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

/// Why a text is no [`InterfaceName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be an interface's name: use 1 to 15 letters, digits, '_', '=', '+', '.' or '-'")]
pub struct InterfaceNameError(String);

impl InterfaceName {
    /// Longest name, in bytes.
    pub const MAX_LEN: usize = 15;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `span0`.
impl Default for InterfaceName {
    fn default() -> Self {
        InterfaceName("span0".to_owned())
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(name: &str) -> Result<Self, InterfaceNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte);
        let fits = (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(allowed);
        if fits && name != "." && name != ".." {
            Ok(InterfaceName(name.to_owned()))
        } else {
            Err(InterfaceNameError(name.to_owned()))
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_stay_in_their_directory() {
        for good in ["span0", "wg-home_2", "a", "eth0.12", "fifteen-letters", "..."] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "../wg0", "a/b", "sixteen-letters-", "wg 0", "wg\0", "wg%d", "\u{e9}0"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }
}
