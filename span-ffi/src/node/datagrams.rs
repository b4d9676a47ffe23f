//! UDP inside the mesh.

use std::ffi::c_int;

use span_tun::netstack::UdpSocket;

use super::bell::Waiting;
use super::endpoint::Endpoint;
use super::io::status;
use super::{Node, give_descriptor};
use crate::boundary::{self, Handle, Opaque, read};
use crate::pointer;
use crate::status::Status;

/// A UDP socket inside the mesh. Its functions never wait and may be called by several threads at once, but
/// span_datagrams_free.
pub struct Datagrams(Handle<State>);

pub(crate) struct State {
    socket: UdpSocket,
    receiving: Waiting,
    sending: Waiting,
}

impl Opaque for Datagrams {
    type State = State;
    fn handle(&self) -> &Handle<State> {
        &self.0
    }
}

/// A UDP socket, to be given to span_datagrams_free; addresses as for span_node_listen.
///
/// SPAN_STATUS_ADDRESS_IN_USE, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_QUOTA, SPAN_STATUS_STOPPED,
/// SPAN_STATUS_NO_NETSTACK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_datagrams(
    node: *const Node,
    local: *const Endpoint,
    datagrams: *mut *mut Datagrams,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (local, place) = (pointer::reference(local)?.to_std()?, pointer::place(datagrams)?);
            let socket = state.netstack()?.bind_udp(local).map_err(|error| status(&error))?;
            let state = State { socket, receiving: Waiting::default(), sending: Waiting::default() };
            place.write(boundary::make(Datagrams(Handle::new(state))));
            Ok(())
        })
    }
}

/// Sends one datagram.
///
/// SPAN_STATUS_AGAIN if there is no room for it; then the descriptor of span_datagrams_send_fd tells. SPAN_STATUS_INVALID if
/// it does not fit the MTU, SPAN_STATUS_ADDRESS_NOT_AVAILABLE, SPAN_STATUS_STOPPED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_send(
    datagrams: *const Datagrams,
    bytes: *const u8,
    len: usize,
    remote: *const Endpoint,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(datagrams, |state| {
            let (bytes, remote) = (pointer::slice(bytes, len)?, pointer::reference(remote)?.to_std()?);
            state.sending.attempt(|context| state.socket.poll_send_to(context, bytes, remote)).map(drop)
        })
    }
}

/// Receives one datagram, of which what does not fit `room` bytes is cut off; `count` says how many were written, `remote`
/// who sent it.
///
/// SPAN_STATUS_AGAIN if there is none; then the descriptor of span_datagrams_fd tells. SPAN_STATUS_STOPPED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_receive(
    datagrams: *const Datagrams,
    bytes: *mut u8,
    room: usize,
    count: *mut usize,
    remote: *mut Endpoint,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(datagrams, |state| {
            let bytes = pointer::slice_mut(bytes, room)?;
            let (count, from) = (pointer::place(count)?, pointer::place(remote)?);
            let (len, sender) =
                state.receiving.attempt(|context| state.socket.poll_recv_from(context, bytes))?;
            count.write(len);
            from.write(Endpoint::from(sender));
            Ok(())
        })
    }
}

/// Where it is bound; with the port it was given if it asked for none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_local(datagrams: *const Datagrams, local: *mut Endpoint) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(datagrams, |state| {
            pointer::place(local)?.write(Endpoint::from(state.socket.local_addr()));
            Ok(())
        })
    }
}

/// A descriptor that is readable, but after span_datagrams_receive returned SPAN_STATUS_AGAIN and as long as it would
/// again. It is the caller's to close, and only to be polled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_fd(datagrams: *const Datagrams, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(datagrams, |state| give_descriptor(fd, state.receiving.descriptor()?)) }
}

/// A descriptor that is readable (not writable), but after span_datagrams_send returned SPAN_STATUS_AGAIN and as long as
/// it would again. It is the caller's to close, and only to be polled.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_send_fd(datagrams: *const Datagrams, fd: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { read(datagrams, |state| give_descriptor(fd, state.sending.descriptor()?)) }
}

/// Closes and frees a UDP socket; NULL is nothing to free. The handle is not to be used again.
///
/// One that another thread is in a call with is not freed, ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_datagrams_free(datagrams: *mut Datagrams) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(datagrams) };
}
