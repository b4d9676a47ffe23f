use serde_json::{Value, json};
use span_core::key::PublicKey;

use super::*;
use crate::control::{FindPeerError, Node};

fn candidate(path: &str, verdict: Verdict) -> Candidate {
    Candidate {
        path: path.into(),
        source: CandidateSource::Published,
        verdict,
        seen_seconds_ago: 5.0,
        last_probe_seconds_ago: (verdict != Verdict::Untried).then_some(12.0),
        last_answer_seconds_ago: (verdict == Verdict::InUse).then_some(12.0),
        unanswered_probes: if verdict == Verdict::Unanswered { 4 } else { 0 },
    }
}

fn up() -> Peer {
    Peer {
        name: "node-2".into(),
        node_id: Some("fzvex3e0".into()),
        public_key: PublicKey::from_bytes([1; 32]),
        overlay_address: Some("fd7f::2".parse().unwrap()),
        state: PeerState::Up,
        discovered: true,
        path: Some("192.0.2.7:51820".into()),
        path_source: Some(CandidateSource::Learnt),
        path_since_seconds_ago: Some(192.0),
        last_handshake_seconds_ago: Some(12.5),
        cipher: Some("aes-256-gcm".into()),
        last_heard_seconds_ago: Some(0.25),
        rtt_ms: Some(1.25),
        rx_bytes: 1372,
        tx_bytes: 5 << 20,
        allowed_ips: vec!["fd7f::2/128".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
        refused: vec![],
        race: None,
        candidates: vec![
            candidate("192.0.2.7:51820", Verdict::InUse),
            candidate("10.0.0.1:51820", Verdict::Unanswered),
            candidate("[fd7f::9]:51820", Verdict::Forbidden),
            candidate("198.51.100.1:1", Verdict::Untried),
        ],
    }
}

fn down() -> Peer {
    Peer {
        name: "node-10.example".into(),
        node_id: Some("fzzz".into()),
        public_key: PublicKey::from_bytes([2; 32]),
        overlay_address: Some("fd7f::3".parse().unwrap()),
        state: PeerState::Down,
        discovered: false,
        path: None,
        path_source: None,
        path_since_seconds_ago: None,
        last_handshake_seconds_ago: None,
        cipher: None,
        last_heard_seconds_ago: None,
        rtt_ms: None,
        rx_bytes: 0,
        tx_bytes: 148,
        allowed_ips: vec![],
        refused: vec!["10.0.0.0/24: node-2 has it".into()],
        race: Some(Race { cause: RaceCause::New, seconds: 90.0, rounds: 18 }),
        candidates: vec![candidate("203.0.113.9:51820", Verdict::Unanswered)],
    }
}

fn status() -> Status {
    let tier = |name: &str, state| Tier {
        name: name.into(),
        state,
        state_since_seconds_ago: Some(3700.0),
        last_error: None,
        members: 2,
        published: Some(true),
        refused: 0,
        last_refusal: None,
    };
    Status {
        node: Node {
            version: "0.1.0".into(),
            node_id: "sou7yy34".into(),
            name: "node-1".into(),
            hostname: "node-1.example".into(),
            machine_type: "worker".into(),
            cluster_id: "8XuV9TZH".into(),
            public_key: PublicKey::from_bytes([0; 32]),
            overlay_address: "fd7f::1".parse().unwrap(),
            interface: "span0".into(),
            mtu_bytes: 1420,
            listen_port: 51820,
            ciphers: vec!["chacha20-poly1305".into(), "aes-256-gcm".into()],
            endpoints: vec!["192.0.2.1:51820".parse().unwrap(), "[2001:db8::1]:51820".parse().unwrap()],
            advertised_networks: vec!["10.244.1.0/24".parse().unwrap()],
            nat: None,
            uptime_seconds: 7500.0,
            dropped_packets: [("replayed".to_owned(), 3), ("unknown_peer".to_owned(), 1)].into(),
        },
        discovery: vec![
            tier("https://discovery.example:443", TierState::Connected),
            Tier {
                last_error: Some("connection refused".into()),
                members: 0,
                published: Some(false),
                refused: 7,
                last_refusal: Some("a record: sealed with another secret".into()),
                ..tier("http://10.0.0.9:3000", TierState::Disconnected)
            },
            Tier {
                published: None,
                state_since_seconds_ago: None,
                ..tier("/etc/span/members.yaml", TierState::Connecting)
            },
        ],
        peers: vec![up(), down()],
    }
}

#[test]
fn the_status_for_people() {
    let expected = "\
node        node-1 (worker)
hostname    node-1.example
id          sou7yy34
cluster     8XuV9TZH
public key  AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
overlay     fd7f::1 on span0, MTU 1420
listens on  UDP port 51820
ciphers     chacha20-poly1305, aes-256-gcm
announces   192.0.2.1:51820, [2001:db8::1]:51820
networks    10.244.1.0/24
NAT         unknown
peers       1 of 2 up
up for      2 h 5 min
dropped     3 replayed, 1 unknown_peer

DISCOVERY                      STATE         SINCE      MEMBERS  PUBLISHED  REFUSED  LAST PROBLEM
https://discovery.example:443  connected     1 h 1 min  2        yes        0        -
http://10.0.0.9:3000           disconnected  1 h 1 min  0        not yet    7        connection refused
/etc/span/members.yaml         connecting    -          2        -          0        -
";
    assert_eq!(status_text(&status()), expected);
}

#[test]
fn the_peers_for_people() {
    let expected = "\
NAME             OVERLAY  STATE            PATH             FROM    SINCE       HANDSHAKE  CIPHER       RTT     RECEIVED  SENT
node-10.example  fd7f::3  down, forgotten  -                -       -           never      -            -       0 B       148 B
node-2           fd7f::2  up               192.0.2.7:51820  learnt  3 min 12 s  12 s ago   aes-256-gcm  1.2 ms  1.34 KiB  5.00 MiB
";
    assert_eq!(peers_text(&status()), expected);
    assert_eq!(peers_text(&Status { peers: vec![], ..status() }), "no peers yet\n");
}

#[test]
fn the_reason_for_people() {
    let expected = "\
node-2 is up over 192.0.2.7:51820 (learnt) for 3 min 12 s

id          fzvex3e0
public key  AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
overlay     fd7f::2
handshake   12 s ago
cipher      aes-256-gcm
heard       250 ms ago
round trip  1.2 ms
traffic     1.34 KiB received, 5.00 MiB sent
routed      fd7f::2/128, 10.0.0.0/24

CANDIDATE        FROM       TRIED     ANSWERED  VERDICT
192.0.2.7:51820  published  12 s ago  12 s ago  in use
10.0.0.1:51820   published  12 s ago  never     no answer to 4 handshakes
[fd7f::9]:51820  published  12 s ago  never     never tried: it leads through the mesh itself
198.51.100.1:1   published  never     never     not tried yet
";
    assert_eq!(why_text(&up()), expected);

    let text = why_text(&down());
    let first = "node-10.example is down: none of 1 paths tried was answered; the attempts go on\n";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("refused     10.0.0.0/24: node-2 has it\n"), "{text}");
    assert!(
        text.contains("trying      for 1 min 30 s, in round 18, because it is new or has new candidates\n"),
        "{text}"
    );

    let lost = Peer { candidates: vec![], state: PeerState::Unknown, ..down() };
    assert!(why_text(&lost).ends_with("\nno candidates: nobody has said where this peer can be reached\n"));
}

/// A peer that discovery names with a terminal's commands does not get to give them.
#[test]
fn names_of_others_are_shown_harmless() {
    let peer = Peer { name: "x\u{1b}[2J\n".into(), ..up() };
    let status = Status { peers: vec![peer.clone()], ..status() };
    assert!(!peers_text(&status).contains('\u{1b}') && peers_text(&status).lines().count() == 2);
    assert!(!why_text(&peer).contains('\u{1b}'));
}

/// The names in the JSON are a promise to programs.
#[test]
fn the_json_is_a_promise() {
    let value = serde_json::to_value(status()).unwrap();
    assert_eq!(
        value["peers"][0],
        json!({
            "name": "node-2",
            "node_id": "fzvex3e0",
            "public_key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
            "overlay_address": "fd7f::2",
            "state": "up",
            "discovered": true,
            "path": "192.0.2.7:51820",
            "path_source": "learnt",
            "path_since_seconds_ago": 192.0,
            "last_handshake_seconds_ago": 12.5,
            "cipher": "aes-256-gcm",
            "last_heard_seconds_ago": 0.25,
            "rtt_ms": 1.25,
            "rx_bytes": 1372,
            "tx_bytes": 5242880,
            "allowed_ips": ["fd7f::2/128", "10.0.0.0/24"],
            "refused": [],
            "race": null,
            "candidates": value["peers"][0]["candidates"],
        })
    );
    assert_eq!(
        value["peers"][0]["candidates"][0],
        json!({
            "path": "192.0.2.7:51820",
            "source": "published",
            "verdict": "in_use",
            "seen_seconds_ago": 5.0,
            "last_probe_seconds_ago": 12.0,
            "last_answer_seconds_ago": 12.0,
            "unanswered_probes": 0,
        })
    );
    assert_eq!(value["peers"][1]["race"], json!({ "cause": "new", "seconds": 90.0, "rounds": 18 }));
    assert_eq!(
        value["discovery"][1],
        json!({
            "name": "http://10.0.0.9:3000",
            "state": "disconnected",
            "state_since_seconds_ago": 3700.0,
            "last_error": "connection refused",
            "members": 0,
            "published": false,
            "refused": 7,
            "last_refusal": "a record: sealed with another secret",
        })
    );
    assert_eq!(
        value["node"],
        json!({
            "version": "0.1.0",
            "node_id": "sou7yy34",
            "name": "node-1",
            "hostname": "node-1.example",
            "machine_type": "worker",
            "cluster_id": "8XuV9TZH",
            "public_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "overlay_address": "fd7f::1",
            "interface": "span0",
            "mtu_bytes": 1420,
            "listen_port": 51820,
            "ciphers": ["chacha20-poly1305", "aes-256-gcm"],
            "endpoints": ["192.0.2.1:51820", "[2001:db8::1]:51820"],
            "advertised_networks": ["10.244.1.0/24"],
            "nat": null,
            "uptime_seconds": 7500.0,
            "dropped_packets": { "replayed": 3, "unknown_peer": 1 },
        })
    );
}

/// An older reader meets a newer node: what it does not know it skips.
#[test]
fn the_json_reads_back() {
    let mut value = serde_json::to_value(status()).unwrap();
    value["node"]["later"] = Value::from(1);
    let again: Status = serde_json::from_value(value).unwrap();
    assert_eq!(again, status());
}

#[test]
fn peers_are_found_by_whatever_names_them() {
    let status = status();
    let find = |query: &str| status.find_peer(query).map(|peer| peer.name.clone());
    let key = PublicKey::from_bytes([1; 32]).to_string();
    for query in ["node-2", "NODE-2", "fzvex3e0", "fzv", &key, "fd7f::2", "10.0.0.77"] {
        assert_eq!(find(query).unwrap(), "node-2", "{query}");
    }
    for query in ["node-10.example", "node-10", "fzz", "fd7f::3"] {
        assert_eq!(find(query).unwrap(), "node-10.example", "{query}");
    }
    for query in ["", "node", "10.0.1.1", "2001:db8::1"] {
        assert!(matches!(find(query), Err(FindPeerError::Unknown { .. })), "{query}");
    }
    let error = find("fz").unwrap_err().to_string();
    assert!(error.contains("node-2 (fzvex3e0) or node-10.example (fzzz)"), "{error}");
}
