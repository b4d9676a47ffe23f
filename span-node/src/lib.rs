//! An encrypted full mesh as a library: a [`Node`] from a configuration, and the program `span` around it.
//!
//! A node told nothing but its [configuration](NodeConfig) is what `span up` runs, and needs to be root.
//! [`Node::builder`] takes what an embedder brings instead: a device or the descriptor of a TUN, bound sockets
//! or a transport, sources of members, a clock, an identity that is not on disk. A node that has all of it needs
//! no privileges and touches nothing outside of the process but its sockets.
//!
//! # Two nodes in one process
//!
//! ```
//! use std::io::IoSlice;
//! use std::net::{IpAddr, UdpSocket};
//! use span_node::span_discovery::memory::Registry;
//! use span_node::span_tun::device::{Device as _, memory};
//! use span_node::span_tun::offload::VirtioHeader;
//! use span_node::{Event, Node, NodeConfig, clock, state::Identity, token::Token};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let token = Token::generate(&clock::entropy()?, Vec::new())?;
//! let registry = Registry::new(); // where these two find each other; elsewhere a discovery service
//! let start = |name: &str| -> Result<_, Box<dyn std::error::Error>> {
//!     let socket = UdpSocket::bind("127.0.0.1:0")?;
//!     let mut config = NodeConfig::from_token(&token);
//!     config.name = Some(name.to_owned());
//!     config.extra_endpoints.push(socket.local_addr()?);
//!     let (device, host) = memory::pair(config.mtu, 64)?; // in place of a TUN interface
//!     let node = Node::builder(config)
//!         .tier(Box::new(registry.tier()))
//!         .device(Box::new(device))
//!         .sockets(Some(socket), None)
//!         .identity(Identity::generate()?)
//!         .without_control_socket()
//!         .start()?;
//!     Ok((node, host))
//! };
//! let (alice, mut host_of_alice) = start("alice")?;
//! let (bob, mut host_of_bob) = start("bob")?;
//! let up = |event: &Event| matches!(event, Event::PeerUp(peer) if peer.name == "bob");
//! assert!(alice.events().any(|event| up(&event)), "alice has stopped");
//!
//! // A packet of no content from one host to the other.
//! let addresses = [alice.status()?.node.overlay_address, bob.status()?.node.overlay_address];
//! let mut packet = vec![0x60, 0, 0, 0, 0, 0, 59, 64];
//! for address in addresses {
//!     let IpAddr::V6(address) = address else { unreachable!("overlay addresses are of IPv6") };
//!     packet.extend(address.octets());
//! }
//! host_of_alice.send(&VirtioHeader::default(), &[IoSlice::new(&packet)])?;
//! let mut received = [0; 1500];
//! let len = loop {
//!     match host_of_bob.recv(&mut received) {
//!         Ok((_, len)) => break len,
//!         Err(_) => std::thread::yield_now(), // or poll host_of_bob.descriptor()
//!     }
//! };
//! assert_eq!(received[..len], packet);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! * [`Node`]: status, events, another configuration while it runs, the end. [`node::Builder`]: what can be
//!   brought along.
//! * [`NodeConfig`]: everything a node can be told; [`config`]: the same as a file or text, Talos' included.
//! * [`token`], [`state::Identity`]: who belongs to a cluster, and who a node is.
//! * [`control`]: what a node says about itself. [`wg`]: a plain WireGuard interface.
//!
//! The crates below are re-exported, so that an embedder has them in the version that fits:
//! [`span_core`] with keys, members and paths, [`span_tun`] with devices, [`span_nat`] with transports,
//! [`span_discovery`] with sources of members.

pub mod cipher;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
#[cfg(feature = "service")]
pub mod demo;
pub mod interface;
pub mod node;
mod packet;
pub mod state;
pub mod token;
pub mod uapi;
pub mod wg;

pub use {span_core, span_discovery, span_nat, span_tun};

pub use config::NodeConfig;
pub use node::{Event, Events, Node};
