//! What makes a queue in memory something to wait on.

use std::io;

use super::Descriptor;

/// Something to wait on: readable from [`Bell::ring`] to [`Bell::clear`].
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(crate) struct Bell(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // Fails only when the counter is full, and then the bell rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        use std::os::fd::AsRawFd;
        Some(self.0.as_raw_fd())
    }

    #[cfg(test)]
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Bell;

#[cfg(not(target_os = "linux"))]
impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn ring(&self) {}

    pub(crate) fn clear(&self) {}

    pub(crate) fn descriptor(&self) -> Option<Descriptor> {
        None
    }
}
