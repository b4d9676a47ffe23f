//! Addresses with ports, inside the mesh.

use std::ffi::c_char;
use std::net::{IpAddr, SocketAddr};

use crate::boundary::call;
use crate::pointer;
use crate::status::Status;

/// An address with a port, of a program in the mesh.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The address in network order; of an IPv4 address the first four bytes.
    pub address: [u8; 16],
    /// The port, in the host's order.
    pub port: u16,
    /// 4 or 6.
    pub family: u16,
}

impl Endpoint {
    pub(super) fn to_std(self) -> Result<SocketAddr, Status> {
        let [a, b, c, d, ..] = self.address;
        let address = match self.family {
            4 => IpAddr::from([a, b, c, d]),
            6 => IpAddr::from(self.address),
            _ => return Err(Status::Invalid),
        };
        Ok(SocketAddr::new(address, self.port))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; 16];
        let family = match address.ip() {
            IpAddr::V4(ip) => {
                bytes[..4].copy_from_slice(&ip.octets());
                4
            }
            IpAddr::V6(ip) => {
                bytes = ip.octets();
                6
            }
        };
        Endpoint { address: bytes, port: address.port(), family }
    }
}

/// An address of which no port is meant.
impl From<IpAddr> for Endpoint {
    fn from(address: IpAddr) -> Self {
        Endpoint::from(SocketAddr::new(address, 0))
    }
}

/// Reads an endpoint from a text such as `10.0.0.1:80` or `[fd00::1]:80`. No names are looked up. Any thread.
///
/// SPAN_STATUS_ADDRESS_TEXT if the text is not an address with its port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_endpoint_parse(text: *const c_char, endpoint: *mut Endpoint) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (text, place) = unsafe { (pointer::text(text)?, pointer::place(endpoint)?) };
        let address: SocketAddr = text.parse().map_err(|_| Status::AddressText)?;
        place.write(Endpoint::from(address));
        Ok(())
    })
}
