//! The configuration socket that `wg` and `wg-quick` speak: the cross-platform userspace protocol of
//! <https://www.wireguard.com/xplatform/#configuration-protocol>.
//!
//! A request is lines of `key=value` ended by an empty line. [`parse_set`] and [`Snapshot::write`] are
//! the two directions as pure functions, [`apply`] carries a parsed request out on a device, and
//! [`Server`] speaks to the clients of `/var/run/wireguard/IFNAME.sock`.

mod apply;
mod clients;
mod errno;
mod framing;
mod parse;
mod server;
mod snapshot;
mod socket;

pub use apply::{Target, apply};
pub use errno::Errno;
pub use parse::{Failure, Operation, Reason, Set, parse_set, parse_set_with};
pub use server::{Ended, Handler, Server, Stopper};
pub use snapshot::{PeerSnapshot, Snapshot};
pub use socket::{BindError, DIRECTORY};
