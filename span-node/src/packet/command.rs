//! How other threads reach the packet thread.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use mio::Waker;

use super::Core;

/// Most commands that wait for the packet thread; whoever comes then waits too.
const COMMANDS: usize = 64;

/// A change to make, or a question to answer, between two packets.
pub(super) type Command = Box<dyn FnOnce(&mut Core<'_>) + Send>;

/// The packet thread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub(crate) struct Stopped;

/// The other threads' end of the packet thread.
#[derive(Clone)]
pub(crate) struct Handle {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
}

impl Handle {
    pub(super) fn new(waker: Arc<Waker>) -> (Self, Receiver<Command>) {
        let (commands, receiver) = sync_channel(COMMANDS);
        (Handle { commands, waker }, receiver)
    }

    /// Runs `command` on the packet thread, without waiting for it.
    pub(crate) fn post(&self, command: impl FnOnce(&mut Core<'_>) + Send + 'static) -> Result<(), Stopped> {
        self.commands.send(Box::new(command)).map_err(|_| Stopped)?;
        // Fails only without the thread, and then the next command tells.
        let _ = self.waker.wake();
        Ok(())
    }

    /// Runs `question` on the packet thread and brings its answer back.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core<'_>) -> R + Send + 'static,
    ) -> Result<R, Stopped> {
        let (answer, receiver) = channel();
        self.post(move |core| {
            // Whoever asked may have been interrupted.
            let _ = answer.send(question(core));
        })?;
        receiver.recv().map_err(|_| Stopped)
    }

    /// Ends the packet thread.
    pub(crate) fn stop(&self) {
        // Already stopped is as good.
        let _ = self.post(|core| core.stopping = true);
    }
}
