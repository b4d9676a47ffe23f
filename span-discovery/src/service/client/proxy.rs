//! The way through an HTTP proxy, as the environment names it.

use std::env;
use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::url::ServiceUrl;

/// Longest answer of a proxy.
const ANSWER: usize = 16 << 10;

/// The proxy to ask for, and the hosts it is not asked for.
#[derive(Clone, Default)]
pub(super) struct Environment {
    proxy: String,
    no_proxy: String,
}

/// A proxy that makes tunnels with `CONNECT`.
#[derive(Debug, PartialEq)]
pub(super) struct Proxy {
    /// `host:port` of the proxy itself.
    pub(super) url: ServiceUrl,
    authorization: Option<String>,
}

impl Environment {
    /// `HTTPS_PROXY` and `NO_PROXY`, or their lower-case forms. As in gRPC everywhere, the one for https is
    /// asked whether the service is spoken to over TLS or not: both are tunnels.
    pub(super) fn read() -> Self {
        let first = |names: [&str; 2]| {
            let found =
                names.into_iter().find_map(|name| env::var(name).ok().filter(|text| !text.is_empty()));
            found.unwrap_or_default()
        };
        Environment {
            proxy: first(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: first(["NO_PROXY", "no_proxy"]),
        }
    }

    /// The proxy that leads to `target`, if one is to be used.
    pub(super) fn proxy_for(&self, target: &ServiceUrl) -> Result<Option<Proxy>, String> {
        if self.proxy.is_empty() || is_local(target.host()) || self.is_exempt(target) {
            return Ok(None);
        }
        Proxy::parse(&self.proxy).map(Some)
    }

    fn is_exempt(&self, target: &ServiceUrl) -> bool {
        let address: Option<IpAddr> = target.host().parse().ok();
        self.no_proxy.split([',', ' ']).filter(|entry| !entry.is_empty()).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            if entry == "*" {
                return true;
            }
            if let (Some(address), Ok(network)) = (address, entry.parse::<IpNet>()) {
                return network.contains(&address);
            }
            let port = format!(":{}", target.port());
            let host =
                entry.strip_suffix(&port).unwrap_or(&entry).trim_start_matches('[').trim_end_matches(']');
            if let Some(address) = address {
                return host.parse() == Ok(address);
            }
            let suffix = host.trim_start_matches("*.").trim_start_matches('.');
            match target.host().strip_suffix(suffix) {
                Some("") => host == suffix,
                Some(rest) => !suffix.is_empty() && rest.ends_with('.'),
                None => false,
            }
        })
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("HTTPS_PROXY cannot be used: {why}");
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) => {
                return Err(wrong(&format_args!("only http:// proxies are supported, not {scheme}://")));
            }
            None => text,
        };
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let url = format!("http://{authority}").parse().map_err(|error| wrong(&error))?;
        let authorization = user.map(|user| format!("Basic {}", STANDARD.encode(percent_decode(user))));
        Ok(Proxy { url, authorization })
    }

    /// Asks the proxy at the other end of `stream` for a tunnel to `target`.
    pub(super) async fn tunnel(&self, stream: &mut TcpStream, target: &ServiceUrl) -> io::Result<()> {
        let target = target.authority();
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;

        // Byte by byte: what follows the blank line belongs to the tunnel.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() >= ANSWER {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await?);
        }
        let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        match status.split(' ').nth(1) {
            Some(code) if code.len() == 3 && code.starts_with('2') => Ok(()),
            Some(_) | None => Err(io::Error::other(format!("the proxy refuses: {status:?}"))),
        }
    }
}

fn is_local(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn chosen(proxy: &str, no_proxy: &str, target: &str) -> Result<Option<Proxy>, String> {
        let environment = Environment { proxy: proxy.to_owned(), no_proxy: no_proxy.to_owned() };
        environment.proxy_for(&target.parse().unwrap())
    }

    #[test]
    fn exemptions() {
        for (no_proxy, target, proxied) in [
            ("", "https://a.example", true),
            ("*", "https://a.example", false),
            ("example", "https://a.example", false),
            (".example", "https://a.example", false),
            ("*.example", "https://a.example", false),
            ("a.example", "https://a.example", false),
            (".a.example", "https://a.example", true),
            ("a.example", "https://ba.example", true),
            ("x, A.Example:443", "https://a.example", false),
            ("a.example:80", "https://a.example", true),
            ("10.0.0.0/8", "http://10.1.2.3:3000", false),
            ("10.0.0.0/8", "http://11.1.2.3:3000", true),
            ("10.1.2.3", "http://10.1.2.3:3000", false),
            ("[fd00::1]:3000", "http://[fd00::1]:3000", false),
            ("", "http://127.0.0.1:3000", false),
            ("", "http://[::1]:3000", false),
            ("", "http://localhost:3000", false),
        ] {
            let proxy = chosen("http://proxy:3128", no_proxy, target).unwrap();
            assert_eq!(proxy.is_some(), proxied, "{no_proxy} {target}");
        }
        assert_eq!(chosen("", "", "https://a.example"), Ok(None));
    }

    #[test]
    fn proxies_are_read() {
        let proxy = chosen("proxy:3128", "", "https://a.example").unwrap().unwrap();
        assert_eq!((proxy.url.to_string().as_str(), proxy.authorization), ("http://proxy:3128", None));
        let proxy = chosen("http://us%65r:p%40ss@proxy/", "", "https://a.example").unwrap().unwrap();
        assert_eq!(proxy.url.to_string(), "http://proxy:80");
        assert_eq!(proxy.authorization.as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert!(chosen("socks5://proxy", "", "https://a.example").unwrap_err().contains("socks5"));
        assert!(chosen("http://", "", "https://a.example").unwrap_err().contains("HTTPS_PROXY"));
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_and_may_be_refused() {
        for (answer, granted) in [
            ("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nSSH", true),
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false),
            ("nonsense\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\n", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 200];
                let len = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8(request[..len].to_vec()).unwrap()
            };
            let client = async {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let proxy = Proxy::parse("http://u:p@proxy:1").unwrap();
                let outcome = proxy.tunnel(&mut stream, &"https://a.example".parse().unwrap()).await;
                (outcome, stream)
            };
            let (request, (outcome, mut stream)) = tokio::join!(server, client);
            assert!(
                request.starts_with("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n"),
                "{request}"
            );
            assert!(request.contains("Proxy-Authorization: Basic dTpw\r\n"));
            assert_eq!(outcome.is_ok(), granted, "{answer}");
            if granted {
                let mut rest = String::new();
                stream.read_to_string(&mut rest).await.unwrap();
                assert_eq!(rest, "SSH", "what follows belongs to the tunnel");
            }
        }
    }
}
