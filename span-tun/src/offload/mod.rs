//! Segmentation and its inverse, in software: pure functions over byte slices, no `unsafe`, no allocation in
//! steady state, never a panic on what a packet says.
//!
//! The shapes are those of the kernel's own offloads (`VIRTIO_NET_HDR_GSO_*`), so that either end can be the
//! kernel: [`split`] does what a network card with TSO or USO does, [`Coalescer`] what GRO does.

pub mod checksum;
mod coalesce;
mod flow;
mod header;
pub mod icmp;
pub mod packet;
mod split;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use coalesce::{Coalescer, MAX_PARTS};
pub use header::{Gso, HeaderError, VirtioHeader};
pub use split::{Segment, Segments, SplitError, split};
