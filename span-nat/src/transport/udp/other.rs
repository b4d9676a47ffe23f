//! The options of [`linux`](super), as far as other systems have them.

use std::io;

use socket2::Socket;

use super::BindError;

pub(super) fn set_buffers(socket: &Socket, receive: usize, send: usize) {
    // A small buffer costs throughput, never correctness.
    let _ = socket.set_recv_buffer_size(receive);
    let _ = socket.set_send_buffer_size(send);
}

/// Elsewhere the kernel does not choose by where a datagram comes from.
pub(super) fn share(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// There is no portable way; datagrams longer than a link takes are lost.
pub(super) fn allow_fragments(_: &Socket) -> io::Result<()> {
    Ok(())
}

pub(super) fn disable_timestamps(_: &Socket) -> io::Result<()> {
    Ok(())
}

pub(super) fn set_mark(_: &Socket, mark: u32) -> Result<(), BindError> {
    if mark == 0 { Ok(()) } else { Err(BindError::MarkUnsupported) }
}
