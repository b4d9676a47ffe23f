//! Listening for TCP connections inside the mesh.

use std::ffi::c_int;

use span_tun::netstack::TcpListener;

use super::bell::Waiting;
use super::endpoint::Endpoint;
use super::io::status;
use super::stream::Stream;
use super::{Node, give_descriptor};
use crate::boundary::{self, Handle, Opaque, read};
use crate::pointer;
use crate::status::Status;

/// A place that takes TCP connections inside the mesh. Its functions never wait and may be called by several threads at
/// once, but span_listener_free.
pub struct Listener(Handle<State>);

pub(crate) struct State {
    listener: TcpListener,
    accepting: Waiting,
}

impl Opaque for Listener {
    type State = State;
    fn handle(&self) -> &Handle<State> {
        &self.0
    }
}

/// Connections that may wait unless told otherwise.
const BACKLOG: usize = 128;

/// Listens for connections, to be given to span_listener_free. `[::]` stands for all addresses of the node, `0.0.0.0` for
/// those of IPv4, port 0 for a free one. Up to `backlog` connections may wait to be accepted, 128 if zero.
///
/// SPAN_STATUS_ADDRESS_IN_USE, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
/// SPAN_STATUS_NO_NETSTACK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_listen(
    node: *const Node,
    local: *const Endpoint,
    backlog: u32,
    listener: *mut *mut Listener,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (local, place) = (pointer::reference(local)?.to_std()?, pointer::place(listener)?);
            let backlog = if backlog == 0 { BACKLOG } else { backlog as usize };
            let listener =
                state.netstack()?.listen_with_backlog(local, backlog).map_err(|error| status(&error))?;
            let state = State { listener, accepting: Waiting::default() };
            place.write(boundary::make(Listener(Handle::new(state))));
            Ok(())
        })
    }
}

/// Takes the next connection, to be given to span_stream_free.
///
/// SPAN_STATUS_AGAIN if there is none; then the descriptor of span_listener_fd tells. SPAN_STATUS_STOPPED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_listener_accept(listener: *const Listener, stream: *mut *mut Stream) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(listener, |state| {
            let place = pointer::place(stream)?;
            let (stream, _) = state.accepting.attempt(|context| state.listener.poll_accept(context))?;
            place.write(boundary::make(Stream::new(stream)));
            Ok(())
        })
    }
}

/// Where it listens; with the port it was given if it asked for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_listener_local(listener: *const Listener, local: *mut Endpoint) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(listener, |state| {
            pointer::place(local)?.write(Endpoint::from(state.listener.local_addr()));
            Ok(())
        })
    }
}

/// A descriptor that is readable, but after span_listener_accept returned SPAN_STATUS_AGAIN and as long as it would
/// again. It is the caller's to close, and only to be polled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_listener_fd(listener: *const Listener, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(listener, |state| give_descriptor(fd, state.accepting.descriptor()?)) }
}

/// Closes and frees a listener; NULL is nothing to free. Connections that wait to be accepted are reset. The handle is not
/// to be used again.
///
/// One that another thread is in a call with is not freed, ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_listener_free(listener: *mut Listener) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(listener) };
}
