//! Who is asking.

use std::net::{IpAddr, SocketAddr};

use tonic::metadata::MetadataMap;

/// Which headers to believe about the client's address. Both are what a client says unless a proxy in front
/// overwrites them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    pub(super) x_real_ip: bool,
    pub(super) x_forwarded_for: bool,
}

impl Trust {
    /// The client's address: of the first believed header that holds one, else of the connection.
    pub(super) fn client(self, headers: &MetadataMap, peer: Option<SocketAddr>) -> Option<IpAddr> {
        let header = |name: &str, believed: bool| {
            let text = headers.get(name).filter(|_| believed)?.to_str().ok()?;
            text.split(',').next()?.trim().parse().ok()
        };
        header("x-real-ip", self.x_real_ip)
            .or_else(|| header("x-forwarded-for", self.x_forwarded_for))
            .or_else(|| peer.map(|peer| peer.ip()))
            // A listener for both families sees IPv4 clients as mapped addresses.
            .map(|ip: IpAddr| ip.to_canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_count_only_where_believed() {
        let mut headers = MetadataMap::new();
        headers.insert("x-real-ip", "192.0.2.1".parse().unwrap());
        headers.insert("x-forwarded-for", "192.0.2.2, 192.0.2.3".parse().unwrap());
        let peer: SocketAddr = "[::ffff:192.0.2.9]:1".parse().unwrap();
        let client = |x_real_ip, x_forwarded_for, headers: &MetadataMap| {
            Trust { x_real_ip, x_forwarded_for }.client(headers, Some(peer)).unwrap().to_string()
        };
        assert_eq!(client(false, false, &headers), "192.0.2.9");
        assert_eq!(client(true, true, &headers), "192.0.2.1");
        assert_eq!(client(false, true, &headers), "192.0.2.2");
        headers.insert("x-real-ip", "unknown".parse().unwrap());
        assert_eq!(client(true, true, &headers), "192.0.2.2");
        assert_eq!(client(true, false, &headers), "192.0.2.9");
        assert_eq!(Trust::default().client(&headers, None), None);
    }
}
