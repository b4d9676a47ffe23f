//! Span for C, and for everything that can call C: `libspan` and its header `span.h`.
//!
//! The header says how to use it, and is written from this crate by `cargo run -p xtask -- header`. Here is what
//! holds for every function, so that no function needs to say it again:
//!
//! * A pointer that is not NULL points to as many values of its type as the documentation says, and nobody else
//!   changes them during the call. That is all the caller has to promise; `pointer` checks the rest.
//! * A body runs inside `boundary`, which keeps panics from the caller and threads from each other.
//!
//! All unsafe code is here: it turns pointers into references, and nothing else.

#![allow(clippy::missing_safety_doc, reason = "the promise is the same everywhere, and stands above")]

mod address;
mod boundary;
mod key;
#[cfg(feature = "node")]
mod node;
mod pointer;
mod status;
mod tunnel;

use std::ffi::{CStr, c_char};

pub use address::{Path, PathKind, Prefix, span_path_parse, span_prefix_parse};
pub use key::{
    Key, SPAN_KEY_TEXT, span_key_format, span_key_generate, span_key_generate_preshared, span_key_parse,
    span_key_public,
};
#[cfg(feature = "node")]
pub use node::*;
pub use status::{Status, span_status_text};
pub use tunnel::*;

/// The version of this interface. It grows by one when a program that was built with an earlier header would no
/// longer work; what is only added does not change it.
pub const SPAN_ABI_VERSION: u32 = 0;

/// The SPAN_ABI_VERSION that the library was built with. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn span_abi_version() -> u32 {
    SPAN_ABI_VERSION
}

/// The version of the library, such as "0.1.0". Static. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn span_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}

/// For the tests of this crate, through `span-ffi-hooks`. Not part of the interface, nor of the library.
#[cfg(feature = "node")]
#[doc(hidden)]
pub mod testing {
    use crate::{Datagrams, Listener, Node, Status, Stream, Tunnel, boundary};

    /// A handle of any kind.
    #[derive(Clone, Copy, Debug)]
    pub enum AnyHandle {
        Tunnel(*mut Tunnel),
        Node(*mut Node),
        Listener(*mut Listener),
        Stream(*mut Stream),
        Datagrams(*mut Datagrams),
    }

    /// Runs something inside a call that changes what is behind the handle, or only reads it.
    ///
    /// # Safety
    /// As for every function of `span.h`.
    pub unsafe fn inside(handle: AnyHandle, reading: bool, body: impl FnOnce()) -> Status {
        // SAFETY: the caller's promise.
        unsafe {
            match handle {
                AnyHandle::Tunnel(handle) => within(handle, reading, body),
                AnyHandle::Node(handle) => within(handle, reading, body),
                AnyHandle::Listener(handle) => within(handle, reading, body),
                AnyHandle::Stream(handle) => within(handle, reading, body),
                AnyHandle::Datagrams(handle) => within(handle, reading, body),
            }
        }
    }

    unsafe fn within<H: boundary::Opaque>(handle: *mut H, reading: bool, body: impl FnOnce()) -> Status {
        // SAFETY: the caller's promise.
        unsafe {
            if reading {
                boundary::read(handle, |_| {
                    body();
                    Ok(())
                })
            } else {
                boundary::change(handle, |_| {
                    body();
                    Ok(())
                })
            }
        }
    }
}
