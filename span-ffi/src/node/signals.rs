//! Signals are the program's affair, and not that of the node's threads.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

/// Until it is dropped, the calling thread takes no signals, and threads that are started never will: they inherit it.
///
/// Handlers of the program then run in its own threads, which its documentation may rely on, and a peer that hangs up
/// on a socket of the node's is no SIGPIPE that ends the program: the standard library asks for none only where it
/// writes from one buffer.
pub(super) struct Blocked {
    before: Option<SigSet>,
}

/// What a thread is sent for what it did itself, and by profilers.
const OWN: [Signal; 8] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGPROF,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

impl Blocked {
    pub(super) fn new() -> Self {
        let mut signals = SigSet::all();
        for own in OWN {
            signals.remove(own);
        }
        // It fails for no set that there is.
        Blocked { before: signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok() }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = before.thread_set_mask();
        }
    }
}
