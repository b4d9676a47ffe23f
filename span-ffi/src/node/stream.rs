//! TCP connections inside the mesh.

use std::ffi::c_int;
use std::net::Shutdown;
use std::pin::Pin;

use futures_io::{AsyncRead as _, AsyncWrite as _};
use span_tun::netstack::TcpStream;

use super::bell::Waiting;
use super::endpoint::Endpoint;
use super::io::status;
use super::{Node, give_descriptor};
use crate::boundary::{self, Handle, Opaque, read};
use crate::pointer;
use crate::status::Status;

/// A TCP connection inside the mesh. Its functions never wait and may be called by several threads at once, but
/// span_stream_free.
pub struct Stream(Handle<State>);

/// Which half of a stream is shut down.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// What arrives is dropped, and reading gives the end.
    Read = 0,
    /// The peer reads the end after what was written.
    Write = 1,
    /// Both.
    Both = 2,
}

pub(crate) struct State {
    stream: TcpStream,
    reading: Waiting,
    writing: Waiting,
}

impl Opaque for Stream {
    type State = State;
    fn handle(&self) -> &Handle<State> {
        &self.0
    }
}

impl Stream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Stream(Handle::new(State { stream, reading: Waiting::default(), writing: Waiting::default() }))
    }
}

/// Begins a connection to a program in the mesh, to be given to span_stream_free. It need not be open to be written to or
/// read from; span_stream_connected tells when it is.
///
/// SPAN_STATUS_ADDRESS_NOT_AVAILABLE if the node has no address of that family, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
/// SPAN_STATUS_NO_NETSTACK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_connect(
    node: *const Node,
    remote: *const Endpoint,
    stream: *mut *mut Stream,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (remote, place) = (pointer::reference(remote)?.to_std()?, pointer::place(stream)?);
            let stream = state.netstack()?.start_connect(remote).map_err(|error| status(&error))?;
            place.write(boundary::make(Stream::new(stream)));
            Ok(())
        })
    }
}

/// SPAN_STATUS_OK if the connection is open, SPAN_STATUS_AGAIN while it is being opened; then the descriptor of
/// span_stream_write_fd tells.
///
/// SPAN_STATUS_REFUSED, SPAN_STATUS_TIMED_OUT, SPAN_STATUS_UNREACHABLE if it will not be.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_connected(stream: *const Stream) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(stream, |state| state.writing.attempt(|context| state.stream.poll_connected(context))) }
}

/// Reads what has arrived, at most `room` bytes; `count` says how many. None are the end, if there is room for any.
///
/// SPAN_STATUS_AGAIN if nothing has; then the descriptor of span_stream_read_fd tells. SPAN_STATUS_RESET,
/// SPAN_STATUS_STOPPED and the like if the connection is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_read(
    stream: *const Stream,
    bytes: *mut u8,
    room: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(stream, |state| {
            let (bytes, place) = (pointer::slice_mut(bytes, room)?, pointer::place(count)?);
            place.write(
                state.reading.attempt(|context| Pin::new(&mut &state.stream).poll_read(context, bytes))?,
            );
            Ok(())
        })
    }
}

/// Writes as many of the `len` bytes as there is room for; `count` says how many.
///
/// SPAN_STATUS_AGAIN if there is room for none; then the descriptor of span_stream_write_fd tells.
/// SPAN_STATUS_BROKEN_PIPE after the writing half was shut down, SPAN_STATUS_RESET, SPAN_STATUS_STOPPED and the like if
/// the connection is over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_write(
    stream: *const Stream,
    bytes: *const u8,
    len: usize,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(stream, |state| {
            let (bytes, place) = (pointer::slice(bytes, len)?, pointer::place(count)?);
            place.write(
                state.writing.attempt(|context| Pin::new(&mut &state.stream).poll_write(context, bytes))?,
            );
            Ok(())
        })
    }
}

/// Ends one half of the connection or both, a span_stream_end.
///
/// SPAN_STATUS_NOT_CONNECTED if it was never open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_shutdown(stream: *const Stream, end: u32) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(stream, |state| {
            let how = match end {
                end if end == StreamEnd::Read as u32 => Shutdown::Read,
                end if end == StreamEnd::Write as u32 => Shutdown::Write,
                end if end == StreamEnd::Both as u32 => Shutdown::Both,
                _ => return Err(Status::Invalid),
            };
            state.stream.shutdown(how).map_err(|error| status(&error))
        })
    }
}

/// The address and port on this side.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_local(stream: *const Stream, local: *mut Endpoint) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(stream, |state| {
            pointer::place(local)?.write(Endpoint::from(state.stream.local_addr()));
            Ok(())
        })
    }
}

/// The peer's address and port.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_remote(stream: *const Stream, remote: *mut Endpoint) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(stream, |state| {
            pointer::place(remote)?.write(Endpoint::from(state.stream.peer_addr()));
            Ok(())
        })
    }
}

/// A descriptor that is readable, but after span_stream_read returned SPAN_STATUS_AGAIN and as long as it would again. It
/// is the caller's to close, and only to be polled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_read_fd(stream: *const Stream, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(stream, |state| give_descriptor(fd, state.reading.descriptor()?)) }
}

/// A descriptor that is readable (not writable), but after span_stream_write or span_stream_connected returned
/// SPAN_STATUS_AGAIN and as long as it would again. It is the caller's to close, and only to be polled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_write_fd(stream: *const Stream, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(stream, |state| give_descriptor(fd, state.writing.descriptor()?)) }
}

/// Closes and frees a stream; NULL is nothing to free. What was written still arrives, if the node runs on. The handle is
/// not to be used again.
///
/// One that another thread is in a call with is not freed, ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_stream_free(stream: *mut Stream) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(stream) };
}
