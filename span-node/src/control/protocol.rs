use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use span_core::key::PublicKey;

/// How a node is doing, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node itself.
    pub node: Node,
    /// Its sources of members.
    pub discovery: Vec<Tier>,
    /// The other nodes, by node id.
    pub peers: Vec<Peer>,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The version of Span it runs.
    pub version: String,
    /// Its id in discovery.
    pub node_id: String,
    /// Its short name.
    pub name: String,
    /// Its full host name.
    pub hostname: String,
    /// `controlplane`, `worker`, `init` or `unknown`.
    pub machine_type: String,
    /// The cluster it is in.
    pub cluster_id: String,
    /// Its WireGuard key, base64.
    #[serde(with = "as_text")]
    pub public_key: PublicKey,
    /// Its address in the mesh.
    pub overlay_address: IpAddr,
    /// Its interface.
    pub interface: String,
    /// The interface's MTU.
    pub mtu_bytes: u16,
    /// The UDP port it listens on.
    pub listen_port: u16,
    /// The ciphers it uses, each where the peer has it too.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Where it tells the others to reach it.
    pub endpoints: Vec<SocketAddr>,
    /// Networks behind it that the others reach through it.
    #[serde(with = "as_texts")]
    pub advertised_networks: Vec<IpNet>,
    /// What kind of NAT it is behind, in a word; `null` while that is not known.
    pub nat: Option<String>,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// Datagrams and packets dropped since it started, by reason; reasons that did not occur are left out.
    pub dropped_packets: BTreeMap<String, u64>,
}

/// A source of members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// A service's URL, a file's path.
    pub name: String,
    /// Whether it works.
    pub state: TierState,
    /// How long ago it came into this state.
    pub state_since_seconds_ago: Option<f64>,
    /// What went wrong last, also if it works again.
    pub last_error: Option<String>,
    /// How many other members it knows.
    pub members: u64,
    /// Whether the others can read this node's record there; `null` if it takes none.
    pub published: Option<bool>,
    /// How much it refused since it started: records, endpoints.
    pub refused: u64,
    /// What it refused last, and why.
    pub last_refusal: Option<String>,
}

/// Whether a tier works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TierState {
    /// It is tried for the first time.
    Connecting,
    /// It works.
    Connected,
    /// It does not, and is tried again and again.
    Disconnected,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// A name for people: node name, else host name, else id.
    pub name: String,
    /// Its id in discovery; `null` for a peer that discovery does not know.
    pub node_id: Option<String>,
    /// Its WireGuard key, base64.
    #[serde(with = "as_text")]
    pub public_key: PublicKey,
    /// Its address in the mesh, if it published one.
    pub overlay_address: Option<IpAddr>,
    /// Whether it is there.
    pub state: PeerState,
    /// Whether discovery still knows it. A peer whose tunnel is alive stays without.
    pub discovered: bool,
    /// Where its datagrams go.
    pub path: Option<String>,
    /// Who said that it is there.
    pub path_source: Option<CandidateSource>,
    /// How long ago the path became the one in use.
    pub path_since_seconds_ago: Option<f64>,
    /// How long ago the last handshake was complete.
    pub last_handshake_seconds_ago: Option<f64>,
    /// What the session is encrypted with, `aes-256-gcm` or `chacha20-poly1305`; `null` without a session.
    pub cipher: Option<String>,
    /// How long ago it was last heard at all.
    pub last_heard_seconds_ago: Option<f64>,
    /// The time to it and back, if it was measured.
    pub rtt_ms: Option<f64>,
    /// Bytes of authenticated datagrams received from it, as `wg` counts.
    pub rx_bytes: u64,
    /// Bytes of datagrams sent to it, as `wg` counts.
    pub tx_bytes: u64,
    /// What is routed to it and accepted from it.
    #[serde(with = "as_texts")]
    pub allowed_ips: Vec<IpNet>,
    /// What it claimed and did not get, and why.
    pub refused: Vec<String>,
    /// Handshakes under way.
    pub race: Option<Race>,
    /// Every path that may lead to it.
    pub candidates: Vec<Candidate>,
}

/// Whether a peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Handshakes complete.
    Up,
    /// It leaves every handshake unanswered. It is tried further.
    Down,
    /// It has not answered yet, nor had the time to.
    Unknown,
}

/// Handshakes under way, over every path at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Race {
    /// Why.
    pub cause: RaceCause,
    /// For how long.
    pub seconds: f64,
    /// How many times all paths were tried.
    pub rounds: u32,
}

/// Why handshakes are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaceCause {
    /// The peer is new, or has new paths.
    New,
    /// The session is due for renewal.
    Renewal,
    /// There is something to send and no session any more.
    Expired,
    /// Data was not answered.
    Silence,
    /// The peer cannot hear this node: it repeats its own handshakes.
    Unheard,
    /// The peer no longer publishes the path in use.
    Moved,
    /// This host's addresses or routes changed.
    Network,
}

/// A path that may lead to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The path: an address and a port.
    pub path: String,
    /// Who said so.
    pub source: CandidateSource,
    /// Why it is, or is not, the path in use.
    pub verdict: Verdict,
    /// How long ago its source last named it.
    pub seen_seconds_ago: f64,
    /// How long ago a handshake was last tried over it.
    pub last_probe_seconds_ago: Option<f64>,
    /// How long ago it last carried a complete handshake.
    pub last_answer_seconds_ago: Option<f64>,
    /// Handshakes tried since.
    pub unanswered_probes: u32,
}

/// Who said that a path may lead to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateSource {
    /// The peer's own authenticated traffic.
    Learnt,
    /// A person.
    Configured,
    /// The peer itself, through discovery.
    Published,
    /// Another member that has seen the peer there.
    Observed,
    /// This node's memory of an earlier run.
    Cached,
}

/// Why a path is, or is not, the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    InUse,
    /// It leads through the mesh itself.
    Forbidden,
    /// It was not tried yet.
    Untried,
    /// A handshake is under way over it.
    Waiting,
    /// It was tried with others, and another answered first.
    Beaten,
    /// It was tried, and nothing came back.
    Unanswered,
    /// It carried a handshake once; the peer moved since.
    Left,
}

/// Values that are written as they are displayed.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Lists of values that are written as they are displayed.
mod as_texts {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(T::to_string))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(de::Error::custom)).collect()
    }
}
