//! One port for both families.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use thiserror::Error;

use super::socket::{Family, Share, Socket};
use super::{Config, Sockets};

/// Why the sockets could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else has the port.
    #[error(
        "UDP port {} of {} is in use: stop the program that has it, or choose another port (0: any free one)",
        .0.port(), .0.ip()
    )]
    PortInUse(SocketAddr),
    /// The port is a privileged one.
    #[error("may not bind UDP port {}: ports this low need the capability CAP_NET_BIND_SERVICE", .0.port())]
    PortDenied(SocketAddr),
    /// The address to listen at does not belong to this host.
    #[error("cannot listen at {0}: it is not an address of this host")]
    NotLocal(IpAddr),
    /// The host was to choose a port, and found none that is free in all wanted families.
    #[error(
        "found no free UDP port for all address families; name one, or widen net.ipv4.ip_local_port_range"
    )]
    NoFreePort,
    /// The configuration asks for no family, or only for ones the host lacks.
    #[error("this host has none of the wanted address families")]
    NoFamily,
    /// The firewall mark may not be set.
    #[error("may not mark packets with {0:#x}: that needs the capability CAP_NET_ADMIN")]
    MarkDenied(u32),
    /// Marks are not known to this operating system.
    #[error("this operating system cannot mark packets")]
    MarkUnsupported,
    /// Sockets that were brought along stay as they are.
    #[error("the UDP sockets were brought along and stay on their port: bring others to use another")]
    Given,
    /// A socket that was brought along is no bound UDP socket of the family it was given for.
    #[error("what was given for {family} is no UDP socket that is bound to an address of {family}")]
    WrongSocket {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The sockets that were brought along have different ports.
    #[error("the sockets are bound to ports {ipv4} and {ipv6}: bind both families to one port")]
    PortsDiffer {
        /// That of the IPv4 socket.
        ipv4: u16,
        /// That of the IPv6 socket.
        ipv6: u16,
    },
    /// Not a transport with ports and marks.
    #[error("this transport has neither ports nor marks")]
    Unsupported,
    /// Any other failure of a system call.
    #[error("cannot {what}: {source}")]
    Socket {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
}

/// Binds beside sockets that are bound and shared already.
pub(super) fn bind_beside(config: &Config, sockets: &Sockets) -> Result<Sockets, BindError> {
    let beside = |socket: &Option<Socket>| match socket {
        Some(socket) => Socket::bind(socket.local, config, Share::Join),
        None => Ok(None),
    };
    let sockets = Sockets { ipv4: beside(&sockets.ipv4)?, ipv6: beside(&sockets.ipv6)? };
    if sockets.ipv4.is_none() && sockets.ipv6.is_none() {
        return Err(BindError::NoFamily);
    }
    Ok(sockets)
}

/// Binds what `config` asks for, as far as the host has it.
pub(super) fn bind(config: &Config) -> Result<Sockets, BindError> {
    // The host chooses a port that is free in one family; in the other somebody may have it.
    const ATTEMPTS: usize = 32;
    for _ in 0..ATTEMPTS {
        match bind_both(config) {
            Err(BindError::PortInUse(_)) if config.port == 0 => {}
            result => return result,
        }
    }
    Err(BindError::NoFreePort)
}

/// Takes over sockets that are bound.
pub(super) fn adopt(
    ipv4: Option<UdpSocket>,
    ipv6: Option<UdpSocket>,
    config: &Config,
) -> Result<Sockets, BindError> {
    let adopt = |socket: Option<UdpSocket>, family| {
        socket.map(|socket| Socket::adopt(socket, config, family)).transpose()
    };
    let sockets = Sockets { ipv4: adopt(ipv4, Family::V4)?, ipv6: adopt(ipv6, Family::V6)? };
    match (&sockets.ipv4, &sockets.ipv6) {
        (None, None) => Err(BindError::NoFamily),
        (Some(ipv4), Some(ipv6)) if ipv4.local.port() != ipv6.local.port() => {
            Err(BindError::PortsDiffer { ipv4: ipv4.local.port(), ipv6: ipv6.local.port() })
        }
        (Some(_), _) | (_, Some(_)) => Ok(sockets),
    }
}

fn bind_both(config: &Config) -> Result<Sockets, BindError> {
    let ipv4 = bind_family(config, config.ipv4.map(IpAddr::V4), config.port)?;
    let port = ipv4.as_ref().map_or(config.port, |socket| socket.local.port());
    let ipv6 = bind_family(config, config.ipv6.map(IpAddr::V6), port)?;
    if ipv4.is_none() && ipv6.is_none() {
        return Err(BindError::NoFamily);
    }
    Ok(Sockets { ipv4, ipv6 })
}

/// `None` where the family is not wanted or the host does not have it.
fn bind_family(config: &Config, ip: Option<IpAddr>, port: u16) -> Result<Option<Socket>, BindError> {
    ip.map_or(Ok(None), |ip| Socket::bind(SocketAddr::new(ip, port), config, Share::of(config)))
}
