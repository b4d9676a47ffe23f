//! What stands between a caller in C and the library: nothing unwinds into it, and no two threads meet in a handle.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::pointer;
use crate::status::Status;

/// What a handle points to.
pub(crate) trait Opaque {
    /// What it protects.
    type State;
    /// The handle itself.
    fn handle(&self) -> &Handle<Self::State>;
}

/// A state that is used by one thread, or read by many. Nobody ever waits.
pub(crate) struct Handle<T> {
    /// How many calls read it; −1 while one changes it.
    users: AtomicI32,
    /// A call panicked: the state may be half changed.
    poisoned: AtomicBool,
    state: UnsafeCell<T>,
}

// SAFETY: the state is reached by `read` and `change` alone, which let in many readers or one writer, of any
// thread.
unsafe impl<T: Send + Sync> Sync for Handle<T> {}

const CHANGED: i32 = -1;

impl<T> Handle<T> {
    pub(crate) const fn new(state: T) -> Self {
        Handle { users: AtomicI32::new(0), poisoned: AtomicBool::new(false), state: UnsafeCell::new(state) }
    }

    fn change(&self, body: impl FnOnce(&mut T) -> Result<(), Status>) -> Result<(), Status> {
        let free = self.users.compare_exchange(0, CHANGED, Ordering::Acquire, Ordering::Relaxed);
        free.map_err(|_| Status::Busy)?;
        let _leave = Leave { users: &self.users, to: |users| users.store(0, Ordering::Release) };
        self.contain(|| {
            // SAFETY: `users` was 0 and is now `CHANGED`: until `_leave` is dropped, nobody else gets a reference.
            body(unsafe { &mut *self.state.get() })
        })
    }

    fn read(&self, body: impl FnOnce(&T) -> Result<(), Status>) -> Result<(), Status> {
        let enter = |users: i32| (users != CHANGED).then(|| users.checked_add(1)).flatten();
        self.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, enter).map_err(|_| Status::Busy)?;
        let _leave = Leave { users: &self.users, to: |users| _ = users.fetch_sub(1, Ordering::Release) };
        self.contain(|| {
            // SAFETY: `users` counts this reader: until `_leave` is dropped, nobody gets a reference to change it.
            body(unsafe { &*self.state.get() })
        })
    }

    fn contain(&self, body: impl FnOnce() -> Result<(), Status>) -> Result<(), Status> {
        if self.poisoned.load(Ordering::Relaxed) {
            return Err(Status::Panicked);
        }
        catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
            // Before the handle is left: whoever comes next sees it.
            self.poisoned.store(true, Ordering::Relaxed);
            Err(Status::Panicked)
        })
    }
}

/// Leaves a handle, whatever happened in it.
struct Leave<'a> {
    users: &'a AtomicI32,
    to: fn(&AtomicI32),
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        (self.to)(self.users);
    }
}

/// Runs the body of a function without a handle.
pub(crate) fn call(body: impl FnOnce() -> Result<(), Status>) -> Status {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Status::Panicked));
    outcome.err().unwrap_or(Status::Ok)
}

/// Runs the body of a function that changes what is behind a handle.
///
/// # Safety
/// `handle` is NULL, or was made by [`make`] and not yet freed.
pub(crate) unsafe fn change<H: Opaque>(
    handle: *mut H,
    body: impl FnOnce(&mut H::State) -> Result<(), Status>,
) -> Status {
    // SAFETY: as this function demands.
    let handle = unsafe { pointer::reference(handle.cast_const()) };
    handle.and_then(|handle| handle.handle().change(body)).err().unwrap_or(Status::Ok)
}

/// Runs the body of a function that only reads what is behind a handle.
///
/// # Safety
/// As for [`change`].
pub(crate) unsafe fn read<H: Opaque>(
    handle: *const H,
    body: impl FnOnce(&H::State) -> Result<(), Status>,
) -> Status {
    // SAFETY: as this function demands.
    let handle = unsafe { pointer::reference(handle) };
    handle.and_then(|handle| handle.handle().read(body)).err().unwrap_or(Status::Ok)
}

/// A handle for a caller, to be given back to [`free`].
pub(crate) fn make<H: Opaque>(handle: H) -> *mut H {
    Box::into_raw(Box::new(handle))
}

/// Takes a handle back. One that another thread is using, or that is no handle, stays as it is: memory lost is
/// better than memory used after it was freed.
///
/// # Safety
/// As for [`change`]; the handle is not used again.
pub(crate) unsafe fn free<H: Opaque>(handle: *mut H) {
    // SAFETY: as this function demands.
    let Ok(shared) = (unsafe { pointer::reference(handle.cast_const()) }) else { return };
    let users = &shared.handle().users;
    if users.compare_exchange(0, CHANGED, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        call(|| {
            // SAFETY: `make` had it from `Box::into_raw`, and nobody is in it or will be.
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(Handle<u32>);

    impl Opaque for Number {
        type State = u32;
        fn handle(&self) -> &Handle<u32> {
            &self.0
        }
    }

    #[test]
    fn one_changes_or_many_read() {
        let handle = Handle::new(1);
        let outcome = handle.change(|number| {
            *number += 1;
            assert_eq!(handle.change(|_| Ok(())), Err(Status::Busy));
            assert_eq!(handle.read(|_| Ok(())), Err(Status::Busy));
            Err(Status::NoRoom)
        });
        assert_eq!(outcome, Err(Status::NoRoom));
        let outcome = handle.read(|number| {
            assert_eq!(*number, 2);
            assert_eq!(handle.change(|_| Ok(())), Err(Status::Busy));
            handle.read(|_| Ok(()))
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(handle.change(|_| Ok(())), Ok(()), "everybody has left");
    }

    #[test]
    fn a_panic_poisons_for_ever() {
        for reading in [false, true] {
            let handle = make(Number(Handle::new(1)));
            // SAFETY: the handle is from `make`, and freed at the end.
            unsafe {
                let status = if reading {
                    read(handle, |_| panic!("on purpose"))
                } else {
                    change(handle, |_| panic!("on purpose"))
                };
                assert_eq!(status, Status::Panicked);
                assert_eq!(read(handle, |_| Ok(())), Status::Panicked);
                assert_eq!(change(handle, |_| Ok(())), Status::Panicked);
                free(handle);
            }
        }
        assert_eq!(call(|| panic!("on purpose")), Status::Panicked);
    }

    #[test]
    fn a_handle_in_use_is_not_freed() {
        let handle = make(Number(Handle::new(1)));
        // SAFETY: the first attempt to free it does nothing, the second comes last.
        unsafe {
            let status = change(handle, |number| {
                free(handle);
                *number = 2;
                Ok(())
            });
            assert_eq!(status, Status::Ok);
            free(handle);
            free(std::ptr::null_mut::<Number>());
        }
    }
}
