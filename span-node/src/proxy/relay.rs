//! Bytes in both directions between a program and a member.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as Near};
use std::thread;

use span_tun::netstack::TcpStream as Far;

/// Bytes that are carried at once.
const CHUNK: usize = 64 << 10;

/// Carries until both sides have ended, or one breaks.
pub(super) fn run(near: &Near, far: &Far) -> io::Result<()> {
    near.set_nodelay(true)?;
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let back = thread::Builder::new().name("span-proxy".into()).spawn(move || {
        let carried = carry(&far_too, &near_too);
        // The end of one direction is passed on as such; a failure ends both.
        let _ = near_too.shutdown(if carried.is_ok() { Shutdown::Write } else { Shutdown::Both });
        carried
    })?;
    let carried = carry(near, far);
    let _ = far.shutdown(if carried.is_ok() { Shutdown::Write } else { Shutdown::Both });
    let back = back.join().unwrap_or_else(|_| Err(io::Error::other("carrying back panicked")));
    if back.is_err() {
        let _ = far.shutdown(Shutdown::Both);
    }
    carried.and(back)
}

fn carry(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(len) => to.write_all(&chunk[..len])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
