//! Descriptors that tell when to try again.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

use super::io::status;
use crate::status::Status;

/// Something that may have to be waited for. The descriptor is made when it is first asked for: who waits otherwise
/// has none.
#[derive(Default)]
pub(super) struct Waiting(OnceLock<Arc<Bell>>);

/// A descriptor that is readable while it rings.
struct Bell {
    descriptor: OwnedFd,
    ringing: Mutex<bool>,
}

impl Waiting {
    /// The descriptor, which is readable but after [`attempt`](Self::attempt) found that there is nothing to do.
    pub(super) fn descriptor(&self) -> Result<BorrowedFd<'_>, Status> {
        if let Some(bell) = self.0.get() {
            return Ok(bell.descriptor.as_fd());
        }
        let descriptor =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|_| Status::Failed)?;
        let bell = Bell { descriptor, ringing: Mutex::new(false) };
        // Nobody has asked what there is to do, so there may be something.
        bell.set(true);
        Ok(self.0.get_or_init(|| Arc::new(bell)).descriptor.as_fd())
    }

    /// Does something that may have to wait: once, and [`Status::Again`] if it is not ready. Then the descriptor is
    /// not readable until it may be.
    pub(super) fn attempt<T>(
        &self,
        mut attempt: impl FnMut(&mut Context<'_>) -> Poll<std::io::Result<T>>,
    ) -> Result<T, Status> {
        let Some(bell) = self.0.get() else {
            return match attempt(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(result) => result.map_err(|error| status(&error)),
                Poll::Pending => Err(Status::Again),
            };
        };
        let waker = Waker::from(Arc::clone(bell));
        let mut context = Context::from_waker(&waker);
        let mut outcome = attempt(&mut context);
        if outcome.is_pending() {
            bell.set(false);
            // It may have become ready, and rung, just before.
            outcome = attempt(&mut context);
        }
        match outcome {
            Poll::Ready(result) => {
                // There may be more.
                bell.set(true);
                result.map_err(|error| status(&error))
            }
            Poll::Pending => Err(Status::Again),
        }
    }
}

impl Bell {
    /// Costs a system call only where it changes something.
    fn set(&self, ring: bool) {
        let mut ringing = self.ringing.lock().unwrap_or_else(PoisonError::into_inner);
        if *ringing != ring {
            *ringing = ring;
            let _ = if ring {
                rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes())
            } else {
                rustix::io::read(&self.descriptor, &mut [0; 8])
            };
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.set(true);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set(true);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn readable(waiting: &Waiting) -> bool {
        let descriptor = waiting.descriptor().unwrap();
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 1
    }

    #[test]
    fn the_descriptor_is_readable_but_after_again() {
        let waiting = Waiting::default();
        assert_eq!(waiting.attempt(|_| Poll::<std::io::Result<()>>::Pending), Err(Status::Again));
        assert!(readable(&waiting), "nobody was told yet that there is nothing");
        let mut waker = None;
        let again = waiting.attempt(|context| {
            waker = Some(context.waker().clone());
            Poll::<std::io::Result<()>>::Pending
        });
        assert_eq!(again, Err(Status::Again));
        assert!(!readable(&waiting));
        waker.unwrap().wake();
        assert!(readable(&waiting));
        assert_eq!(waiting.attempt(|_| Poll::Ready(Ok(7))), Ok(7));
        assert!(readable(&waiting), "there may be more");
    }

    #[test]
    fn what_becomes_ready_in_between_is_not_missed() {
        let waiting = Waiting::default();
        assert!(readable(&waiting));
        let mut times = 0;
        let outcome = waiting.attempt(|context| {
            times += 1;
            if times == 1 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        });
        assert_eq!((outcome, times), (Ok(()), 2));
        assert!(readable(&waiting));
    }
}
