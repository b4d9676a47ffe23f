//! Who is in the mesh, and what that makes of WireGuard's peers.
//!
//! Tiers tell of members; a [`Roster`] merges what they say; [`plan()`] turns the members into peers and
//! says what it refused; [`Plan::changes_since`] finds what to touch. [`publish`] goes the other way.

mod changes;
mod claims;
mod filter;
mod member;
mod merge;
pub mod overlay;
mod plan;
mod prefix_set;
pub mod publish;
#[cfg(test)]
mod test;
mod unicast;

pub use changes::{Changes, Update};
pub use filter::{Filter, Rule, RuleError};
pub use member::{ControlPlane, KubeSpan, MachineType, Member, NodeId, NodeIdError};
pub use merge::{Known, Roster, TierId, merge};
pub use plan::{Local, PeerSpec, Plan, Refusal, Refused, plan};
pub use prefix_set::PrefixSet;
pub use publish::{Observed, harvest};
