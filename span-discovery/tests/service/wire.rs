//! What a client of any make sees of the service.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use span_discovery::wire::server::*;
use tonic::{Code, Request};

use crate::support::*;

fn update(affiliate: &str, data: usize, endpoints: &[usize], ttl: i64) -> AffiliateUpdateRequest {
    AffiliateUpdateRequest {
        cluster_id: "c".to_owned(),
        affiliate_id: affiliate.to_owned(),
        affiliate_data: Some(vec![1; data].into()),
        affiliate_endpoints: endpoints.iter().map(|&len| vec![2; len].into()).collect(),
        ttl: Some(prost_types::Duration { seconds: ttl, nanos: 0 }),
    }
}

fn list() -> ListRequest {
    ListRequest { cluster_id: "c".to_owned() }
}

fn watch() -> WatchRequest {
    WatchRequest { cluster_id: "c".to_owned() }
}

/// The same from another address, which has a rate of its own.
fn from<T>(n: u32, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let address = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
    request.metadata_mut().insert("x-forwarded-for", address.parse().unwrap());
    request
}

#[tokio::test]
async fn sizes_and_times_are_checked() {
    let server = serve(config());
    let mut raw = server.raw().await;
    for good in [update("a", 2048, &[32, 0], 1800), update(&"x".repeat(256), 0, &[], 0)] {
        raw.affiliate_update(good).await.unwrap();
    }
    let no_ttl = AffiliateUpdateRequest { ttl: None, affiliate_data: None, ..update("b", 0, &[], 0) };
    raw.affiliate_update(no_ttl).await.unwrap();
    for bad in [
        update("a", 2049, &[], 1800),
        update("a", 1, &[33], 1800),
        update("a", 1, &[], 1801),
        update("", 1, &[], 1800),
        update(&"x".repeat(257), 1, &[], 1800),
        AffiliateUpdateRequest { cluster_id: String::new(), ..update("a", 1, &[], 1) },
        AffiliateUpdateRequest { cluster_id: "x".repeat(257), ..update("a", 1, &[], 1) },
    ] {
        assert_eq!(raw.affiliate_update(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let hello = HelloRequest::default();
    assert_eq!(raw.hello(hello).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(raw.list(ListRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(raw.watch(WatchRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    let delete = AffiliateDeleteRequest { cluster_id: "c".to_owned(), affiliate_id: "nobody".to_owned() };
    raw.affiliate_delete(delete).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn the_counts_are_limited() {
    let mut trusting = config();
    trusting.trust_x_forwarded_for = true;
    let server = serve(trusting);
    let mut raw = server.raw().await;
    for n in 0..1024 {
        raw.affiliate_update(from(n, update(&n.to_string(), 100, &[], 1800))).await.unwrap();
    }
    let status = raw.affiliate_update(from(2000, update("one-more", 1, &[], 1800))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let many: Vec<_> = (0..65u8).map(|n| vec![n; 16].into()).collect();
    let request = AffiliateUpdateRequest { affiliate_endpoints: many, ..update("7", 100, &[], 1800) };
    assert_eq!(raw.affiliate_update(from(2000, request)).await.unwrap_err().code(), Code::ResourceExhausted);
    let all = raw.list(from(2000, list())).await.unwrap().into_inner().affiliates;
    assert_eq!(all.len(), 1024);
    assert_eq!(all.iter().map(|affiliate| affiliate.endpoints.len()).sum::<usize>(), 64);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_shows_the_life_of_an_affiliate() {
    let mut quick = config();
    quick.gc_interval = Duration::from_millis(100);
    let server = serve(quick);
    let mut raw = server.raw().await;
    let mut stream = raw.watch(watch()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap(), WatchResponse::default(), "empty, and sent");

    raw.affiliate_update(update("a", 3, &[16], 2)).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let whole =
        Affiliate { id: "a".to_owned(), data: vec![1; 3].into(), endpoints: vec![vec![2; 16].into()] };
    assert_eq!(message, WatchResponse { affiliates: vec![whole.clone()], deleted: false });

    raw.affiliate_update(update("a", 3, &[], 4)).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let without = Affiliate { endpoints: Vec::new(), ..whole };
    assert_eq!(message, WatchResponse { affiliates: vec![without], deleted: false }, "the endpoint expired");

    let message = stream.message().await.unwrap().unwrap();
    let gone = Affiliate { id: "a".to_owned(), ..Affiliate::default() };
    assert_eq!(message, WatchResponse { affiliates: vec![gone], deleted: true });

    let end = async { stream.message().await };
    let (end, ()) = tokio::join!(end, server.stop());
    assert_eq!(end.unwrap(), None, "a service that ends says so in good order");
}

#[tokio::test]
async fn one_client_cannot_ask_without_end() {
    let server = serve(config());
    let mut raw = server.raw().await;
    let mut refused = None;
    for _ in 0..500 {
        let mut hasty = Request::new(list());
        hasty.set_timeout(Duration::from_millis(30));
        refused = raw.list(hasty).await.err().map(|status| status.code());
        if refused == Some(Code::ResourceExhausted) {
            break;
        }
    }
    assert_eq!(refused, Some(Code::ResourceExhausted), "who cannot wait is refused");
    let start = Instant::now();
    for _ in 0..30 {
        raw.list(list()).await.expect("who can wait is served");
    }
    assert!(start.elapsed() >= Duration::from_millis(1500), "30 calls take 2 s: {:?}", start.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn clients_are_told_their_address() {
    let hello = || HelloRequest { cluster_id: "c".to_owned(), client_version: "v1.13.0".to_owned() };
    for (trust, report, listen, expected) in [
        (false, true, "127.0.0.1:0", vec![127, 0, 0, 1]),
        (true, true, "127.0.0.1:0", vec![10, 0, 0, 7]),
        (true, false, "127.0.0.1:0", vec![]),
        (false, true, "[::]:0", vec![127, 0, 0, 1]),
    ] {
        let mut config = config();
        config.trust_x_forwarded_for = trust;
        config.report_client_ip = report;
        config.listen = listen.parse().unwrap();
        let mut server = serve(config);
        server.address.set_ip("127.0.0.1".parse().unwrap());
        let answer = server.raw().await.hello(from(7, hello())).await.unwrap().into_inner();
        assert_eq!((answer.client_ip.to_vec(), answer.redirect), (expected, None));
        server.stop().await;
    }
}

#[tokio::test]
async fn the_state_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.snapshot = Some(directory.path().join("below/state.binpb"));
    let server = serve(config.clone());
    server.raw().await.affiliate_update(update("a", 5, &[16, 17], 1800)).await.unwrap();
    let before = server.raw().await.list(list()).await.unwrap().into_inner();
    server.stop().await;
    let server = serve(config.clone());
    assert_eq!(server.raw().await.list(list()).await.unwrap().into_inner(), before);
    server.stop().await;

    std::fs::write(config.snapshot.as_ref().unwrap(), b"\xff\xff\xff").unwrap();
    let server = serve(config);
    assert_eq!(server.raw().await.list(list()).await.unwrap().into_inner(), ListResponse::default());
    server.stop().await;
    assert_eq!(std::fs::read(directory.path().join("below/state.broken")).unwrap(), b"\xff\xff\xff");
}

#[tokio::test]
async fn metrics_are_served_beside() {
    let mut config = config();
    config.metrics = Some("127.0.0.1:0".parse().unwrap());
    let server = serve(config);
    server.raw().await.affiliate_update(update("a", 5, &[16], 1800)).await.unwrap();
    let metrics = server.metrics.unwrap();
    let get = move |path: &'static str| {
        tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(metrics).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
    };
    let page = get("/metrics").await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("\ndiscovery_state_affiliates 1\n") && page.contains("grpc_code=\"OK\"} 1\n"),
        "{page}"
    );
    assert!(get("/").await.unwrap().starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[test]
fn mistakes_in_the_configuration_are_said_in_words() {
    use span_discovery::service::server::{Server, ServerTls};
    let error = |config| Server::bind(config).err().unwrap().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut wrong = config();
    wrong.listen = taken.local_addr().unwrap();
    assert!(error(wrong).contains("in use"));
    let mut wrong = config();
    wrong.redirect = Some("https://elsewhere".to_owned());
    assert!(error(wrong).contains("HOST:PORT"));
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let mut wrong = config();
    wrong.tls = Some(ServerTls { certificate: certificate.clone(), key: key.clone() });
    assert!(error(wrong.clone()).contains("cert.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&certificate, "").unwrap();
    assert!(error(wrong.clone()).contains("no certificate"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, "nonsense").unwrap();
    assert!(error(wrong.clone()).contains("key.pem"));
    std::fs::write(&key, other.serialize_pem()).unwrap();
    assert!(error(wrong).contains("together"));
}
