//! What only Linux has.

use std::io;

use nix::sys::socket::{setsockopt, sockopt::Ipv6DontFrag, sockopt::ReceiveTimestampns};
use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::Socket;

use super::BindError;

/// As large as asked for where that is allowed (CAP_NET_ADMIN), else as large as the host permits. A
/// small buffer costs throughput, never correctness.
pub(super) fn set_buffers(socket: &Socket, receive: usize, send: usize) {
    if sockopt::set_socket_recv_buffer_size_force(socket, receive).is_err() {
        let _ = socket.set_recv_buffer_size(receive);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, send).is_err() {
        let _ = socket.set_send_buffer_size(send);
    }
}

/// Lets sockets have the same address. The kernel chooses among them by the addresses and ports of a datagram, so
/// that all datagrams from one place come to one socket.
pub(super) fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

/// Lets this host and the routers cut datagrams longer than a link takes, by leaving DF unset as the
/// kernel's WireGuard does: a tunnel must not depend on ICMP getting through.
pub(super) fn allow_fragments(socket: &Socket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        setsockopt(socket, Ipv6DontFrag, &false)?;
    } else {
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    Ok(())
}

/// Nobody here reads when the kernel received a datagram, so it need not look at the clock for each.
pub(super) fn disable_timestamps(socket: &Socket) -> io::Result<()> {
    Ok(setsockopt(socket, ReceiveTimestampns, &false)?)
}

/// `SO_MARK`.
pub(super) fn set_mark(socket: &Socket, mark: u32) -> Result<(), BindError> {
    socket.set_mark(mark).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => BindError::MarkDenied(mark),
        _ => BindError::Socket { what: "mark packets", source },
    })
}
