//! TCP between programs of this machine and the mesh, for a node that is a network stack and no interface:
//! SOCKS5 and forwarded ports.
//!
//! Every connection has two threads, one for each direction, and their number is bounded.

mod forward;
mod relay;
mod socks;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use span_tun::netstack::{Netstack, TcpStream};
use tracing::{debug, info};

use crate::node::Node;

pub(crate) use forward::{Inward, Outward, local_address, outward};

/// Most connections at a time; more are closed as they come.
const CONNECTIONS: usize = 512;

/// How long to wait after the system could not give another connection.
const REST: Duration = Duration::from_millis(100);

/// The way into the mesh.
#[derive(Clone)]
pub(crate) struct Mesh {
    node: Arc<Node>,
    netstack: Netstack,
    connections: Arc<AtomicUsize>,
}

/// Where in the mesh to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address.
    Address(IpAddr),
    /// The name of a member.
    Name(String),
}

impl Mesh {
    /// The way over a node; `None` if it has no network stack.
    pub(crate) fn over(node: Arc<Node>) -> Option<Self> {
        let netstack = node.netstack()?.clone();
        Some(Mesh { node, netstack, connections: Arc::default() })
    }

    /// Serves SOCKS5 at `listener`, from a thread of its own until the process ends.
    pub(crate) fn serve_socks(&self, listener: TcpListener) -> io::Result<()> {
        info!(address = %listener.local_addr()?, "serving SOCKS5");
        let mesh = self.clone();
        accept(
            "span-socks",
            move || listener.accept(),
            move |client| {
                mesh.attend(move |mesh| socks::serve(client, mesh));
            },
        )
    }

    /// Carries what connects to `listener` to a place in the mesh, likewise.
    pub(crate) fn forward(&self, listener: TcpListener, to: Outward) -> io::Result<()> {
        info!(address = %listener.local_addr()?, to = %to, "forwarding into the mesh");
        let mesh = self.clone();
        accept(
            "span-forward",
            move || listener.accept(),
            move |client| {
                let to = to.clone();
                mesh.attend(move |mesh| relay::run(&client, &mesh.connect(&to.host, to.port)?));
            },
        )
    }

    /// Carries what members connect to on this node to a program of this machine, likewise.
    pub(crate) fn forward_inward(&self, from: Inward) -> io::Result<()> {
        let address = self.netstack.addresses().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let listener = self.netstack.listen(SocketAddr::new(address, from.port))?;
        info!(address = %listener.local_addr(), to = %from.to, "forwarding out of the mesh");
        let mesh = self.clone();
        accept(
            "span-forward",
            move || listener.accept(),
            move |member| {
                mesh.attend(move |_| relay::run(&std::net::TcpStream::connect(from.to)?, &member));
            },
        )
    }

    fn connect(&self, host: &Host, port: u16) -> io::Result<TcpStream> {
        let address = match host {
            Host::Address(address) => *address,
            Host::Name(name) => {
                let found = self.node.resolve(name).map_err(|_| io::ErrorKind::NetworkDown)?;
                let unknown = || format!("no member, or more than one, is called {name:?}");
                found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, unknown()))?
            }
        };
        self.netstack.connect(SocketAddr::new(address, port))
    }

    /// Does what a connection asks for on a thread of its own, if there is room for another.
    fn attend(&self, work: impl FnOnce(&Mesh) -> io::Result<()> + Send + 'static) {
        let Some(room) = Room::take(&self.connections) else {
            return debug!("a connection was closed: there are {CONNECTIONS} already");
        };
        let mesh = self.clone();
        let started = thread::Builder::new().name("span-proxy".into()).spawn(move || {
            let _room = room;
            if let Err(error) = work(&mesh) {
                debug!(%error, "a connection ended");
            }
        });
        if let Err(error) = started {
            debug!(%error, "a connection was closed");
        }
    }
}

/// Accepts connections on a thread of its own, until that fails for good.
fn accept<C, A>(
    name: &str,
    accept: impl Fn() -> io::Result<(C, A)> + Send + 'static,
    attend: impl Fn(C) + Send + 'static,
) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(move || {
        loop {
            match accept() {
                Ok((connection, _)) => attend(connection),
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => return,
                // Whoever connected may have gone again, or descriptors are short for a while.
                Err(_) => thread::sleep(REST),
            }
        }
    })?;
    Ok(())
}

/// One connection's share of what may be open.
struct Room(Arc<AtomicUsize>);

impl Room {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let grown = |open| (open < CONNECTIONS).then_some(open + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).ok()?;
        Some(Room(Arc::clone(open)))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
