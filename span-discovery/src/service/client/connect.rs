//! The way to a service: name, TCP, proxy, TLS.

use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use super::proxy::Environment;
use crate::url::ServiceUrl;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(10);

/// Head start of one address of a host over the next (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Room for a large cluster's first message on a long way.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// How connections are made.
pub(super) struct Connector {
    pub(super) roots: Option<PathBuf>,
    pub(super) mark: Option<u32>,
    pub(super) environment: Environment,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot find the address of {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {authority}: {source}")]
    Tcp { authority: String, source: io::Error },
    #[error("{authority} does not answer")]
    Timeout { authority: String },
    #[error("{0}")]
    Proxy(String),
    #[error("TLS with {authority} failed: {why}")]
    Tls { authority: String, why: String },
    #[error("cannot read certificate authorities from {}: {source}", path.display())]
    Roots { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error(
        "there is no certificate authority to trust: install the system's (often `ca-certificates`), or name a file of your own"
    )]
    NoRoots,
    #[error("cannot speak HTTP/2 with {authority}: {source}")]
    Http { authority: String, source: tonic::transport::Error },
}

impl Connector {
    /// Connects to the service. The channel does not come back by itself once it breaks.
    pub(super) async fn connect(&self, url: &ServiceUrl) -> Result<Channel, ConnectError> {
        let authority = url.authority();
        let stream = self.reach(url).await?;
        let stream: Box<dyn Stream> = if url.tls() {
            let connector = TlsConnector::from(tls_config(self.roots.as_deref())?);
            let tls_error = |why| ConnectError::Tls { authority: authority.clone(), why };
            let name =
                ServerName::try_from(url.host().to_owned()).map_err(|error| tls_error(error.to_string()))?;
            let stream = within(STEP, &authority, connector.connect(name, stream)).await?;
            Box::new(stream.map_err(|error| tls_error(explain_tls(&error)))?)
        } else {
            Box::new(stream)
        };

        let http_error = |source| ConnectError::Http { authority: authority.clone(), source };
        // The host is checked to be a name or an address, so this cannot fail but by our own mistake.
        let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(http_error)?;
        let origin = Uri::try_from(url.to_string()).unwrap_or_else(|_| endpoint.uri().clone());
        let endpoint = endpoint
            .origin(origin)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let channel = endpoint.connect_with_connector(Once(Some(stream)));
        within(STEP, &authority, channel).await?.map_err(http_error)
    }

    /// A TCP connection to the service, or through a proxy to it.
    async fn reach(&self, url: &ServiceUrl) -> Result<TcpStream, ConnectError> {
        let Some(proxy) = self.environment.proxy_for(url).map_err(ConnectError::Proxy)? else {
            return self.tcp(url).await;
        };
        let mut stream = self.tcp(&proxy.url).await?;
        let tunnel = within(STEP, &proxy.url.authority(), proxy.tunnel(&mut stream, url)).await?;
        tunnel.map_err(|error| {
            ConnectError::Proxy(format!("the proxy {} does not lead there: {error}", proxy.url.authority()))
        })?;
        Ok(stream)
    }

    async fn tcp(&self, url: &ServiceUrl) -> Result<TcpStream, ConnectError> {
        let (host, authority) = (url.host(), url.authority());
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![(address, url.port()).into()],
            Err(_) => within(STEP, &authority, lookup_host((host, url.port())))
                .await?
                .map_err(|source| ConnectError::Resolve { host: host.to_owned(), source })?
                .collect(),
        };
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress { host: host.to_owned() });
        }
        within(STEP, &authority, race(alternate(addresses), self.mark))
            .await?
            .map_err(|source| ConnectError::Tcp { authority, source })
    }
}

/// Connects to the first address that answers; each gets a head start over the next.
async fn race(addresses: Vec<SocketAddr>, mark: Option<u32>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(dial(address, mark));
        }
        let head_start = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            outcome = attempts.join_next() => match outcome {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = failure.or(Some(error)),
                Some(Err(_)) => {}
                None => return Err(failure.unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
            },
            () = head_start => {}
        }
    }
}

async fn dial(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    crate::service::set_mark(&SockRef::from(&socket), mark)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// The families in turn, the resolver's first choice first.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (same, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv4() == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = Vec::new();
    loop {
        match (same.next(), other.next()) {
            (None, None) => return turns,
            (a, b) => turns.extend(a.into_iter().chain(b)),
        }
    }
}

async fn within<T>(
    limit: Duration,
    authority: &str,
    step: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    timeout(limit, step).await.map_err(|_| ConnectError::Timeout { authority: authority.to_owned() })
}

/// Trusts the system's authorities and those in `extra`, both read anew: they may have changed.
fn tls_config(extra: Option<&Path>) -> Result<Arc<ClientConfig>, ConnectError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = extra {
        let error = |source| ConnectError::Roots { path: path.to_owned(), source };
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(error)? {
            let added = roots.add(certificate.map_err(error)?);
            found |= added.is_ok();
        }
        if !found {
            return Err(error(rustls::pki_types::pem::Error::NoItemsFound));
        }
    }
    if roots.is_empty() {
        return Err(ConnectError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(crate::service::provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn explain_tls(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            "it does not speak TLS there; is it a plain http:// service?".to_owned()
        }
        // A signature that does not fit is that of another authority with the same name.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => "its certificate is by an authority unknown here; name a file with that authority".to_owned(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Gives a channel the one connection it lives for.
struct Once(Option<Box<dyn Stream>>);

impl Service<Uri> for Once {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let stream = self.0.take().map(TokioIo::new);
        ready(
            stream.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionAborted, "the connection is lost")),
        )
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("roots", &self.roots)
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn the_families_take_turns() {
        let addresses =
            |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(alternate(given), addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert!(alternate(Vec::new()).is_empty());
    }

    #[tokio::test]
    async fn the_first_address_that_answers_wins_and_the_first_failure_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = listener.local_addr().unwrap();
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let stream = race(vec![closed, closed, good], None).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good);
        let error = race(vec![closed, closed], None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
