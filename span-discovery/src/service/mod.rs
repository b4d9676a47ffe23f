//! The discovery service of Talos, and its client.

pub mod client;
pub mod server;

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use socket2::Socket;

/// The cryptography of TLS, without touching the process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Sets the mark by which routing rules tell this traffic from what belongs into the tunnel.
fn set_mark(socket: &Socket, mark: Option<u32>) -> io::Result<()> {
    let Some(mark) = mark else { return Ok(()) };
    #[cfg(target_os = "linux")]
    return socket.set_mark(mark);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, mark);
        Err(io::Error::new(io::ErrorKind::Unsupported, "packet marks exist on Linux only"))
    }
}
