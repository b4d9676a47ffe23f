//! What the errors of a socket say about a datagram.

use std::io;

use libc::{
    EACCES, EADDRNOTAVAIL, EAFNOSUPPORT, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EINVAL, EIO, EMSGSIZE,
    ENETDOWN, ENETUNREACH, ENOBUFS, ENODEV, ENOMEM, EOPNOTSUPP, EPERM, EPROTO, EPROTONOSUPPORT,
};

use crate::transport::DropReason;

/// The host was built, or booted, without the address family.
pub(super) fn is_missing_family(error: &io::Error) -> bool {
    is(error, &[EAFNOSUPPORT, EPROTONOSUPPORT])
}

/// On receiving: about one datagram, such as an ICMP answer to something sent, and not about the socket.
pub(super) fn is_about_a_datagram(error: &io::Error) -> bool {
    is(
        error,
        &[ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN, ENETDOWN, EMSGSIZE, EPROTO, EPERM, EACCES],
    )
}

/// Can come from a source that is no longer an address of this host, or from which no route leads to the
/// peer.
pub(super) fn may_be_the_source(error: &io::Error) -> bool {
    is(error, &[EINVAL, EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH, ENETDOWN, ENODEV, EPERM, EACCES])
}

/// Can come from asking the kernel to cut a burst: segments longer than the route's MTU, or a device that
/// cannot compute their checksums.
pub(super) fn may_be_the_burst(error: &io::Error) -> bool {
    is(error, &[EINVAL, EMSGSIZE]) || is_without_offload(error)
}

/// The device or the kernel does not cut bursts at all; it need not be asked again.
pub(super) fn is_without_offload(error: &io::Error) -> bool {
    is(error, &[EIO, EOPNOTSUPP])
}

/// After these quinn-udp takes the kernel for one that cannot mark IPv4 packets, and does so no more; but
/// a lost source address gives EINVAL too.
pub(super) fn makes_state_forget(error: &io::Error) -> bool {
    is(error, &[EINVAL, EIO])
}

/// Under which reason a lost datagram is counted.
pub(super) fn reason(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(EMSGSIZE) => DropReason::TooLong,
        Some(ECONNREFUSED) => DropReason::Refused,
        Some(ENETUNREACH | EHOSTUNREACH | ENETDOWN | EHOSTDOWN | EADDRNOTAVAIL | ENODEV) => {
            DropReason::Unreachable
        }
        Some(EPERM | EACCES) => DropReason::Denied,
        Some(EINVAL | EAFNOSUPPORT) => DropReason::Unsupported,
        Some(ENOBUFS | ENOMEM) => DropReason::NoBuffers,
        Some(_) | None => DropReason::Other,
    }
}

fn is(error: &io::Error, numbers: &[i32]) -> bool {
    error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}
