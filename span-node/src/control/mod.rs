//! What a node says about itself: to programs as JSON, to people as text.
//!
//! [`Status`] is the whole of it, and what the control socket answers with. `span status --json` prints
//! it, `span peers --json` its [`peers`](Status::peers) in an object, `span why --json` one [`Peer`].
//!
//! The JSON is a promise: fields keep their names and meanings; new ones may be added, and words that are
//! new to a reader may appear where a field holds a word. Units stand in the names. Times are ages in
//! seconds (`…_seconds_ago`), so that they hold whatever the wall clock does; what is not known, or never
//! was, is `null`.

mod convert;
mod find;
mod format;
mod protocol;
mod table;
mod text;

pub use find::FindPeerError;
pub use protocol::{
    Candidate, CandidateSource, Node, Peer, PeerState, Race, RaceCause, Status, Tier, TierState, Verdict,
};
pub use text::{peers_text, status_text, why_text};
