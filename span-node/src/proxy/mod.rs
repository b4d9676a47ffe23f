//! TCP between programs of this machine and the mesh, for a node that is a network stack and no interface:
//! SOCKS5 and forwarded ports.
//!
//! All connections are tasks of one thread, and their number is bounded.

mod forward;
mod relay;
mod socks;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use span_tun::netstack::{Netstack, TcpStream};
use tokio::net::{TcpListener as NearListener, TcpStream as Near};
use tokio::runtime::{self, Handle};
use tokio::sync::{Semaphore, oneshot};
use tokio::{task, time};
use tracing::{debug, info};

use crate::node::Node;

pub(crate) use forward::{Inward, Outward, local_address, outward};

/// Most connections at a time, as many as the network stack has room for; others wait to be accepted.
const CONNECTIONS: usize = 4096;
/// Connections that may wait to be accepted, as far as the system allows.
const BACKLOG: usize = 4096;
/// Descriptors that the node needs besides one for each connection.
const DESCRIPTORS: u64 = 512;
/// Names that are looked up at the same time; the others wait for their turn.
const LOOKUPS: usize = 4;
/// How long to wait after the system could not give another connection.
const REST: Duration = Duration::from_millis(100);

/// The thread that carries connections. They end with it.
pub(crate) struct Proxies {
    mesh: Arc<Mesh>,
    tasks: Handle,
    _running: oneshot::Sender<()>,
}

/// The way into the mesh.
struct Mesh {
    node: Arc<Node>,
    netstack: Netstack,
    room: Arc<Semaphore>,
}

/// Where in the mesh to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address.
    Address(IpAddr),
    /// The name of a member.
    Name(String),
}

impl Proxies {
    /// Starts the thread, for a node with a network stack.
    pub(crate) fn over(node: Arc<Node>) -> io::Result<Self> {
        allow_descriptors(CONNECTIONS as u64 + DESCRIPTORS);
        Self::with_room(node, CONNECTIONS)
    }

    fn with_room(node: Arc<Node>, connections: usize) -> io::Result<Self> {
        let netstack = node.netstack().ok_or(io::ErrorKind::Unsupported)?.clone();
        let mut runtime = runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().max_blocking_threads(LOOKUPS).build()?;
        let tasks = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("span-proxy".into()).spawn(move || {
            let _ = runtime.block_on(ended);
            // A name that is being looked up waits for the node, which may end later than this.
            runtime.shutdown_background();
        })?;
        let room = Arc::new(Semaphore::new(connections));
        Ok(Proxies { mesh: Arc::new(Mesh { node, netstack, room }), tasks, _running: running })
    }

    /// Serves SOCKS5 at `listener`.
    pub(crate) fn serve_socks(&self, listener: TcpListener) -> io::Result<()> {
        let listener = self.near(listener)?;
        info!(address = %listener.local_addr()?, "serving SOCKS5");
        self.attend(
            move |context| listener.poll_accept(context),
            |mesh, client| async move { socks::serve(client, &mesh).await },
        );
        Ok(())
    }

    /// Carries what connects to `listener` to a place in the mesh.
    pub(crate) fn forward(&self, listener: TcpListener, to: Outward) -> io::Result<()> {
        let listener = self.near(listener)?;
        info!(address = %listener.local_addr()?, to = %to, "forwarding into the mesh");
        self.attend(
            move |context| listener.poll_accept(context),
            move |mesh, near| {
                let to = to.clone();
                async move { relay::run(near, mesh.connect(to.host, to.port).await?).await }
            },
        );
        Ok(())
    }

    /// Carries what members connect to on this node to a program of this machine.
    pub(crate) fn forward_inward(&self, from: Inward) -> io::Result<()> {
        let netstack = &self.mesh.netstack;
        let address = netstack.addresses().first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let listener = netstack.listen_with_backlog(SocketAddr::new(address, from.port), BACKLOG)?;
        info!(address = %listener.local_addr(), to = %from.to, "forwarding out of the mesh");
        self.attend(
            move |context| listener.poll_accept(context),
            move |_, member| async move { relay::run(Near::connect(from.to).await?, member).await },
        );
        Ok(())
    }

    fn near(&self, listener: TcpListener) -> io::Result<NearListener> {
        // The standard library lets 128 wait, and who comes after them tries again after a second.
        rustix::net::listen(&listener, BACKLOG as i32)?;
        listener.set_nonblocking(true)?;
        let _inside = self.tasks.enter();
        NearListener::from_std(listener)
    }

    /// Accepts connections while there is room, and gives each a task, until that fails for good.
    fn attend<C: Send + 'static, W>(
        &self,
        mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<(C, SocketAddr)>> + Send + 'static,
        work: impl Fn(Arc<Mesh>, C) -> W + Send + 'static,
    ) where
        W: Future<Output = io::Result<()>> + Send + 'static,
    {
        let mesh = Arc::clone(&self.mesh);
        self.tasks.spawn(async move {
            while let Ok(room) = Arc::clone(&mesh.room).acquire_owned().await {
                match poll_fn(&mut accept).await {
                    Ok((connection, _)) => {
                        let work = work(Arc::clone(&mesh), connection);
                        task::spawn(async move {
                            if let Err(error) = work.await {
                                debug!(%error, "a connection ended");
                            }
                            drop(room);
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::NetworkDown => return,
                    // Whoever connected may have gone again, or descriptors are short for a while.
                    Err(_) => time::sleep(REST).await,
                }
            }
        });
    }
}

impl Mesh {
    async fn connect(&self, host: Host, port: u16) -> io::Result<TcpStream> {
        let address = match host {
            Host::Address(address) => address,
            Host::Name(name) => self.resolve(name).await?,
        };
        self.netstack.connect_async(SocketAddr::new(address, port)).await
    }

    async fn resolve(&self, name: String) -> io::Result<IpAddr> {
        let node = Arc::clone(&self.node);
        let unknown = format!("no member, or more than one, is called {name:?}");
        // The node answers when it has time.
        let found = task::spawn_blocking(move || node.resolve(&name)).await?;
        found
            .map_err(|_| io::ErrorKind::NetworkDown)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, unknown))
    }
}

/// Lets this process have so many descriptors, as far as its hard limit goes: the soft one is low for the sake of
/// programs that use select(2).
fn allow_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        // With fewer, some connections wait.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..limit });
    }
}
