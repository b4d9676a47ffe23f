//! The page of metrics.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::rpc::Shared;

/// Connections at once; who scrapes needs one.
const CONNECTIONS: usize = 32;

/// Longest life of a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves `/metrics` until dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = free.clone().acquire_owned().await.expect("it is never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    let _ = timeout(PATIENCE, answer(stream, shared)).await;
                    drop(permit);
                });
            }
            Err(error) => rest(&error).await,
        }
    }
}

async fn rest(error: &io::Error) {
    tracing::debug!(%error, "cannot accept a connection for metrics");
    sleep(Duration::from_millis(100)).await;
}

async fn answer(stream: TcpStream, shared: Arc<Shared>) {
    let page = service_fn(move |request: Request<Incoming>| {
        let response = respond(&request, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10)).max_buf_size(16 << 10);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), page).await {
        tracing::trace!(%error, "a request for metrics failed");
    }
}

fn respond(request: &Request<Incoming>, shared: &Shared) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, shared.render_metrics()),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, "metrics are at /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
