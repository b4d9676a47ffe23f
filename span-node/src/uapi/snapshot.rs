use std::fmt::Write as _;
use std::net::SocketAddr;

use ipnet::IpNet;
use span_core::key::{PresharedKey, PrivateKey, PublicKey};
use span_core::time::UnixTime;
use zeroize::Zeroizing;

/// What a `get` request shows of an interface.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The private key, if it has one.
    pub private_key: Option<PrivateKey>,
    /// The port it listens on; 0 while it has none.
    pub listen_port: u16,
    /// The mark on outgoing datagrams; 0 for none.
    pub fwmark: u32,
    /// Its peers, in the order they are shown.
    pub peers: Vec<PeerSnapshot>,
}

/// What a `get` request shows of a peer.
#[derive(Clone, Debug)]
pub struct PeerSnapshot {
    /// Its name.
    pub public_key: PublicKey,
    /// Its preshared key; zeros for none.
    pub preshared_key: PresharedKey,
    /// Where it was last heard of.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was completed.
    pub last_handshake: Option<UnixTime>,
    /// Bytes of authenticated datagrams received from it.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent to it.
    pub tx_bytes: u64,
    /// Seconds between keepalives; 0 for none.
    pub keepalive_seconds: u16,
    /// Its prefixes.
    pub allowed_ips: Vec<IpNet>,
}

impl Snapshot {
    /// The answer to `get=1`, but for the closing `errno` line.
    pub fn write(&self) -> Zeroizing<String> {
        // Room for everything at once: growing would leave copies of the private key behind.
        let mut text = Zeroizing::new(String::with_capacity(self.text_len()));
        if let Some(key) = &self.private_key {
            let key = Zeroizing::new(key.to_hex());
            line(&mut text, format_args!("private_key={}", key.as_str()));
        }
        if self.listen_port != 0 {
            line(&mut text, format_args!("listen_port={}", self.listen_port));
        }
        if self.fwmark != 0 {
            line(&mut text, format_args!("fwmark={}", self.fwmark));
        }
        for peer in &self.peers {
            peer.write(&mut text);
        }
        text
    }

    /// An upper bound of the answer's length, generous to longest addresses and numbers.
    fn text_len(&self) -> usize {
        const DEVICE: usize = 256;
        const PEER: usize = 512;
        const ALLOWED_IP: usize = "allowed_ip=".len() + 39 + "/128\n".len();
        let peers = self.peers.iter().map(|peer| PEER + peer.allowed_ips.len() * ALLOWED_IP);
        DEVICE + peers.sum::<usize>()
    }
}

impl PeerSnapshot {
    fn write(&self, text: &mut String) {
        let preshared_key = Zeroizing::new(self.preshared_key.to_hex());
        line(text, format_args!("public_key={}", self.public_key.to_hex()));
        line(text, format_args!("preshared_key={}", preshared_key.as_str()));
        line(text, format_args!("protocol_version=1"));
        if let Some(endpoint) = self.endpoint {
            line(text, format_args!("endpoint={endpoint}"));
        }
        let last = self.last_handshake.unwrap_or_default().as_duration();
        line(text, format_args!("last_handshake_time_sec={}", last.as_secs()));
        line(text, format_args!("last_handshake_time_nsec={}", last.subsec_nanos()));
        line(text, format_args!("tx_bytes={}", self.tx_bytes));
        line(text, format_args!("rx_bytes={}", self.rx_bytes));
        line(text, format_args!("persistent_keepalive_interval={}", self.keepalive_seconds));
        for prefix in &self.allowed_ips {
            line(text, format_args!("allowed_ip={prefix}"));
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi::{Operation, parse_set};
    use std::time::Duration;

    fn peer() -> PeerSnapshot {
        PeerSnapshot {
            public_key: PublicKey::from_bytes([0xab; 32]),
            preshared_key: PresharedKey::from_bytes([1; 32]),
            endpoint: Some("[2001:db8::1]:51820".parse().unwrap()),
            last_handshake: Some(UnixTime::from_duration(Duration::new(5, 7))),
            rx_bytes: 2224,
            tx_bytes: u64::MAX,
            keepalive_seconds: 25,
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()],
        }
    }

    #[test]
    fn an_empty_interface_shows_nothing() {
        assert_eq!(Snapshot::default().write().as_str(), "");
    }

    #[test]
    fn a_configured_interface_shows_everything() {
        let snapshot = Snapshot {
            private_key: Some(PrivateKey::from_bytes([0; 32])),
            listen_port: 12912,
            fwmark: 32,
            peers: vec![
                peer(),
                PeerSnapshot { endpoint: None, last_handshake: None, allowed_ips: vec![], ..peer() },
            ],
        };
        let (public, preshared) = ("ab".repeat(32), "01".repeat(32));
        let expected = format!(
            "private_key={}40\nlisten_port=12912\nfwmark=32\n\
             public_key={public}\npreshared_key={preshared}\nprotocol_version=1\nendpoint=[2001:db8::1]:51820\n\
             last_handshake_time_sec=5\nlast_handshake_time_nsec=7\ntx_bytes=18446744073709551615\nrx_bytes=2224\n\
             persistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/64\n\
             public_key={public}\npreshared_key={preshared}\nprotocol_version=1\n\
             last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=18446744073709551615\nrx_bytes=2224\n\
             persistent_keepalive_interval=25\n",
            "00".repeat(31)
        );
        assert_eq!(snapshot.write().as_str(), expected);
    }

    #[test]
    fn the_text_never_outgrows_its_first_allocation() {
        let widest: IpNet = "fddd:dddd:dddd:dddd:dddd:dddd:dddd:dddd/128".parse().unwrap();
        let endpoint = std::net::SocketAddrV6::new(
            "fe80:dddd:dddd:dddd:dddd:dddd:dddd:dddd".parse().unwrap(),
            u16::MAX,
            0,
            u32::MAX,
        );
        let snapshot = Snapshot {
            private_key: Some(PrivateKey::from_bytes([0xff; 32])),
            listen_port: u16::MAX,
            fwmark: u32::MAX,
            peers: vec![
                PeerSnapshot {
                    endpoint: Some(endpoint.into()),
                    last_handshake: Some(UnixTime::from_duration(Duration::MAX)),
                    rx_bytes: u64::MAX,
                    keepalive_seconds: u16::MAX,
                    allowed_ips: vec![widest; 100],
                    ..peer()
                };
                10
            ],
        };
        assert!(snapshot.write().len() <= snapshot.text_len());
    }

    #[test]
    fn what_is_shown_can_be_set_again() {
        let shown = peer();
        let prefixes: String = shown.allowed_ips.iter().map(|net| format!("allowed_ip={net}\n")).collect();
        let set = parse_set(format!("public_key={}\n{prefixes}", shown.public_key.to_hex()).as_bytes());
        let again: Vec<_> = set
            .operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::AddAllowedIp(net) => Some(*net),
                _ => None,
            })
            .collect();
        assert_eq!(again, shown.allowed_ips);
    }
}
