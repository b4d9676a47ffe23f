//! The node stratum: whole nodes, with threads and sockets inside.

mod bell;
mod config;
mod datagrams;
mod endpoint;
mod events;
mod io;
mod listener;
mod signals;
mod stream;
mod text;
mod token;

use std::ffi::{c_char, c_int};

use span_node::node::{Events, Node as Running};
use span_tun::netstack::Netstack;

pub use config::{NodeConfig, NodeFlag};
pub use datagrams::{
    Datagrams, span_datagrams_fd, span_datagrams_free, span_datagrams_local, span_datagrams_receive,
    span_datagrams_send, span_datagrams_send_fd, span_node_datagrams,
};
pub use endpoint::{Endpoint, span_endpoint_parse};
pub use events::{NodeEvent, NodeEventKind, SPAN_TEXT, span_node_event_fd, span_node_poll_event};
pub use listener::{
    Listener, span_listener_accept, span_listener_fd, span_listener_free, span_listener_local,
    span_node_listen,
};
pub use stream::{
    Stream, StreamEnd, span_node_connect, span_stream_connected, span_stream_free, span_stream_local,
    span_stream_read, span_stream_read_fd, span_stream_remote, span_stream_shutdown, span_stream_write,
    span_stream_write_fd,
};
pub use token::span_token_generate;

use crate::boundary::{self, Handle, Opaque, call, change, read};
use crate::pointer;
use crate::status::Status;
use config::Plan;
use signals::Blocked;

/// A node of a mesh: it finds the other members and carries packets to them.
///
/// Made by span_node_new, it does nothing until span_node_start. Then all functions that take a const span_node may
/// run at the same time, on any threads; those that wait say so.
pub struct Node(Handle<State>);

/// What is behind a handle.
pub(crate) enum State {
    Planned(Box<Plan>),
    Started(Started),
    /// It could not be started.
    Failed,
}

/// A node that runs, or has.
pub(crate) struct Started {
    node: Running,
    events: Events,
    netstack: Option<Netstack>,
}

impl Opaque for Node {
    type State = State;
    fn handle(&self) -> &Handle<State> {
        &self.0
    }
}

impl State {
    fn started(&self) -> Result<&Started, Status> {
        match self {
            State::Started(started) => Ok(started),
            State::Planned(_) | State::Failed => Err(Status::NotStarted),
        }
    }

    fn netstack(&self) -> Result<&Netstack, Status> {
        self.started()?.netstack.as_ref().ok_or(Status::NoNetstack)
    }
}

impl Started {
    fn stop(&self) {
        // Connections first: whoever waits in one comes back.
        if let Some(netstack) = &self.netstack {
            netstack.close();
        }
        self.node.stop();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a node, to be given to span_node_free in the end. Nothing is opened yet. Any thread.
///
/// SPAN_STATUS_CONFIG if the configuration cannot be used: `why`, unless NULL, has `why_room` characters for a text that
/// says what is wrong and where, cut off where it does not fit. SPAN_STATUS_INVALID for flags that do not exist or
/// contradict each other, and descriptors that are not open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_new(
    config: *const NodeConfig,
    why: *mut c_char,
    why_room: usize,
    node: *mut *mut Node,
) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (config, why, place) =
            unsafe { (pointer::config(config)?, text::room(why, why_room)?, pointer::place(node)?) };
        // SAFETY: the caller's promise, for the texts and lists in it.
        let plan = unsafe { config::plan(&config) };
        let plan = plan.map_err(|problem| {
            text::write(why, &problem.text);
            problem.status
        })?;
        text::write(why, "");
        place.write(boundary::make(Node(Handle::new(State::Planned(Box::new(plan))))));
        Ok(())
    })
}

/// Starts the node: identity, device, sockets, threads. Does not wait for other members; events tell of them. Signals are
/// blocked in the node's threads: no handler of the program's runs there.
///
/// SPAN_STATUS_START if something fails: `why`, unless NULL, has `why_room` characters for a text that says what, and what
/// to do. Nothing of the node is left then, and it can only be freed. SPAN_STATUS_NOT_STARTED if it was started before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_start(node: *mut Node, why: *mut c_char, why_room: usize) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        change(node, |state| {
            let why = text::room(why, why_room)?;
            let plan = match std::mem::replace(state, State::Failed) {
                State::Planned(plan) => plan,
                other @ (State::Started(_) | State::Failed) => {
                    *state = other;
                    return Err(Status::NotStarted);
                }
            };
            let _blocked = Blocked::new();
            let (node, netstack) = plan.start().map_err(|error| {
                text::write(why, &error);
                Status::Start
            })?;
            text::write(why, "");
            *state = State::Started(Started { events: node.events(), node, netstack });
            Ok(())
        })
    }
}

/// Stops the node, and waits until all of it is gone, which takes seconds at most. Its connections end: reading and
/// writing them returns SPAN_STATUS_STOPPED, and their descriptors are readable. Does nothing to a node that has stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_stop(node: *const Node) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            state.started()?.stop();
            Ok(())
        })
    }
}

/// Stops and frees a node; NULL is nothing to free. The handle is not to be used again. Streams, listeners and the like
/// are freed by themselves, before or after.
///
/// A node that another thread is in a call with is neither stopped nor freed, ever.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_free(node: *mut Node) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(node) };
}

/// How the node, its sources of members and its peers are doing, as JSON: what span status --json prints. Writes it, with
/// a NUL, if `room` characters are enough, and an empty text otherwise; `length` says how long it is, without the NUL.
///
/// SPAN_STATUS_STOPPED if the node has stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_status(
    node: *const Node,
    text: *mut c_char,
    room: usize,
    length: *mut usize,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (text, place) = (text::room(text, room)?, pointer::place(length)?);
            let status = state.started()?.node.status().map_err(|_| Status::Stopped)?;
            let json = serde_json::to_string(&status).map_err(|_| Status::Failed)?;
            text::write_whole(text, &json);
            place.write(json.len());
            Ok(())
        })
    }
}

/// The node's address in the mesh.
///
/// SPAN_STATUS_STOPPED if the node has stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_address(node: *const Node, address: *mut Endpoint) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let place = pointer::place(address)?;
            let status = state.started()?.node.status().map_err(|_| Status::Stopped)?;
            place.write(Endpoint::from(status.node.overlay_address));
            Ok(())
        })
    }
}

/// The overlay address of the member called `name`, this node included, with port 0: by its node name or its full host
/// name, without regard to case, or by its id. A name is what a member says of itself, and only its key says who it is.
///
/// SPAN_STATUS_UNKNOWN_PEER if nobody is called so, or several are. SPAN_STATUS_STOPPED if the node has stopped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_node_resolve(
    node: *const Node,
    name: *const c_char,
    address: *mut Endpoint,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        read(node, |state| {
            let (name, place) = (pointer::text(name)?, pointer::place(address)?);
            let found = state.started()?.node.resolve(name).map_err(|_| Status::Stopped)?;
            place.write(Endpoint::from(found.ok_or(Status::UnknownPeer)?));
            Ok(())
        })
    }
}

/// Writes a descriptor of the caller's own, to be closed by it.
unsafe fn give_descriptor(place: *mut c_int, descriptor: std::os::fd::BorrowedFd<'_>) -> Result<(), Status> {
    use std::os::fd::IntoRawFd as _;
    // SAFETY: the caller's promise.
    let place = unsafe { pointer::place(place) }?;
    place.write(descriptor.try_clone_to_owned().map_err(|_| Status::Failed)?.into_raw_fd());
    Ok(())
}
