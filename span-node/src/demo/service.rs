//! The discovery service of the demo.

use std::io;
use std::net::SocketAddr;
use std::thread;

use span_discovery::service::server::{Server, ServerConfig};
use tokio::sync::oneshot;

/// A running discovery service, until it is dropped.
pub(super) struct Service {
    _stop: oneshot::Sender<()>,
}

impl Service {
    /// Listens at `address`, in the current network namespace. What passes through it is sealed, so it does
    /// without TLS.
    pub(super) fn start(address: SocketAddr) -> io::Result<Self> {
        let server = Server::bind(ServerConfig::new(address)).map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("discovery".to_owned()).spawn(move || {
            // Resolves with an error, because nothing is ever sent.
            let stopped = async { drop(stopped.await) };
            if let Err(error) = runtime.block_on(server.run(stopped)) {
                tracing::error!(%error, "the demo's discovery service has ended");
            }
        })?;
        Ok(Self { _stop: stop })
    }
}
