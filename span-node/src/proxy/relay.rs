//! Bytes in both directions between a program and a member.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use span_tun::netstack::TcpStream as Far;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream as Near;

/// Bytes that are carried at once.
const CHUNK: usize = 64 << 10;
/// The silence after which a program is asked whether it is still there, as the network stack asks members.
const SILENCE: Duration = Duration::from_secs(60);

/// Carries until both sides have ended, or one breaks. The end of one direction is passed on as such.
pub(super) async fn run(mut near: Near, mut far: Far) -> io::Result<()> {
    near.set_nodelay(true)?;
    SockRef::from(&near).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE))?;
    copy_bidirectional_with_sizes(&mut near, &mut far, CHUNK, CHUNK).await?;
    Ok(())
}
