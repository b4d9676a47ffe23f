//! The demo where neither root nor user namespaces exist: nodes in this process, each with a network stack of
//! its own, over the loopback interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use span_core::time::Instant as Moment;
use span_tun::netstack::Netstack;

use super::parent::{Error, Options, new_cluster, to};
use super::report::{Link, Report, Transfer};
use super::service::Service;
use super::transfer::{self, Received};
use super::view::View;
use crate::clock;
use crate::config::NodeConfig;
use crate::node::{Event, Events, Node};
use crate::state::Identity;
use crate::token::Token;

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// Pings per node.
const PINGS: u16 = 2;
const TRANSFER: Duration = Duration::from_secs(2);

/// A node came up, or went down, for another.
struct Change {
    from: u16,
    to: u16,
    up: bool,
    at: Moment,
}

struct Member {
    node: Node,
    netstack: Netstack,
    overlay: IpAddr,
}

/// The demo from beginning to end.
pub(super) fn demonstrate(options: Options, view: &mut View) -> Result<Report, Error> {
    view.stage("setting up the nodes in this process");
    let service =
        Service::start((Ipv4Addr::LOCALHOST, 0).into()).map_err(to("start the discovery service"))?;
    let token = new_cluster(service.address()).map_err(to("make a cluster"))?;
    let (changes, changed) = mpsc::channel();
    let mut members = Vec::new();
    let mut last_start = Moment::ORIGIN;
    for number in 1..=options.nodes {
        last_start = clock::now();
        let member = Member::join(number, &token).map_err(to("start a node"))?;
        listen(number, member.node.events(), &changes).map_err(to("start a thread"))?;
        members.push(member);
    }
    view.stage("the nodes find each other");
    let mut links = join(options.nodes, &changed, last_start, view);
    view.stage("pinging every pair");
    for link in links.iter_mut().filter(|link| link.connected.is_some()) {
        let target = members[usize::from(link.to) - 1].overlay;
        link.round_trips = ping(&members[usize::from(link.from) - 1].netstack, target);
        link.answered = !link.round_trips.is_empty();
    }
    view.stage("moving data");
    let transfer = move_data(&members[0], &members[1]).map(|received| Transfer { from: 1, to: 2, received });
    view.stage("cleaning up");
    drop(members);
    let transfer = transfer.map_err(|error| error.to_string());
    Ok(Report { nodes: options.nodes, links, transfer, frames: 0, counts: None })
}

impl Member {
    fn join(number: u16, token: &Token) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut config = NodeConfig::from_token(token);
        config.hostname = Some(format!("node-{number}"));
        config.routes = false;
        // Only there can it be reached, whatever addresses the host has.
        config.extra_endpoints.push(socket.local_addr()?);
        let builder = Node::builder(config).netstack().sockets(Some(socket), None);
        let builder = builder.identity(Identity::generate()?).without_control_socket();
        let node = builder.start().map_err(io::Error::other)?;
        let overlay = node.status().map_err(io::Error::other)?.node.overlay_address;
        let netstack = node.netstack().ok_or(io::ErrorKind::Unsupported)?.clone();
        Ok(Member { node, netstack, overlay })
    }
}

/// Passes on when peers come and go, until the node stops.
fn listen(from: u16, events: Events, changes: &Sender<Change>) -> io::Result<()> {
    let changes = changes.clone();
    thread::Builder::new().name("watch".to_owned()).spawn(move || {
        for event in events {
            let (peer, up) = match event {
                Event::PeerUp(peer) => (peer, true),
                Event::PeerDown(peer) | Event::PeerRemoved(peer) => (peer, false),
                _ => continue,
            };
            let Some(to) = peer.name.strip_prefix("node-").and_then(|number| number.parse().ok()) else {
                continue;
            };
            if changes.send(Change { from, to, up, at: clock::now() }).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Waits until each node is connected with every other. What is missing when patience ends is for the report.
fn join(nodes: u16, changes: &Receiver<Change>, last_start: Moment, view: &mut View) -> Vec<Link> {
    let pairs =
        (1..=nodes).flat_map(|from| (1..=nodes).filter(move |to| *to != from).map(move |to| (from, to)));
    let link = |(from, to)| Link { from, to, connected: None, round_trips: Vec::new(), answered: false };
    let mut links: Vec<Link> = pairs.map(link).collect();
    let deadline = Instant::now() + PATIENCE;
    while links.iter().any(|link| link.connected.is_none()) {
        let change = match changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(change) => change,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        };
        let found = links.iter_mut().find(|link| (link.from, link.to) == (change.from, change.to));
        if let Some(link) = found {
            link.connected = change.up.then(|| change.at.since(last_start));
            view.link(link.from, link.to, link.connected);
        }
    }
    links
}

fn ping(from: &Netstack, target: IpAddr) -> Vec<Duration> {
    let Ok(ping) = from.ping(target) else { return Vec::new() };
    let mut ping = ping.timeout(PING_PATIENCE);
    (0..PINGS).filter_map(|_| ping.send().ok()).collect()
}

/// Sends bulk data from one node to another.
fn move_data(from: &Member, to: &Member) -> io::Result<Received> {
    let listener = to.netstack.listen(SocketAddr::new(to.overlay, 0))?;
    let target = listener.local_addr();
    let netstack = from.netstack.clone();
    let sender = thread::Builder::new().name("send".to_owned()).spawn(move || {
        let stream = netstack.connect_timeout(target, transfer::PATIENCE)?;
        stream.set_write_timeout(Some(transfer::PATIENCE))?;
        transfer::write(stream, TRANSFER)
    })?;
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(transfer::PATIENCE))?;
    let received = transfer::read(stream);
    sender.join().unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))?;
    received
}
