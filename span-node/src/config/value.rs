//! The values that fields have, each with an error that says what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use span_core::mesh::Rule;
use span_discovery::url::{ServiceUrl, ServiceUrlError};

use super::node::NodeConfig;
use super::section::{Field, Report};

/// The least MTU: IPv6 works with no less.
pub(super) const MIN_MTU: u16 = NodeConfig::LEAST_MTU;

/// The largest MTU: a packet of it, sealed, just fits into one UDP datagram over IPv6.
const MAX_MTU: u16 = u16::MAX - 80;

pub(super) fn mtu(field: &Field<'_>, report: &mut Report) -> Option<u16> {
    let sizes = "is no MTU; write a number between 1280, which IPv6 needs, and 65455";
    field.integer(report, MIN_MTU..=MAX_MTU, sizes)
}

/// A network; bits behind the prefix are cleared.
pub(super) fn network(field: &Field<'_>, report: &mut Report) -> Option<IpNet> {
    field.parse_with(report, |text| match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => Ok(net.trunc()),
        (Err(_), Ok(address)) => Err(format!(
            "is an address without a prefix length; for this one alone write {}",
            IpNet::from(address)
        )),
        (Err(_), Err(_)) => {
            Err("is not a network; write an address and a prefix length such as 10.0.0.0/8 or fd00::/8"
                .to_owned())
        }
    })
}

/// A line of an endpoint filter.
pub(super) fn filter_rule(field: &Field<'_>, report: &mut Report) -> Option<Rule> {
    field.parse_with(report, |text| {
        let reason = "is neither a network nor an address; write 192.168.0.0/16 or 192.0.2.1, with `!` in front to exclude it";
        text.parse().map_err(|_| reason.to_owned())
    })
}

/// An address others can send to.
pub(super) fn address(field: &Field<'_>, report: &mut Report) -> Option<IpAddr> {
    field.parse_with(report, |text| match text.parse::<IpAddr>() {
        Ok(address) if is_unicast(address) => Ok(address),
        Ok(_) => Err("is no address of a single machine that others can reach".to_owned()),
        Err(_) => Err("is no IP address; write one such as 192.0.2.1 or 2001:db8::1".to_owned()),
    })
}

/// An address and a port that others can send to.
pub(super) fn endpoint(field: &Field<'_>, report: &mut Report) -> Option<SocketAddr> {
    field.parse_with(report, |text| match text.parse::<SocketAddr>() {
        Ok(endpoint) if endpoint.port() == 0 => Err("has port 0; write the port others can reach".to_owned()),
        Ok(endpoint) if is_unicast(endpoint.ip()) => Ok(endpoint),
        Ok(_) => Err("is no address of a single machine that others can reach".to_owned()),
        Err(_) => Err(NO_ENDPOINT.to_owned()),
    })
}

/// An address to listen at, possibly all of them.
pub(super) fn listen_address(field: &Field<'_>, report: &mut Report) -> Option<SocketAddr> {
    field.parse_with(report, |text| text.parse().map_err(|_| NO_ENDPOINT.to_owned()))
}

pub(super) fn host_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    field.parse_with(report, |text| {
        if is_host_name(text) {
            Ok(text.to_owned())
        } else {
            Err("is no host name; use letters, digits and '-' between dots, at most 63 to a part".to_owned())
        }
    })
}

pub(super) fn path(field: &Field<'_>, report: &mut Report) -> Option<PathBuf> {
    field.parse_with(report, |text| match text {
        "" => Err("is empty; write a path or leave the field out".to_owned()),
        text if text.contains('\0') => Err("is no path: it has a NUL character".to_owned()),
        text => Ok(text.into()),
    })
}

/// The address of a discovery service.
pub(super) fn service(field: &Field<'_>, report: &mut Report) -> Option<ServiceUrl> {
    field.parse_with(report, |text| {
        text.parse().map_err(|error: ServiceUrlError| format!("cannot be used: {error}"))
    })
}

const NO_ENDPOINT: &str = "is not an IP address and a port; write them as 192.0.2.1:51820 or [2001:db8::1]:51820, names are not looked up";

fn is_unicast(address: IpAddr) -> bool {
    let broadcast = match address {
        IpAddr::V4(address) => address.is_broadcast(),
        IpAddr::V6(_) => false,
    };
    !(broadcast || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// Letters, digits, hyphens and underscores between dots.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.strip_suffix('.').unwrap_or(name).split('.').all(label)
}
