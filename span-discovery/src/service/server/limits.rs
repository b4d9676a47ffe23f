//! What the service takes, in the numbers all services of this protocol agree on.

use std::time::Duration;

use bytes::Bytes;
use tonic::Status;

use crate::seal::{ClusterId, MAX_SEALED_ENDPOINT, MAX_SEALED_MEMBER};
use crate::wire::server::AffiliateUpdateRequest;
use span_core::mesh::NodeId;

/// Affiliates per cluster.
pub(super) const AFFILIATES: usize = 1024;

/// Endpoints per affiliate.
pub(super) const ENDPOINTS: usize = 64;

/// Longest time to live.
pub(super) const TTL: Duration = Duration::from_secs(30 * 60);

/// Longest request: an update at all its limits has less than 8 KiB.
pub(super) const REQUEST: usize = 64 << 10;

/// Requests per second and client address, and how many of them at once.
pub(super) const RATE: u32 = 15;
pub(super) const BURST: u32 = 60;

/// Longest a request waits for its turn, if its own deadline is not sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn cluster_id(id: &str) -> Result<(), Status> {
    length("cluster_id", id.len(), ClusterId::MAX_LEN)
}

pub(super) fn affiliate_id(id: &str) -> Result<(), Status> {
    length("affiliate_id", id.len(), NodeId::MAX_LEN)
}

pub(super) fn data(data: &[u8]) -> Result<(), Status> {
    if data.len() > MAX_SEALED_MEMBER {
        return Err(too_long("affiliate_data", data.len(), MAX_SEALED_MEMBER));
    }
    Ok(())
}

pub(super) fn endpoints(endpoints: &[Bytes]) -> Result<(), Status> {
    match endpoints.iter().find(|endpoint| endpoint.len() > MAX_SEALED_ENDPOINT) {
        Some(endpoint) => Err(too_long("an endpoint", endpoint.len(), MAX_SEALED_ENDPOINT)),
        None => Ok(()),
    }
}

/// Checks an update and returns its time to live.
pub(super) fn update(request: &AffiliateUpdateRequest) -> Result<Duration, Status> {
    cluster_id(&request.cluster_id)?;
    affiliate_id(&request.affiliate_id)?;
    data(request.affiliate_data.as_deref().unwrap_or_default())?;
    endpoints(&request.affiliate_endpoints)?;
    // Absent or negative means what has been said expires with the next collection.
    let ttl = request.ttl.and_then(|ttl| Duration::try_from(ttl).ok()).unwrap_or_default();
    if ttl > TTL {
        return Err(Status::invalid_argument(format!("ttl is {ttl:?}, at most {TTL:?} is possible")));
    }
    Ok(ttl)
}

fn length(what: &str, len: usize, max: usize) -> Result<(), Status> {
    match len {
        0 => Err(Status::invalid_argument(format!("{what} is empty"))),
        len if len > max => Err(too_long(what, len, max)),
        _ => Ok(()),
    }
}

fn too_long(what: &str, len: usize, max: usize) -> Status {
    Status::invalid_argument(format!("{what} has {len} bytes, at most {max} are possible"))
}
