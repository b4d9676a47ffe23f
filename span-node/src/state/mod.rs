//! What a node remembers across restarts: who it is, and how far the clock of its handshakes got.
//!
//! A directory of the node's own, for its user alone (0700, files 0600):
//!
//! | file | holds |
//! |---|---|
//! | `identity.yaml` | node id and WireGuard key, made once |
//! | `clock.yaml` | where the clock of the handshakes stood |
//! | `lock` | is held while a node runs |
//!
//! Files are replaced as a whole, so that a crash leaves the old or the new one.

mod clock;
mod files;
mod identity;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use span_core::time::{Instant, UnixTime};

pub use identity::Identity;

use clock::Mark;

/// An open state directory. No other node can open it meanwhile.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    identity: Identity,
    /// Names the time between two boots of the machine.
    boot: String,
    /// What this run wrote into the clock file last.
    mark: Option<Mark>,
    /// Held until dropped.
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The directory cannot be made.
    #[error("cannot make the state directory {path}: {source}; choose another or run as a user who may make it", path = path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; it must belong to the user Span runs as", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}; the state directory must be writable for the user Span runs as", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others have access to it.
    #[error("{path} is open to others (mode {mode:03o}), but guards this node's private key; run chmod {wanted:o} on it", path = path.display())]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// Another node runs from it.
    #[error("the state directory {path} is in use by another node{}; stop that one or choose another directory", process(*.pid), path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other node's process, if it wrote it down.
        pid: Option<u32>,
    },
    /// A file says something it cannot.
    #[error("{path} is damaged: {what}; {remedy}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Names no secrets.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl State {
    /// Opens `directory`, making it and a new identity if need be; `random` is what the identity is made
    /// of then.
    pub fn open(directory: &Path, random: &[u8; 64]) -> Result<Self, StateError> {
        // Without one, every run counts as a boot of its own, which is safe.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::open_in_boot(directory, random, boot.trim())
    }

    /// As [`open`](Self::open), for a node with a clock of its own: nothing is known of how it went on since
    /// the last run.
    pub fn open_with_own_clock(directory: &Path, random: &[u8; 64]) -> Result<Self, StateError> {
        Self::open_in_boot(directory, random, "")
    }

    fn open_in_boot(directory: &Path, random: &[u8; 64], boot: &str) -> Result<Self, StateError> {
        files::make_directory(directory)?;
        let lock = files::lock(directory)?;
        let identity = identity::load_or_make(&directory.join("identity.yaml"), random)?;
        Ok(State {
            directory: directory.to_owned(),
            identity,
            boot: boot.to_owned(),
            mark: None,
            _lock: lock,
        })
    }

    /// Who this node is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The place of a file of the caller's in this directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The time for the device's handshakes to begin at: `wall`, or later where an earlier run got
    /// further, so that none carries a time that peers have seen already, whatever the wall clock does.
    /// The device counts on from there with `now`'s clock, which must be `CLOCK_BOOTTIME`.
    ///
    /// What is written down covers the time up to 20 minutes from `now`; after that
    /// [`keep_clock`](State::keep_clock) must have been called.
    pub fn start_clock(&mut self, now: Instant, wall: UnixTime) -> Result<UnixTime, StateError> {
        let before = clock::load(&self.clock_file())?;
        let start = clock::start(before.as_ref(), &self.boot, now, wall);
        self.write_clock(Mark { boot: self.boot.clone(), at: now, time: start, closed: false })?;
        Ok(start)
    }

    /// Writes down where the clock is, if that is due, and says when it is due again: every 10 minutes.
    pub fn keep_clock(&mut self, now: Instant) -> Result<Instant, StateError> {
        if let Some(mark) = &self.mark {
            let due = mark.at + clock::INTERVAL;
            if now < due {
                return Ok(due);
            }
            self.write_clock(mark.moved_to(now, false))?;
        }
        Ok(now + clock::INTERVAL)
    }

    /// Writes down that the clock stops here, so that the next run need not assume it went on.
    pub fn stop_clock(&mut self, now: Instant) -> Result<(), StateError> {
        match &self.mark {
            Some(mark) => self.write_clock(mark.moved_to(now, true)),
            None => Ok(()),
        }
    }

    fn write_clock(&mut self, mark: Mark) -> Result<(), StateError> {
        files::write(&self.clock_file(), &mark.to_text())?;
        self.mark = Some(mark);
        Ok(())
    }

    fn clock_file(&self) -> PathBuf {
        self.directory.join("clock.yaml")
    }
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
