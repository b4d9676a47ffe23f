//! The inner side of a Span node: where the packets of the host come from and go to.
//!
//! * [`device`]: a TUN interface that hands out super-packets of up to 64 KiB, and a memory pair for tests.
//! * `netstack` (feature `netstack`): TCP, UDP and ping in this process, as a device without a TUN.
//! * [`offload`]: what a network card would do with such a super-packet, in software and without `unsafe`:
//!   cut it into packets, put a burst of packets together again, checksums, ICMP errors.
//! * [`route`] (Linux): addresses, policy rule, routing table and nftables rules of KubeSpan, reconciled
//!   against what the kernel really has.
//! * [`tap`]: devices that wrap devices: a pcap writer and a fault injector.
//!
//! Outbound, one [`device::Device::recv`] gives a super-packet and [`offload::split`] writes each of its
//! segments straight into the place it is sealed at. Inbound, [`offload::Coalescer`] collects a burst that was
//! opened in place and [`device::Device::send`] writes it as a gather list over the same buffer: the payload is
//! copied once on the way out and never on the way in.

#![deny(unsafe_code)]

pub mod device;
#[cfg(feature = "netstack")]
pub mod netstack;
pub mod offload;
#[cfg(target_os = "linux")]
pub mod route;
pub mod tap;

#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
mod steering;
#[cfg(target_os = "linux")]
mod sys;
