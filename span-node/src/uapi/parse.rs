use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use ipnet::IpNet;
use span_core::key::{PresharedKey, PrivateKey, PublicKey};

use super::Errno;

/// A `set` request: what to do, in order, up to the first line that makes no sense.
///
/// As with wireguard-go and the kernel, a request that fails half-way has done its first half: apply
/// [`operations`](Set::operations), then report [`failure`](Set::failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Everything before the failing line.
    pub operations: Vec<Operation>,
    /// The line that stopped the request, if one did.
    pub failure: Option<Failure>,
}

/// One line of a `set` request. Lines from [`Peer`](Operation::Peer) on are about that peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `private_key`; `None` when all zeros, which removes it.
    PrivateKey(Option<PrivateKey>),
    /// `listen_port`; 0 lets the host choose.
    ListenPort(u16),
    /// `fwmark`; 0 removes it.
    Fwmark(u32),
    /// `replace_peers`: forget every peer.
    ReplacePeers,
    /// `public_key`: what follows is about this peer, which is made if need be.
    Peer(PublicKey),
    /// `update_only`: do not make the peer, ignore its lines if there is none.
    UpdateOnly,
    /// `remove`: forget the peer, ignore the rest of its lines.
    Remove,
    /// `preshared_key`; all zeros removes it.
    PresharedKey(PresharedKey),
    /// `endpoint`.
    Endpoint(SocketAddr),
    /// `persistent_keepalive_interval` in seconds; 0 turns it off.
    Keepalive(u16),
    /// `replace_allowed_ips`: forget the peer's prefixes.
    ReplaceAllowedIps,
    /// `allowed_ip`: the peer owns this prefix from now on. Host bits are cleared.
    AddAllowedIp(IpNet),
    /// `allowed_ip=-…`: the peer no longer owns this prefix.
    RemoveAllowedIp(IpNet),
}

/// The line a request failed at. Says nothing of the value, which may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct Failure {
    /// Counted from 1; `set=1` is line 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Not `key=value`.
    #[error("not key=value")]
    NotKeyValue,
    /// No such key, or not at this place: the device's come before the first `public_key`.
    #[error("no such key here")]
    UnknownKey,
    /// A key that is not 64 hexadecimal digits.
    #[error("a key must be 64 hexadecimal digits")]
    Key,
    /// A number that is none or too large.
    #[error("not a number in range")]
    Number,
    /// A flag that is not `true`.
    #[error("the only value is true")]
    Flag,
    /// A protocol version other than 1.
    #[error("the only protocol version is 1")]
    Version,
    /// Not `address:port` or `[address]:port`.
    #[error("an endpoint is an address and a port, 192.0.2.1:51820 or [2001:db8::1]:51820")]
    Endpoint,
    /// Not `address/length`.
    #[error("an allowed IP is a prefix such as 10.0.0.0/8 or fd00::/8")]
    Prefix,
}

impl Failure {
    /// The number the client is told.
    pub fn errno(self) -> Errno {
        match self.reason {
            Reason::NotKeyValue => Errno::PROTOCOL,
            Reason::UnknownKey
            | Reason::Key
            | Reason::Number
            | Reason::Flag
            | Reason::Version
            | Reason::Endpoint
            | Reason::Prefix => Errno::INVALID,
        }
    }
}

/// Parses the lines after `set=1`, up to an empty line or the end.
///
/// The zone of an IPv6 endpoint must be an interface's number here; [`parse_set_with`] takes names.
pub fn parse_set(body: &[u8]) -> Set {
    parse_set_with(body, &mut |_| None)
}

/// As [`parse_set`], with `interface` to turn the interface's name in `[fe80::1%eth0]:51820` into its
/// index.
pub fn parse_set_with(body: &[u8], interface: &mut dyn FnMut(&str) -> Option<u32>) -> Set {
    let mut set = Set { operations: Vec::new(), failure: None };
    let mut in_peer = false;
    for (number, line) in body.split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() {
            break;
        }
        match parse_line(line, in_peer, interface) {
            Ok(Some(operation)) => {
                in_peer |= matches!(operation, Operation::Peer(_));
                set.operations.push(operation);
            }
            Ok(None) => {}
            Err(reason) => {
                set.failure = Some(Failure { line: number + 2, reason });
                break;
            }
        }
    }
    set
}

/// The operation a line asks for; `None` where a line only confirms what is so anyway.
fn parse_line(
    line: &[u8],
    in_peer: bool,
    interface: &mut dyn FnMut(&str) -> Option<u32>,
) -> Result<Option<Operation>, Reason> {
    let line = std::str::from_utf8(line).map_err(|_| Reason::NotKeyValue)?;
    let (key, value) = line.split_once('=').ok_or(Reason::NotKeyValue)?;
    let operation = match (in_peer, key) {
        (_, "public_key") => Operation::Peer(PublicKey::from_hex(value).map_err(|_| Reason::Key)?),
        (false, "private_key") => Operation::PrivateKey(private_key(value)?),
        (false, "listen_port") => Operation::ListenPort(number(value)?),
        (false, "fwmark") => Operation::Fwmark(number(value)?),
        (false, "replace_peers") => flag(value, Operation::ReplacePeers)?,
        (true, "update_only") => flag(value, Operation::UpdateOnly)?,
        (true, "remove") => flag(value, Operation::Remove)?,
        (true, "preshared_key") => {
            Operation::PresharedKey(PresharedKey::from_hex(value).map_err(|_| Reason::Key)?)
        }
        (true, "endpoint") => Operation::Endpoint(endpoint(value, interface).ok_or(Reason::Endpoint)?),
        (true, "persistent_keepalive_interval") => Operation::Keepalive(number(value)?),
        (true, "replace_allowed_ips") => flag(value, Operation::ReplaceAllowedIps)?,
        (true, "allowed_ip") => match value.strip_prefix('-') {
            Some(value) => Operation::RemoveAllowedIp(prefix(value)?),
            None => Operation::AddAllowedIp(prefix(value)?),
        },
        (true, "protocol_version") => {
            return if value == "1" { Ok(None) } else { Err(Reason::Version) };
        }
        (_, _) => return Err(Reason::UnknownKey),
    };
    Ok(Some(operation))
}

fn private_key(value: &str) -> Result<Option<PrivateKey>, Reason> {
    // Looked at as text: clamping makes a key of zeros look like one.
    let key = PrivateKey::from_hex(value).map_err(|_| Reason::Key)?;
    Ok(value.bytes().any(|digit| digit != b'0').then_some(key))
}

fn flag(value: &str, operation: Operation) -> Result<Operation, Reason> {
    if value == "true" { Ok(operation) } else { Err(Reason::Flag) }
}

/// A decimal number without sign.
fn number<N: std::str::FromStr>(value: &str) -> Result<N, Reason> {
    if value.bytes().all(|digit| digit.is_ascii_digit()) {
        value.parse().map_err(|_| Reason::Number)
    } else {
        Err(Reason::Number)
    }
}

fn prefix(value: &str) -> Result<IpNet, Reason> {
    let (address, length) = value.split_once('/').ok_or(Reason::Prefix)?;
    let address: IpAddr = address.parse().map_err(|_| Reason::Prefix)?;
    let length = number(length).map_err(|_| Reason::Prefix)?;
    IpNet::new(address, length).map(|net| net.trunc()).map_err(|_| Reason::Prefix)
}

fn endpoint(value: &str, interface: &mut dyn FnMut(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Ok(address) = value.parse() {
        return Some(address);
    }
    let (address, port) = value.strip_prefix('[')?.split_once("]:")?;
    let (address, zone) = address.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let port = number(port).ok()?;
    Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, interface(zone)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";
    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn parse(body: &str) -> Set {
        parse_set_with(body.as_bytes(), &mut |name| (name == "eth0").then_some(7))
    }

    fn operations(body: &str) -> Vec<Operation> {
        let set = parse(body);
        assert_eq!(set.failure, None, "{body}");
        set.operations
    }

    #[test]
    fn every_key_of_the_device() {
        let body = format!("private_key={KEY}\nlisten_port=12912\nfwmark=4294967295\nreplace_peers=true\n");
        assert_eq!(
            operations(&body),
            [
                Operation::PrivateKey(Some(PrivateKey::from_hex(KEY).unwrap())),
                Operation::ListenPort(12912),
                Operation::Fwmark(u32::MAX),
                Operation::ReplacePeers,
            ]
        );
        assert_eq!(operations(&format!("private_key={ZEROS}")), [Operation::PrivateKey(None)]);
    }

    #[test]
    fn every_key_of_a_peer() {
        let body = format!(
            "public_key={KEY}\nupdate_only=true\nremove=true\npreshared_key={KEY}\nprotocol_version=1\n\
             endpoint=192.0.2.1:1\nendpoint=[2001:db8::1]:2\nendpoint=[fe80::1%3]:3\nendpoint=[fe80::1%eth0]:4\n\
             persistent_keepalive_interval=65535\nreplace_allowed_ips=true\nallowed_ip=10.1.2.3/8\n\
             allowed_ip=-fd00::1/64\nallowed_ip=0.0.0.0/0\npublic_key={ZEROS}\n"
        );
        let zoned = |zone, port| SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, zone).into();
        assert_eq!(
            operations(&body),
            [
                Operation::Peer(PublicKey::from_hex(KEY).unwrap()),
                Operation::UpdateOnly,
                Operation::Remove,
                Operation::PresharedKey(PresharedKey::from_hex(KEY).unwrap()),
                Operation::Endpoint("192.0.2.1:1".parse().unwrap()),
                Operation::Endpoint("[2001:db8::1]:2".parse().unwrap()),
                Operation::Endpoint(zoned(3, 3)),
                Operation::Endpoint(zoned(7, 4)),
                Operation::Keepalive(65535),
                Operation::ReplaceAllowedIps,
                Operation::AddAllowedIp("10.0.0.0/8".parse().unwrap()),
                Operation::RemoveAllowedIp("fd00::/64".parse().unwrap()),
                Operation::AddAllowedIp("0.0.0.0/0".parse().unwrap()),
                Operation::Peer(PublicKey::from_bytes([0; 32])),
            ]
        );
    }

    #[test]
    fn bad_lines_stop_the_request_and_say_where() {
        let in_peer = format!("public_key={KEY}\n");
        for (head, line, reason) in [
            ("", "listen_port", Reason::NotKeyValue),
            ("", "\u{0}", Reason::NotKeyValue),
            ("", "listen_port=", Reason::Number),
            ("", "listen_port=+1", Reason::Number),
            ("", "listen_port=65536", Reason::Number),
            ("", "fwmark=0x20", Reason::Number),
            ("", "fwmark=4294967296", Reason::Number),
            ("", "replace_peers=false", Reason::Flag),
            ("", "private_key=xyz", Reason::Key),
            ("", "public_key=", Reason::Key),
            ("", "endpoint=192.0.2.1:1", Reason::UnknownKey),
            ("", " listen_port=1", Reason::UnknownKey),
            ("", "listen_port=1\r", Reason::Number),
            (&in_peer, "listen_port=1", Reason::UnknownKey),
            (&in_peer, "nonsense=1", Reason::UnknownKey),
            (&in_peer, "protocol_version=2", Reason::Version),
            (&in_peer, "endpoint=192.0.2.1", Reason::Endpoint),
            (&in_peer, "endpoint=2001:db8::1:51820", Reason::Endpoint),
            (&in_peer, "endpoint=host.example:51820", Reason::Endpoint),
            (&in_peer, "endpoint=[fe80::1%wlan9]:1", Reason::Endpoint),
            (&in_peer, "allowed_ip=10.0.0.0", Reason::Prefix),
            (&in_peer, "allowed_ip=10.0.0.0/33", Reason::Prefix),
            (&in_peer, "allowed_ip=10.0.0.0/+8", Reason::Prefix),
            (&in_peer, "allowed_ip=--10.0.0.0/8", Reason::Prefix),
            (&in_peer, "allowed_ip=fd00::/129", Reason::Prefix),
            (&in_peer, "persistent_keepalive_interval=off", Reason::Number),
        ] {
            let set = parse(&format!("{head}{line}\n"));
            let lines_before = head.lines().count();
            assert_eq!(set.failure, Some(Failure { line: lines_before + 2, reason }), "{line:?}");
            assert_eq!(set.operations.len(), lines_before, "{line:?}");
        }
    }

    #[test]
    fn what_came_before_the_bad_line_is_kept() {
        let set = parse("listen_port=1\nfwmark=2\nnonsense=3\nfwmark=4\n");
        assert_eq!(set.operations, [Operation::ListenPort(1), Operation::Fwmark(2)]);
        assert_eq!(set.failure.map(|failure| failure.line), Some(4));
    }

    #[test]
    fn an_empty_line_ends_the_request() {
        assert_eq!(operations("fwmark=1\n\nnonsense\n"), [Operation::Fwmark(1)]);
    }

    #[test]
    fn failures_have_the_numbers_of_wireguard_go() {
        assert_eq!(parse("x").failure.unwrap().errno(), Errno::PROTOCOL);
        assert_eq!(parse("x=1").failure.unwrap().errno(), Errno::INVALID);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(body: Vec<u8>) {
            let _ = parse_set(&body);
        }

        #[test]
        fn any_value_is_parsed_or_refused(key in "public_key|private_key|preshared_key|endpoint|allowed_ip|fwmark", value: String) {
            let _ = parse_set(format!("public_key={KEY}\n{key}={value}").as_bytes());
            let _ = parse_set(format!("{key}={value}").as_bytes());
        }
    }
}
