//! The messages of the discovery protocol, generated from the files in `proto/` by `cargo run -p xtask --
//! codegen`. For programs that speak the protocol themselves; everything else in this crate wraps them.

#![allow(missing_docs, unreachable_pub, rust_2018_idioms, clippy::all, clippy::pedantic)]

/// Package `sidero`.
pub mod sidero {
    /// Package `sidero.discovery`.
    pub mod discovery {
        /// What members tell each other, inside the seal.
        pub mod client {
            include!("generated/sidero.discovery.client.rs");
        }

        /// The service and its messages.
        #[cfg(feature = "service")]
        pub mod server {
            include!("generated/sidero.discovery.server.rs");
        }

        /// The service's state on disk.
        #[cfg(feature = "service")]
        pub mod storage {
            include!("generated/sidero.discovery.storage.rs");
        }
    }
}

/// Package `span`.
pub mod span {
    /// The last known members on a node's own disk.
    pub mod cache {
        include!("generated/span.cache.rs");
    }
}

pub use sidero::discovery::client;
#[cfg(feature = "service")]
pub use sidero::discovery::{server, storage};
