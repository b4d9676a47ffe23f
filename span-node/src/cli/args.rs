//! What can be typed after `span`.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::PathBuf;
#[cfg(feature = "service")]
use std::time::Duration;

use clap::{Parser, Subcommand};
use ipnet::IpNet;
use span_core::crypto::Suite;

#[cfg(feature = "proxies")]
use crate::proxy::{Inward, Outward};

/// An encrypted full mesh of machines: KubeSpan without Talos, WireGuard without a kernel module.
#[derive(Debug, Parser)]
#[command(name = "span", version, max_term_width = 100)]
pub(super) struct Args {
    /// What to log, as `info`, `debug` or `span_node=trace,warn`. Logs go to standard error.
    #[arg(long, global = true, env = "SPAN_LOG", default_value = "info", value_name = "FILTER")]
    pub(super) log: String,

    /// Log as JSON, one object a line.
    #[arg(long, global = true)]
    pub(super) log_json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show a whole mesh on this machine, with nothing to configure.
    #[cfg(feature = "service")]
    Demo(Demo),
    /// Make a new cluster.
    #[command(subcommand)]
    Cluster(Cluster),
    /// Join a mesh and stay in the foreground until interrupted.
    Up(Box<Up>),
    /// Show this node: keys, addresses, discovery.
    Status(Query),
    /// Show the other nodes: connected or not, over which path, since when.
    Peers(Query),
    /// Explain how one peer is reached, or why it is not.
    Why(Why),
    /// Run the discovery service that tells the nodes of a cluster about each other.
    #[cfg(feature = "service")]
    Discovery(Discovery),
    /// Run a plain WireGuard interface for `wg` and `wg-quick`.
    Wg(Wg),
    /// One node of a demo; started by `span demo`.
    #[command(hide = true)]
    #[cfg(feature = "service")]
    DemoNode,
}

#[cfg(feature = "service")]
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=64))]
    pub(super) nodes: u16,

    /// Print one JSON object at the end instead of the live view and the table.
    #[arg(long)]
    pub(super) json: bool,

    /// Run the nodes in one process over loopback, without interfaces, as happens where there are neither
    /// privileges nor user namespaces.
    #[cfg(feature = "netstack")]
    #[arg(long)]
    pub(super) in_process: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Print a token with a new cluster id and secret. Whoever has the token can join.
    New {
        /// Discovery services the nodes should use, put into the token. Give it several times for several.
        #[arg(long = "discovery", value_name = "URL")]
        discovery: Vec<String>,

        /// Print the token, the id and the secret as a JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// The cluster's token, from `span cluster new`.
    #[arg(long, env = "SPAN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(super) token: Option<String>,

    /// A file with the token in it.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(super) token_file: Option<PathBuf>,

    /// A configuration file: a Talos fragment, Talos documents, or Span's own document. Options given on
    /// the command line win over it.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// The interface to create [default: span0].
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,

    /// The UDP port to listen on; 0 takes any [default: 51820].
    #[arg(long, value_name = "PORT")]
    pub(super) listen_port: Option<u16>,

    /// What to encrypt with: auto takes AES-256-GCM with Span nodes where both CPUs have instructions for it,
    /// chacha20-poly1305 is WireGuard's own with everyone [default: auto].
    #[arg(long, value_name = "CIPHER", value_parser = ["auto", "chacha20-poly1305"])]
    pub(super) cipher: Option<String>,

    /// How many threads carry packets [default: 1].
    #[arg(long, value_name = "N")]
    pub(super) threads: Option<NonZeroU8>,

    /// The name other nodes know this one by [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,

    /// Where the node keeps its identity [default: /var/lib/span].
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,

    /// A network behind this node that the others should reach through it. Several times for several.
    #[arg(long = "advertise", value_name = "CIDR")]
    pub(super) advertise: Vec<IpNet>,

    /// An endpoint to announce besides those found on the interfaces. Several times for several.
    #[arg(long = "endpoint", value_name = "IP:PORT")]
    pub(super) endpoints: Vec<SocketAddr>,

    /// A discovery service, http:// or https://. Several times for several.
    #[arg(long = "discovery", value_name = "URL")]
    pub(super) discovery: Vec<String>,

    /// A PEM file of certificate authorities to trust for discovery, besides the system's.
    #[arg(long, value_name = "FILE")]
    pub(super) discovery_ca: Option<PathBuf>,

    /// Serve discovery from this node as well [default address: [::]:3000].
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "[::]:3000")]
    pub(super) serve_discovery: Option<SocketAddr>,

    /// A static list of members, used beside the discovery services.
    #[arg(long, value_name = "FILE")]
    pub(super) members: Option<PathBuf>,

    /// The MTU of the interface [default: 1420].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1280..))]
    pub(super) mtu: Option<u16>,

    /// Let traffic to a member go unencrypted while its tunnel is down.
    #[arg(long)]
    pub(super) allow_down_peer_bypass: bool,

    /// Publish the endpoints other members are seen at.
    #[arg(long)]
    pub(super) harvest_extra_endpoints: bool,

    /// Leave routes, rules and nftables alone: only create the interface and its address.
    #[arg(long)]
    pub(super) no_routes: bool,

    /// Create no interface and need no privileges: the mesh is reached through the options below.
    #[cfg(feature = "proxies")]
    #[arg(long)]
    pub(super) netstack: bool,

    /// Serve SOCKS5 to programs of this machine, for addresses and names of members
    /// [default address: 127.0.0.1:1080]. Whoever reaches it reaches the mesh.
    #[cfg(feature = "proxies")]
    #[arg(
        long, value_name = "ADDR", num_args = 0..=1, default_missing_value = "127.0.0.1:1080", requires = "netstack",
        value_parser = crate::proxy::local_address
    )]
    pub(super) socks5: Option<SocketAddr>,

    /// Carry what connects to a port of this machine to a member, as 8080=node-2:80. Several times for several.
    #[cfg(feature = "proxies")]
    #[arg(long = "forward", value_name = "LOCAL=REMOTE", requires = "netstack", value_parser = crate::proxy::outward)]
    pub(super) forward: Vec<(SocketAddr, Outward)>,

    /// Carry what members connect to on this node to a program of this machine, as 80=8080. Several times for
    /// several.
    #[cfg(feature = "proxies")]
    #[arg(long = "listen-forward", value_name = "PORT=LOCAL", requires = "netstack")]
    pub(super) listen_forward: Vec<Inward>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Query {
    /// The interface of the node to ask.
    #[arg(long, default_value = "span0", value_name = "NAME")]
    pub(super) interface: String,

    /// The node's control socket, if its configuration puts it elsewhere.
    #[arg(long, value_name = "PATH", conflicts_with = "interface")]
    pub(super) socket: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The peer: its name, node id, public key or an address of it.
    pub(super) peer: String,

    #[command(flatten)]
    pub(super) query: Query,
}

#[cfg(feature = "service")]
#[derive(Debug, clap::Args)]
pub(super) struct Discovery {
    /// Where to listen, TLS if a certificate is given, plain HTTP/2 otherwise.
    #[arg(long, default_value = "[::]:3000", value_name = "ADDR")]
    pub(super) listen: SocketAddr,

    /// Where to serve Prometheus metrics, at /metrics.
    #[arg(long, value_name = "ADDR")]
    pub(super) metrics: Option<SocketAddr>,

    /// The certificate chain, PEM. Read again when it changes.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(super) certificate: Option<PathBuf>,

    /// The private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(super) key: Option<PathBuf>,

    /// Where to keep the state across restarts. It holds ciphertext only.
    #[arg(long, value_name = "FILE")]
    pub(super) snapshot: Option<PathBuf>,

    /// How often to save the state.
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub(super) snapshot_interval: Duration,

    /// How often to drop what has expired.
    #[arg(long, default_value = "1m", value_name = "TIME", value_parser = duration)]
    pub(super) gc_interval: Duration,

    /// Send every client to this service instead, as HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) redirect: Option<String>,

    /// Believe the X-Real-IP header. Only behind a proxy that sets it.
    #[arg(long)]
    pub(super) trust_x_real_ip: bool,

    /// Believe the first address of X-Forwarded-For. Only behind a proxy that sets it.
    #[arg(long)]
    pub(super) trust_x_forwarded_for: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wg {
    /// The interface to create.
    #[arg(value_name = "IFNAME")]
    pub(super) interface: String,

    /// What to begin handshakes in: chacha20-poly1305, which is WireGuard, or aes-256-gcm, for which every
    /// peer must be `span wg --cipher aes-256-gcm` as well.
    #[arg(long, default_value_t, value_name = "CIPHER")]
    pub(super) cipher: Suite,

    /// How many threads carry packets.
    #[arg(long, default_value_t = NonZeroU8::MIN, value_name = "N")]
    pub(super) threads: NonZeroU8,

    /// Go to the background once the interface and its socket are there.
    #[arg(long)]
    pub(super) daemon: bool,

    /// Tell on standard output when the interface and its socket are there; the background half of
    /// `--daemon`.
    #[arg(long, hide = true)]
    pub(super) background: bool,
}

/// Reads `90s`, `10m`, `1h` or a bare number of seconds.
#[cfg(feature = "service")]
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "expected a time such as 90s, 10m or 1h".to_owned())?;
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => return Err(format!("unknown unit `{other}`: use s, m or h")),
    };
    match number.checked_mul(unit) {
        Some(secs) if secs > 0 => Ok(Duration::from_secs(secs)),
        _ => Err("the time must be at least one second".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    #[cfg(feature = "service")]
    fn durations() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        for bad in ["", "m", "-1s", "0s", "1d", "99999999999999999999h", "1\u{e9}"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
