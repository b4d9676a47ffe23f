//! The discovery service: keeps the sealed records of clusters for their members to find.
//!
//! It holds ciphertext only and authenticates nobody: whoever knows a cluster's id may read and write its
//! records. Everything is in memory, and on disk if asked for.

mod client_ip;
mod cluster;
mod exposition;
mod limits;
mod listener;
mod metrics;
mod rate;
mod rpc;
mod snapshot;
mod state;
mod tls;

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use span_core::time::UnixTime;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_rustls::TlsAcceptor;

use self::client_ip::Trust;
use self::listener::Incoming;
use self::metrics::{Metrics, Operation};
use self::rpc::{Service, Shared};
use self::state::State;
use crate::atomic;
use crate::url::{ServiceUrl, ServiceUrlError};
use crate::wire::server::cluster_server::ClusterServer;

pub use tls::{CertificateError, ServerTls};

/// How a service is run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where to listen. `[::]` takes both families, and IPv4 alone on a host without IPv6. Port 0 takes any.
    pub listen: SocketAddr,
    /// Where to serve Prometheus metrics at `/metrics`, if anywhere. Anyone who gets there can read them.
    pub metrics: Option<SocketAddr>,
    /// The certificate; without one the service speaks plaintext HTTP/2.
    pub tls: Option<ServerTls>,
    /// Where to keep the state across restarts, if anywhere.
    pub snapshot: Option<PathBuf>,
    /// How often to save the state.
    pub snapshot_interval: Duration,
    /// How often to drop what has expired.
    pub gc_interval: Duration,
    /// Sends every client to the service at this `host:port` instead.
    pub redirect: Option<String>,
    /// Believes the `X-Real-IP` header. Only behind a proxy that sets it.
    pub trust_x_real_ip: bool,
    /// Believes the first address of the `X-Forwarded-For` header. Only behind a proxy that sets it.
    pub trust_x_forwarded_for: bool,
    /// Tells clients the address they come from. Turn it off where that is no address of theirs that
    /// others could reach, as behind a tunnel.
    pub report_client_ip: bool,
    /// Marks the service's packets (`SO_MARK`, Linux), which takes CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// Affiliates in all clusters together; each takes up to 8 KiB.
    pub max_affiliates: usize,
    /// Connections at once; more wait. Each takes a descriptor of the process.
    pub max_connections: usize,
}

/// Why a service could not be started, or ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The redirect is not a `host:port`.
    #[error("the redirect {redirect:?} is not a HOST:PORT: {source}")]
    Redirect {
        /// What was given.
        redirect: String,
        /// What is wrong with it.
        source: ServiceUrlError,
    },
    /// The place for snapshots cannot be used.
    #[error("cannot keep snapshots at {}: {source}", path.display())]
    Snapshot {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The service broke.
    #[error("the discovery service failed: {0}")]
    Serve(#[source] tonic::transport::Error),
}

/// A service that listens already, and answers once it is [run](Server::run).
pub struct Server {
    config: ServerConfig,
    listener: StdListener,
    metrics_listener: Option<StdListener>,
    certificate: Option<Arc<tls::Certificate>>,
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
}

impl ServerConfig {
    /// Plaintext on `listen`, nothing on disk, no metrics, headers not believed, and the usual intervals: ten
    /// minutes between snapshots, one between collections.
    pub fn new(listen: SocketAddr) -> Self {
        ServerConfig {
            listen,
            metrics: None,
            tls: None,
            snapshot: None,
            snapshot_interval: Duration::from_secs(600),
            gc_interval: Duration::from_secs(60),
            redirect: None,
            trust_x_real_ip: false,
            trust_x_forwarded_for: false,
            report_client_ip: true,
            mark: None,
            max_affiliates: 1 << 18,
            max_connections: 8192,
        }
    }
}

/// How often the certificate's files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(10);

/// How long connections get to end in good order.
const FAREWELL: Duration = Duration::from_secs(5);

/// A client that does not answer a ping for this long is gone, and so are its watches.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Calls under way at once on one connection; a client needs two.
const STREAMS: u32 = 128;

impl Server {
    /// Checks the configuration and opens the listeners. Needs no runtime yet.
    pub fn bind(config: ServerConfig) -> Result<Server, ServerError> {
        if let Some(redirect) = &config.redirect {
            let any: ServiceUrl = "https://any".parse().expect("it is well-formed");
            any.redirected(redirect)
                .map_err(|source| ServerError::Redirect { redirect: redirect.clone(), source })?;
        }
        let certificate = match &config.tls {
            Some(files) => Some(Arc::new(tls::Certificate::load(files)?)),
            None => None,
        };
        if let Some(path) = &config.snapshot {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            fs::create_dir_all(directory.unwrap_or(Path::new(".")))
                .map_err(|source| ServerError::Snapshot { path: path.clone(), source })?;
        }
        let bind = |address, mark| {
            let listener =
                listener::bind(address, mark).and_then(|listener| Ok((listener.local_addr()?, listener)));
            listener.map_err(|source| ServerError::Listen { address, source })
        };
        let (address, listener) = bind(config.listen, config.mark)?;
        let metrics = config.metrics.map(|address| bind(address, config.mark)).transpose()?;
        let (metrics_address, metrics_listener) = metrics.unzip();
        Ok(Server { config, listener, metrics_listener, certificate, address, metrics_address })
    }

    /// The address it listens on, with the port it got.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address of its metrics, with the port it got.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Serves until `shutdown` resolves, then ends the watches, saves the state and returns. Poll it inside a
    /// tokio runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let listen_error = |address| move |source| ServerError::Listen { address, source };
        let listener = TcpListener::from_std(self.listener).map_err(listen_error(self.address))?;
        let metrics_listener = match (self.metrics_listener, self.metrics_address) {
            (Some(listener), Some(address)) => {
                Some(TcpListener::from_std(listener).map_err(listen_error(address))?)
            }
            (None, _) | (_, None) => None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(self.config.max_affiliates)),
            metrics: Mutex::new(Metrics::default()),
            rate: Mutex::default(),
            trust: Trust {
                x_real_ip: self.config.trust_x_real_ip,
                x_forwarded_for: self.config.trust_x_forwarded_for,
            },
            redirect: self.config.redirect,
            report_client_ip: self.config.report_client_ip,
            start: Instant::now(),
        });
        if let Some(path) = &self.config.snapshot {
            load(&shared, path);
        }
        shared.collect();

        let acceptor = self.certificate.clone().map(|c| TlsAcceptor::from(tls::config(c)));
        let incoming = Incoming::new(listener, acceptor, self.config.max_connections);
        let (goodbye, farewell) = oneshot::channel::<()>();
        let service = ClusterServer::new(Service(shared.clone())).max_decoding_message_size(limits::REQUEST);
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .max_concurrent_streams(STREAMS)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async {
                let _ = farewell.await;
            });
        let mut serve = std::pin::pin!(serve);

        let snapshot = self.config.snapshot;
        let upkeep = Upkeep {
            shared: shared.clone(),
            certificate: self.certificate,
            snapshot: snapshot.clone(),
            gc_interval: self.config.gc_interval,
            snapshot_interval: self.config.snapshot_interval,
        };
        let metrics = async {
            match metrics_listener {
                Some(listener) => exposition::serve(listener, shared.clone()).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = &mut serve => outcome,
            never = upkeep.run() => match never {},
            never = metrics => match never {},
            () = shutdown => {
                let _ = goodbye.send(());
                shared.state().close();
                timeout(FAREWELL, serve).await.unwrap_or(Ok(()))
            }
        };
        if let Some(path) = &snapshot {
            save(&shared, path).await;
        }
        outcome.map_err(ServerError::Serve)
    }
}

/// What is done from time to time.
struct Upkeep {
    shared: Arc<Shared>,
    certificate: Option<Arc<tls::Certificate>>,
    snapshot: Option<PathBuf>,
    gc_interval: Duration,
    snapshot_interval: Duration,
}

impl Upkeep {
    async fn run(self) -> Infallible {
        let mut collect = every(self.gc_interval);
        let mut look = every(CERTIFICATE_INTERVAL);
        let mut store = every(self.snapshot_interval);
        loop {
            tokio::select! {
                _ = collect.tick() => self.shared.collect(),
                _ = look.tick() => refresh(self.certificate.as_deref()),
                _ = store.tick() => {
                    if let Some(path) = &self.snapshot {
                        save(&self.shared, path).await;
                    }
                }
            }
        }
    }
}

/// Ticks after every `period`.
fn every(period: Duration) -> Interval {
    // A period of zero would be a loop without end.
    let period = period.max(Duration::from_millis(10));
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn refresh(certificate: Option<&tls::Certificate>) {
    match certificate.map(tls::Certificate::refresh) {
        Some(Ok(true)) => tracing::info!("the certificate was read again"),
        Some(Ok(false)) | None => {}
        Some(Err(error)) => tracing::warn!(%error, "the old certificate stays in use"),
    }
}

fn load(shared: &Shared, path: &Path) {
    let start = Instant::now();
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            shared.metrics().stored(Operation::Load, None, start.elapsed());
            return tracing::warn!(path = %path.display(), %error, "cannot read the snapshot, starting empty");
        }
    };
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let restored =
        snapshot::restore(&mut shared.state(), &bytes, shared.now(), UnixTime::from_duration(unix));
    match restored {
        Ok(affiliates) => {
            let totals = shared.state().totals();
            shared.metrics().stored(Operation::Load, Some((totals, bytes.len())), start.elapsed());
            tracing::info!(path = %path.display(), affiliates, "restored the state");
        }
        Err(error) => {
            // The next snapshot would overwrite what may still be mended by hand.
            let aside = path.with_extension("broken");
            let kept = fs::rename(path, &aside).is_ok();
            shared.metrics().stored(Operation::Load, None, start.elapsed());
            tracing::warn!(path = %path.display(), %error, kept, "the snapshot is damaged, starting empty");
        }
    }
}

async fn save(shared: &Shared, path: &Path) {
    let start = Instant::now();
    let (totals, bytes) = {
        let state = shared.state();
        (state.totals(), snapshot::encode(&state, shared.now()))
    };
    let (len, to) = (bytes.len(), path.to_owned());
    // Syncing a file may take long, and the runtime may have packets of its own to think of.
    let written = tokio::task::spawn_blocking(move || atomic::write(&to, &bytes)).await;
    match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => {
            shared.metrics().stored(Operation::Save, Some((totals, len)), start.elapsed());
            tracing::debug!(path = %path.display(), bytes = len, "saved the state");
        }
        Err(error) => {
            shared.metrics().stored(Operation::Save, None, start.elapsed());
            tracing::warn!(path = %path.display(), %error, "cannot save the state");
        }
    }
}
