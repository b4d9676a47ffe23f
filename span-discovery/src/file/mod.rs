//! A static list of members in a file.
//!
//! ```yaml
//! members:
//!   - name: alpha
//!     publicKey: PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=
//!     address: fd7f:175a:b97c:5602::1
//!     addresses: [10.1.0.4]
//!     networks: [10.244.1.0/24]
//!     endpoints: ["192.0.2.7:51820", "[2001:db8::7]:51820"]
//! ```
//!
//! Only `publicKey` must be there. `nodeId` is the member's id in other tiers and defaults to its public key;
//! `address` is its overlay address, `addresses` its others, `networks` what is behind it,
//! `excludedNetworks` what the others must not route to it, `suites` (`aes-256-gcm`) the ciphers it answers in
//! besides WireGuard's own; `hostname`, `machineType` (`controlplane` or
//! `worker`), `operatingSystem` and `apiServerPort` are for those who read the member list. JSON will do as
//! well. The file is read again when it changes; while it does not parse, the last good list stays.

mod document;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use span_core::key::PublicKey;
use span_core::mesh::{Member, NodeId};

use crate::tier::{Connection, Observed, Published, Tier, TierEvent, TierStatus};

pub use document::{DocumentError, parse};

/// Longest file taken, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The members listed in a file. Nothing is published through it.
pub struct FileTier {
    path: PathBuf,
    name: String,
    looked: Option<Instant>,
    seen: Option<Stamp>,
    members: Vec<Member>,
    me: Option<(NodeId, Option<PublicKey>)>,
    connection: Connection,
    announced: Connection,
    fresh: bool,
}

/// Why the file gave no members.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than any member list.
    #[error("{} has more than {MAX_FILE} bytes: is it a list of members?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It says something a member list cannot say.
    #[error("{}:{error}", path.display())]
    Document {
        /// Which file.
        path: PathBuf,
        /// What and where.
        error: DocumentError,
    },
}

/// What tells one state of a file from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl FileTier {
    /// The tier of the file at `path`, which is first read when the tier is polled.
    pub fn new(path: &Path) -> Self {
        FileTier {
            path: path.to_owned(),
            name: path.display().to_string(),
            looked: None,
            seen: None,
            members: Vec::new(),
            me: None,
            connection: Connection::Connecting,
            announced: Connection::Connecting,
            fresh: false,
        }
    }

    /// Reads a member list once: to check one before it is used.
    pub fn read(path: &Path) -> Result<Vec<Member>, FileError> {
        let io_error = |source| FileError::Io { path: path.to_owned(), source };
        if fs::metadata(path).map_err(io_error)?.len() > MAX_FILE {
            return Err(FileError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(io_error)?;
        parse(&text).map_err(|error| FileError::Document { path: path.to_owned(), error })
    }

    fn look(&mut self) {
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp == self.seen {
            return;
        }
        self.seen = stamp;
        match Self::read(&self.path) {
            Ok(members) => {
                self.connection = Connection::Connected;
                self.members = members;
                self.fresh = true;
            }
            Err(error) => self.connection = Connection::Disconnected { reason: error.to_string() },
        }
    }

    fn others(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| {
            self.me.as_ref().is_none_or(|(id, key)| {
                let listed = member.kubespan.as_ref().map(|mesh| mesh.public_key);
                member.node_id != *id && (key.is_none() || listed != *key)
            })
        })
    }
}

impl Tier for FileTier {
    fn name(&self) -> &str {
        &self.name
    }

    fn publish(&mut self, me: &Member) {
        let me = (me.node_id.clone(), me.kubespan.as_ref().map(|mesh| mesh.public_key));
        if self.me.as_ref() != Some(&me) {
            self.me = Some(me);
            self.fresh = self.connection == Connection::Connected;
        }
    }

    fn publish_observed(&mut self, _observed: &[Observed]) {}

    fn withdraw(&mut self) {}

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<TierEvent> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.look();
        }
        if self.announced != self.connection {
            self.announced = self.connection.clone();
            match &self.connection {
                Connection::Connecting => {}
                Connection::Connected => return Poll::Ready(TierEvent::Connected),
                Connection::Disconnected { reason } => {
                    return Poll::Ready(TierEvent::Disconnected { reason: reason.clone() });
                }
            }
        }
        if self.fresh {
            self.fresh = false;
            return Poll::Ready(TierEvent::Snapshot(self.others().cloned().collect()));
        }
        Poll::Pending
    }

    fn status(&self) -> TierStatus {
        TierStatus {
            connection: self.connection.clone(),
            members: self.others().count(),
            published: Published::Nothing,
            refused: 0,
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&file);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { modified: file.modified().ok(), len: file.len(), inode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    const ONE: &str =
        "members:\n  - publicKey: PLPNBddmTgHJhtw0vxltq1ZBdPP9RNOEUd5JjJZzBRY=\n    nodeId: one\n";

    fn events(tier: &mut FileTier) -> Vec<TierEvent> {
        tier.looked = None;
        let mut cx = Context::from_waker(Waker::noop());
        let mut events = Vec::new();
        while let Poll::Ready(event) = tier.poll(&mut cx) {
            events.push(event);
        }
        events
    }

    #[test]
    fn changes_are_noticed_and_mistakes_keep_the_last_good_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("members.yaml");
        let mut tier = FileTier::new(&path);
        let missing = events(&mut tier);
        assert!(
            matches!(&missing[..], [TierEvent::Disconnected { reason }] if reason.contains("members.yaml"))
        );
        assert!(events(&mut tier).is_empty(), "the same reason is told once");

        fs::write(&path, ONE).unwrap();
        let events_of_one = events(&mut tier);
        assert!(
            matches!(&events_of_one[..], [TierEvent::Connected, TierEvent::Snapshot(all)] if all.len() == 1)
        );
        assert!(events(&mut tier).is_empty());

        fs::write(&path, format!("{ONE}    endpoints: [nonsense]\n")).unwrap();
        let broken = events(&mut tier);
        let [TierEvent::Disconnected { reason }] = &broken[..] else { panic!("{broken:?}") };
        assert!(reason.contains("members.yaml:4:") && reason.contains("members[0].endpoints[0]"), "{reason}");
        assert_eq!(tier.status().members, 1);

        fs::write(&path, "members: []\n").unwrap();
        assert_eq!(events(&mut tier), [TierEvent::Connected, TierEvent::Snapshot(Vec::new())]);
    }

    #[test]
    fn a_node_does_not_list_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("members.yaml");
        fs::write(&path, ONE).unwrap();
        let mut tier = FileTier::new(&path);
        let mut me = FileTier::read(&path).unwrap().remove(0);
        assert_eq!(events(&mut tier).len(), 2);
        me.node_id = NodeId::new("listed-under-another-id").unwrap();
        tier.publish(&me);
        assert_eq!(events(&mut tier), [TierEvent::Snapshot(Vec::new())]);
        tier.publish(&me);
        assert!(events(&mut tier).is_empty());
    }
}
