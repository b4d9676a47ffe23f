//! Which path to a peer is used.
//!
//! WireGuard's handshake is the probe. One initiation goes to every [`Candidate`] at once; the peer
//! answers the first copy that reaches it, and where its answer comes from is the path. A fresh
//! initiation in another order follows soon, for paths that carry only one way. Nothing of this needs
//! the other side to know: every WireGuard answers.
//!
//! A [`Selection`] does this for one peer. Once connected, it watches: data that is sent and not answered
//! starts a new race in seconds, with the current path asked first, and the current path is used until
//! another one has answered. Nothing but the lack of an answer ever speaks against a path: an ICMP error
//! is no more than one lost attempt.

mod candidate;
mod liveness;
mod race;
mod selection;

pub use candidate::{Candidate, CandidateSource};
pub use liveness::Liveness;
pub use race::{Cause, Probe};
pub use selection::{DOWN_AFTER, Explained, Explanation, Reason, Selection, SelectionEvent, Verdict};
