//! The status as people read it.

use std::fmt::Write as _;

use super::format::{ago, bytes, duration, harmless, milliseconds};
use super::table::Table;
use super::{Candidate, CandidateSource, Peer, PeerState, Race, RaceCause, Status, Tier, TierState, Verdict};

/// What `span status` prints.
pub fn status_text(status: &Status) -> String {
    let node = &status.node;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{}", harmless(value));
    };
    line("node", &format!("{} ({})", node.name, node.machine_type));
    if node.hostname != node.name {
        line("hostname", &node.hostname);
    }
    line("id", &node.node_id);
    line("cluster", &node.cluster_id);
    line("public key", &node.public_key.to_string());
    line("overlay", &format!("{} on {}, MTU {}", node.overlay_address, node.interface, node.mtu_bytes));
    line("listens on", &format!("UDP port {}", node.listen_port));
    line("ciphers", &list(&node.ciphers));
    line("announces", &list(&node.endpoints));
    if !node.advertised_networks.is_empty() {
        line("networks", &list(&node.advertised_networks));
    }
    line("NAT", node.nat.as_deref().unwrap_or("unknown"));
    line("peers", &count(&status.peers));
    line("up for", &duration(node.uptime_seconds));
    if !node.dropped_packets.is_empty() {
        let drops: Vec<String> =
            node.dropped_packets.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        line("dropped", &drops.join(", "));
    }
    text.push('\n');
    if status.discovery.is_empty() {
        text.push_str("no discovery configured: peers come from nowhere but this node's memory\n");
    } else {
        text.push_str(&discovery(&status.discovery));
    }
    text
}

/// What `span peers` prints.
pub fn peers_text(status: &Status) -> String {
    if status.peers.is_empty() {
        return "no peers yet\n".to_owned();
    }
    let mut peers: Vec<&Peer> = status.peers.iter().collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    let mut table = Table::new(&[
        "NAME",
        "OVERLAY",
        "STATE",
        "PATH",
        "FROM",
        "SINCE",
        "HANDSHAKE",
        "CIPHER",
        "RTT",
        "RECEIVED",
        "SENT",
    ]);
    for peer in peers {
        table.row([
            peer.name.clone(),
            peer.overlay_address.map_or(none(), |address| address.to_string()),
            state(peer),
            peer.path.clone().unwrap_or_else(none),
            peer.path_source.map_or(none(), |source| word(source).to_owned()),
            peer.path_since_seconds_ago.map_or(none(), duration),
            ago(peer.last_handshake_seconds_ago),
            peer.cipher.clone().unwrap_or_else(none),
            peer.rtt_ms.map_or(none(), milliseconds),
            bytes(peer.rx_bytes),
            bytes(peer.tx_bytes),
        ]);
    }
    table.render()
}

/// What `span why` prints.
pub fn why_text(peer: &Peer) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", harmless(&summary(peer)));
    let _ = writeln!(text);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{}", harmless(value));
    };
    if let Some(node_id) = &peer.node_id {
        line("id", node_id);
    }
    line("public key", &peer.public_key.to_string());
    if let Some(address) = peer.overlay_address {
        line("overlay", &address.to_string());
    }
    line("handshake", &ago(peer.last_handshake_seconds_ago));
    if let Some(cipher) = &peer.cipher {
        line("cipher", cipher);
    }
    line("heard", &ago(peer.last_heard_seconds_ago));
    if let Some(rtt) = peer.rtt_ms {
        line("round trip", &milliseconds(rtt));
    }
    line("traffic", &format!("{} received, {} sent", bytes(peer.rx_bytes), bytes(peer.tx_bytes)));
    line("routed", &list(&peer.allowed_ips));
    for refusal in &peer.refused {
        line("refused", refusal);
    }
    if let Some(race) = &peer.race {
        line("trying", &trying(race));
    }
    text.push('\n');
    if peer.candidates.is_empty() {
        text.push_str("no candidates: nobody has said where this peer can be reached\n");
        return text;
    }
    let mut table = Table::new(&["CANDIDATE", "FROM", "TRIED", "ANSWERED", "VERDICT"]);
    for candidate in &peer.candidates {
        table.row([
            candidate.path.clone(),
            word(candidate.source).to_owned(),
            ago(candidate.last_probe_seconds_ago),
            ago(candidate.last_answer_seconds_ago),
            verdict(candidate),
        ]);
    }
    text + &table.render()
}

fn discovery(tiers: &[Tier]) -> String {
    let mut table =
        Table::new(&["DISCOVERY", "STATE", "SINCE", "MEMBERS", "PUBLISHED", "REFUSED", "LAST PROBLEM"]);
    for tier in tiers {
        let state = match tier.state {
            TierState::Connecting => "connecting",
            TierState::Connected => "connected",
            TierState::Disconnected => "disconnected",
        };
        let published = match tier.published {
            Some(true) => "yes",
            Some(false) => "not yet",
            None => "-",
        };
        let problem = match (tier.state, &tier.last_error, &tier.last_refusal) {
            (TierState::Connecting | TierState::Disconnected, Some(error), _) => error.clone(),
            (_, _, Some(refusal)) => format!("refused {refusal}"),
            (TierState::Connected, Some(error), None) => format!("was: {error}"),
            (_, None, None) => none(),
        };
        table.row([
            tier.name.clone(),
            state.to_owned(),
            tier.state_since_seconds_ago.map_or(none(), duration),
            tier.members.to_string(),
            published.to_owned(),
            tier.refused.to_string(),
            problem,
        ]);
    }
    table.render()
}

/// The answer in a sentence.
fn summary(peer: &Peer) -> String {
    let name = &peer.name;
    let forgotten = if peer.discovered { "" } else { "; discovery has forgotten it, but the tunnel lives" };
    match (peer.state, &peer.path) {
        (PeerState::Up, Some(path)) => {
            let source = peer.path_source.map_or(String::new(), |source| format!(" ({})", word(source)));
            let since =
                peer.path_since_seconds_ago.map_or(String::new(), |age| format!(" for {}", duration(age)));
            format!("{name} is up over {path}{source}{since}{forgotten}")
        }
        (PeerState::Up, None) => format!("{name} is up{forgotten}"),
        (PeerState::Unknown, _) if peer.candidates.is_empty() => {
            format!("{name} cannot be reached: nobody has said where it is")
        }
        (PeerState::Unknown, _) => format!("{name} has not answered yet"),
        (PeerState::Down, _) if peer.candidates.is_empty() => {
            format!("{name} is down: nobody has said where it is")
        }
        (PeerState::Down, _) => {
            let tried =
                peer.candidates.iter().filter(|candidate| candidate.last_probe_seconds_ago.is_some()).count();
            format!("{name} is down: none of {tried} paths tried was answered; the attempts go on")
        }
    }
}

fn trying(race: &Race) -> String {
    let cause = match race.cause {
        RaceCause::New => "it is new or has new candidates",
        RaceCause::Renewal => "the session is due for renewal",
        RaceCause::Expired => "there is something to send and no session",
        RaceCause::Silence => "data was not answered",
        RaceCause::Unheard => "it repeats its handshakes: it does not hear this node",
        RaceCause::Moved => "it no longer publishes the path in use",
        RaceCause::Network => "this host's network changed",
    };
    format!("for {}, in round {}, because {cause}", duration(race.seconds), race.rounds)
}

fn verdict(candidate: &Candidate) -> String {
    match candidate.verdict {
        Verdict::InUse => "in use".to_owned(),
        Verdict::Forbidden => "never tried: it leads through the mesh itself".to_owned(),
        Verdict::Untried => "not tried yet".to_owned(),
        Verdict::Waiting => "being tried".to_owned(),
        Verdict::Beaten => "another answered first".to_owned(),
        Verdict::Unanswered => format!("no answer to {}", handshakes(candidate.unanswered_probes)),
        Verdict::Left => "worked before the peer moved".to_owned(),
    }
}

fn handshakes(count: u32) -> String {
    if count == 1 { "1 handshake".to_owned() } else { format!("{count} handshakes") }
}

fn state(peer: &Peer) -> String {
    let state = match peer.state {
        PeerState::Up => "up",
        PeerState::Down => "down",
        PeerState::Unknown => "unknown",
    };
    if peer.discovered { state.to_owned() } else { format!("{state}, forgotten") }
}

fn word(source: CandidateSource) -> &'static str {
    match source {
        CandidateSource::Learnt => "learnt",
        CandidateSource::Configured => "configured",
        CandidateSource::Published => "published",
        CandidateSource::Observed => "observed",
        CandidateSource::Cached => "cached",
    }
}

fn count(peers: &[Peer]) -> String {
    let up = peers.iter().filter(|peer| peer.state == PeerState::Up).count();
    format!("{up} of {} up", peers.len())
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
