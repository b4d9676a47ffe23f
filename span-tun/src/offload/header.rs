use thiserror::Error;

/// The legacy `struct virtio_net_hdr` a TUN descriptor with `IFF_VNET_HDR` puts before every frame: what is
/// still to be done to the packet behind it (Virtual I/O Device 1.2, section 5.1.6). [`VirtioHeader::default`]
/// is an ordinary, complete packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// The transport checksum is missing: its field holds the sum over the pseudo-header alone.
    pub needs_checksum: bool,
    /// How the packet is to be cut, if at all.
    pub gso: Gso,
    /// The first segment of a TCP super-packet carries CWR, the others must not.
    pub ecn: bool,
    /// Length of all headers, in bytes. A hint: the kernel also puts other lengths there.
    pub header_len: u16,
    /// Payload bytes of every segment but the last, which may be shorter.
    pub segment_size: u16,
    /// Where the checksummed part begins: the offset of the transport header.
    pub checksum_start: u16,
    /// Where the checksum field is, counted from `checksum_start`.
    pub checksum_offset: u16,
}

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// Not at all: it is one packet.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Datagrams of one UDP flow, over either family (USO).
    Udp,
}

/// Why a header could not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A kind of segmentation that was never asked for (UFO, for example).
    #[error("segmentation type {0} is not one that was asked for")]
    UnknownGso(u8),
}

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

impl VirtioHeader {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 10;

    /// Reads a header in the byte order of this machine, which is what TUN uses unless told otherwise.
    ///
    /// # Errors
    /// A segmentation type other than those of [`Gso`].
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, HeaderError> {
        let gso = match bytes[1] & !GSO_ECN {
            GSO_NONE => Gso::None,
            GSO_TCPV4 => Gso::Tcp4,
            GSO_TCPV6 => Gso::Tcp6,
            GSO_UDP_L4 => Gso::Udp,
            unknown => return Err(HeaderError::UnknownGso(unknown)),
        };
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Ok(Self {
            needs_checksum: bytes[0] & NEEDS_CSUM != 0,
            gso,
            ecn: bytes[1] & GSO_ECN != 0,
            header_len: field(2),
            segment_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        })
    }

    /// Writes the header in the byte order of this machine.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = if self.needs_checksum { NEEDS_CSUM } else { 0 };
        bytes[1] = match self.gso {
            Gso::None => GSO_NONE,
            Gso::Tcp4 => GSO_TCPV4,
            Gso::Tcp6 => GSO_TCPV6,
            Gso::Udp => GSO_UDP_L4,
        } | if self.ecn { GSO_ECN } else { 0 };
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.segment_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.checksum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.checksum_offset.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encode_and_decode_agree() {
        for gso in [Gso::None, Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            for (needs_checksum, ecn) in [(false, false), (true, false), (true, true)] {
                let header = VirtioHeader {
                    needs_checksum,
                    gso,
                    ecn,
                    header_len: 0x0102,
                    segment_size: 0x0304,
                    checksum_start: 0x0506,
                    checksum_offset: 0x0708,
                };
                assert_eq!(VirtioHeader::decode(&header.encode()), Ok(header));
            }
        }
    }

    #[test]
    fn ufo_is_refused() {
        let mut bytes = VirtioHeader::default().encode();
        bytes[1] = 3;
        assert_eq!(VirtioHeader::decode(&bytes), Err(HeaderError::UnknownGso(3)));
    }
}
