//! `libspan` with functions that misbehave on purpose: what its tests need and nobody else may have.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicI32, Ordering};

use span::Status;
use span::testing::{AnyHandle, inside};

/// The handle of a number, in the order of `every_function.c`.
fn any(kind: c_int, handle: *mut c_void) -> Option<AnyHandle> {
    Some(match kind {
        0 => AnyHandle::Tunnel(handle.cast()),
        1 => AnyHandle::Node(handle.cast()),
        2 => AnyHandle::Listener(handle.cast()),
        3 => AnyHandle::Stream(handle.cast()),
        4 => AnyHandle::Datagrams(handle.cast()),
        _ => return None,
    })
}

/// Panics inside a call.
///
/// # Safety
/// As for every function of `span.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_hook_panic(kind: c_int, handle: *mut c_void) -> Status {
    let Some(handle) = any(kind, handle) else { return Status::Invalid };
    // SAFETY: the caller's promise.
    unsafe { inside(handle, false, || panic!("on purpose")) }
}

/// Stays in a call that changes what is behind the handle, or only reads it, until `leave` is not 0. Sets `entered`
/// before.
///
/// # Safety
/// As for every function of `span.h`; others change the flags only as atomics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_hook_stay(
    kind: c_int,
    handle: *mut c_void,
    reading: c_int,
    entered: *mut c_int,
    leave: *mut c_int,
) -> Status {
    let Some(handle) = any(kind, handle) else { return Status::Invalid };
    // SAFETY: the caller's promise.
    unsafe {
        let (entered, leave) = (AtomicI32::from_ptr(entered), AtomicI32::from_ptr(leave));
        inside(handle, reading != 0, || {
            entered.store(1, Ordering::Release);
            while leave.load(Ordering::Acquire) == 0 {
                std::thread::yield_now();
            }
        })
    }
}
