use std::fmt;
use std::io;

/// Why an operation failed, as the number the client is told.
///
/// Errors go out negative (`errno=-22`), as wireguard-go sends them: `wg` negates the number again
/// before it prints the system's words for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(rustix::io::Errno);

impl Errno {
    /// A key, value or combination that makes no sense (EINVAL).
    pub const INVALID: Errno = Errno(rustix::io::Errno::INVAL);
    /// Not a request of this protocol (EPROTO).
    pub const PROTOCOL: Errno = Errno(rustix::io::Errno::PROTO);
    /// The port is taken (EADDRINUSE).
    pub const PORT_IN_USE: Errno = Errno(rustix::io::Errno::ADDRINUSE);
    /// Reading or writing failed; the device is going away (EIO).
    pub const IO: Errno = Errno(rustix::io::Errno::IO);
    /// The request is larger than the server takes (EMSGSIZE).
    pub const TOO_LARGE: Errno = Errno(rustix::io::Errno::MSGSIZE);
    /// No room for more of them (ENOBUFS).
    pub const NO_SPACE: Errno = Errno(rustix::io::Errno::NOBUFS);

    /// The platform's positive error number.
    pub fn number(self) -> i32 {
        self.0.raw_os_error()
    }
}

impl From<io::Error> for Errno {
    /// Errors without a number of their own become EIO.
    fn from(error: io::Error) -> Self {
        Errno(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", io::Error::from(self.0))
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_platforms() {
        assert_eq!(Errno::INVALID.number(), 22);
        let in_use = io::Error::from_raw_os_error(Errno::PORT_IN_USE.number());
        assert_eq!(Errno::from(in_use), Errno::PORT_IN_USE);
        assert_eq!(Errno::from(io::Error::other("no number")), Errno::IO);
    }
}
