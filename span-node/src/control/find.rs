use std::net::IpAddr;

use super::{Peer, Status};

/// Why no peer, or no single one, is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindPeerError {
    /// There is no such peer.
    #[error(
        "no peer is called {query:?}; `span peers` lists them. Give a name, a node id, a public key or an address"
    )]
    Unknown {
        /// What was looked for.
        query: String,
    },
    /// There are several.
    #[error("{query:?} can be {}; give a node id or a public key", .matches.join(" or "))]
    Ambiguous {
        /// What was looked for.
        query: String,
        /// The names and ids of those that match.
        matches: Vec<String>,
    },
}

impl Status {
    /// The peer that `query` names: by its public key, its node id, its name, an address of it or in its
    /// networks, or the beginning of its node id.
    pub fn find_peer(&self, query: &str) -> Result<&Peer, FindPeerError> {
        let address = query.parse::<IpAddr>().ok();
        let node_id = |peer: &Peer| peer.node_id.as_deref().unwrap_or_default().to_owned();
        // The first of these that anyone meets decides.
        let ways: [&dyn Fn(&Peer) -> bool; 6] = [
            &|peer| peer.public_key.to_string() == query || node_id(peer) == query,
            &|peer| peer.name.eq_ignore_ascii_case(query),
            &|peer| address.is_some() && peer.overlay_address == address,
            &|peer| address.is_some_and(|address| owns(peer, address)),
            &|peer| !query.is_empty() && node_id(peer).starts_with(query),
            &|peer| peer.name.split_once('.').is_some_and(|(first, _)| first.eq_ignore_ascii_case(query)),
        ];
        for way in ways {
            let matches: Vec<&Peer> = self.peers.iter().filter(|peer| way(peer)).collect();
            match matches.as_slice() {
                [] => {}
                [peer] => return Ok(peer),
                several => {
                    let name = |peer: &&Peer| format!("{} ({})", peer.name, node_id(peer));
                    let matches = several.iter().map(name).collect();
                    return Err(FindPeerError::Ambiguous { query: query.to_owned(), matches });
                }
            }
        }
        Err(FindPeerError::Unknown { query: query.to_owned() })
    }
}

fn owns(peer: &Peer, address: IpAddr) -> bool {
    peer.allowed_ips.iter().any(|net| net.contains(&address))
}
