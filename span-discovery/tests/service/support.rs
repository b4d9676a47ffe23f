//! Servers and nodes for the tests.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};
use std::time::Duration;

use span_core::crypto::{Suite, Suites};
use span_core::key::PublicKey;
use span_core::mesh::{KubeSpan, MachineType, Member, NodeId};
use span_discovery::seal::{ClusterId, ClusterSecret};
use span_discovery::service::client::{ServiceConfig, ServiceTier};
use span_discovery::service::server::{Server, ServerConfig, ServerError};
use span_discovery::tier::{Tier, TierEvent};
use span_discovery::wire::server::cluster_client::ClusterClient;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

pub(crate) fn config() -> ServerConfig {
    ServerConfig::new("127.0.0.1:0".parse().unwrap())
}

pub(crate) fn serve(config: ServerConfig) -> Running {
    let server = Server::bind(config).unwrap();
    let (stop, stopped) = oneshot::channel();
    Running {
        address: server.local_addr(),
        metrics: server.metrics_addr(),
        stop,
        task: tokio::spawn(server.run(async {
            let _ = stopped.await;
        })),
    }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.expect("the service ends").unwrap().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A bare gRPC client.
    pub(crate) async fn raw(&self) -> ClusterClient<Channel> {
        ClusterClient::connect(self.url()).await.unwrap()
    }
}

pub(crate) fn secret() -> ClusterSecret {
    ClusterSecret::from_bytes([1; 32])
}

pub(crate) fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub(crate) fn member(name: &str, endpoints: &[&str]) -> Member {
    Member {
        node_id: id(name),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        hostname: format!("{name}.example"),
        nodename: name.to_owned(),
        machine_type: MachineType::Worker,
        operating_system: "Linux".to_owned(),
        kubespan: Some(KubeSpan {
            public_key: PublicKey::from_bytes([7; 32]),
            address: Some("fd00::7".parse().unwrap()),
            additional_addresses: vec!["10.244.0.0/24".parse().unwrap()],
            exclude_advertised_addresses: Vec::new(),
            suites: Suites::NONE.with(Suite::Aes256Gcm),
        }),
        control_plane: None,
        endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
    }
}

pub(crate) fn node_config(url: &str, name: &str) -> ServiceConfig {
    ServiceConfig::new(url.parse().unwrap(), ClusterId::new("c").unwrap(), secret(), id(name))
}

/// A node's tier, and what it told while nobody asked.
pub(crate) struct Node {
    tier: ServiceTier,
    backlog: VecDeque<TierEvent>,
}

impl Node {
    pub(crate) fn new(config: ServiceConfig) -> Self {
        Node { tier: ServiceTier::new(config), backlog: VecDeque::new() }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<TierEvent> {
        match self.backlog.pop_front() {
            Some(event) => Poll::Ready(event),
            None => self.tier.poll(cx),
        }
    }
}

impl Deref for Node {
    type Target = ServiceTier;

    fn deref(&self) -> &ServiceTier {
        &self.tier
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut ServiceTier {
        &mut self.tier
    }
}

pub(crate) fn node(url: &str, name: &str) -> Node {
    Node::new(node_config(url, name))
}

/// A node that has published itself.
pub(crate) fn published(url: &str, name: &str, endpoints: &[&str]) -> Node {
    let mut node = node(url, name);
    node.publish(&member(name, endpoints));
    node
}

/// Polls all nodes until the first of them tells something that `wanted` takes. What the others tell waits.
pub(crate) async fn until<T>(nodes: &mut [&mut Node], mut wanted: impl FnMut(&TierEvent) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = poll_fn(|cx| {
        for node in &mut nodes[1..] {
            while let Poll::Ready(event) = node.tier.poll(cx) {
                node.backlog.push_back(event);
            }
        }
        while let Poll::Ready(event) = nodes[0].poll_event(cx) {
            if let Some(found) = wanted(&event) {
                return Poll::Ready(found);
            }
            seen.push(event);
        }
        Poll::Pending
    });
    match timeout(PATIENCE, found).await {
        Ok(found) => found,
        Err(_) => panic!("waited in vain; told: {seen:#?}"),
    }
}

/// Until the first of the nodes tells of the member `name`.
pub(crate) async fn until_member(nodes: &mut [&mut Node], name: &str) -> Member {
    until(nodes, |event| match event {
        TierEvent::Updated(member) if member.node_id == id(name) => Some(member.clone()),
        TierEvent::Snapshot(members) => members.iter().find(|member| member.node_id == id(name)).cloned(),
        _ => None,
    })
    .await
}

pub(crate) async fn until_disconnected(node: &mut Node) -> String {
    until(&mut [node], |event| match event {
        TierEvent::Disconnected { reason } => Some(reason.clone()),
        _ => None,
    })
    .await
}

pub(crate) async fn until_connected(node: &mut Node) {
    until(&mut [node], |event| (*event == TierEvent::Connected).then_some(())).await;
}

/// Polls the nodes for a while; what the first told.
pub(crate) async fn during(time: Duration, nodes: &mut [&mut Node]) -> Vec<TierEvent> {
    let mut seen = Vec::new();
    let poll = poll_fn(|cx| {
        for node in &mut nodes[1..] {
            while let Poll::Ready(event) = node.tier.poll(cx) {
                node.backlog.push_back(event);
            }
        }
        while let Poll::Ready(event) = nodes[0].poll_event(cx) {
            seen.push(event);
        }
        Poll::<()>::Pending
    });
    let _ = timeout(time, poll).await;
    seen
}
