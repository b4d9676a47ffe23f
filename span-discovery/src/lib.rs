//! Who is in the cluster: sources of members, and the service that members find each other through.
//!
//! A [`tier::Tier`] is one source. There is the discovery service of Talos and its client (feature
//! `service`), a [static list in a file](mod@file), and the [last known members on disk](cache); the nodes of
//! one process can tell [each other directly](memory). What members tell each other over a service is
//! [sealed](seal) with the cluster secret; the service never reads it.
//!
//! Nothing here starts a thread. Tiers and the service are polled by the caller; those of feature `service`
//! expect to be polled inside a tokio runtime with its I/O and time drivers on, a current-thread one is
//! enough.
#![forbid(unsafe_code)]

pub mod cache;
pub mod file;
pub mod identity;
pub mod memory;
pub mod seal;
#[cfg(feature = "service")]
pub mod service;
pub mod tier;
pub mod url;
pub mod wire;

mod atomic;
