//! The methods of the service.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use span_core::time::Instant;
use tokio::time::sleep;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

use super::client_ip::Trust;
use super::cluster::Change;
use super::limits;
use super::listener::Peer;
use super::metrics::{Method, Metrics};
use super::rate::{RateLimiter, TooMany};
use super::state::{Full, Next, State, Update, Watching};
use crate::wire::server::cluster_server::Cluster;
use crate::wire::server::{
    Affiliate, AffiliateDeleteRequest, AffiliateDeleteResponse, AffiliateUpdateRequest,
    AffiliateUpdateResponse, HelloRequest, HelloResponse, ListRequest, ListResponse, RedirectMessage,
    WatchRequest, WatchResponse,
};

/// What all connections share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) metrics: Mutex<Metrics>,
    pub(super) rate: Mutex<RateLimiter>,
    pub(super) trust: Trust,
    pub(super) redirect: Option<String>,
    pub(super) report_client_ip: bool,
    pub(super) start: tokio::time::Instant,
}

impl Shared {
    /// The state's time. tokio's clock is the system's, unless a test turns it.
    pub(super) fn now(&self) -> Instant {
        // An hour of headway, so that nothing before the start is cut off at zero.
        Instant::from_secs(3600) + self.start.elapsed()
    }

    /// The state; nothing waits while it holds it.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn metrics(&self) -> MutexGuard<'_, Metrics> {
        lock(&self.metrics)
    }

    pub(super) fn render_metrics(&self) -> String {
        let totals = self.state().totals();
        self.metrics().render(totals)
    }

    /// Drops what has expired.
    pub(super) fn collect(&self) {
        let now = self.now();
        let collected = self.state().collect(now);
        self.metrics().collected(collected);
        lock(&self.rate).collect(now);
    }

    /// Waits until the client may ask again, and tells who it is.
    async fn admit<T>(&self, request: &Request<T>) -> Result<Option<IpAddr>, Status> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let client = self.trust.client(request.metadata(), peer);
        if let Some(client) = client {
            let patience =
                deadline(request).map_or(limits::PATIENCE, |deadline| deadline.min(limits::PATIENCE));
            let taken = lock(&self.rate).take(self.now(), client, patience);
            match taken {
                Ok(Duration::ZERO) => {}
                Ok(wait) => sleep(wait).await,
                Err(TooMany) => {
                    return Err(Status::resource_exhausted("too many requests from your address, slow down"));
                }
            }
        }
        Ok(client)
    }

    /// Counts a call from its start to its end.
    async fn counted<T>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let start = tokio::time::Instant::now();
        self.metrics().started(method);
        let outcome = call.await;
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.metrics().handled(method, code, start.elapsed());
        outcome
    }
}

/// Nothing panics with these locks held; should it, what they guard is still sound between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The service as tonic wants it.
pub(super) struct Service(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Cluster for Service {
    type WatchStream = WatchStream;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let call = async {
            let client = self.0.admit(&request).await?;
            let request = request.into_inner();
            self.0.metrics().hello(&request.client_version);
            limits::cluster_id(&request.cluster_id)?;
            let client_ip = client.filter(|_| self.0.report_client_ip).map(octets).unwrap_or_default();
            let redirect = self.0.redirect.clone().map(|endpoint| RedirectMessage { endpoint });
            Ok(Response::new(HelloResponse { redirect, client_ip }))
        };
        self.0.counted(Method::Hello, call).await
    }

    async fn affiliate_update(
        &self,
        request: Request<AffiliateUpdateRequest>,
    ) -> Result<Response<AffiliateUpdateResponse>, Status> {
        let call = async {
            self.0.admit(&request).await?;
            let request = request.into_inner();
            let ttl = limits::update(&request)?;
            let update = Update {
                affiliate: request.affiliate_id,
                data: request.affiliate_data.unwrap_or_default(),
                endpoints: request.affiliate_endpoints,
                ttl,
            };
            let now = self.0.now();
            self.0.state().update(now, &request.cluster_id, &update).map_err(exhausted)?;
            Ok(Response::new(AffiliateUpdateResponse {}))
        };
        self.0.counted(Method::AffiliateUpdate, call).await
    }

    async fn affiliate_delete(
        &self,
        request: Request<AffiliateDeleteRequest>,
    ) -> Result<Response<AffiliateDeleteResponse>, Status> {
        let call = async {
            self.0.admit(&request).await?;
            let request = request.into_inner();
            limits::cluster_id(&request.cluster_id)?;
            limits::affiliate_id(&request.affiliate_id)?;
            self.0.state().delete(&request.cluster_id, &request.affiliate_id);
            Ok(Response::new(AffiliateDeleteResponse {}))
        };
        self.0.counted(Method::AffiliateDelete, call).await
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let call = async {
            self.0.admit(&request).await?;
            let request = request.into_inner();
            limits::cluster_id(&request.cluster_id)?;
            let affiliates = self.0.state().list(&request.cluster_id);
            Ok(Response::new(ListResponse { affiliates }))
        };
        self.0.counted(Method::List, call).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let start = tokio::time::Instant::now();
        self.0.metrics().started(Method::Watch);
        let admitted = async {
            self.0.admit(&request).await?;
            limits::cluster_id(&request.get_ref().cluster_id)
        };
        match admitted.await {
            Ok(()) => {
                let watching = self.0.state().watch(&request.get_ref().cluster_id);
                Ok(Response::new(WatchStream { shared: self.0.clone(), watching, start, ended: None }))
            }
            Err(status) => {
                self.0.metrics().handled(Method::Watch, status.code(), start.elapsed());
                Err(status)
            }
        }
    }
}

/// The answer to a watch.
pub(super) struct WatchStream {
    shared: Arc<Shared>,
    watching: Watching,
    start: tokio::time::Instant,
    ended: Option<Code>,
}

impl Stream for WatchStream {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        let next = self.shared.state().next(&self.watching, cx.waker());
        match next {
            Next::Change(change) => Poll::Ready(Some(Ok(response(change)))),
            Next::Wait => Poll::Pending,
            Next::Lost => {
                self.ended = Some(Code::Aborted);
                Poll::Ready(Some(Err(Status::aborted(
                    "lost update: too slow for the changes of this cluster",
                ))))
            }
            Next::Closed => {
                self.ended = Some(Code::Ok);
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.shared.state().unwatch(&self.watching);
        let code = self.ended.unwrap_or(Code::Cancelled);
        self.shared.metrics().handled(Method::Watch, code, self.start.elapsed());
    }
}

fn response(change: Change) -> WatchResponse {
    match change {
        Change::All(affiliates) => WatchResponse { affiliates, deleted: false },
        Change::Updated(affiliate) => WatchResponse { affiliates: vec![affiliate], deleted: false },
        Change::Deleted(id) => {
            let affiliate = Affiliate { id, data: Bytes::new(), endpoints: Vec::new() };
            WatchResponse { affiliates: vec![affiliate], deleted: true }
        }
    }
}

fn exhausted(full: Full) -> Status {
    Status::resource_exhausted(full.to_string())
}

fn octets(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

/// How long the client will wait, from its `grpc-timeout` header.
fn deadline<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        for (text, expected) in [
            ("10S", Some(Duration::from_secs(10))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("100000000S", None),
            ("", None),
            ("S", None),
            ("1x", None),
        ] {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(deadline(&request), expected, "{text}");
        }
    }
}
