//! The interface itself: up or down, MTU, addresses. Also for those who want nothing else.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::io::Errno;

use crate::netlink::Client;

/// Brings an interface up.
///
/// # Errors
/// What the kernel says; `NotFound`-like `ENODEV` if there is no such interface.
pub fn up(index: u32) -> io::Result<()> {
    set_up(&mut Client::open(NETLINK_ROUTE)?, index)
}

/// Sets the MTU of an interface, in bytes.
///
/// # Errors
/// As [`up`]; `EINVAL` if the interface cannot have that MTU.
pub fn set_mtu(index: u32, mtu: u16) -> io::Result<()> {
    change_mtu(&mut Client::open(NETLINK_ROUTE)?, index, mtu)
}

/// What the kernel has.
pub(super) struct State {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) mtu: u32,
}

pub(super) fn state(client: &mut Client, index: u32) -> io::Result<State> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    let answers = client.request(RouteNetlinkMessage::GetLink(request), 0)?;
    let Some(RouteNetlinkMessage::NewLink(link)) = answers.into_iter().next() else {
        return Err(Errno::NODEV.into());
    };
    let mut state = State { name: String::new(), up: link.header.flags.contains(LinkFlags::Up), mtu: 0 };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => state.name = name,
            LinkAttribute::Mtu(mtu) => state.mtu = mtu,
            _ => {}
        }
    }
    Ok(state)
}

pub(super) fn set_up(client: &mut Client, index: u32) -> io::Result<()> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    request.header.flags = LinkFlags::Up;
    request.header.change_mask = LinkFlags::Up;
    client.change(RouteNetlinkMessage::SetLink(request), 0)
}

pub(crate) fn change_mtu(client: &mut Client, index: u32, mtu: u16) -> io::Result<()> {
    let mut request = LinkMessage::default();
    request.header.index = index;
    request.attributes.push(LinkAttribute::Mtu(mtu.into()));
    client.change(RouteNetlinkMessage::SetLink(request), 0)
}

/// The addresses of an interface, of both families.
pub(super) fn addresses(client: &mut Client, index: u32) -> io::Result<Vec<IpNet>> {
    let mut request = AddressMessage::default();
    request.header.index = index;
    let answers = client.dump(&RouteNetlinkMessage::GetAddress(request))?;
    let mut found = Vec::new();
    for answer in answers {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        if message.header.index != index {
            continue;
        }
        // With a peer address, the local one is ours; IPv6 without a peer has only the other attribute.
        let (mut local, mut address) = (None, None);
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(found) => local = Some(found),
                AddressAttribute::Address(found) => address = Some(found),
                _ => {}
            }
        }
        if let Some(ours) = local.or(address)
            && let Ok(net) = IpNet::new(ours, message.header.prefix_len)
        {
            found.push(net);
        }
    }
    Ok(found)
}

pub(super) fn add_address(client: &mut Client, index: u32, net: IpNet) -> io::Result<()> {
    let mut message = address_message(index, net);
    // There is nobody on the link to have the address already.
    if net.addr().is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    client.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub(super) fn remove_address(client: &mut Client, index: u32, net: IpNet) -> io::Result<()> {
    client.change(RouteNetlinkMessage::DelAddress(address_message(index, net)), 0)
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.header.family = match net.addr() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    message
}
