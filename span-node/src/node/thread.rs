//! Threads that say how they ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::Sender;

use super::error::NodeError;

/// Starts `body` on a thread of its own and reports its end, a panic included.
pub(super) fn start(
    name: &'static str,
    ended: Sender<Result<(), NodeError>>,
    body: impl FnOnce() -> Result<(), NodeError> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.into()).spawn(move || {
        let end = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(NodeError::Panicked(name)));
        // Nobody listens to the second thread that ends.
        let _ = ended.try_send(end);
    })
}
