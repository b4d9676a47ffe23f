//! What the demo and its nodes say to each other: one JSON value a line, orders on a node's standard
//! input, answers on its standard output.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::transfer::Received;

/// What a node is told.
#[derive(Serialize, Deserialize)]
pub(super) enum Order {
    /// The cable is there: set it up. Answered by [`Answer::PluggedIn`].
    PlugIn { number: u16, nodes: u16 },
    /// Send one datagram past the mesh, to see that the capture sees it.
    Leak { to: SocketAddr },
    /// Join the cluster. Answered by [`Answer::Started`], then by [`Answer::Link`] as links come and go.
    Join { number: u16, nodes: u16, token: Zeroizing<String>, listen_port: u16 },
    /// Ping these addresses in turn, `times` each. Answered by [`Answer::Pinged`].
    Ping { targets: Vec<IpAddr>, times: u16 },
    /// Take one TCP connection. Answered by [`Answer::Listening`], then [`Answer::Received`].
    Receive { address: IpAddr },
    /// Send to a node that listens.
    Send { to: SocketAddr, millis: u64 },
    /// Leave the cluster and end.
    Stop,
}

/// What a node tells.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The node has a network namespace of its own and waits for the cable.
    Isolated,
    PluggedIn,
    /// The node began to start at `at_nanos`; its address in the overlay is `overlay`.
    Started {
        at_nanos: u64,
        overlay: IpAddr,
    },
    /// The tunnel to the node with this number came up, or went down.
    Link {
        peer: u16,
        up: bool,
        at_nanos: u64,
    },
    /// The round trips, in the order of the targets; as many as were answered.
    Pinged {
        round_trips: Vec<Vec<Duration>>,
    },
    Listening {
        at: SocketAddr,
    },
    Received(Received),
    /// The TCP transfer broke off.
    NotTransferred {
        what: String,
    },
    /// What it was told to do did not work. It ends.
    Failed {
        what: String,
    },
}

/// Writes one message. Each is a line and flushed: the other side waits for it.
pub(super) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one message from its line.
pub(super) fn read<T: DeserializeOwned>(line: &str) -> io::Result<T> {
    Ok(serde_json::from_str(line)?)
}
