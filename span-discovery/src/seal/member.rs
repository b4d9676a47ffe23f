//! Sealed member records.

use std::net::IpAddr;

use ipnet::IpNet;
use prost::Message as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use span_core::crypto::{Suite, Suites};
use span_core::key::PublicKey;
use span_core::mesh::{ControlPlane, KubeSpan, MachineType, Member, NodeId};

use super::{ClusterSecret, NONCE_LEN, address_from_bytes, address_to_bytes};
use crate::wire::client;

/// Longest sealed record the discovery service takes, in bytes.
pub const MAX_SEALED_MEMBER: usize = 2048;

const TAG_LEN: usize = 16;

/// Why a member was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealMemberError {
    /// The record would be longer than a discovery service takes.
    #[error(
        "the record has {len} bytes sealed, discovery services take {MAX_SEALED_MEMBER}: advertise fewer addresses or networks"
    )]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// Why a sealed record could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenMemberError {
    /// Shorter than a nonce and a tag, or longer than any service takes.
    #[error("a sealed record has 28 to {MAX_SEALED_MEMBER} bytes, this one has {len}")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// The tag does not match.
    #[error("sealed with another cluster's secret, or damaged")]
    Tag,
    /// What is inside is not a record.
    #[error("what is inside the seal is not a member record")]
    Malformed,
    /// The record is another node's, stored under this id: a replay.
    #[error("the record inside belongs to another node, {inside:?}")]
    OtherNode {
        /// The id inside the seal.
        inside: String,
    },
}

impl ClusterSecret {
    /// Seals what a member tells about itself; its endpoints are sealed one by one. `nonce` must be random
    /// and new for each call.
    pub fn seal_member(&self, member: &Member, nonce: [u8; NONCE_LEN]) -> Result<Vec<u8>, SealMemberError> {
        let message = member_to_wire(member);
        let len = NONCE_LEN + message.encoded_len() + TAG_LEN;
        if len > MAX_SEALED_MEMBER {
            return Err(SealMemberError::TooLong { len });
        }
        let mut sealed = Vec::with_capacity(len);
        sealed.extend_from_slice(&nonce);
        message.encode_raw(&mut sealed);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .gcm()
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut sealed[NONCE_LEN..])
            .expect("a record is far below the limits of AES-GCM");
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens the record stored under `id`. The member comes without endpoints.
    ///
    /// Addresses and networks that do not parse are left out, as Talos does; a public key that does not
    /// parse leaves the member without its part in the mesh.
    pub fn open_member(&self, id: &NodeId, sealed: &[u8]) -> Result<Member, OpenMemberError> {
        if !(NONCE_LEN + TAG_LEN..=MAX_SEALED_MEMBER).contains(&sealed.len()) {
            return Err(OpenMemberError::Length { len: sealed.len() });
        }
        let (nonce, body) = sealed.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenMemberError::Tag)?;
        let mut body = body.to_vec();
        let plain =
            self.gcm().open_in_place(nonce, Aad::empty(), &mut body).map_err(|_| OpenMemberError::Tag)?;
        let message = client::Affiliate::decode(&*plain).map_err(|_| OpenMemberError::Malformed)?;
        if message.node_id != id.as_str() {
            return Err(OpenMemberError::OtherNode { inside: message.node_id });
        }
        Ok(member_from_wire(id.clone(), &message))
    }

    fn gcm(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.as_bytes()).expect("the key has 32 bytes"))
    }
}

pub(crate) fn member_to_wire(member: &Member) -> client::Affiliate {
    client::Affiliate {
        node_id: member.node_id.as_str().to_owned(),
        addresses: member.addresses.iter().copied().map(address_to_bytes).collect(),
        hostname: member.hostname.clone(),
        nodename: member.nodename.clone(),
        machine_type: member.machine_type.as_str().to_owned(),
        operating_system: member.operating_system.clone(),
        kubespan: member.kubespan.as_ref().map(|mesh| client::KubeSpan {
            public_key: mesh.public_key.to_string(),
            address: mesh.address.map(address_to_bytes).unwrap_or_default(),
            additional_addresses: mesh.additional_addresses.iter().map(prefix_to_wire).collect(),
            exclude_advertised_addresses: mesh
                .exclude_advertised_addresses
                .iter()
                .map(|prefix| prefix_to_wire(prefix).encode_to_vec())
                .collect(),
        }),
        control_plane: member
            .control_plane
            .map(|ControlPlane { api_server_port }| client::ControlPlane { api_server_port }),
        span: member.kubespan.as_ref().and_then(|mesh| span_to_wire(mesh.suites)),
    }
}

pub(crate) fn member_from_wire(node_id: NodeId, message: &client::Affiliate) -> Member {
    Member {
        node_id,
        addresses: message.addresses.iter().filter_map(|ip| address_from_bytes(ip)).collect(),
        hostname: message.hostname.clone(),
        nodename: message.nodename.clone(),
        machine_type: MachineType::from_talos(&message.machine_type),
        operating_system: message.operating_system.clone(),
        kubespan: message.kubespan.as_ref().and_then(|mesh| {
            let suites = message.span.as_ref().map_or(Suites::NONE, suites_from_wire);
            kubespan_from_wire(mesh, suites)
        }),
        control_plane: message
            .control_plane
            .map(|client::ControlPlane { api_server_port }| ControlPlane { api_server_port }),
        endpoints: Vec::new(),
    }
}

fn kubespan_from_wire(message: &client::KubeSpan, suites: Suites) -> Option<KubeSpan> {
    let public_key: PublicKey = message.public_key.parse().ok()?;
    Some(KubeSpan {
        public_key,
        address: address_from_bytes(&message.address),
        additional_addresses: message.additional_addresses.iter().filter_map(prefix_from_wire).collect(),
        exclude_advertised_addresses: message
            .exclude_advertised_addresses
            .iter()
            .filter_map(|bytes| client::IpPrefix::decode(&**bytes).ok())
            .filter_map(|prefix| prefix_from_wire(&prefix))
            .collect(),
        suites,
    })
}

/// Nothing for a node with nothing to say: its record is the one Talos would write.
fn span_to_wire(suites: Suites) -> Option<client::Span> {
    let number = |suite| match suite {
        Suite::ChaCha20Poly1305 => None,
        Suite::Aes256Gcm => Some(client::Suite::Aes256Gcm.into()),
    };
    let suites: Vec<i32> = suites.iter().filter_map(number).collect();
    (!suites.is_empty()).then_some(client::Span { suites })
}

fn suites_from_wire(message: &client::Span) -> Suites {
    let known = |suite| match suite {
        client::Suite::Unspecified => None,
        client::Suite::Aes256Gcm => Some(Suite::Aes256Gcm),
    };
    message.suites().filter_map(known).collect()
}

fn prefix_to_wire(prefix: &IpNet) -> client::IpPrefix {
    let ip = match prefix.addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    client::IpPrefix { ip, bits: u32::from(prefix.prefix_len()) }
}

/// Bits behind the prefix are cleared: senders need not do so. The family is that of the bytes, since the
/// length counts in it.
fn prefix_from_wire(message: &client::IpPrefix) -> Option<IpNet> {
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(&*message.ip) {
        IpAddr::from(v4)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(&*message.ip).ok()?)
    };
    IpNet::new(ip, u8::try_from(message.bits).ok()?).ok().map(|prefix| prefix.trunc())
}
