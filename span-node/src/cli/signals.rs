//! Ending on SIGINT and SIGTERM.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Runs `end` when the process is asked to end; a second request ends it at once.
pub(super) fn on_end(end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("span-signals".into()).spawn(move || {
        let mut end = Some(end);
        for signal in signals.forever() {
            match end.take() {
                Some(end) => end(),
                None => {
                    tracing::warn!("ending without cleaning up; the next start will");
                    // Cannot fail for a signal that was just received.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        }
    })?;
    Ok(())
}
