//! The life of a client: connect, greet, work, wait, and all over again.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Request;

use super::backoff::Backoff;
use super::call::{Client, Failure, call, failure, request};
use super::connect::Connector;
use super::outbox::Wanted;
use super::proxy::Environment;
use super::view::View;
use super::work::Work;
use super::{ServiceConfig, Told, chance};
use crate::seal::address_from_bytes;
use crate::tier::TierEvent;
use crate::url::ServiceUrl;
use crate::wire::server::cluster_client::ClusterClient;
use crate::wire::server::{HelloRequest, WatchRequest};

/// The largest cluster at all its limits has about 4.4 MB.
const MESSAGE: usize = 16 << 20;

/// Services one may be sent on to in a row.
const REDIRECTS: usize = 5;

/// A connection that held this long was a success: the first wait after it is short again.
const STABLE: Duration = Duration::from_secs(10);

/// Connects and works for ever.
pub(super) async fn live(
    config: ServiceConfig,
    wanted: watch::Receiver<Wanted>,
    told: Arc<Told>,
) -> Infallible {
    let view = View::new(config.secret.clone(), config.node_id.clone());
    let mut life = Life { config, wanted, told, view, backoff: Backoff::default(), address: None };
    loop {
        let Failure(reason) = match life.connect().await {
            Ok(client) => {
                let start = Instant::now();
                let failure = life.work(client).await;
                if start.elapsed() >= STABLE {
                    life.backoff.reset();
                }
                failure
            }
            Err(failure) => failure,
        };
        life.told.disconnected(reason);
        life.backoff.wait(chance(), moved(&mut life.wanted)).await;
    }
}

/// What outlives a connection.
pub(super) struct Life {
    pub(super) config: ServiceConfig,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) told: Arc<Told>,
    pub(super) view: View,
    backoff: Backoff,
    /// The address the service saw last.
    address: Option<IpAddr>,
}

impl Life {
    /// Connects, greets, and follows redirects.
    async fn connect(&mut self) -> Result<Client, Failure> {
        let connector = Connector {
            roots: self.config.extra_roots.clone(),
            mark: self.config.mark,
            environment: Environment::read(),
        };
        let mut way = vec![self.config.url.clone()];
        loop {
            let url = &way[way.len() - 1];
            let channel = connector.connect(url).await.map_err(|error| Failure(error.to_string()))?;
            let mut client = ClusterClient::new(channel).max_decoding_message_size(MESSAGE);
            let hello = HelloRequest {
                cluster_id: self.config.cluster.as_str().to_owned(),
                client_version: self.config.client_version.clone(),
            };
            let answer =
                call(client.hello(request(hello))).await.map_err(|status| failure("greet", &status))?;
            let answer = answer.into_inner();
            self.note_address(&answer.client_ip);
            let Some(redirect) = answer.redirect else { return Ok(client) };
            way.push(follow(&way, &redirect.endpoint)?);
        }
    }

    fn note_address(&mut self, octets: &[u8]) {
        let address = address_from_bytes(octets).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        if address.is_some() && address != self.address {
            self.address = address;
            self.told.events(address.map(TierEvent::PublicAddress));
        }
    }

    /// Watches and refreshes until something fails.
    async fn work(&mut self, mut client: Client) -> Failure {
        let watch = WatchRequest { cluster_id: self.config.cluster.as_str().to_owned() };
        // A stream has no end to be in time for: only its beginning may not take too long.
        let mut stream = match call(client.watch(Request::new(watch))).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => return failure("watch", &status),
        };
        let first = match call(stream.message()).await {
            Ok(Some(first)) => first,
            Ok(None) => return Failure("the service ended the watch at once".to_owned()),
            Err(status) => return failure("watch", &status),
        };
        self.told.connected();
        let missing = self.tell(|view, events| view.replace(&first.affiliates, events));
        drop(first);
        Work::new(client, stream, missing).run(self).await
    }

    /// Changes the view and tells what came of it.
    pub(super) fn tell<T>(&mut self, change: impl FnOnce(&mut View, &mut Vec<TierEvent>) -> T) -> T {
        let mut events = Vec::new();
        let outcome = change(&mut self.view, &mut events);
        let members = self.view.len();
        self.told.status(|status| status.members = members);
        self.told.events(events);
        outcome
    }
}

/// Waits until the node's own record, and so perhaps its network, is another than now.
async fn moved(wanted: &mut watch::Receiver<Wanted>) {
    let version = wanted.borrow().version;
    if wanted.wait_for(|wanted| wanted.version != version).await.is_err() {
        // The tier is being dropped, and this with it.
        std::future::pending::<()>().await;
    }
}

/// The next stop of a way of redirects.
fn follow(way: &[ServiceUrl], endpoint: &str) -> Result<ServiceUrl, Failure> {
    let from = &way[way.len() - 1];
    let next = from.redirected(endpoint).map_err(|error| {
        Failure(format!("{from} redirects to {endpoint:?}, which is no HOST:PORT: {error}"))
    })?;
    if way.contains(&next) || way.len() > REDIRECTS {
        let stops: Vec<String> = way.iter().chain([&next]).map(ServiceUrl::to_string).collect();
        return Err(Failure(format!("the services redirect without end: {}", stops.join(" to "))));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_has_moved_when_its_own_record_is_another() {
        let (change, mut wanted) = watch::channel(Wanted::default());
        let soon = Duration::from_secs(1);
        let mut moved = Box::pin(moved(&mut wanted));
        assert!(timeout(soon, &mut moved).await.is_err());
        // Where the others were seen.
        change.send_modify(|wanted| wanted.observed.clear());
        assert!(timeout(soon, &mut moved).await.is_err());
        change.send_modify(|wanted| wanted.version += 1);
        assert!(timeout(soon, moved).await.is_ok());
    }
}
