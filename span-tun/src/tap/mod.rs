//! Devices that wrap a device: to look at what passes ([`Pcap`]), or to spoil it ([`Fault`]).

mod fault;
mod pcap;

pub use fault::{Fault, Faults, Spoilt};
pub use pcap::Pcap;
