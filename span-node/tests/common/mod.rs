//! Nodes of one process, without privileges: a memory device each, and sockets on the loopback interface.

#![allow(dead_code, unreachable_pub, reason = "each test uses its part")]

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use span_discovery::memory::Registry;
use span_node::node::{Builder, NoEvent, PeerRef};
use span_node::state::Identity;
use span_node::token::Token;
use span_node::{Event, Node, NodeConfig};
use span_tun::device::memory::{self, Memory};
use span_tun::device::{Device as _, MAX_FRAME};
use span_tun::offload::{Gso, VirtioHeader};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster that lives in this process.
pub struct Cluster {
    pub token: Token,
    pub registry: Registry,
}

impl Cluster {
    pub fn new() -> Self {
        let random = span_node::clock::entropy().unwrap();
        Cluster { token: Token::generate(&random, Vec::new()).unwrap(), registry: Registry::new() }
    }

    pub fn config(&self, name: &str) -> NodeConfig {
        NodeConfig { name: Some(name.to_owned()), ..NodeConfig::from_token(&self.token) }
    }

    /// A node that needs a device and a transport yet.
    pub fn builder(&self, config: NodeConfig) -> Builder {
        Node::builder(config)
            .tier(Box::new(self.registry.tier()))
            .identity(Identity::generate().unwrap())
            .without_control_socket()
    }

    /// A node with a memory device, and the host's end of that device.
    pub fn start(&self, name: &str) -> Member {
        self.start_with(self.config(name), |builder| builder)
    }

    pub fn start_with(&self, mut config: NodeConfig, more: impl FnOnce(Builder) -> Builder) -> Member {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        config.extra_endpoints.push(socket.local_addr().unwrap());
        let (device, host) = memory::pair(1420, 64).unwrap();
        let builder = self.builder(config).device(Box::new(device)).sockets(Some(socket), None);
        Member::new(more(builder).start().unwrap(), host)
    }
}

/// A running node and the host behind it.
pub struct Member {
    pub node: Node,
    pub address: Ipv6Addr,
    host: Memory,
}

impl Member {
    pub fn new(node: Node, host: Memory) -> Self {
        let IpAddr::V6(address) = node.status().unwrap().node.overlay_address else {
            panic!("overlay addresses are of IPv6")
        };
        Member { node, address, host }
    }

    /// Waits for an event that is wanted; those before it are passed over.
    pub fn wait_for(&self, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let (events, deadline) = (self.node.events(), Instant::now() + PATIENCE);
        loop {
            match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) if wanted(&event) => return event,
                Ok(_) => {}
                Err(why @ (NoEvent::Yet | NoEvent::Stopped)) => panic!("did not happen: {why}"),
            }
        }
    }

    /// Waits until the tunnel to the member of that name works.
    pub fn wait_for_peer(&self, name: &str) -> PeerRef {
        match self.wait_for(|event| matches!(event, Event::PeerUp(peer) if peer.name == name)) {
            Event::PeerUp(peer) => peer,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a packet from the host behind this node to that behind another.
    pub fn send(&mut self, to: Ipv6Addr, payload: &[u8]) {
        let packet = packet(self.address, to, payload);
        self.host.send(&VirtioHeader::default(), &[IoSlice::new(&packet)]).unwrap();
    }

    /// Sends TCP segments as a host does that leaves it to its network card to cut them.
    pub fn send_burst(&mut self, to: Ipv6Addr, segments: usize, each: u16) {
        let mut tcp = vec![0; TCP + segments * usize::from(each)];
        tcp[..4].copy_from_slice(&[0, 7, 0, 9]);
        tcp[12] = 5 << 4;
        tcp[13] = 1 << 4;
        let mut packet = packet(self.address, to, &tcp);
        packet[6] = 6;
        let header = VirtioHeader {
            needs_checksum: true,
            gso: Gso::Tcp6,
            header_len: (HEADER + TCP) as u16,
            segment_size: each,
            checksum_start: HEADER as u16,
            checksum_offset: 16,
            ..VirtioHeader::default()
        };
        self.host.send(&header, &[IoSlice::new(&packet)]).unwrap();
    }

    /// How many bytes of TCP come before nothing has come for a while.
    pub fn receive_tcp(&mut self) -> usize {
        let (mut frame, mut bytes) = (vec![0; MAX_FRAME], 0);
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(500) {
            match self.host.recv(&mut frame) {
                Ok((_, len)) => {
                    assert_eq!(frame[6], 6, "TCP");
                    bytes += len - HEADER - TCP;
                    last = Instant::now();
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
        bytes
    }

    /// The next packet for the host behind this node: who sent it, and what is in it.
    pub fn receive(&mut self) -> (Ipv6Addr, Vec<u8>) {
        let mut frame = vec![0; MAX_FRAME];
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.host.recv(&mut frame) {
                Ok((_, len)) => {
                    let source: [u8; 16] = frame[8..24].try_into().unwrap();
                    return (source.into(), frame[HEADER..len].to_vec());
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(Instant::now() < deadline, "no packet came");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

const HEADER: usize = 40;
const TCP: usize = 20;

/// An IPv6 packet of an experimental protocol (RFC 3692).
fn packet(from: Ipv6Addr, to: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], 253, 64];
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A port of the loopback interface that is free now.
pub fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
