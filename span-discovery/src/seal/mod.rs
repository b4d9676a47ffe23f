//! The seal: what members tell each other, in the bytes Talos expects, readable with the cluster secret only.
//!
//! Records are AES-256-GCM with a random nonce in front. Endpoints are bare AES-256 blocks without nonce or
//! tag, so that the service can tell by comparing bytes that two members report the same one; nothing about
//! them is authenticated, and a wrong secret is noticed only because the result does not parse.

mod cluster;
mod endpoint;
mod member;
#[cfg(test)]
mod tests;

pub use cluster::{ClusterId, ClusterIdError, ClusterSecret, ClusterSecretError};
pub use endpoint::{MAX_SEALED_ENDPOINT, OpenEndpointError};
pub use member::{MAX_SEALED_MEMBER, OpenMemberError, SealMemberError};

pub(crate) use endpoint::{address_from_bytes, address_to_bytes};
pub(crate) use member::{member_from_wire, member_to_wire};

/// Bytes of the random nonce of a sealed record.
pub const NONCE_LEN: usize = 12;
