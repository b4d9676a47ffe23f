//! Bulk data through one TCP connection, checked byte for byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::SockRef;

/// How long a connection may stand still before it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// What one system call moves, and the length of the pattern. Not a multiple of any packet's length, so that
/// a segment that is lost, repeated or out of place shows.
const CHUNK: usize = 256 * 1024 - 5;

/// What the receiving side saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) bytes: u64,
    /// From the first byte to the end.
    pub(super) time: Duration,
    /// Every byte was the one that was sent.
    pub(super) intact: bool,
}

impl Received {
    /// The rate of what arrived, in 10⁹ bits a second.
    pub(super) fn gigabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64().max(1e-9) / 1e9
    }
}

/// Listens on any port of `address`.
pub(super) fn listen(address: IpAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::new(address, 0))?;
    // Counts for accept as well.
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
    Ok(listener)
}

/// Takes one connection and reads it to its end.
pub(super) fn receive(listener: &TcpListener) -> io::Result<Received> {
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    read(stream)
}

/// Reads a connection to its end.
pub(super) fn read(mut stream: impl Read) -> io::Result<Received> {
    let pattern = pattern();
    let mut chunk = vec![0; CHUNK];
    let (mut bytes, mut intact, mut start) = (0, true, None);
    loop {
        // Never past the end of the pattern: then one comparison tells.
        let at = (bytes % CHUNK as u64) as usize;
        let len = match stream.read(&mut chunk[..CHUNK - at]) {
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let start: &mut Instant = start.get_or_insert_with(Instant::now);
        if len == 0 {
            return Ok(Received { bytes, time: start.elapsed(), intact });
        }
        intact &= chunk[..len] == pattern[at..at + len];
        bytes += len as u64;
    }
}

/// Connects to `target` and sends as fast as it takes it, for `duration`. Returns the number of bytes.
pub(super) fn send(target: SocketAddr, duration: Duration) -> io::Result<u64> {
    let stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write(stream, duration)
}

/// Sends as fast as the connection takes it, for `duration`, and closes it. Returns the number of bytes.
pub(super) fn write(mut stream: impl Write, duration: Duration) -> io::Result<u64> {
    let pattern = pattern();
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < duration {
        stream.write_all(&pattern)?;
        bytes += pattern.len() as u64;
    }
    Ok(bytes)
}

fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..CHUNK).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::thread;

    #[test]
    fn what_is_sent_arrives() {
        let listener = listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let target = listener.local_addr().unwrap();
        let sender = thread::spawn(move || send(target, Duration::from_millis(20)).unwrap());
        let received = receive(&listener).unwrap();
        assert_eq!((received.bytes, received.intact), (sender.join().unwrap(), true));
        assert!(received.gigabits_per_second() > 0.0);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let listener = listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut bytes = [pattern(), pattern()].concat();
        bytes[CHUNK + 3] ^= 1;
        let sender = thread::spawn(move || stream.write_all(&bytes).unwrap());
        assert!(!receive(&listener).unwrap().intact);
        sender.join().unwrap();
    }
}
