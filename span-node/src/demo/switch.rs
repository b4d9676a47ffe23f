//! The switch between the nodes: a bridge in the demo's own namespace, one port per node.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::net::if_::if_nametoindex;

use super::netlink::Netlink;

/// What a node calls its end of the cable.
const UPLINK: &str = "eth0";
const BRIDGE: &str = "switch";

/// The bridge. Ports are numbered from 1, as the nodes are.
pub(super) struct Switch {
    netlink: Netlink,
    index: u32,
}

impl Switch {
    /// Builds the bridge in the current network namespace and gives it the address the nodes find the
    /// discovery service at.
    pub(super) fn new() -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let quiet = vec![
            // It forwards from the first frame on, and says nothing itself.
            InfoBridge::StpState(BridgeStpState::Disabled),
            InfoBridge::MulticastSnooping(false),
        ];
        let mut message = LinkMessage::default();
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![
            LinkAttribute::IfName(BRIDGE.to_owned()),
            LinkAttribute::Address(hardware_address(0).to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(quiet)),
            ]),
        ];
        netlink.create_link(message)?;
        let index = if_nametoindex(BRIDGE)?;
        for address in addresses(0) {
            netlink.add_address(index, address)?;
        }
        Ok(Self { netlink, index })
    }

    /// The interface index of the bridge itself.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Runs a cable from port `number` into the network namespace of process `pid`.
    pub(super) fn attach(&mut self, number: u16, pid: u32) -> io::Result<()> {
        let mut uplink = LinkMessage::default();
        uplink.attributes = vec![
            LinkAttribute::IfName(UPLINK.to_owned()),
            LinkAttribute::Address(hardware_address(number).to_vec()),
            LinkAttribute::NetNsPid(pid),
        ];
        let mut port = LinkMessage::default();
        port.header.flags = LinkFlags::Up;
        port.header.change_mask = LinkFlags::Up;
        port.attributes = vec![
            LinkAttribute::IfName(port_name(number)),
            LinkAttribute::Controller(self.index),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(uplink))),
            ]),
        ];
        self.netlink.create_link(port)?;
        introduce(&mut self.netlink, self.index, number)
    }

    /// How many frames the nodes have sent into the switch so far.
    pub(super) fn frames() -> io::Result<u64> {
        Ok(frames_received(&fs::read_to_string("/proc/self/net/dev")?))
    }
}

/// Sets up node `number`'s end of the cable, in the node's namespace. There are `nodes` of them.
pub(super) fn plug_in(number: u16, nodes: u16) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.set_up(if_nametoindex("lo")?)?;
    let index = if_nametoindex(UPLINK)?;
    for address in addresses(number) {
        netlink.add_address(index, address)?;
    }
    netlink.set_up(index)?;
    (0..=nodes).filter(|other| *other != number).try_for_each(|other| introduce(&mut netlink, index, other))
}

/// Tells who has the addresses of `number`. Asking around would work as well, for a few dozen nodes: all
/// namespaces of a machine share one table of 1024 answers.
fn introduce(netlink: &mut Netlink, index: u32, number: u16) -> io::Result<()> {
    let mut addresses = addresses(number).into_iter();
    addresses.try_for_each(|address| netlink.add_neighbour(index, address.addr(), hardware_address(number)))
}

/// The addresses of node `number` on the switch; those of the switch itself for 0.
pub(super) fn addresses(number: u16) -> [IpNet; 2] {
    let host = if number == 0 { 1 } else { 10 + number };
    let [_, low] = host.to_be_bytes();
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 99, 0, low), 24);
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, host), 64);
    [v4.into(), v6.into()]
}

/// Where a node or, for 0, the switch is reached over IPv4.
pub(super) fn address(number: u16) -> IpAddr {
    addresses(number)[0].addr()
}

/// The hardware address of a node or, for 0, of the switch.
fn hardware_address(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [0x02, 0, 0, 0, high, low]
}

fn port_name(number: u16) -> String {
    format!("port{number}")
}

fn frames_received(table: &str) -> u64 {
    let ports = table.lines().filter_map(|line| line.trim().strip_prefix("port")?.split_once(':'));
    ports.filter_map(|(_, figures)| figures.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_addresses_of_its_own() {
        let mut all: Vec<IpNet> = (0..=64).flat_map(addresses).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 130);
        assert_eq!(address(1).to_string(), "10.99.0.11");
    }

    #[test]
    fn frames_are_those_received_on_ports() {
        let table = "Inter-|   Receive\n face |bytes    packets errs\n    lo: 5 5 0\nswitch: 100 7 0\n\
                     port1: 4242     40    0    0\n port12:1 2 0\n";
        assert_eq!(frames_received(table), 42);
    }
}
