//! The last known members, on the node's own disk: a mesh that starts without any discovery.
//!
//! The file is sealed as a whole with a key derived from the cluster secret, and bound to the cluster's id.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prost::Message as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use span_core::mesh::{Member, NodeId};

use crate::atomic;
use crate::seal::{self, ClusterId, ClusterSecret, NONCE_LEN};
use crate::wire::client;
use crate::wire::span::cache as wire;

/// What a cache file begins with; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"SPANMEM\x01";

/// Far more than the 1,024 members of 2 KiB and 64 endpoints a discovery service keeps per cluster.
const MAX_FILE: u64 = 16 << 20;

/// The file with the last known members.
pub struct Cache {
    path: PathBuf,
    cluster: ClusterId,
    key: LessSafeKey,
}

/// Why the cache could not be read. Go on without it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("cannot read the member cache {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Not a cache file of a version this program reads.
    #[error("{} is not a member cache this version reads; starting with an empty one", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
    },
    /// Damaged, or another cluster's.
    #[error("the member cache {} is damaged or another cluster's; starting with an empty one", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
    },
}

/// Why the cache could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the member cache {}: {source}", path.display())]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl Cache {
    /// The cache of a cluster's members at `path`. Touches nothing yet.
    pub fn new(path: &Path, cluster: &ClusterId, secret: &ClusterSecret) -> Self {
        // A key of its own: the secret itself already seals records, endpoints and packets.
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret.as_bytes());
        let key = derived
            .expand(&[b"span member cache"], &AES_256_GCM)
            .map(UnboundKey::from)
            .expect("HKDF gives more bytes than one key");
        Cache { path: path.to_owned(), cluster: cluster.clone(), key: LessSafeKey::new(key) }
    }

    /// The members stored last; none if nothing was ever stored.
    pub fn load(&self) -> Result<Vec<Member>, LoadError> {
        let io_error = |source| LoadError::Io { path: self.path.clone(), source };
        match fs::metadata(&self.path) {
            Ok(file) if file.len() > MAX_FILE => return Err(LoadError::Corrupt { path: self.path.clone() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error(error)),
        }
        self.open(&fs::read(&self.path).map_err(io_error)?)
    }

    /// Replaces what is stored. `nonce` must be random and new for each call.
    pub fn store(&self, members: &[Member], nonce: [u8; NONCE_LEN]) -> Result<(), StoreError> {
        atomic::write(&self.path, &self.seal(members, nonce))
            .map_err(|source| StoreError { path: self.path.clone(), source })
    }

    fn seal(&self, members: &[Member], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let message = wire::Members { members: members.iter().map(to_wire).collect() };
        let mut body = message.encode_to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.bound(), &mut body)
            .expect("members are far below the limits of AES-GCM");
        [&MAGIC[..], &nonce, &body, tag.as_ref()].concat()
    }

    fn open(&self, file: &[u8]) -> Result<Vec<Member>, LoadError> {
        let Some(sealed) = file.strip_prefix(&MAGIC) else {
            return Err(LoadError::Version { path: self.path.clone() });
        };
        self.open_sealed(sealed).ok_or_else(|| LoadError::Corrupt { path: self.path.clone() })
    }

    fn open_sealed(&self, sealed: &[u8]) -> Option<Vec<Member>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        if body.len() < MAX_TAG_LEN {
            return None;
        }
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, self.bound(), &mut body).ok()?;
        let message = wire::Members::decode(&*plain).ok()?;
        message.members.iter().map(from_wire).collect()
    }

    fn bound(&self) -> Aad<Vec<u8>> {
        Aad::from([&MAGIC[..], self.cluster.as_str().as_bytes()].concat())
    }
}

fn to_wire(member: &Member) -> wire::Member {
    wire::Member {
        affiliate: Some(seal::member_to_wire(member)),
        endpoints: member
            .endpoints
            .iter()
            .map(|endpoint| client::Endpoint {
                ip: seal::address_to_bytes(endpoint.ip()),
                port: u32::from(endpoint.port()),
            })
            .collect(),
    }
}

fn from_wire(message: &wire::Member) -> Option<Member> {
    let affiliate = message.affiliate.as_ref()?;
    let mut member = seal::member_from_wire(NodeId::new(&affiliate.node_id).ok()?, affiliate);
    for endpoint in &message.endpoints {
        let ip = seal::address_from_bytes(&endpoint.ip)?;
        member.endpoints.push((ip, u16::try_from(endpoint.port).ok()?).into());
    }
    Some(member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::ClusterSecret;
    use span_core::crypto::{Suite, Suites};
    use span_core::mesh::{KubeSpan, MachineType};

    fn member(name: &str) -> Member {
        Member {
            node_id: NodeId::new(name).unwrap(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            hostname: name.to_owned(),
            nodename: String::new(),
            machine_type: MachineType::Worker,
            operating_system: "Linux".to_owned(),
            kubespan: Some(KubeSpan {
                public_key: "PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=".parse().unwrap(),
                address: Some("fd00::1".parse().unwrap()),
                additional_addresses: vec!["10.0.0.0/8".parse().unwrap()],
                exclude_advertised_addresses: vec!["fd00::/8".parse().unwrap()],
                suites: Suites::NONE.with(Suite::Aes256Gcm),
            }),
            control_plane: None,
            endpoints: vec!["192.0.2.1:51820".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap()],
        }
    }

    fn cache(directory: &Path, id: &str, secret: u8) -> Cache {
        let cluster = ClusterId::new(id).unwrap();
        Cache::new(&directory.join("members"), &cluster, &ClusterSecret::from_bytes([secret; 32]))
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), "c", 1);
        assert!(cache.load().unwrap().is_empty());
        let members = [member("a"), member("b")];
        cache.store(&members, [1; 12]).unwrap();
        assert_eq!(cache.load().unwrap(), members);
        cache.store(&members[..1], [2; 12]).unwrap();
        assert_eq!(cache.load().unwrap(), members[..1]);
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["members"], "no temporary file stays");
    }

    #[test]
    fn nothing_readable_is_on_disk() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), "c", 1);
        cache.store(&[member("conspicuous-name")], [1; 12]).unwrap();
        let file = fs::read(directory.path().join("members")).unwrap();
        assert!(!file.windows(11).any(|window| window == b"conspicuous"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(directory.path().join("members")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path(), "c", 1);
        cache.store(&[member("a")], [1; 12]).unwrap();
        let file = fs::read(directory.path().join("members")).unwrap();
        for len in 0..file.len() {
            assert!(cache.open(&file[..len]).is_err(), "cut to {len}");
        }
        for byte in 0..file.len() {
            let mut damaged = file.clone();
            damaged[byte] ^= 1;
            assert!(cache.open(&damaged).is_err(), "byte {byte}");
        }
        assert!(cache.open(&file).is_ok());
    }

    #[test]
    fn another_cluster_or_version_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        cache(directory.path(), "c", 1).store(&[member("a")], [1; 12]).unwrap();
        for (id, secret) in [("d", 1), ("c", 2)] {
            let error = cache(directory.path(), id, secret).load().unwrap_err();
            assert!(matches!(error, LoadError::Corrupt { .. }), "{error}");
        }
        fs::write(directory.path().join("members"), b"SPANMEM\x02whatever").unwrap();
        let error = cache(directory.path(), "c", 1).load().unwrap_err();
        assert!(matches!(error, LoadError::Version { .. }), "{error}");
    }
}
