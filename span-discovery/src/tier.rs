//! The trait every source of members implements.

use std::net::IpAddr;
use std::task::{Context, Poll};

pub use span_core::mesh::Observed;
use span_core::mesh::{Member, NodeId};

/// A source of members, and where a node tells about itself.
///
/// The methods only note what is wanted; everything happens in [`poll`](Tier::poll). Call it whenever the
/// waker of its last context fires, and at least once a second: sources without a descriptor to wait on
/// look for changes then.
pub trait Tier: Send {
    /// What to call it in logs and status: a service's URL, a file's path.
    fn name(&self) -> &str;

    /// Tells the others about this node, now and until told otherwise. Cheap if nothing changed. The member
    /// with this node's id is left out of what the tier reports.
    fn publish(&mut self, me: &Member);

    /// Tells the others where members were seen to be reachable. The list is complete: what is no longer in
    /// it is no longer kept alive.
    fn publish_observed(&mut self, observed: &[Observed]);

    /// Takes this node's record back, for a node that leaves for good. Reported in
    /// [`TierStatus::published`] when done.
    fn withdraw(&mut self);

    /// The next thing that happened. A tier never ends.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TierEvent>;

    /// How it is doing.
    fn status(&self) -> TierStatus;
}

/// What a tier has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "events are taken one by one and never stored in numbers")]
pub enum TierEvent {
    /// All members the tier knows: whatever it said before is replaced.
    Snapshot(Vec<Member>),
    /// A member is new or has changed.
    Updated(Member),
    /// A member is gone.
    Removed(NodeId),
    /// The address this node has as the tier sees it.
    PublicAddress(IpAddr),
    /// The tier works.
    Connected,
    /// The tier does not work, or no more; it keeps trying. Told again only if the reason changes.
    Disconnected {
        /// What is wrong and, if known, what to do.
        reason: String,
    },
    /// Something was refused; the rest went on.
    Refused {
        /// What: a member's record, an endpoint, a field.
        what: String,
        /// Why.
        why: String,
    },
}

/// How a tier is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStatus {
    /// Whether it works.
    pub connection: Connection,
    /// How many members it knows, without this node.
    pub members: usize,
    /// What became of this node's own record.
    pub published: Published,
    /// How much it refused since its start.
    pub refused: u64,
}

/// Whether a tier works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It has not worked yet and is being tried for the first time.
    Connecting,
    /// It works.
    Connected,
    /// It does not work; it is tried again and again.
    Disconnected {
        /// Why.
        reason: String,
    },
}

/// What became of this node's own record in a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// There is none to publish, or the tier publishes nothing.
    Nothing,
    /// It waits to be published, or to be taken back.
    Pending,
    /// The others can read it.
    Current,
    /// It was taken back.
    Withdrawn,
}
