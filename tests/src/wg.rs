//! WireGuard interfaces in user space, and `wg` to look at them.

use std::time::Duration;

use crate::namespace::Namespace;
use crate::process::Process;
use crate::programs;
use crate::{eventually, holds};

/// A program that makes a WireGuard interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `span wg`.
    Span,
    /// `span wg --cipher aes-256-gcm`.
    SpanAes,
    /// `span wg --threads 2`.
    SpanThreads,
    /// Span's tunnel with the device and the sockets of wireguard-go: the example `go/interface`.
    SpanGo,
    /// The Go implementation of WireGuard's authors.
    WireguardGo,
    /// boringtun-cli.
    Boringtun,
}

impl Program {
    /// Whether its tunnel is Span's.
    #[must_use]
    pub const fn is_span(self) -> bool {
        matches!(self, Self::Span | Self::SpanAes | Self::SpanThreads | Self::SpanGo)
    }

    /// Starts it in `namespace` and waits until `wg` can talk to it.
    #[must_use]
    pub fn start(self, namespace: &Namespace, interface: &str) -> Process {
        let mut process = match self {
            Self::Span => namespace.spawn_with(programs::span(), ["wg", interface], &[("SPAN_LOG", "debug")]),
            Self::SpanAes => namespace.spawn_with(
                programs::span(),
                ["wg", "--cipher", "aes-256-gcm", interface],
                &[("SPAN_LOG", "debug")],
            ),
            Self::SpanThreads => namespace.spawn_with(
                programs::span(),
                ["wg", "--threads", "2", interface],
                &[("SPAN_LOG", "debug")],
            ),
            Self::SpanGo => namespace.spawn(&programs::go_interface(), [interface]),
            Self::WireguardGo => namespace.spawn_with(
                &programs::peer("wireguard-go"),
                ["--foreground", interface],
                &[("LOG_LEVEL", "verbose")],
            ),
            // A connected socket would keep the address it had, and could not roam.
            Self::Boringtun => namespace.spawn(
                &programs::peer("boringtun-cli"),
                "--foreground --disable-drop-privileges --disable-connected-udp --verbosity debug"
                    .split(' ')
                    .chain([interface]),
            ),
        };
        eventually(Duration::from_secs(10), "the interface is there for wg", || {
            assert!(process.runs(), "{self:?}: {}{}", process.out(), process.err());
            holds(serves(namespace, interface))
        });
        process
    }
}

/// Whether a program in the namespace serves an interface.
///
/// Not asked of `wg` before somebody listens: it removes a socket that nobody listens at, and there is a moment in
/// which a program has made its socket and does not listen yet.
#[must_use]
pub fn serves(namespace: &Namespace, interface: &str) -> bool {
    // The flag is the one of sockets that accept connections; the kernel has a list for each namespace.
    namespace.attempt("grep -q 00010000.*/wireguard/ /proc/net/unix").is_ok()
        && namespace.attempt(&format!("wg show {interface}")).is_ok()
}

/// A private key and its public key, in base64.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The private key.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl Keys {
    /// A new pair.
    #[must_use]
    pub fn new(namespace: &Namespace) -> Self {
        let private = namespace.run("wg genkey").trim().to_owned();
        let public = namespace.feed("wg pubkey", &private).trim().to_owned();
        Self { private, public }
    }
}

/// One line of `wg show IFNAME dump` about a peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Public key, base64.
    pub public_key: String,
    /// Preshared key, base64, or `(none)`.
    pub preshared_key: String,
    /// `address:port`, or `(none)`.
    pub endpoint: String,
    /// Comma-separated prefixes, or `(none)`.
    pub allowed_ips: String,
    /// Seconds since the epoch, 0 for never.
    pub latest_handshake: u64,
    /// Bytes received.
    pub rx: u64,
    /// Bytes sent.
    pub tx: u64,
    /// Seconds, or `off`.
    pub keepalive: String,
}

/// The peers of an interface as `wg show IFNAME dump` has them.
#[track_caller]
#[must_use]
pub fn peers(namespace: &Namespace, interface: &str) -> Vec<Peer> {
    let dump = namespace.run(&format!("wg show {interface} dump"));
    dump.lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [public_key, preshared_key, endpoint, allowed_ips, latest_handshake, rx, tx, keepalive] =
                fields[..]
            else {
                panic!("a line of wg show dump with eight fields: {line:?}");
            };
            let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("a number: {text:?}"));
            Peer {
                public_key: public_key.to_owned(),
                preshared_key: preshared_key.to_owned(),
                endpoint: endpoint.to_owned(),
                allowed_ips: allowed_ips.to_owned(),
                latest_handshake: number(latest_handshake),
                rx: number(rx),
                tx: number(tx),
                keepalive: keepalive.to_owned(),
            }
        })
        .collect()
}

/// The only peer of an interface.
#[track_caller]
#[must_use]
pub fn peer(namespace: &Namespace, interface: &str) -> Peer {
    let mut all = peers(namespace, interface);
    assert_eq!(all.len(), 1, "peers of {interface} in {}", namespace.name());
    all.remove(0)
}

/// Sets an interface from the text of a configuration file, as `wg setconf` reads it.
#[track_caller]
pub fn setconf(namespace: &Namespace, interface: &str, text: &str) {
    namespace.feed(&format!("wg setconf {interface} /dev/stdin"), text);
}
