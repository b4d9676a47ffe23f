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
//! What a node opens by itself can be brought along or left out instead: see [`Builder`]. The
//! [first page](crate) of this crate shows two nodes in one process.
//!
//! Three threads work for a node: one carries packets, one speaks to the tiers of discovery and to the
//! kernel's routes, and one answers the control socket. Whatever ends one of them ends the node.

mod answers;
mod builder;
pub(crate) mod control;
mod control_plane;
mod error;
mod events;
mod life;
mod manager;
mod me;
mod news;
mod reconfigure;
mod report;
mod resolve;
mod routing;
mod runtime;
mod saved;
#[cfg(feature = "service")]
mod service;
mod sources;
mod start;
mod thread;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use span_discovery::tier::Tier;

use crate::config::NodeConfig;
use crate::control::Status;
use crate::packet;
use events::Queue;
use life::Life;
use manager::Message;
use runtime::Outbox;

pub use builder::Builder;
pub use error::{NodeError, ReconfigureError, StartError, Stopped};
pub use events::{Event, Events, MemberRef, NoEvent, PeerRef, StopReason};

/// A running node. Dropping it stops it.
///
/// All methods may be called from several threads at once.
pub struct Node {
    life: Arc<Life>,
    packets: packet::Handle,
    manager: Outbox<Message>,
    events: Arc<Queue>,
    #[cfg(feature = "netstack")]
    netstack: Option<span_tun::netstack::Netstack>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Stops a node from another thread. It may outlive the node.
#[derive(Clone)]
pub struct Stopper(Arc<Life>);

impl Stopper {
    /// Asks the node to end, and does not wait for it: [`Node::wait`] comes back then, and the last event is
    /// [`Event::Stopped`].
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Node {
    /// Starts a node with nothing but its configuration.
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

    /// What happens to the node, from its start on. All readers share one queue: each event goes to one.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.events))
    }

    /// The network stack of a node that was [built with one](Builder::netstack). It ends with the node: whoever
    /// waits in it gets `NetworkDown` then.
    #[cfg(feature = "netstack")]
    pub fn netstack(&self) -> Option<&span_tun::netstack::Netstack> {
        self.netstack.as_ref()
    }

    /// The overlay address of the member called `name`, this node included: by its node name or its full host name,
    /// without regard to case, or by its id. `None` if there is no such member, or if several are called so: a name is
    /// what a member says of itself, and only its key says who it is.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn resolve(&self, name: &str) -> Result<Option<IpAddr>, Stopped> {
        let name = name.to_owned();
        answers::ask(&self.manager, move |manager| manager.resolve(&name))
    }

    /// Makes the running node what `config` says, without losing a link that can stay. Everything else than
    /// the following must be as it is:
    ///
    /// * what it tells the others: `name`, `hostname`, `machine_type`, `addresses`, `advertised_networks`,
    ///   `exclude_advertised_networks`, `extra_endpoints`, `endpoint_filters`, `harvest_extra_endpoints`
    /// * how it reaches them: `peer_endpoint_filters`, `allow_down_peer_bypass`, `cipher` (with a peer's next
    ///   handshake, within two minutes)
    /// * `mtu` and `listen_port`, unless device or sockets were brought along
    /// * `discovery.services` and `discovery.members`
    ///
    /// Waits until it is done, but not until the others know.
    ///
    /// # Errors
    /// See [`ReconfigureError`], which names the field. The node is as it was before then.
    pub fn reconfigure(&self, config: NodeConfig) -> Result<(), ReconfigureError> {
        answers::ask(&self.manager, move |manager| manager.reconfigure(config))?
    }

    /// The configuration in use.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn config(&self) -> Result<NodeConfig, Stopped> {
        answers::ask(&self.manager, |manager| manager.me.config.clone())
    }

    /// Adds a source of members to the running node. It has the last word over those there are.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn add_tier(&self, tier: Box<dyn Tier>) -> Result<(), Stopped> {
        answers::ask(&self.manager, move |manager| manager.add_source((sources::Origin::Given, tier)))
    }

    /// Removes the sources of members that were given to the node under this [name](Tier::name), and returns how
    /// many they were. Members that only they know stay as long as their tunnels work.
    ///
    /// # Errors
    /// The node has stopped.
    pub fn remove_tier(&self, name: &str) -> Result<usize, Stopped> {
        let name = name.to_owned();
        answers::ask(&self.manager, move |manager| {
            manager.remove_sources(|source| {
                source.origin == sources::Origin::Given && source.tier.name() == name
            })
        })
    }

    /// Makes the node look at its clock and its device again: after a [clock](Builder::clock) of the embedder
    /// has jumped ahead, or a [device](Builder::device) has another MTU.
    pub fn wake(&self) {
        // A device that is gone says so again when it is read.
        let _ = self.packets.post(|core| drop(core.refresh()));
        self.manager.wake();
    }

    /// What stops the node from another thread, while this one is in [`wait`](Self::wait).
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.life))
    }

    /// Waits until the node is stopped or fails, and all of it is gone.
    ///
    /// # Errors
    /// What it failed at; told to whoever waits first.
    pub fn wait(&self) -> Result<(), NodeError> {
        self.join();
        self.life.take_failure().map_or(Ok(()), Err)
    }

    /// Stops the node: routes and rules first, then the tunnel and its interface. Comes back when all of it is
    /// gone, within seconds whatever the network does. Does nothing to a node that has stopped.
    pub fn stop(&self) {
        self.life.stop();
        self.join();
    }

    fn join(&self) {
        self.life.wait();
        for thread in self.threads().drain(..) {
            // A panic has been reported as the node's end.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}
