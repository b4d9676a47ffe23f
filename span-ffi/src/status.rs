//! What became of a call.

use std::ffi::{CStr, c_char};

/// What became of a call. The numbers never change.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A pointer that must not be NULL is.
    Null = 1,
    /// A pointer is not aligned as its type wants it.
    Misaligned = 2,
    /// The field `size` of a struct is smaller than the first version of the struct, or absurdly large.
    StructSize = 3,
    /// A struct is newer than this library, and a field that the library does not know is set.
    Unsupported = 4,
    /// An argument is out of its range; the documentation of the function says which.
    Invalid = 5,
    /// The text is not a key: 44 characters of base64 or 64 hexadecimal digits.
    KeyText = 6,
    /// The text is not an address with its port, as `192.0.2.1:51820` or `[2001:db8::1]:51820`.
    AddressText = 7,
    /// The text is not a prefix, as 10.0.0.0/24 or fd00::/64.
    PrefixText = 8,
    /// No such peer, or it was removed.
    UnknownPeer = 9,
    /// The key is the tunnel's own: a tunnel cannot be its own peer.
    OwnKey = 10,
    /// The memory lent is too small for what has to be written.
    NoRoom = 11,
    /// Another thread is in a call with this handle. Nothing was done.
    Busy = 12,
    /// The library has a bug and met it, in this call or an earlier one with this handle. The handle can only
    /// be freed.
    Panicked = 13,
    /// The operating system gave no randomness.
    Entropy = 14,
    /// Not yet: it would have to wait. The descriptor that belongs to the call tells when to try again.
    Again = 15,
    /// The node, or what it is made of, has stopped.
    Stopped = 16,
    /// The node is not started yet, or has been already.
    NotStarted = 17,
    /// The configuration cannot be used. The text that came with it says why.
    Config = 18,
    /// The node did not start. The text that came with it says why.
    Start = 19,
    /// The node has no network stack of its own: its packets go to a TUN.
    NoNetstack = 20,
    /// Nobody listens there.
    Refused = 21,
    /// The peer ended the connection at once.
    Reset = 22,
    /// There is no way to that address.
    Unreachable = 23,
    /// No answer in time.
    TimedOut = 24,
    /// The address is taken.
    AddressInUse = 25,
    /// It is no address of this node, or the node has none of that family.
    AddressNotAvailable = 26,
    /// As many connections or sockets as there may be.
    Quota = 27,
    /// Writing after the writing half was shut down.
    BrokenPipe = 28,
    /// The connection is not open.
    NotConnected = 29,
    /// The operating system, or something else, failed.
    Failed = 30,
}

impl Status {
    const ALL: [Status; 31] = [
        Status::Ok,
        Status::Null,
        Status::Misaligned,
        Status::StructSize,
        Status::Unsupported,
        Status::Invalid,
        Status::KeyText,
        Status::AddressText,
        Status::PrefixText,
        Status::UnknownPeer,
        Status::OwnKey,
        Status::NoRoom,
        Status::Busy,
        Status::Panicked,
        Status::Entropy,
        Status::Again,
        Status::Stopped,
        Status::NotStarted,
        Status::Config,
        Status::Start,
        Status::NoNetstack,
        Status::Refused,
        Status::Reset,
        Status::Unreachable,
        Status::TimedOut,
        Status::AddressInUse,
        Status::AddressNotAvailable,
        Status::Quota,
        Status::BrokenPipe,
        Status::NotConnected,
        Status::Failed,
    ];

    const fn text(self) -> &'static CStr {
        match self {
            Status::Ok => c"ok",
            Status::Null => c"a pointer that must not be NULL is",
            Status::Misaligned => c"a pointer is not aligned",
            Status::StructSize => c"the size field of a struct is wrong: set it to sizeof",
            Status::Unsupported => c"a field is set that this version of the library does not know",
            Status::Invalid => c"an argument is out of its range",
            Status::KeyText => c"a key is 44 characters of base64 or 64 hexadecimal digits",
            Status::AddressText => c"an address is written as 192.0.2.1:51820 or [2001:db8::1]:51820",
            Status::PrefixText => c"a prefix is written as 10.0.0.0/24 or fd00::/64",
            Status::UnknownPeer => c"no such peer",
            Status::OwnKey => c"a tunnel cannot be its own peer",
            Status::NoRoom => c"the memory lent is too small",
            Status::Busy => c"another thread uses the handle",
            Status::Panicked => c"the library met a bug of its own; free the handle",
            Status::Entropy => c"the operating system gave no randomness",
            Status::Again => c"not yet; try again when the descriptor is readable",
            Status::Stopped => c"the node has stopped",
            Status::NotStarted => c"the node is not started yet, or has been already",
            Status::Config => c"the configuration cannot be used",
            Status::Start => c"the node did not start",
            Status::NoNetstack => c"the node has no network stack of its own",
            Status::Refused => c"connection refused",
            Status::Reset => c"connection reset by the peer",
            Status::Unreachable => c"host or network unreachable",
            Status::TimedOut => c"timed out",
            Status::AddressInUse => c"address in use",
            Status::AddressNotAvailable => c"not an address of this node",
            Status::Quota => c"too many connections or sockets",
            Status::BrokenPipe => c"the writing half was shut down",
            Status::NotConnected => c"not connected",
            Status::Failed => c"the operating system failed",
        }
    }
}

/// What a span_status means, in English. Static; a number that is none gives a text too. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn span_status_text(status: u32) -> *const c_char {
    let known = Status::ALL.into_iter().find(|known| *known as u32 == status);
    known.map_or(c"not a status of this version", Status::text).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_text() {
        let mut texts: Vec<&CStr> = Status::ALL.into_iter().map(Status::text).collect();
        for (number, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, number, "ALL is in the order of the numbers");
        }
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Status::ALL.len());
    }
}
