//! A node of the mesh: everything between a configuration and carried packets.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use span_node::{Node, config};
//!
//! let config = config::load("span.yaml".as_ref())?;
//! let node = Node::start(config)?;
//! println!("{}", node.status()?.node.overlay_address);
//! node.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! Three threads work for a node: one carries packets, one speaks to the tiers of discovery and to the
//! kernel's routes, and one answers the control socket.

mod answers;
pub(crate) mod control;
mod control_plane;
mod error;
mod manager;
mod me;
mod report;
mod routing;
mod runtime;
mod saved;
#[cfg(feature = "service")]
mod service;
mod sources;
mod start;
mod thread;

use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use crate::config::NodeConfig;
use crate::control::Status;
use crate::packet;
use manager::Message;
use runtime::Outbox;

pub use error::{NodeError, StartError, Stopped};
pub use start::Builder;

/// The threads' names, as `ps` shows them.
const MANAGER: &str = "span-manager";
const PACKETS: &str = "span-packets";
const CONTROL: &str = "span-control";

/// A running node. Dropping it stops it.
pub struct Node {
    packets: packet::Handle,
    manager: Outbox<Message>,
    control: Option<control::Stopper>,
    threads: Vec<JoinHandle<()>>,
    /// The first thread that ends says here why.
    ended: Receiver<Result<(), NodeError>>,
}

/// Stops a node from another thread.
#[derive(Clone)]
pub struct Stopper(packet::Handle);

impl Stopper {
    /// Lets [`Node::wait`] come back.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Node {
    /// Starts a node with the tiers of discovery its configuration names.
    ///
    /// # Errors
    /// See [`StartError`]: each says what is wrong and what to do. Nothing of the node is left then.
    pub fn start(config: NodeConfig) -> Result<Self, StartError> {
        Builder::new(config).start()
    }

    /// A node to which more can be given than a configuration holds.
    pub fn builder(config: NodeConfig) -> Builder {
        Builder::new(config)
    }

    /// How the node and its peers are doing.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn status(&self) -> Result<Status, Stopped> {
        answers::status(&self.manager)
    }

    /// What stops the node from another thread, while this one is in [`wait`](Self::wait).
    pub fn stopper(&self) -> Stopper {
        Stopper(self.packets.clone())
    }

    /// Waits until the node is stopped or fails, and cleans up after it.
    ///
    /// # Errors
    /// What it failed at.
    pub fn wait(mut self) -> Result<(), NodeError> {
        let ended = self.ended.recv().unwrap_or(Ok(()));
        self.end();
        ended
    }

    /// Stops the node: routes and rules first, then the tunnel and its interface.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.manager.post(Message::Stop);
        if let Some(control) = self.control.take() {
            control.stop();
        }
        // In the order they were started: the manager goes before the packets.
        for thread in self.threads.drain(..) {
            if thread.thread().name() == Some(PACKETS) {
                self.packets.stop();
            }
            // A panic has been reported as the node's end.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
