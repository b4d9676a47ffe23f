//! Two stacks, and a way between them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should not")]

mod asynchronous;
mod datagrams;
mod garbage;
mod link;
mod tcp;
mod transfer;
