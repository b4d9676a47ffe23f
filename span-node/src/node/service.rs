//! Discovery services: those this node uses, and the one it may serve itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use span_core::mesh::NodeId;
use span_discovery::service::client::{ServiceConfig, ServiceTier};
use span_discovery::service::server::{Server, ServerConfig, ServerError};
use span_discovery::tier::Tier;
use span_discovery::url::ServiceUrl;
use tokio::sync::oneshot;
use tracing::info;

use super::error::NodeError;
use super::error::StartError;
use super::routing::MARK;
use crate::config::{Cluster, NodeConfig};
use crate::state::State;

/// The client of a service, as a tier.
pub(super) fn client(
    url: &ServiceUrl,
    config: &NodeConfig,
    cluster: &Cluster,
    node_id: &NodeId,
) -> Box<dyn Tier> {
    let mut service =
        ServiceConfig::new(url.clone(), cluster.id.clone(), cluster.secret.clone(), node_id.clone());
    service.client_version = concat!("v", env!("CARGO_PKG_VERSION")).to_owned();
    service.extra_roots.clone_from(&config.discovery.ca);
    service.mark = mark(config);
    Box::new(ServiceTier::new(service))
}

/// Connections to discovery must not wait for the mesh they are to build.
fn mark(config: &NodeConfig) -> Option<u32> {
    (config.routes && config.discovery.bypass_mesh).then_some(MARK)
}

/// Opens the listener of the service this node serves, if the configuration wants one.
pub(super) fn bind(config: &NodeConfig, state: Option<&State>) -> Result<Option<Server>, StartError> {
    let Some(listen) = config.discovery.serve else { return Ok(None) };
    let mut service = ServerConfig::new(listen);
    service.mark = mark(config);
    service.snapshot = state.map(|state| state.file("discovery.binpb"));
    let server = Server::bind(service).map_err(|error| StartError::Source(error.to_string()))?;
    info!(address = %server.local_addr(), "serving discovery");
    Ok(Some(server))
}

type Service = Pin<Box<dyn Future<Output = Result<(), ServerError>>>>;

/// The service this node serves, as part of another task.
pub(super) struct Serving {
    service: Option<Service>,
    /// Ends the service when dropped.
    stop: Option<oneshot::Sender<()>>,
}

impl Serving {
    pub(super) fn new(server: Option<Server>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let service = server.map(|server| {
            let stopped = async {
                // Sent or dropped, it means the same.
                let _ = stopped.await;
            };
            Box::pin(server.run(stopped)) as Service
        });
        Serving { service, stop: Some(stop) }
    }

    /// Ready when the service ended; never where there is none.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        let Some(service) = &mut self.service else { return Poll::Pending };
        let ended = std::task::ready!(service.as_mut().poll(cx));
        self.service = None;
        Poll::Ready(ended.map_err(|error| NodeError::Service(error.to_string())))
    }

    /// Lets the service save its state and end; ready when it has.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NodeError>> {
        self.stop = None;
        if self.service.is_some() { self.poll(cx) } else { Poll::Ready(Ok(())) }
    }
}
