//! Which ports are forwarded, as they are written on the command line.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::Host;

/// A place in the mesh: `ADDRESS:PORT`, `[ADDRESS]:PORT` or `NAME:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outward {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// A port of this node in the mesh, and the program of this machine behind it: `PORT=ADDRESS:PORT` or
/// `PORT=PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inward {
    pub(super) port: u16,
    pub(super) to: SocketAddr,
}

/// Why a text names no port to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("is no place: write ADDRESS:PORT, [ADDRESS]:PORT or NAME:PORT")]
    Place,
    #[error("is no address to listen at or connect to: write ADDRESS:PORT, or a port alone for 127.0.0.1")]
    Local,
    #[error("has no `=` between the two places")]
    Separator,
}

/// Reads `LOCAL=REMOTE`.
pub(crate) fn outward(text: &str) -> Result<(SocketAddr, Outward), ForwardError> {
    let (local, remote) = text.split_once('=').ok_or(ForwardError::Separator)?;
    Ok((local_address(local)?, remote.parse()?))
}

impl FromStr for Outward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Outward { host: Host::Address(address.ip()), port: address.port() });
        }
        let (name, port) = text.rsplit_once(':').ok_or(ForwardError::Place)?;
        let port = port.parse().map_err(|_| ForwardError::Place)?;
        if name.is_empty() || name.contains([':', '[', ']']) {
            return Err(ForwardError::Place);
        }
        Ok(Outward { host: Host::Name(name.to_owned()), port })
    }
}

impl FromStr for Inward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (port, to) = text.split_once('=').ok_or(ForwardError::Separator)?;
        let port = port.parse().map_err(|_| ForwardError::Local)?;
        Ok(Inward { port, to: local_address(to)? })
    }
}

/// An address of this machine; a port alone is on the loopback interface, where nobody else gets at it.
pub(crate) fn local_address(text: &str) -> Result<SocketAddr, ForwardError> {
    let port = |text: &str| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), text.parse().ok()?));
    text.parse().ok().or_else(|| port(text)).ok_or(ForwardError::Local)
}

impl fmt::Display for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => write!(f, "{}", SocketAddr::new(*address, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_people_write_them() {
        for (text, local, remote) in [
            ("8080=node-2:80", "127.0.0.1:8080", "node-2:80"),
            ("192.0.2.1:1=[fd00::1]:2", "192.0.2.1:1", "[fd00::1]:2"),
            ("[::1]:1=10.0.0.1:2", "[::1]:1", "10.0.0.1:2"),
        ] {
            let (at, to) = outward(text).unwrap();
            assert_eq!((at.to_string(), to.to_string()), (local.to_owned(), remote.to_owned()));
        }
        let inward: Inward = "80=8080".parse().unwrap();
        assert_eq!(inward, Inward { port: 80, to: "127.0.0.1:8080".parse().unwrap() });
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in
            ["8080", "8080=", "8080=:80", "8080=node-2", "8080=fd00::1:80x", "x=node-2:80", "8080=[fd00::1]"]
        {
            assert!(outward(text).is_err(), "{text}");
        }
        for text in ["80", "x=80", "80=", "80=x", "65536=80"] {
            assert!(text.parse::<Inward>().is_err(), "{text}");
        }
    }
}
