//! Two nodes that reach each other over a transport of the program's own: datagrams of the Unix domain, between
//! names that no other host ever sees. Neither needs privileges, an IP network or a file.
//!
//! ```console
//! $ cargo run -p span-examples --bin own-transport
//! ```

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixDatagram};
use std::thread;

use span_node::span_core::path::Path;
use span_node::span_discovery::memory::Registry;
use span_node::span_nat::transport::{DropReason, Ecn, RecvBatch, SendError, Sent, Transmit, Transport};
use span_node::span_tun::device::memory::{self, Memory};
use span_node::span_tun::device::{Device as _, MAX_FRAME};
use span_node::span_tun::offload::VirtioHeader;
use span_node::state::Identity;
use span_node::token::Token;
use span_node::{Event, Node, NodeConfig, clock};

/// Datagrams between sockets of this machine. A node publishes endpoints as addresses; here an address is no
/// more than a name for a socket.
struct Unix {
    socket: UnixDatagram,
    descriptors: [RawFd; 1],
}

impl Unix {
    fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = UnixDatagram::bind_addr(&name(address)?)?;
        socket.set_nonblocking(true)?;
        let descriptors = [socket.as_raw_fd()];
        Ok(Unix { socket, descriptors })
    }
}

/// The socket that an address stands for, in the abstract namespace: no file, and gone with the socket.
fn name(address: SocketAddr) -> io::Result<Name> {
    Name::from_abstract_name(format!("span-example-{}-{address}", std::process::id()))
}

/// The address that a socket stands for.
fn address(name: &Name) -> Option<SocketAddr> {
    let name = std::str::from_utf8(name.as_abstract_name()?).ok()?;
    name.splitn(4, '-').last()?.parse().ok()
}

impl Transport for Unix {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        let mut received = 0;
        while let Some(slot) = batch.spare().next() {
            match self.socket.recv_from(slot) {
                Ok((len, from)) => {
                    // Whoever has no address could not be answered.
                    let Some(from) = address(&from) else { continue };
                    batch.commit(len, len, Path::udp(from), Ecn::NotEct);
                    received += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(received)
    }

    fn send(&mut self, transmit: &Transmit<'_>) -> Result<Sent, SendError> {
        let Some(remote) = transmit.path.remote() else {
            return Err(SendError::Dropped(DropReason::Unsupported));
        };
        let to = name(remote).map_err(|_| SendError::Dropped(DropReason::Unsupported))?;
        match self.socket.send_to_addr(transmit.contents, &to) {
            Ok(_) => Ok(Sent::Done),
            // The other's queue is full, and waiting for one peer would hold up all others.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(SendError::Dropped(DropReason::NoBuffers))
            }
            Err(_) => Err(SendError::Dropped(DropReason::Refused)),
        }
    }

    fn max_segments(&self) -> usize {
        1
    }

    fn descriptors(&self) -> &[RawFd] {
        &self.descriptors
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let token = Token::generate(&clock::entropy()?, Vec::new())?;
    let registry = Registry::new();
    let (alice, mut host_of_alice) = start("alice", "192.0.2.1:1".parse()?, &token, &registry)?;
    let (bob, host_of_bob) = start("bob", "192.0.2.2:1".parse()?, &token, &registry)?;
    for event in alice.events() {
        println!("{event:?}");
        if matches!(event, Event::PeerUp(_)) {
            break;
        }
    }
    let packet = packet(&alice, &bob, b"over a transport of one's own")?;
    host_of_alice.send(&VirtioHeader::default(), &[IoSlice::new(&packet)])?;
    let received = receive(host_of_bob)?;
    println!("{}", String::from_utf8_lossy(&received[IPV6_HEADER..]));
    Ok(())
}

fn start(
    name: &str,
    address: SocketAddr,
    token: &Token,
    registry: &Registry,
) -> Result<(Node, Memory), Box<dyn Error>> {
    let mut config = NodeConfig::from_token(token);
    config.name = Some(name.to_owned());
    config.extra_endpoints.push(address);
    let (device, host) = memory::pair(config.mtu, 64)?;
    let node = Node::builder(config)
        .tier(Box::new(registry.tier()))
        .device(Box::new(device))
        .transport(Box::new(Unix::at(address)?))
        .identity(Identity::generate()?)
        .without_control_socket()
        .start()?;
    Ok((node, host))
}

const IPV6_HEADER: usize = 40;

/// An IPv6 packet from the host behind one node to that behind another.
fn packet(from: &Node, to: &Node, payload: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    const EXPERIMENTAL: u8 = 253;
    let len = u16::try_from(payload.len())?.to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], EXPERIMENTAL, 64];
    for node in [from, to] {
        let std::net::IpAddr::V6(address) = node.status()?.node.overlay_address else {
            return Err("overlay addresses are of IPv6".into());
        };
        packet.extend(address.octets());
    }
    packet.extend(payload);
    Ok(packet)
}

fn receive(mut host: Memory) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; MAX_FRAME];
    loop {
        match host.recv(&mut frame) {
            Ok((_, len)) => return Ok(frame[..len].to_vec()),
            // A program would poll the device's descriptor.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
}
