//! `span demo`: a whole mesh on this machine, with nothing to configure.
//!
//! The process leaves for a network namespace that only it can see and builds a switch there. It starts
//! itself once per node; each of these processes takes a namespace of its own, is given one port of the
//! switch, and runs a real [`Node`](crate::node) with a real TUN device. Nothing of the host's network is
//! touched, nothing has a name outside, so nothing can be left behind: whatever kills the demo, the
//! namespaces go with the last process in them.
//!
//! Where neither privileges nor user namespaces are to be had, the nodes are network stacks inside this process,
//! and their datagrams go over the loopback interface.

mod capture;
pub mod child;
mod filter;
mod frame;
#[cfg(feature = "netstack")]
mod inprocess;
mod member;
mod messages;
mod netlink;
mod netns;
mod nodes;
mod parent;
mod ping;
mod report;
mod service;
mod stages;
mod switch;
mod transfer;
mod view;

pub use parent::{Options, run};
