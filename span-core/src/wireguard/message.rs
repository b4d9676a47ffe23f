//! Checked views of the four messages, and their writers (WireGuard paper, section 5.4).
//!
//! Numbers are little-endian. The type is one byte followed by three zero bytes; anything else there is
//! not a message.

/// Length of a handshake initiation in bytes.
pub const INITIATION_LEN: usize = 148;
/// Length of a handshake response in bytes.
pub const RESPONSE_LEN: usize = 92;
/// Length of a cookie reply in bytes.
pub const COOKIE_REPLY_LEN: usize = 64;
/// Length of a data packet's header in bytes.
pub const DATA_HEADER_LEN: usize = 16;
/// What a data packet adds to its plaintext, in bytes: header and tag.
pub const DATA_OVERHEAD: usize = 32;

const INITIATION: [u8; 4] = [1, 0, 0, 0];
const RESPONSE: [u8; 4] = [2, 0, 0, 0];
const COOKIE_REPLY: [u8; 4] = [3, 0, 0, 0];
const DATA: [u8; 4] = [4, 0, 0, 0];

/// A datagram with the type and length of one of the messages.
#[derive(Clone, Copy)]
pub(super) enum Message<'a> {
    Initiation(Initiation<'a>),
    Response(Response<'a>),
    CookieReply(CookieReply<'a>),
    Data(DataHeader),
}

impl<'a> Message<'a> {
    #[inline]
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (kind, _) = datagram.split_first_chunk::<4>()?;
        match *kind {
            // First, because nearly all datagrams are.
            DATA => DataHeader::parse(datagram).map(Message::Data),
            INITIATION => datagram.try_into().ok().map(|bytes| Message::Initiation(Initiation(bytes))),
            RESPONSE => datagram.try_into().ok().map(|bytes| Message::Response(Response(bytes))),
            COOKIE_REPLY => datagram.try_into().ok().map(|bytes| Message::CookieReply(CookieReply(bytes))),
            _ => None,
        }
    }
}

/// Type 1: sender index, ephemeral key, sealed static key, sealed timestamp, two MACs.
#[derive(Clone, Copy)]
pub(super) struct Initiation<'a>(pub(super) &'a [u8; INITIATION_LEN]);

impl<'a> Initiation<'a> {
    pub(super) fn sender(self) -> u32 {
        u32::from_le_bytes(*field::<4, 4>(self.0))
    }

    pub(super) fn ephemeral(self) -> &'a [u8; 32] {
        field::<8, 32>(self.0)
    }

    pub(super) fn sealed_static(self) -> &'a [u8; 48] {
        field::<40, 48>(self.0)
    }

    pub(super) fn sealed_timestamp(self) -> &'a [u8; 28] {
        field::<88, 28>(self.0)
    }

    /// The message but for its MACs.
    pub(super) fn write(
        sender: u32,
        ephemeral: &[u8; 32],
        sealed_static: &[u8; 48],
        sealed_timestamp: &[u8; 28],
    ) -> [u8; INITIATION_LEN] {
        let mut bytes = [0; INITIATION_LEN];
        bytes[..4].copy_from_slice(&INITIATION);
        bytes[4..8].copy_from_slice(&sender.to_le_bytes());
        bytes[8..40].copy_from_slice(ephemeral);
        bytes[40..88].copy_from_slice(sealed_static);
        bytes[88..116].copy_from_slice(sealed_timestamp);
        bytes
    }
}

/// Type 2: sender index, receiver index, ephemeral key, sealed nothing, two MACs.
#[derive(Clone, Copy)]
pub(super) struct Response<'a>(pub(super) &'a [u8; RESPONSE_LEN]);

impl<'a> Response<'a> {
    pub(super) fn sender(self) -> u32 {
        u32::from_le_bytes(*field::<4, 4>(self.0))
    }

    pub(super) fn receiver(self) -> u32 {
        u32::from_le_bytes(*field::<8, 4>(self.0))
    }

    pub(super) fn ephemeral(self) -> &'a [u8; 32] {
        field::<12, 32>(self.0)
    }

    pub(super) fn sealed_nothing(self) -> &'a [u8; 16] {
        field::<44, 16>(self.0)
    }

    /// The message but for its MACs.
    pub(super) fn write(
        sender: u32,
        receiver: u32,
        ephemeral: &[u8; 32],
        sealed_nothing: &[u8; 16],
    ) -> [u8; RESPONSE_LEN] {
        let mut bytes = [0; RESPONSE_LEN];
        bytes[..4].copy_from_slice(&RESPONSE);
        bytes[4..8].copy_from_slice(&sender.to_le_bytes());
        bytes[8..12].copy_from_slice(&receiver.to_le_bytes());
        bytes[12..44].copy_from_slice(ephemeral);
        bytes[44..60].copy_from_slice(sealed_nothing);
        bytes
    }
}

/// Type 3: receiver index, nonce, sealed cookie.
#[derive(Clone, Copy)]
pub(super) struct CookieReply<'a>(&'a [u8; COOKIE_REPLY_LEN]);

impl<'a> CookieReply<'a> {
    pub(super) fn receiver(self) -> u32 {
        u32::from_le_bytes(*field::<4, 4>(self.0))
    }

    pub(super) fn nonce(self) -> &'a [u8; 24] {
        field::<8, 24>(self.0)
    }

    pub(super) fn cookie(self) -> &'a [u8; 16] {
        field::<32, 16>(self.0)
    }

    pub(super) fn tag(self) -> &'a [u8; 16] {
        field::<48, 16>(self.0)
    }

    pub(super) fn write(
        receiver: u32,
        nonce: &[u8; 24],
        cookie: &[u8; 16],
        tag: &[u8; 16],
    ) -> [u8; COOKIE_REPLY_LEN] {
        let mut bytes = [0; COOKIE_REPLY_LEN];
        bytes[..4].copy_from_slice(&COOKIE_REPLY);
        bytes[4..8].copy_from_slice(&receiver.to_le_bytes());
        bytes[8..32].copy_from_slice(nonce);
        bytes[32..48].copy_from_slice(cookie);
        bytes[48..].copy_from_slice(tag);
        bytes
    }
}

/// Type 4: receiver index and counter; the sealed packet follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataHeader {
    pub(super) receiver: u32,
    pub(super) counter: u64,
}

impl DataHeader {
    #[inline]
    fn parse(datagram: &[u8]) -> Option<Self> {
        let (header, _) = datagram.split_first_chunk::<DATA_HEADER_LEN>()?;
        if datagram.len() < DATA_OVERHEAD {
            return None;
        }
        Some(DataHeader {
            receiver: u32::from_le_bytes(*field::<4, 4>(header)),
            counter: u64::from_le_bytes(*field::<8, 8>(header)),
        })
    }

    #[inline]
    pub(super) fn to_bytes(self) -> [u8; DATA_HEADER_LEN] {
        let mut bytes = [0; DATA_HEADER_LEN];
        bytes[..4].copy_from_slice(&DATA);
        bytes[4..8].copy_from_slice(&self.receiver.to_le_bytes());
        bytes[8..].copy_from_slice(&self.counter.to_le_bytes());
        bytes
    }
}

/// The two MACs every handshake message ends in.
pub(super) struct Macs<'a> {
    /// What the first MAC is over: all before it.
    pub(super) before_mac1: &'a [u8],
    pub(super) mac1: &'a [u8; 16],
    /// What the second MAC is over: all before it.
    pub(super) before_mac2: &'a [u8],
    pub(super) mac2: &'a [u8; 16],
}

impl<'a> Macs<'a> {
    /// The MACs of an initiation or response.
    pub(super) fn of<const LEN: usize>(message: &'a [u8; LEN]) -> Self {
        const { assert!(LEN == INITIATION_LEN || LEN == RESPONSE_LEN) };
        let (before_mac2, mac2) = tail(message);
        let (before_mac1, mac1) = tail(before_mac2);
        Macs { before_mac1, mac1, before_mac2, mac2 }
    }
}

fn tail(bytes: &[u8]) -> (&[u8], &[u8; 16]) {
    bytes.split_last_chunk().expect("handshake messages are longer than their MACs")
}

/// `LEN` bytes from `AT` on.
#[inline]
fn field<const AT: usize, const LEN: usize>(bytes: &[u8]) -> &[u8; LEN] {
    bytes[AT..AT + LEN].try_into().expect("the range has the array's length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_known_by_type_and_exact_length() {
        for (kind, len) in [(1, 148), (2, 92), (3, 64)] {
            for wrong in [0, 1, 3, 4, len - 1, len + 1, 1420, 65535] {
                let mut datagram = std::vec![0; wrong];
                if let Some(first) = datagram.first_mut() {
                    *first = kind;
                }
                assert!(Message::parse(&datagram).is_none(), "type {kind}, {wrong} bytes");
            }
        }
        assert!(matches!(
            Message::parse(&Initiation::write(1, &[2; 32], &[3; 48], &[4; 28])),
            Some(Message::Initiation(_))
        ));
        assert!(matches!(
            Message::parse(&Response::write(1, 2, &[3; 32], &[4; 16])),
            Some(Message::Response(_))
        ));
        assert!(matches!(
            Message::parse(&CookieReply::write(1, &[2; 24], &[3; 16], &[4; 16])),
            Some(Message::CookieReply(_))
        ));
        for kind in [0, 5, 255] {
            let mut datagram = [0; 148];
            datagram[0] = kind;
            assert!(Message::parse(&datagram).is_none());
        }
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        for place in 1..4 {
            let mut bytes = Initiation::write(1, &[2; 32], &[3; 48], &[4; 28]);
            bytes[place] = 1;
            assert!(Message::parse(&bytes).is_none());
            let mut bytes = [0; 32];
            bytes[0] = 4;
            bytes[place] = 1;
            assert!(Message::parse(&bytes).is_none());
        }
    }

    #[test]
    fn fields_come_back() {
        let bytes = Initiation::write(0x0403_0201, &[2; 32], &[3; 48], &[4; 28]);
        let view = Initiation(&bytes);
        assert_eq!(bytes[..8], [1, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!((view.sender(), view.ephemeral()), (0x0403_0201, &[2; 32]));
        assert_eq!((view.sealed_static(), view.sealed_timestamp()), (&[3; 48], &[4; 28]));
        let bytes = Response::write(1, 2, &[3; 32], &[4; 16]);
        let view = Response(&bytes);
        assert_eq!((view.sender(), view.receiver()), (1, 2));
        assert_eq!((view.ephemeral(), view.sealed_nothing()), (&[3; 32], &[4; 16]));
        let bytes = CookieReply::write(1, &[2; 24], &[3; 16], &[4; 16]);
        let view = CookieReply(&bytes);
        assert_eq!(
            (view.receiver(), view.nonce(), view.cookie(), view.tag()),
            (1, &[2; 24], &[3; 16], &[4; 16])
        );
    }

    #[test]
    fn a_data_packet_has_at_least_header_and_tag() {
        let header = DataHeader { receiver: 7, counter: u64::MAX - 1 };
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&header.to_bytes());
        assert!(matches!(Message::parse(&bytes), Some(Message::Data(parsed)) if parsed == header));
        assert!(Message::parse(&bytes[..31]).is_none());
    }

    #[test]
    fn macs_stand_at_the_end() {
        let bytes: [u8; 92] = core::array::from_fn(|place| place as u8);
        let macs = Macs::of(&bytes);
        assert_eq!((macs.before_mac1.len(), macs.before_mac2.len()), (60, 76));
        assert_eq!((macs.mac1[0], macs.mac2[0]), (60, 76));
    }
}
