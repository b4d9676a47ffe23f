//! Addresses of discovery services.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Where a discovery service is: `https://discovery.example/`, `http://10.0.0.1:3000`, `grpc://…`.
///
/// Only `http` goes unencrypted. The port defaults to 80 for `http` and to 443 otherwise; there is no path.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServiceUrl {
    tls: bool,
    host: String,
    port: u16,
}

/// Why a text is not the address of a discovery service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceUrlError {
    /// Not `http://`, `https://` or `grpc://`.
    #[error("the address of a discovery service begins with https://, http:// or grpc://")]
    Scheme,
    /// Something after the host and port.
    #[error("the address of a discovery service has nothing after host and port: no path, query or user")]
    Excess,
    /// No host name or address.
    #[error(
        "the address of a discovery service names a host: a DNS name, an IPv4 or a [bracketed] IPv6 address"
    )]
    Host,
    /// Not a port.
    #[error("the port of a discovery service is a number from 1 to 65535")]
    Port,
}

impl ServiceUrl {
    /// Whether the service is spoken to over TLS.
    pub fn tls(&self) -> bool {
        self.tls
    }

    /// The DNS name or IP address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, IPv6 in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The service at `authority`, `host` or `host:port`, spoken to the way this one is: where a redirect
    /// leads.
    pub fn redirected(&self, authority: &str) -> Result<Self, ServiceUrlError> {
        let default_port = if self.tls { 443 } else { 80 };
        let (host, port) = split_authority(authority, default_port)?;
        Ok(ServiceUrl { tls: self.tls, host, port })
    }
}

impl FromStr for ServiceUrl {
    type Err = ServiceUrlError;

    fn from_str(text: &str) -> Result<Self, ServiceUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(ServiceUrlError::Scheme)?;
        let (tls, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "https" | "grpc" => (true, 443),
            "http" => (false, 80),
            _ => return Err(ServiceUrlError::Scheme),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_authority(authority, default_port)?;
        Ok(ServiceUrl { tls, host, port })
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn split_authority(authority: &str, default_port: u16) -> Result<(String, u16), ServiceUrlError> {
    if authority.contains(['/', '?', '#', '@']) {
        return Err(ServiceUrlError::Excess);
    }
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, after) = bracketed.split_once(']').ok_or(ServiceUrlError::Host)?;
        match host.parse() {
            Ok(IpAddr::V6(v6)) => (v6.to_string(), after),
            _ => return Err(ServiceUrlError::Host),
        }
    } else {
        let end = authority.find(':').unwrap_or(authority.len());
        (host_name(&authority[..end])?, &authority[end..])
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok().filter(|&port| port != 0).ok_or(ServiceUrlError::Port)?
        }
        None | Some(_) => return Err(ServiceUrlError::Port),
    };
    Ok((host, port))
}

fn host_name(name: &str) -> Result<String, ServiceUrlError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || name.len() > 253 || !name.chars().all(allowed) {
        return Err(ServiceUrlError::Host);
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        for (text, normal) in [
            ("https://discovery.talos.dev/", "https://discovery.talos.dev:443"),
            ("grpc://Discovery.Example", "https://discovery.example:443"),
            ("http://10.0.0.1", "http://10.0.0.1:80"),
            ("HTTP://10.0.0.1:3000/", "http://10.0.0.1:3000"),
            ("https://[2001:DB8::1]:3000", "https://[2001:db8::1]:3000"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(text.parse::<ServiceUrl>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        use ServiceUrlError::{Excess, Host, Port, Scheme};
        for (text, error) in [
            ("", Scheme),
            ("discovery.talos.dev", Scheme),
            ("ftp://x", Scheme),
            ("https://", Host),
            ("https:///", Host),
            ("https://:443", Host),
            ("https://bücher.example", Host),
            ("https://2001:db8::1", Port),
            ("https://[10.0.0.1]", Host),
            ("https://[::1", Host),
            ("https://x:", Port),
            ("https://x:0", Port),
            ("https://x:65536", Port),
            ("https://x:+1", Port),
            ("https://[::1]x", Port),
            ("https://x/path", Excess),
            ("https://x?q", Excess),
            ("https://user@x", Excess),
        ] {
            assert_eq!(text.parse::<ServiceUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_redirect_keeps_the_way_of_speaking() {
        let from: ServiceUrl = "http://a:3000".parse().unwrap();
        assert_eq!(from.redirected("b:4000").unwrap().to_string(), "http://b:4000");
        assert_eq!(from.redirected("[::1]:4000").unwrap().to_string(), "http://[::1]:4000");
        assert!(from.redirected("https://b").is_err());
        assert!(from.redirected("").is_err());
    }
}
