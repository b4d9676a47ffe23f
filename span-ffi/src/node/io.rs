//! Errors of input and output.

use std::io::{Error, ErrorKind};

use crate::status::Status;

/// The status that says the same.
pub(super) fn status(error: &Error) -> Status {
    match error.kind() {
        ErrorKind::WouldBlock => Status::Again,
        ErrorKind::NetworkDown => Status::Stopped,
        ErrorKind::ConnectionRefused => Status::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Status::Reset,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Status::Unreachable,
        ErrorKind::TimedOut => Status::TimedOut,
        ErrorKind::AddrInUse => Status::AddressInUse,
        ErrorKind::AddrNotAvailable => Status::AddressNotAvailable,
        ErrorKind::QuotaExceeded => Status::Quota,
        ErrorKind::BrokenPipe => Status::BrokenPipe,
        ErrorKind::NotConnected => Status::NotConnected,
        ErrorKind::InvalidInput => Status::Invalid,
        // Kinds that the network stack does not have.
        _ => Status::Failed,
    }
}
