//! Sealed endpoints.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use prost::Message as _;

use super::ClusterSecret;
use crate::wire::client;

/// Longest sealed endpoint the discovery service takes, in bytes.
pub const MAX_SEALED_ENDPOINT: usize = 2 * BLOCK;

const BLOCK: usize = 16;

/// Why a sealed endpoint could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenEndpointError {
    /// Not one or two blocks long.
    #[error("a sealed endpoint has 16 or 32 bytes, this one has {len}")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// What is inside is not an endpoint. There is no tag to tell a wrong secret from garbage.
    #[error("no endpoint inside: garbage, or sealed with another cluster's secret")]
    Garbage,
}

impl ClusterSecret {
    /// Seals an endpoint into 16 (IPv4) or 32 (IPv6) bytes, always the same for the same endpoint. An IPv4
    /// address mapped into IPv6 is sealed as what it is; scope and flow label of IPv6 are left out.
    pub fn seal_endpoint(&self, endpoint: SocketAddr) -> Vec<u8> {
        let ip = address_to_bytes(endpoint.ip());
        let message = client::Endpoint { ip, port: u32::from(endpoint.port()) };
        let len = message.encoded_len();
        let mut sealed = Vec::with_capacity(MAX_SEALED_ENDPOINT);
        // At most 2 + 16 + 1 + 3 bytes: the length always fits its byte.
        sealed.push(len as u8);
        message.encode_raw(&mut sealed);
        sealed.resize((1 + len).next_multiple_of(BLOCK), 0);
        let cipher = Aes256::new(self.as_bytes().into());
        let (blocks, _) = aes::Block::slice_as_chunks_mut(&mut sealed);
        cipher.encrypt_blocks(blocks);
        sealed
    }

    /// Opens a sealed endpoint.
    pub fn open_endpoint(&self, sealed: &[u8]) -> Result<SocketAddr, OpenEndpointError> {
        if !matches!(sealed.len(), BLOCK | MAX_SEALED_ENDPOINT) {
            return Err(OpenEndpointError::Length { len: sealed.len() });
        }
        let mut plain = [0; MAX_SEALED_ENDPOINT];
        let plain = &mut plain[..sealed.len()];
        plain.copy_from_slice(sealed);
        let cipher = Aes256::new(self.as_bytes().into());
        let (blocks, _) = aes::Block::slice_as_chunks_mut(plain);
        cipher.decrypt_blocks(blocks);

        let message = plain.get(1..1 + usize::from(plain[0])).ok_or(OpenEndpointError::Garbage)?;
        let message = client::Endpoint::decode(message).map_err(|_| OpenEndpointError::Garbage)?;
        let ip = address_from_bytes(&message.ip).ok_or(OpenEndpointError::Garbage)?;
        let port = u16::try_from(message.port).map_err(|_| OpenEndpointError::Garbage)?;
        Ok(SocketAddr::new(ip, port))
    }
}

/// Raw bytes of an address, 4 for IPv4 in whichever clothes.
pub(crate) fn address_to_bytes(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address with these raw bytes. Talos would append a zone to 16 bytes; such an address means something
/// on one link only and is refused like any other length.
pub(crate) fn address_from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        Some(IpAddr::V4(Ipv4Addr::from(v4)))
    } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
        Some(IpAddr::V6(Ipv6Addr::from(v6)).to_canonical())
    } else {
        None
    }
}
