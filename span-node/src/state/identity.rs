use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use span_core::key::PrivateKey;
use span_core::mesh::NodeId;
use span_discovery::identity::new_node_id;
use zeroize::Zeroizing;

use super::{StateError, files};
use crate::clock;

/// Who a node is. Made once, kept as long as the state directory.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name in discovery.
    pub node_id: NodeId,
    /// Its WireGuard key.
    pub private_key: PrivateKey,
}

impl Identity {
    /// A new identity, which nobody has had before.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> io::Result<Self> {
        Ok(make(&Zeroizing::new(clock::entropy()?)))
    }

    /// The identity of a node that has nothing but its key: its id follows from the public key.
    pub fn from_key(private_key: PrivateKey) -> Self {
        let digest = Sha256::new()
            .chain_update(b"span node id")
            .chain_update(private_key.public_key().as_bytes())
            .finalize();
        Identity { node_id: new_node_id(&digest.into()), private_key }
    }
}

const REMEDY: &str = "put back a copy of it, or remove it to become a new node";

/// The identity in the file at `path`, which is made of `random` if there is none.
pub(super) fn load_or_make(path: &Path, random: &[u8; 64]) -> Result<Identity, StateError> {
    match files::read(path)? {
        Some(text) => {
            parse(&text).map_err(|what| StateError::Damaged { path: path.to_owned(), what, remedy: REMEDY })
        }
        None => {
            let identity = make(random);
            files::write(path, &to_text(&identity))?;
            Ok(identity)
        }
    }
}

fn make(random: &[u8; 64]) -> Identity {
    let (mut node, mut key) = ([0; 32], Zeroizing::new([0; 32]));
    node.copy_from_slice(&random[..32]);
    key.copy_from_slice(&random[32..]);
    Identity { node_id: new_node_id(&node), private_key: PrivateKey::from_bytes(*key) }
}

fn parse(text: &str) -> Result<Identity, String> {
    let field = |name| files::field(text, name).ok_or_else(|| format!("it has no {name}"));
    let node_id = NodeId::new(field("nodeId")?).map_err(|error| error.to_string())?;
    let private_key = field("privateKey")?.parse().map_err(|_| "its privateKey is none".to_owned())?;
    Ok(Identity { node_id, private_key })
}

fn to_text(identity: &Identity) -> Zeroizing<String> {
    let key = Zeroizing::new(identity.private_key.to_base64());
    Zeroizing::new(format!(
        "# Whoever has this file is this node. Keep it secret, and never use it on two machines at once.\n\
         nodeId: {}\nprivateKey: {}\n",
        identity.node_id, *key
    ))
}
