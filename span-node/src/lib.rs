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
//! # #[cfg(not(feature = "netstack"))]
//! # fn main() {}
//! # #[cfg(feature = "netstack")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::io::{Read, Write};
//! use std::net::{SocketAddr, UdpSocket};
//! use span_node::span_discovery::memory::Registry;
//! use span_node::{Event, Node, NodeConfig, clock, state::Identity, token::Token};
//!
//! let token = Token::generate(&clock::entropy()?, Vec::new())?;
//! let registry = Registry::new(); // where these two find each other; elsewhere a discovery service
//! let start = |name: &str| -> Result<Node, Box<dyn std::error::Error>> {
//!     let socket = UdpSocket::bind("127.0.0.1:0")?;
//!     let mut config = NodeConfig::from_token(&token);
//!     config.name = Some(name.to_owned());
//!     config.extra_endpoints.push(socket.local_addr()?);
//!     let builder = Node::builder(config)
//!         .netstack() // in place of a TUN interface
//!         .sockets(Some(socket), None)
//!         .tier(Box::new(registry.tier()))
//!         .identity(Identity::generate()?)
//!         .without_control_socket();
//!     Ok(builder.start()?)
//! };
//! let (alice, bob) = (start("alice")?, start("bob")?);
//! let is_bob = |event: &Event| matches!(event, Event::PeerUp(peer) if peer.name == "bob");
//! assert!(alice.events().any(|event| is_bob(&event)), "alice has stopped");
//!
//! let address = SocketAddr::new(alice.resolve("bob")?.ok_or("nobody is called bob")?, 80);
//! let (here, there) = (alice.netstack().ok_or("no stack")?, bob.netstack().ok_or("no stack")?);
//! let listener = there.listen(address)?;
//! let mut stream = here.connect(address)?;
//! let (mut accepted, _) = listener.accept()?;
//! stream.write_all(b"through the mesh")?;
//! let mut received = [0; 16];
//! accepted.read_exact(&mut received)?;
//! assert_eq!(&received, b"through the mesh");
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
#[cfg(feature = "proxies")]
mod proxy;
pub mod state;
pub mod token;
pub mod uapi;
pub mod wg;

pub use {span_core, span_discovery, span_nat, span_tun};

pub use config::NodeConfig;
pub use node::{Event, Events, Node};
