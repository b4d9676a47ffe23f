//! `libspan` with functions that misbehave on purpose: what its tests need and nobody else may have.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, Ordering};

use span::{Status, Tunnel, testing};

/// Panics inside a call.
///
/// # Safety
/// As for every function of `span.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_hook_panic(tunnel: *mut Tunnel) -> Status {
    // SAFETY: the caller's promise.
    unsafe { testing::inside(tunnel, || panic!("on purpose")) }
}

/// Stays in a call until `leave` is not 0, and sets `entered` before.
///
/// # Safety
/// As for every function of `span.h`; others change the flags only as atomics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_hook_stay(
    tunnel: *mut Tunnel,
    entered: *mut c_int,
    leave: *mut c_int,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        let (entered, leave) = (AtomicI32::from_ptr(entered), AtomicI32::from_ptr(leave));
        testing::inside(tunnel, || {
            entered.store(1, Ordering::Release);
            while leave.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
        })
    }
}
