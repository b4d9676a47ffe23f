//! Nodes and services.

use std::fs;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use span_discovery::seal::ClusterSecret;
use span_discovery::service::server::ServerTls;
use span_discovery::tier::{Connection, Observed, Published, Tier, TierEvent};
use span_discovery::wire::server::cluster_server::{Cluster, ClusterServer};
use span_discovery::wire::server::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::support::*;

#[tokio::test]
async fn nodes_find_each_other_and_hear_of_changes() {
    let server = serve(config());
    let mut a = published(&server.url(), "a", &["192.0.2.1:51820", "[2001:db8::1]:51820"]);
    let mut b = published(&server.url(), "b", &[]);
    let seen = until_member(&mut [&mut b, &mut a], "a").await;
    assert_eq!(seen, member("a", &["192.0.2.1:51820", "[2001:db8::1]:51820"]));
    assert_eq!(until_member(&mut [&mut a, &mut b], "b").await, member("b", &[]));
    assert_eq!((a.status().members, a.status().connection), (1, Connection::Connected));

    let mut changed = member("a", &["192.0.2.9:1"]);
    changed.hostname = "renamed".to_owned();
    a.publish(&changed);
    assert_eq!(a.status().published, Published::Pending);
    let seen = until_member(&mut [&mut b, &mut a], "a").await;
    assert_eq!(seen.hostname, "renamed");
    during(Duration::from_millis(100), &mut [&mut a]).await;
    assert_eq!(a.status().published, Published::Current);
    a.publish(&changed);
    assert_eq!(a.status().published, Published::Current, "the same again is no change");

    a.withdraw();
    until(&mut [&mut b, &mut a], |event| (*event == TierEvent::Removed(id("a"))).then_some(())).await;
    during(Duration::from_millis(100), &mut [&mut a]).await;
    assert_eq!(a.status().published, Published::Withdrawn);
    a.publish(&changed);
    assert_eq!(until_member(&mut [&mut b, &mut a], "a").await.hostname, "renamed");
    server.stop().await;
}

#[tokio::test]
async fn the_first_contact_waits_for_nothing() {
    let server = serve(config());
    let start = Instant::now();
    let mut a = published(&server.url(), "a", &[]);
    until_connected(&mut a).await;
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn observed_endpoints_reach_the_others_once() {
    let server = serve(config());
    let mut a = published(&server.url(), "a", &["192.0.2.1:1"]);
    let mut b = published(&server.url(), "b", &[]);
    let mut c = published(&server.url(), "c", &[]);
    until_member(&mut [&mut b, &mut a], "a").await;
    until_member(&mut [&mut c, &mut a], "a").await;
    let seen_at: SocketAddr = "198.51.100.1:7".parse().unwrap();
    b.publish_observed(&[
        Observed { node_id: id("a"), endpoint: seen_at },
        Observed { node_id: id("nobody"), endpoint: seen_at },
    ]);
    let seen = until_member(&mut [&mut c, &mut b], "a").await;
    assert_eq!(seen.endpoints, ["192.0.2.1:1".parse().unwrap(), seen_at]);
    let all = server.raw().await.list(ListRequest { cluster_id: "c".to_owned() }).await.unwrap().into_inner();
    assert_eq!(all.affiliates.len(), 3, "no ghost of a node the service does not know");
    server.stop().await;
}

#[tokio::test]
async fn a_service_that_comes_back_is_used_again_and_nobody_was_lost() {
    let server = serve(config());
    let mut a = published(&server.url(), "a", &[]);
    let mut b = published(&server.url(), "b", &[]);
    until_member(&mut [&mut b, &mut a], "a").await;
    let address = server.address;
    server.stop().await;
    let reason = until_disconnected(&mut b).await;
    assert!(reason.contains("ended the watch"), "{reason}");
    let reason = until_disconnected(&mut b).await;
    assert!(
        reason.contains(&format!("cannot connect to {address}")) && reason.contains("refused"),
        "{reason}"
    );

    let mut again = config();
    again.listen = address;
    let server = serve(again);
    let start = Instant::now();
    let events = async {
        let mut events = Vec::new();
        while !matches!(events.last(), Some(TierEvent::Snapshot(_))) {
            events.push(until(&mut [&mut b, &mut a], |event| Some(event.clone())).await);
        }
        events
    };
    let events = events.await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let Some(TierEvent::Snapshot(members)) = events.last() else { unreachable!() };
    assert_eq!(members.len(), 1, "the service forgot a, its peers did not");
    let events = during(Duration::from_secs(2), &mut [&mut b, &mut a]).await;
    assert!(!events.iter().any(|event| matches!(event, TierEvent::Removed(_))), "{events:?}");
    let all = server.raw().await.list(ListRequest { cluster_id: "c".to_owned() }).await.unwrap().into_inner();
    assert_eq!(all.affiliates.len(), 2, "both told it about themselves again");
    server.stop().await;
}

#[tokio::test]
async fn redirects_are_followed_but_not_in_circles() {
    let target = serve(config());
    let mut first = config();
    first.redirect = Some(target.address.to_string());
    let first = serve(first);
    let mut a = published(&first.url(), "a", &[]);
    until_connected(&mut a).await;
    let mut b = published(&target.url(), "b", &[]);
    until_member(&mut [&mut a, &mut b], "b").await;
    let address = target.address;
    target.stop().await;

    let mut circle = config();
    circle.listen = address;
    circle.redirect = Some(first.address.to_string());
    let circle = serve(circle);
    let mut c = published(&first.url(), "c", &[]);
    let reason = until_disconnected(&mut c).await;
    assert!(reason.contains("redirect without end"), "{reason}");
    circle.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_rest_goes_on() {
    let server = serve(config());
    let mut raw = server.raw().await;
    let foreign = ClusterSecret::from_bytes([9; 32]);
    let sealed = secret().seal_member(&member("x", &[]), [0; 12]).unwrap();
    let mut store = async |id: &str, data: Vec<u8>, endpoints: Vec<Vec<u8>>| {
        let update = AffiliateUpdateRequest {
            cluster_id: "c".to_owned(),
            affiliate_id: id.to_owned(),
            affiliate_data: Some(data.into()),
            affiliate_endpoints: endpoints.into_iter().map(Into::into).collect(),
            ttl: Some(prost_types::Duration { seconds: 1800, nanos: 0 }),
        };
        raw.affiliate_update(update).await.unwrap();
    };
    store("garbage", vec![0xff; 2048], Vec::new()).await;
    store("foreign", foreign.seal_member(&member("foreign", &[]), [0; 12]).unwrap(), Vec::new()).await;
    store("replayed", sealed, Vec::new()).await;
    store("empty", Vec::new(), vec![vec![1; 16]]).await;
    let good = secret().seal_member(&member("good", &[]), [0; 12]).unwrap();
    let endpoint = secret().seal_endpoint("192.0.2.1:1".parse().unwrap());
    store("good", good, vec![endpoint, vec![], vec![3; 16], vec![3; 7]]).await;

    let mut a = published(&server.url(), "a", &[]);
    let members = until(&mut [&mut a], |event| match event {
        TierEvent::Snapshot(members) => Some(members.clone()),
        _ => None,
    })
    .await;
    assert_eq!(members, [member("good", &["192.0.2.1:1"])]);
    let events = during(Duration::from_millis(200), &mut [&mut a]).await;
    let refused = events.iter().filter(|event| matches!(event, TierEvent::Refused { .. })).count();
    assert_eq!(refused, 4, "{events:?}");
    assert_eq!(a.status().refused, 4);
    server.stop().await;
}

#[tokio::test]
async fn the_largest_cluster_fits() {
    let mut trusting = config();
    trusting.trust_x_forwarded_for = true;
    let server = serve(trusting);
    let mut raw = server.raw().await;
    for n in 0..1024_u32 {
        let mut large = member(&n.to_string(), &[]);
        large.hostname = "h".repeat(1880);
        let data = secret().seal_member(&large, [0; 12]).unwrap();
        assert!(data.len() > 1990 && data.len() <= 2048, "{}", data.len());
        let endpoint = |port| {
            let endpoint = (std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n as u16), port);
            secret().seal_endpoint(endpoint.into()).into()
        };
        let mut request = Request::new(AffiliateUpdateRequest {
            cluster_id: "c".to_owned(),
            affiliate_id: n.to_string(),
            affiliate_data: Some(data.into()),
            affiliate_endpoints: (1..=64).map(endpoint).collect(),
            ttl: Some(prost_types::Duration { seconds: 1800, nanos: 0 }),
        });
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
        raw.affiliate_update(request).await.unwrap();
    }
    let mut a = node(&server.url(), "a");
    let members = until(&mut [&mut a], |event| match event {
        TierEvent::Snapshot(members) => Some(members.clone()),
        _ => None,
    })
    .await;
    assert_eq!(members.len(), 1024);
    assert!(members.iter().all(|member| member.endpoints.len() == 64));
    server.stop().await;
}

#[tokio::test]
async fn several_services_are_several_tiers() {
    let (one, two) = (serve(config()), serve(config()));
    let mut a = [published(&one.url(), "a", &[]), published(&two.url(), "a", &[])];
    let mut b = published(&two.url(), "b", &[]);
    let [a_one, a_two] = &mut a;
    until_member(&mut [a_two, a_one, &mut b], "b").await;
    one.stop().await;
    let [a_one, a_two] = &mut a;
    until_disconnected(a_one).await;
    b.publish(&member("b", &["192.0.2.2:2"]));
    assert_eq!(until_member(&mut [a_two, &mut b], "b").await.endpoints.len(), 1);
    two.stop().await;
}

struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { directory, issuer }
    }

    fn issue(&self, names: &[&str]) -> ServerTls {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = ServerTls {
            certificate: self.directory.path().join("cert.pem"),
            key: self.directory.path().join("key.pem"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    fn node(&self, url: &str, name: &str) -> Node {
        let mut config = node_config(url, name);
        config.extra_roots = Some(self.directory.path().join("ca.pem"));
        let mut tier = Node::new(config);
        tier.publish(&member(name, &[]));
        tier
    }
}

#[tokio::test]
async fn tls_by_an_authority_of_ones_own() {
    let authority = Authority::new();
    let mut with_tls = config();
    with_tls.tls = Some(authority.issue(&["localhost", "127.0.0.1"]));
    let server = serve(with_tls);
    let url = format!("https://{}", server.address);
    let named = format!("https://localhost:{}", server.address.port());
    let (mut a, mut b) = (authority.node(&url, "a"), authority.node(&named, "b"));
    until_member(&mut [&mut a, &mut b], "b").await;
    until_member(&mut [&mut b, &mut a], "a").await;

    let reason = until_disconnected(&mut Authority::new().node(&url, "c")).await;
    assert!(reason.contains("authority unknown here"), "{reason}");
    let reason = until_disconnected(&mut node(&server.url(), "d")).await;
    assert!(!reason.is_empty());
    server.stop().await;

    let plain = serve(config());
    let reason = until_disconnected(&mut authority.node(&format!("https://{}", plain.address), "e")).await;
    assert!(reason.contains("does not speak TLS"), "{reason}");
    plain.stop().await;

    let mut other_name = config();
    other_name.tls = Some(authority.issue(&["another.example"]));
    let server = serve(other_name);
    let reason = until_disconnected(&mut authority.node(&format!("https://{}", server.address), "f")).await;
    assert!(reason.contains("not valid for name"), "{reason}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_service_is_said_in_words() {
    let reason = until_disconnected(&mut node("http://no-such-host.invalid", "a")).await;
    assert!(reason.contains("cannot find the address of no-such-host.invalid"), "{reason}");
    let mut missing = node_config("https://127.0.0.1:1", "a");
    missing.extra_roots = Some("/nonexistent/ca.pem".into());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    missing.url = format!("https://{}", closed.local_addr().unwrap()).parse().unwrap();
    let reason = until_disconnected(&mut Node::new(missing)).await;
    assert!(reason.contains("/nonexistent/ca.pem"), "{reason}");
}

#[tokio::test]
async fn a_record_too_large_is_said_before_it_is_sent() {
    let server = serve(config());
    let mut a = node(&server.url(), "a");
    let mut large = member("a", &[]);
    large.hostname = "h".repeat(3000);
    a.publish(&large);
    let why = until(&mut [&mut a], |event| match event {
        TierEvent::Refused { why, .. } => Some(why.clone()),
        _ => None,
    })
    .await;
    assert!(why.contains("2048"));
    let many: Vec<String> = (1..=100).map(|port| format!("192.0.2.1:{port}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    a.publish(&member("a", &many));
    let mut b = node(&server.url(), "b");
    assert_eq!(until_member(&mut [&mut b, &mut a], "a").await.endpoints.len(), 64);
    server.stop().await;
}

/// A service that says of a living affiliate that it was deleted, as some do when it merely lost an endpoint.
struct Hasty {
    affiliate: Affiliate,
    alive: Arc<AtomicBool>,
    lists: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Cluster for Hasty {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let client_ip = vec![203, 0, 113, 5].into();
        Ok(Response::new(HelloResponse { redirect: None, client_ip }))
    }

    async fn affiliate_update(
        &self,
        _: Request<AffiliateUpdateRequest>,
    ) -> Result<Response<AffiliateUpdateResponse>, Status> {
        Ok(Response::new(AffiliateUpdateResponse {}))
    }

    async fn affiliate_delete(
        &self,
        _: Request<AffiliateDeleteRequest>,
    ) -> Result<Response<AffiliateDeleteResponse>, Status> {
        Ok(Response::new(AffiliateDeleteResponse {}))
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let alive = self.alive.load(Ordering::Relaxed);
        Ok(Response::new(ListResponse {
            affiliates: alive.then(|| self.affiliate.clone()).into_iter().collect(),
        }))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let gone = Affiliate { id: self.affiliate.id.clone(), ..Affiliate::default() };
        let first = WatchResponse { affiliates: vec![self.affiliate.clone()], deleted: false };
        let deleted = WatchResponse { affiliates: vec![gone], deleted: true };
        let (alive, lists) = (self.alive.clone(), self.lists.clone());
        tokio::spawn(async move {
            let _ = sender.send(Ok(first)).await;
            let _ = sender.send(Ok(deleted.clone())).await;
            while lists.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            alive.store(false, Ordering::Relaxed);
            let _ = sender.send(Ok(deleted)).await;
            sender.closed().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|message| message))))
    }
}

#[tokio::test]
async fn a_deletion_is_believed_only_after_a_second_look() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let alive = Arc::new(AtomicBool::new(true));
    let lists = Arc::new(AtomicUsize::new(0));
    let affiliate = Affiliate {
        id: "x".to_owned(),
        data: secret().seal_member(&member("x", &[]), [0; 12]).unwrap().into(),
        endpoints: Vec::new(),
    };
    let hasty = Hasty { affiliate, alive: alive.clone(), lists: lists.clone() };
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(ClusterServer::new(hasty))
            .serve_with_incoming(incoming),
    );

    let mut a = published(&format!("http://{address}"), "a", &[]);
    let mut address = None;
    until(&mut [&mut a], |event| {
        if let TierEvent::PublicAddress(ip) = event {
            address = Some(ip.to_string());
        }
        matches!(event, TierEvent::Snapshot(members) if members.len() == 1).then_some(())
    })
    .await;
    assert_eq!(address.as_deref(), Some("203.0.113.5"));
    until(&mut [&mut a], |event| (*event == TierEvent::Removed(id("x"))).then_some(())).await;
    assert!(!alive.load(Ordering::Relaxed), "only the deletion that was one");
    assert_eq!(lists.load(Ordering::Relaxed), 2);
}
