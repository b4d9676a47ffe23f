//! The discovery service of the demo.

use std::io;
use std::net::SocketAddr;
use std::thread;

use span_discovery::service::server::{Server, ServerConfig};
use tokio::sync::oneshot;

/// A running discovery service, until it is dropped.
pub(super) struct Service {
    #[cfg(feature = "netstack")]
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Service {
    /// Listens at `address`, in the current network namespace. What passes through it is sealed, so it does
    /// without TLS.
    pub(super) fn start(address: SocketAddr) -> io::Result<Self> {
        let server = Server::bind(ServerConfig::new(address)).map_err(io::Error::other)?;
        #[cfg(feature = "netstack")]
        let address = server.local_addr();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("discovery".to_owned()).spawn(move || {
            // Resolves with an error, because nothing is ever sent.
            let stopped = async { drop(stopped.await) };
            if let Err(error) = runtime.block_on(server.run(stopped)) {
                tracing::error!(%error, "the demo's discovery service has ended");
            }
        })?;
        Ok(Self {
            #[cfg(feature = "netstack")]
            address,
            _stop: stop,
        })
    }

    /// Where it listens, with the port it got.
    #[cfg(feature = "netstack")]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}
