//! The outer side of Span: what carries sealed datagrams to peers, and what watches the host's network.
//!
//! [`transport`] sends and receives datagrams over a [`Path`](span_core::path::Path): in batches, in
//! buffers that are reused, never blocking and without allocating per packet. `monitor` (Linux) says which
//! interfaces, addresses and routes the host has, and when they change.
//!
//! One rule divides the work with `span-core`: core decides which path, this crate carries the bytes.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod monitor;
pub mod transport;
