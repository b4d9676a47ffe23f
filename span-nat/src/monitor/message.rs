//! The few rtnetlink messages this needs, read field by field: an attribute of a kernel newer than us is
//! passed over and cannot make a link disappear.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLA_HEADER_SIZE, NlaBuffer, NlasIterator};

use super::{Address, DefaultRoute, Link, Route, Scope};

/// Length of the header of every netlink message.
pub(super) const HEADER: usize = 16;

/// The type of the message that begins `buffer`.
pub(super) fn kind(buffer: &[u8]) -> Option<u16> {
    (buffer.len() >= HEADER).then(|| u16::from_ne_bytes([buffer[4], buffer[5]]))
}

/// A request; `body` begins with the fixed part of its kind.
pub(super) fn request(kind: u16, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    request.extend_from_slice(&sequence.to_ne_bytes());
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(body);
    request
}

/// Appends an attribute to the body of a request.
pub(super) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend_from_slice(&((NLA_HEADER_SIZE + value.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg` and its attributes.
pub(super) fn link(payload: &[u8]) -> Option<Link> {
    const FIXED: usize = 16;
    let fixed: &[u8; FIXED] = payload.first_chunk()?;
    let flags = u32_at(fixed, 8);
    let has = |flag: i32| flags & flag as u32 != 0;
    let mut link = Link {
        index: u32_at(fixed, 4),
        name: String::new(),
        kind: None,
        ethernet: u16_at(fixed, 2) == libc::ARPHRD_ETHER,
        mac: Vec::new(),
        mtu: 0,
        up: has(libc::IFF_UP),
        carrier: has(libc::IFF_LOWER_UP),
        loopback: has(libc::IFF_LOOPBACK),
    };
    for attribute in attributes(&payload[FIXED..]) {
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.to_vec(),
            libc::IFLA_MTU => link.mtu = number(value)?,
            libc::IFLA_LINKINFO => {
                let kind = attributes(value).find(|inner| inner.kind() == libc::IFLA_INFO_KIND);
                link.kind = kind.map(|kind| text(kind.value()));
            }
            _ => {}
        }
    }
    // A tunnel's hardware address is an IP address, loopback's is nothing.
    if link.mac.iter().all(|byte| *byte == 0) {
        link.mac.clear();
    }
    Some(link)
}

/// `struct ifaddrmsg` and its attributes.
pub(super) fn address(payload: &[u8]) -> Option<Address> {
    const FIXED: usize = 8;
    let fixed: &[u8; FIXED] = payload.first_chunk()?;
    let [_, prefix_len, flags, scope, ..] = *fixed;
    let mut flags = u32::from(flags);
    let (mut local, mut peer) = (None, None);
    for attribute in attributes(&payload[FIXED..]) {
        match attribute.kind() {
            libc::IFA_LOCAL => local = ip(attribute.value()),
            libc::IFA_ADDRESS => peer = ip(attribute.value()),
            libc::IFA_FLAGS => flags = number(attribute.value())?,
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL ours.
    let prefix = IpNet::new(local.or(peer)?, prefix_len).ok()?;
    let has = |flag: u32| flags & flag != 0;
    Some(Address {
        interface: u32_at(fixed, 4),
        prefix,
        scope: scope_of(scope),
        temporary: prefix.addr().is_ipv6() && has(libc::IFA_F_TEMPORARY),
        deprecated: has(libc::IFA_F_DEPRECATED),
        tentative: has(libc::IFA_F_DADFAILED) || has(libc::IFA_F_TENTATIVE) && !has(libc::IFA_F_OPTIMISTIC),
    })
}

/// `struct rtmsg` and its attributes, if it is a unicast route to everywhere.
pub(super) fn default_route(payload: &[u8]) -> Option<DefaultRoute> {
    let fixed: &[u8; RTMSG] = payload.first_chunk()?;
    let [family, destination_len, _, _, _, _, _, kind, ..] = *fixed;
    // A list of all routes can be long; most are passed over here.
    if destination_len != 0 || kind != libc::RTN_UNICAST {
        return None;
    }
    let route = route(payload)?;
    Some(DefaultRoute {
        ipv6: i32::from(family) == libc::AF_INET6,
        table: route.table,
        interface: route.interface,
        gateway: route.gateway,
        metric: route.metric,
    })
}

/// `struct rtmsg` and its attributes.
pub(super) fn route(payload: &[u8]) -> Option<Route> {
    let fixed: &[u8; RTMSG] = payload.first_chunk()?;
    let mut route = Route {
        interface: 0,
        source: None,
        gateway: None,
        table: u32::from(fixed[4]),
        local: fixed[7] == libc::RTN_LOCAL,
        metric: 0,
    };
    for attribute in attributes(&payload[RTMSG..]) {
        let value = attribute.value();
        match attribute.kind() {
            libc::RTA_OIF => route.interface = number(value)?,
            libc::RTA_PREFSRC => route.source = ip(value),
            libc::RTA_GATEWAY => route.gateway = ip(value),
            libc::RTA_TABLE => route.table = number(value)?,
            libc::RTA_PRIORITY => route.metric = number(value)?,
            // A gateway of the other family: its family, then the address.
            libc::RTA_VIA => route.gateway = ip(value.get(2..)?),
            _ => {}
        }
    }
    Some(route)
}

const RTMSG: usize = 12;

fn attributes(buffer: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(buffer).map_while(Result::ok)
}

fn scope_of(scope: u8) -> Scope {
    match scope {
        libc::RT_SCOPE_UNIVERSE => Scope::Global,
        libc::RT_SCOPE_LINK => Scope::Link,
        libc::RT_SCOPE_HOST | libc::RT_SCOPE_NOWHERE => Scope::Host,
        // Everything between global and link is the administrator's own.
        _ => Scope::Site,
    }
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match *value {
        [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A name: bytes up to the terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}
