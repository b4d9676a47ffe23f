use std::io;

use rustix::io::Errno;
use thiserror::Error;

/// Why the host's network could not be brought into the desired state.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RouteError {
    /// Not allowed.
    #[error("not allowed to change the network: run as root or with the capability CAP_NET_ADMIN")]
    NotPermitted,
    /// Another instance, or something else with the same marks, is at work in this network namespace.
    #[error(
        "{what} is in use by another interface or process: only one mesh with the same table and marks can run \
         in a network namespace; stop the other, or give this one a policy of its own"
    )]
    InUse {
        /// What both want.
        what: String,
    },
    /// The interface is gone.
    #[error("the interface is gone")]
    NoInterface,
    /// The kernel has no nftables, or not all of what the rules need.
    #[error("this kernel lacks nftables, or a part of it: CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET")]
    NoNftables,
    /// Anything else the system said.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Names what was tried, and picks out the errors a person can do something about.
pub(super) fn trying(action: &'static str) -> impl Fn(io::Error) -> RouteError {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::PERM) => RouteError::NotPermitted,
        Some(Errno::NODEV) => RouteError::NoInterface,
        _ => RouteError::Io { action, source },
    }
}
