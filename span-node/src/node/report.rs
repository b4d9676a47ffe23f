//! What the node says about itself when asked.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use span_core::crypto::Suite;
use span_core::endpoint::{Explanation, Verdict};
use span_core::key::PublicKey;
use span_core::mesh::{Known, PeerSpec};
use span_core::time::Instant;
use span_core::wireguard::DropReason;
use span_discovery::tier::{Connection, Published};

use super::error::Stopped;
use super::manager::{Manager, Source};
use crate::control::{Node, Peer, PeerState, Status, Tier, TierState};
use crate::packet::Core;

/// What the packet thread knows.
struct Seen {
    peers: BTreeMap<PublicKey, Contact>,
    mtu: u16,
    drops: BTreeMap<String, u64>,
}

/// What the packet thread knows of a peer.
struct Contact {
    explanation: Option<Explanation>,
    last_handshake: Option<Duration>,
    suite: Option<Suite>,
    rx_bytes: u64,
    tx_bytes: u64,
    allowed_ips: Vec<IpNet>,
}

impl Manager {
    /// How the node is doing.
    pub(super) fn report(&self) -> Result<Status, Stopped> {
        let seen = self.packets.ask(|core| look(core))?;
        let now = self.clock.now();
        let peers =
            self.plan.peers.iter().map(|spec| self.peer_report(spec, seen.peers.get(&spec.public_key)));
        Ok(Status {
            peers: peers.collect(),
            discovery: self.sources.iter().map(|source| tier(source, now)).collect(),
            node: self.node_report(now, seen.mtu, seen.drops),
        })
    }

    fn node_report(&self, now: Instant, mtu: u16, dropped_packets: BTreeMap<String, u64>) -> Node {
        let me = &self.me;
        Node {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: me.node_id.to_string(),
            name: me.nodename.clone(),
            hostname: me.hostname.clone(),
            machine_type: me.config.machine_type.to_string(),
            cluster_id: me.cluster_id.as_str().to_owned(),
            public_key: me.public_key,
            overlay_address: me.address.into(),
            interface: me.device.clone(),
            mtu_bytes: mtu,
            listen_port: me.port,
            ciphers: me.suites.with(Suite::default()).iter().map(|suite| suite.to_string()).collect(),
            endpoints: self.published.as_ref().map(|member| member.endpoints.clone()).unwrap_or_default(),
            advertised_networks: me.config.advertised_networks.clone(),
            nat: None,
            uptime_seconds: now.since(self.started).as_secs_f64(),
            dropped_packets,
        }
    }

    fn peer_report(&self, spec: &PeerSpec, contact: Option<&Contact>) -> Peer {
        let known = self.known.iter().find(|known| known.member.node_id == spec.node_id);
        let explanation = contact.and_then(|contact| contact.explanation.as_ref());
        let in_use = explanation
            .and_then(|e| e.candidates.iter().find(|candidate| candidate.verdict == Verdict::InUse));
        let refusals = self.plan.refusals.iter().filter(|refusal| refusal.node_id == spec.node_id);
        Peer {
            name: spec.label.clone(),
            node_id: Some(spec.node_id.to_string()),
            public_key: spec.public_key,
            overlay_address: spec.address,
            state: explanation.map_or(PeerState::Unknown, |e| e.liveness.into()),
            discovered: known.is_some_and(is_discovered),
            path: explanation.and_then(|e| e.path).map(|(path, _)| path.to_string()),
            path_source: in_use.map(|candidate| candidate.source.into()),
            path_since_seconds_ago: explanation.and_then(|e| e.path).map(|(_, since)| since.as_secs_f64()),
            last_handshake_seconds_ago: contact
                .and_then(|contact| contact.last_handshake)
                .map(|ago| ago.as_secs_f64()),
            cipher: contact.and_then(|contact| contact.suite).map(|suite| suite.to_string()),
            last_heard_seconds_ago: explanation.and_then(|e| e.last_heard).map(|ago| ago.as_secs_f64()),
            rtt_ms: None,
            rx_bytes: contact.map_or(0, |contact| contact.rx_bytes),
            tx_bytes: contact.map_or(0, |contact| contact.tx_bytes),
            allowed_ips: contact.map_or_else(Vec::new, |contact| contact.allowed_ips.clone()),
            refused: refusals.map(|refusal| refusal.what.to_string()).collect(),
            race: explanation.and_then(|e| e.race).map(Into::into),
            candidates: explanation.map_or_else(Vec::new, |e| e.candidates.iter().map(Into::into).collect()),
        }
    }
}

fn is_discovered(known: &Known) -> bool {
    !known.tiers.is_empty()
}

fn tier(source: &Source, now: Instant) -> Tier {
    let status = source.tier.status();
    let (state, reason) = match status.connection {
        Connection::Connecting => (TierState::Connecting, None),
        Connection::Connected => (TierState::Connected, None),
        Connection::Disconnected { reason } => (TierState::Disconnected, Some(reason)),
    };
    Tier {
        name: source.tier.name().to_owned(),
        state,
        state_since_seconds_ago: Some(now.since(source.since).as_secs_f64()),
        last_error: reason.or_else(|| source.last_error.clone()),
        members: status.members as u64,
        published: match status.published {
            Published::Nothing => None,
            Published::Current => Some(true),
            Published::Pending | Published::Withdrawn => Some(false),
        },
        refused: status.refused,
        last_refusal: source.last_refusal.clone(),
    }
}

/// Runs on the packet thread.
fn look(core: &Core<'_>) -> Seen {
    let now = core.clock.now();
    let device = core.tunnel.device();
    let unix = device.unix_time(now).as_duration();
    let peers = device.peers().filter_map(|id| {
        let peer = device.peer(now, id)?;
        let contact = Contact {
            explanation: core.tunnel.explain(now, id),
            last_handshake: peer.last_handshake.map(|at| unix.saturating_sub(at.as_duration())),
            suite: peer.suite,
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
            allowed_ips: device.allowed_ips(id).collect(),
        };
        Some((*peer.public_key, contact))
    });
    Seen { peers: peers.collect(), mtu: core.tun.mtu(), drops: drops(core) }
}

/// Everything that was dropped anywhere, by reason.
fn drops(core: &Core<'_>) -> BTreeMap<String, u64> {
    let received = core.tunnel.device().counters();
    let inbound =
        DropReason::ALL.into_iter().map(|reason| (reason.name().to_owned(), received.dropped(reason)));
    let (sent, dropped) = (core.lost(), core.drops());
    let outbound = sent.iter().map(|(reason, count)| (reason.to_string(), count));
    let host = [
        ("not an IP packet", dropped.malformed),
        ("no peer has the destination", dropped.no_route),
        ("met congestion, and their senders know no marks", dropped.congested),
        ("not taken by the interface", core.refused()),
        ("came through the mesh itself", core.tunnel.counters().forbidden_datagrams),
    ];
    let host = host.map(|(reason, count)| (reason.to_owned(), count));
    inbound.chain(outbound).chain(host).filter(|(_, count)| *count > 0).collect()
}
