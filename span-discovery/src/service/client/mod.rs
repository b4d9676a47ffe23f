//! A member's side of the discovery service.

mod backoff;
mod call;
mod connect;
mod outbox;
mod proxy;
mod session;
mod view;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use span_core::mesh::{Member, NodeId};
use tokio::sync::watch;

use self::outbox::{Own, Wanted};
use crate::seal::{ClusterId, ClusterSecret, NONCE_LEN};
use crate::tier::{Connection, Observed, Published, Tier, TierEvent, TierStatus};
use crate::url::ServiceUrl;

/// How a node uses a discovery service.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// The service.
    pub url: ServiceUrl,
    /// The node's cluster.
    pub cluster: ClusterId,
    /// The secret its records are sealed with.
    pub secret: ClusterSecret,
    /// The node itself, whose record is left out of what the service reports.
    pub node_id: NodeId,
    /// Which version to call itself, for the service's statistics.
    pub client_version: String,
    /// A PEM file of certificate authorities to trust besides the system's.
    pub extra_roots: Option<PathBuf>,
    /// Marks the packets to the service (`SO_MARK`, Linux), which takes CAP_NET_ADMIN, so that they never
    /// enter the tunnel they help to build.
    pub mark: Option<u32>,
    /// How long the service keeps what it was told; refreshed in less than half that time. Services take at
    /// most 30 minutes.
    pub ttl: Duration,
}

impl ServiceConfig {
    /// The usual: 30 minutes to live, the system's certificate authorities, no mark.
    pub fn new(url: ServiceUrl, cluster: ClusterId, secret: ClusterSecret, node_id: NodeId) -> Self {
        ServiceConfig {
            url,
            cluster,
            secret,
            node_id,
            client_version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
            extra_roots: None,
            mark: None,
            ttl: Duration::from_secs(30 * 60),
        }
    }
}

/// A discovery service as a source of members. Poll it inside a tokio runtime; `HTTPS_PROXY` and `NO_PROXY`
/// are honoured.
pub struct ServiceTier {
    name: String,
    secret: ClusterSecret,
    random: SystemRandom,
    published: Option<Member>,
    wanted: watch::Sender<Wanted>,
    told: Arc<Told>,
    life: Pin<Box<dyn Future<Output = Infallible> + Send>>,
}

/// What the connection's life has to tell. The queue is emptied before life goes on, so that it holds no more
/// than happens at once.
struct Told {
    inner: Mutex<(VecDeque<TierEvent>, TierStatus)>,
}

impl ServiceTier {
    /// A tier that begins to connect when it is first polled.
    pub fn new(config: ServiceConfig) -> Self {
        let status = TierStatus {
            connection: Connection::Connecting,
            members: 0,
            published: Published::Nothing,
            refused: 0,
        };
        let told = Arc::new(Told { inner: Mutex::new((VecDeque::new(), status)) });
        let (wanted, changes) = watch::channel(Wanted::default());
        ServiceTier {
            name: config.url.to_string(),
            secret: config.secret.clone(),
            random: SystemRandom::new(),
            published: None,
            wanted,
            life: Box::pin(session::live(config, changes, told.clone())),
            told,
        }
    }

    /// Seals the record. Too many endpoints are cut, a record that is too long is not sealed at all.
    fn seal(&self, me: &Member) -> Result<(Bytes, Vec<Bytes>), String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| "the system gives no random numbers".to_owned())?;
        let data = self.secret.seal_member(me, nonce).map_err(|error| error.to_string())?;
        let mut seen = BTreeSet::new();
        let usable = |endpoint: &&SocketAddr| view::is_endpoint(**endpoint) && seen.insert(**endpoint);
        let endpoints: Vec<Bytes> = me
            .endpoints
            .iter()
            .filter(usable)
            .map(|endpoint| self.secret.seal_endpoint(*endpoint).into())
            .collect();
        if endpoints.len() > outbox::ENDPOINTS {
            let why = format!("there are {}, services take {}", endpoints.len(), outbox::ENDPOINTS);
            self.told.event(TierEvent::Refused { what: "some of this node's endpoints".to_owned(), why });
        }
        Ok((data.into(), endpoints.into_iter().take(outbox::ENDPOINTS).collect()))
    }

    fn want(&self, own: Own) {
        self.told.status(|status| status.published = Published::Pending);
        self.wanted.send_modify(|wanted| {
            wanted.own = own;
            wanted.version += 1;
        });
    }
}

impl Tier for ServiceTier {
    fn name(&self) -> &str {
        &self.name
    }

    fn publish(&mut self, me: &Member) {
        if self.published.as_ref() == Some(me) {
            return;
        }
        self.published = Some(me.clone());
        match self.seal(me) {
            Ok((data, endpoints)) => self.want(Own::Published { data, endpoints }),
            Err(why) => {
                self.told.event(TierEvent::Refused { what: "this node's own record".to_owned(), why });
            }
        }
    }

    fn publish_observed(&mut self, observed: &[Observed]) {
        let mut all: BTreeMap<NodeId, BTreeSet<SocketAddr>> = BTreeMap::new();
        for Observed { node_id: node, endpoint } in observed {
            let endpoint = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
            if view::is_endpoint(endpoint) {
                all.entry(node.clone()).or_default().insert(endpoint);
            }
        }
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.observed != all;
            wanted.observed = all;
            changed
        });
    }

    fn withdraw(&mut self) {
        self.published = None;
        self.want(Own::Withdrawn);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TierEvent> {
        loop {
            if let Some(event) = self.told.lock().0.pop_front() {
                return Poll::Ready(event);
            }
            match self.life.as_mut().poll(cx) {
                Poll::Ready(never) => match never {},
                Poll::Pending if self.told.lock().0.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }

    fn status(&self) -> TierStatus {
        self.told.lock().1.clone()
    }
}

impl fmt::Debug for ServiceTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceTier")
            .field("name", &self.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<TierEvent>, TierStatus)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self, change: impl FnOnce(&mut TierStatus)) {
        change(&mut self.lock().1);
    }

    fn events(&self, events: impl IntoIterator<Item = TierEvent>) {
        let mut inner = self.lock();
        for event in events {
            inner.1.refused += u64::from(matches!(event, TierEvent::Refused { .. }));
            inner.0.push_back(event);
        }
    }

    fn event(&self, event: TierEvent) {
        self.events([event]);
    }

    /// The service works.
    fn connected(&self) {
        self.status(|status| status.connection = Connection::Connected);
        self.event(TierEvent::Connected);
    }

    /// The service does not work; told again only for another reason.
    fn disconnected(&self, reason: String) {
        let now = Connection::Disconnected { reason: reason.clone() };
        let before = std::mem::replace(&mut self.lock().1.connection, now.clone());
        if before != now {
            self.event(TierEvent::Disconnected { reason });
        }
    }
}

/// A number in 0..1 that other nodes do not share.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all wait alike, which is worse for the service but not wrong.
    let _ = SystemRandom::new().fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
