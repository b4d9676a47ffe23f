//! The middle of Span: the WireGuard protocol, endpoint selection and mesh membership.
//!
//! Nothing in this crate reads a clock, draws randomness from the process, opens a socket or starts a
//! thread. Time and a seed come in as arguments, packets stay in buffers the caller owns, and every
//! state machine has the same shape: `handle_*` in, `poll_transmit`, `poll_event` and `poll_timeout` out.
//! It needs no standard library, only an allocator.
//!
//! * [`wireguard`]: a device and its peers, whole: handshakes, sessions, timers, cookies, roaming.
//! * [`endpoint`]: which path to a peer. [`tunnel`] joins both: a device that finds its peers.
//! * [`mesh`]: what nodes tell each other, and the peers and prefixes that follow from it.
//! * [`allowed_ips`], [`key`], [`path`], [`time`], and [`crypto`], the seam to the ciphers.
//!
//! # How to drive it
//!
//! Hand in one thing that happened: a packet, a datagram, a change of configuration, or that the time of
//! `poll_timeout` has come. Then take out all there is: datagrams from `poll_transmit`, events from
//! `poll_event`. Ask `poll_timeout` when to come back at the latest. Repeat.
//!
//! # A tunnel between two devices
//!
//! ```
//! use std::net::IpAddr;
//! use span_core::key::PrivateKey;
//! use span_core::path::Path;
//! use span_core::time::{Instant, UnixTime};
//! use span_core::wireguard::{Device, Inbound, Outbound, Reserve, Sealer};
//!
//! /// Datagrams on their way: here a list, elsewhere a batch for the socket.
//! #[derive(Default)]
//! struct Wire(Vec<Vec<u8>>);
//! impl Reserve for Wire {
//!     fn reserve(&mut self, _path: &Path, len: usize) -> Option<&mut [u8]> {
//!         self.0.push(vec![0; len]);
//!         self.0.last_mut().map(Vec::as_mut_slice)
//!     }
//!     fn release(&mut self) {
//!         self.0.pop();
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::from_secs(1);
//! let keys = [PrivateKey::from_bytes([1; 32]), PrivateKey::from_bytes([2; 32])];
//! let mut alice = Device::new(Some(keys[0].clone()), now, UnixTime::default(), [3; 32]);
//! let mut bob = Device::new(Some(keys[1].clone()), now, UnixTime::default(), [4; 32]);
//! let (to_bob, to_alice) = (Path::udp("192.0.2.2:51820".parse()?), Path::udp("192.0.2.1:51820".parse()?));
//! let peer = alice.add_peer(now, keys[1].public_key())?;
//! alice.add_allowed_ip(peer, "10.0.0.2/32".parse()?);
//! alice.set_path(now, peer, Some(to_bob));
//! let back = bob.add_peer(now, keys[0].public_key())?;
//! bob.add_allowed_ip(back, "10.0.0.1/32".parse()?);
//!
//! // Alice has a packet for Bob. There is no session yet, so it waits and a handshake begins.
//! let packet = [&[0x45, 0, 0, 20][..], &[0; 8], &[10, 0, 0, 1], &[10, 0, 0, 2]].concat();
//! let peer = alice.route(IpAddr::from([10, 0, 0, 2])).ok_or("no such peer")?;
//! match alice.outbound(now, peer) {
//!     Outbound::Ready(sending) => {
//!         let mut slot = vec![0; Sealer::slot_len(packet.len(), 1420)];
//!         slot[Sealer::PLAINTEXT_AT..][..packet.len()].copy_from_slice(&packet);
//!         sending.sealer.seal(&mut slot)?; // and send it on sending.path
//!     }
//!     Outbound::Stage | Outbound::NoPath => alice.stage(now, peer, &packet),
//!     Outbound::Gone => {}
//! }
//!
//! // Initiation, response, and the packet, which was sealed as soon as it could be.
//! let mut received = None;
//! for (device, other, from) in [(0, 1, to_alice), (1, 0, to_bob), (0, 1, to_alice)] {
//!     let mut devices = [&mut alice, &mut bob];
//!     let mut wire = Wire::default();
//!     while devices[device].poll_transmit(now, &mut wire).is_some() {}
//!     for mut datagram in wire.0 {
//!         if let Inbound::Packet { range, .. } = devices[other].handle_datagram(now, &from, &mut datagram) {
//!             received = Some(datagram[range].to_vec());
//!         }
//!         devices[other].handle_timeout(now);
//!     }
//! }
//! assert_eq!(received, Some(packet));
//! # Ok(())
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod allowed_ips;
pub mod crypto;
pub mod ecn;
pub mod endpoint;
pub mod key;
pub mod mesh;
pub mod path;
pub mod time;
pub mod tunnel;
pub mod wireguard;
