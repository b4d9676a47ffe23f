//! One call of a service, in time, and what to say if it fails.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::wire::server::cluster_client::ClusterClient;

/// How long one call may take, waiting for the service's rate limit included.
const CALL: Duration = Duration::from_secs(15);

pub(super) type Client = ClusterClient<Channel>;

/// Why a connection did not come about, or ended.
pub(super) struct Failure(pub(super) String);

pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

pub(super) async fn call<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("no answer within {} s", CALL.as_secs()));
    timeout(CALL, call).await.unwrap_or_else(|_| Err(late()))
}

pub(super) fn failure(what: &str, status: &Status) -> Failure {
    Failure(format!("cannot {what}: {}", readable(status)))
}

/// The status and its causes in one line, each said once.
pub(super) fn readable(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        cause = error.source();
    }
    if text.is_empty() {
        return status.code().description().to_owned();
    }
    text
}
