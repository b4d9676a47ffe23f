//! An encrypted full mesh as a library: a [`Node`] from a configuration, and the program `span` around it.

pub mod cipher;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
#[cfg(feature = "service")]
pub mod demo;
pub mod interface;
pub mod node;
mod packet;
pub mod state;
pub mod token;
pub mod uapi;
pub mod wg;

pub use node::Node;
