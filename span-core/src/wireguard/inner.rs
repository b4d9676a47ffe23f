//! The IP packet inside a data packet.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The source address and the true length of the IP packet at the front of `plain`, which may be followed
/// by padding. `None` if there is no whole packet.
#[inline]
pub(super) fn source_and_len(plain: &[u8]) -> Option<(IpAddr, usize)> {
    let (source, len) = match plain.first()? >> 4 {
        4 => {
            let header = plain.first_chunk::<20>()?;
            let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            (IpAddr::V4(source), Some(len).filter(|len| *len >= 20)?)
        }
        6 => {
            let header = plain.first_chunk::<40>()?;
            let source: [u8; 16] = *header[8..].first_chunk()?;
            let len = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            (IpAddr::V6(Ipv6Addr::from(source)), len)
        }
        _ => return None,
    };
    (len <= plain.len()).then_some((source, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_not_part_of_the_packet() {
        let mut v4 = [0; 48];
        v4[0] = 0x45;
        v4[3] = 33;
        v4[12..16].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(source_and_len(&v4), Some((IpAddr::from([192, 0, 2, 1]), 33)));
        let mut v6 = [0; 64];
        v6[0] = 0x60;
        v6[5] = 9;
        v6[8] = 0xfd;
        assert_eq!(source_and_len(&v6), Some(("fd00::".parse().unwrap(), 49)));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(source_and_len(&[]), None);
        for version in [0, 1, 5, 7, 15] {
            assert_eq!(source_and_len(&[version << 4; 64]), None);
        }
        let mut v4 = [0; 32];
        v4[0] = 0x45;
        for (claimed, fits) in [(0, false), (19, false), (20, true), (32, true), (33, false)] {
            v4[3] = claimed;
            assert_eq!(source_and_len(&v4).is_some(), fits, "{claimed}");
        }
        assert_eq!(source_and_len(&v4[..19]), None);
        let mut v6 = [0; 48];
        v6[0] = 0x60;
        for (claimed, fits) in [(0, true), (8, true), (9, false)] {
            v6[5] = claimed;
            assert_eq!(source_and_len(&v6).is_some(), fits, "{claimed}");
        }
        assert_eq!(source_and_len(&v6[..39]), None);
    }
}
