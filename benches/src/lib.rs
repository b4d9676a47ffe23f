//! What the benchmarks and the instruction counts share: devices with sessions, packets, prefixes.
//!
//! Everything is made from fixed seeds: two runs measure the same work.

pub mod devices;
pub mod packets;
pub mod prefixes;
pub mod random;
