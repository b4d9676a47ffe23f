//! Threads that say how they ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::error::NodeError;
use super::life::{Life, Role};

/// Starts `body` on a thread of its own and tells `life` of its end, a panic included.
pub(super) fn start(
    role: Role,
    life: &Arc<Life>,
    body: impl FnOnce() -> Result<(), NodeError> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    life.begin();
    let ended = Arc::clone(life);
    let thread = Builder::new().name(role.name().into()).spawn(move || {
        let end = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(NodeError::Panicked(role.name())));
        ended.ended(role, end);
    });
    thread.inspect_err(|_| life.ended(role, Ok(())))
}
