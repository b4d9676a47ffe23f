//! The service and its client over loopback.
#![cfg(feature = "service")]
#![allow(clippy::unwrap_used, missing_docs)]

mod client;
mod support;
mod wire;
