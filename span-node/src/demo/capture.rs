//! Counts what crosses the switch and is not WireGuard.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use socket2::SockRef;

use super::filter::all_but_wireguard;
use super::frame::{Expected, Kind, classify, describe};

/// How many leaks are kept for a person to look at.
const SHOWN: usize = 8;
/// Room for frames while the counting thread waits for its turn.
const RECEIVE_BUFFER: usize = 16 << 20;
/// After this long without a frame everything has been counted.
const QUIET: i64 = 20;

/// A running capture.
pub(super) struct Capture {
    socket: Arc<OwnedFd>,
    counts: Arc<Mutex<Counts>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What has been seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Frames that should not have been there.
    pub(super) plaintext: u64,
    /// Frames nobody looked at, because they came faster than they were read.
    pub(super) lost: u64,
    /// The first few kinds of leak, described, and how many there were of each.
    pub(super) leaks: BTreeMap<String, u64>,
}

impl Capture {
    /// Starts counting in the current network namespace. To miss nothing, call it before the switch has a
    /// port. `bridge` is the interface index of the bridge itself.
    pub(super) fn start(expected: Expected, bridge: u32) -> io::Result<Self> {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        SockRef::from(&socket).attach_filter(&all_but_wireguard(expected.wireguard_port, bridge))?;
        // Beyond the limit for everyone where permitted; what the limit allows otherwise.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(QUIET))?;

        let socket = Arc::new(socket);
        let counts = Arc::new(Mutex::new(Counts::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("capture".to_owned()).spawn({
            let (socket, counts, stop) = (Arc::clone(&socket), Arc::clone(&counts), Arc::clone(&stop));
            move || count(&socket, &counts, &stop, &expected)
        })?;
        Ok(Self { socket, counts, stop, thread: Some(thread) })
    }

    /// What has been counted by now.
    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Forgets what has been counted by now.
    pub(super) fn reset(&self) {
        *lock(&self.counts) = Counts::default();
    }

    /// Counts what is still waiting, then stops.
    pub(super) fn finish(mut self) -> io::Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("the capture thread panicked"))??;
        }
        let mut counts = self.counts();
        counts.lost = u64::from(getsockopt(&*self.socket, PacketStatistics)?.dropped);
        Ok(counts)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The counting thread: ends when told to and nothing is waiting.
fn count(socket: &OwnedFd, counts: &Mutex<Counts>, stop: &AtomicBool, expected: &Expected) -> io::Result<()> {
    let mut frame = [0; 512];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok((len, source)) => {
                let frame = &frame[..len];
                if classify(frame, expected) == Kind::Plaintext {
                    let port = source.and_then(|source| u32::try_from(source.ifindex()).ok());
                    lock(counts).add(port.unwrap_or(0), frame);
                }
            }
            Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return Ok(()),
            // The port of a node that is gone reports so once.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Counts {
    fn add(&mut self, port: u32, frame: &[u8]) {
        self.plaintext += 1;
        let port = if_indextoname(port).ok().and_then(|name| name.into_string().ok());
        let leak = format!("{}: {}", port.as_deref().unwrap_or("a port"), describe(frame));
        if self.leaks.len() < SHOWN || self.leaks.contains_key(&leak) {
            *self.leaks.entry(leak).or_default() += 1;
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `struct tpacket_stats`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Statistics {
    seen: u32,
    dropped: u32,
}

#[derive(Clone, Copy)]
struct PacketStatistics;

const PACKET_STATISTICS: libc::c_int = 6;

nix::getsockopt_impl!(
    PacketStatistics,
    libc::SOL_PACKET,
    PACKET_STATISTICS,
    Statistics,
    nix::sys::socket::sockopt::GetStruct<Statistics>
);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use nix::ifaddrs::getifaddrs;
    use nix::sys::socket::{MsgFlags, bind, send};
    use nix::unistd::gettid;

    use super::super::frame::tests::{EXPECTED, ethernet, samples, udp, v4};
    use super::super::netns::{enter_another, privileged};
    use super::super::switch::{Switch, plug_in};
    use super::*;

    /// Runs `test` beside a switch in a network namespace of its own, and hands it a way to put raw frames
    /// into the switch's first port. Says so when privileges are missing.
    fn with_switch(test: impl FnOnce(Capture, &dyn Fn(&[u8])) + Send + 'static) {
        if !privileged() {
            eprintln!("skipped: needs root");
            return;
        }
        // Namespaces belong to threads as long as nothing else is shared.
        let switch = thread::spawn(move || {
            enter_another().unwrap();
            let mut switch = Switch::new().unwrap();
            let capture = Capture::start(EXPECTED, switch.index()).unwrap();
            let (frames, to_send) = mpsc::channel::<Vec<u8>>();
            let (plug, plugged) = mpsc::channel();
            let (ready, node_ready) = mpsc::channel();
            let node = thread::spawn(move || {
                enter_another().unwrap();
                ready.send(gettid().as_raw()).unwrap();
                plugged.recv().unwrap();
                plug_in(1, 1).unwrap();
                let socket = raw_socket();
                ready.send(0).unwrap();
                to_send.iter().for_each(|frame| {
                    assert_eq!(send(socket.as_raw_fd(), &frame, MsgFlags::empty()).unwrap(), frame.len());
                });
            });
            switch.attach(1, node_ready.recv().unwrap().unsigned_abs()).unwrap();
            plug.send(()).unwrap();
            node_ready.recv().unwrap();
            test(capture, &|frame| frames.send(frame.to_vec()).unwrap());
            drop(frames);
            node.join().unwrap();
        });
        switch.join().unwrap();
    }

    fn raw_socket() -> OwnedFd {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
        let address = getifaddrs().unwrap().find(|interface| {
            let link = interface.address.as_ref().and_then(|address| address.as_link_addr());
            interface.interface_name == "eth0" && link.is_some()
        });
        bind(socket.as_raw_fd(), address.unwrap().address.unwrap().as_link_addr().unwrap()).unwrap();
        socket
    }

    fn wait_for(capture: &Capture, plaintext: u64) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while capture.counts().plaintext < plaintext && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// A leak, to mark the end of what was sent.
    fn leak() -> Vec<u8> {
        ethernet(0x0800, &v4(17, 0, &udp(7, 9, b"in plaintext")))
    }

    #[test]
    fn the_kernel_and_the_classifier_agree() {
        for (name, frame, kind) in samples() {
            with_switch(move |capture, send| {
                send(&frame);
                send(&leak());
                let leaks = 1 + u64::from(kind == Kind::Plaintext);
                wait_for(&capture, leaks);
                assert_eq!(capture.finish().unwrap().plaintext, leaks, "{name}");
            });
        }
    }

    #[test]
    fn wireguard_is_not_even_looked_at() {
        with_switch(|capture, send| {
            let message = [&[4, 0, 0, 0][..], &[0xa5; 60]].concat();
            for _ in 0..1000 {
                send(&ethernet(0x0800, &v4(17, 0, &udp(51820, 51820, &message))));
            }
            send(&leak());
            wait_for(&capture, 1);
            let statistics = getsockopt(&*capture.socket, PacketStatistics).unwrap();
            assert!((1..100).contains(&statistics.seen), "{statistics:?}");
        });
    }

    #[test]
    fn leaks_are_counted_and_described() {
        with_switch(|capture, send| {
            for _ in 0..50 {
                send(&leak());
            }
            wait_for(&capture, 50);
            let counts = capture.finish().unwrap();
            let described = BTreeMap::from([("port1: UDP 10.99.0.11:7 > 10.99.0.12:9".to_owned(), 50)]);
            assert_eq!((counts.plaintext, counts.lost, counts.leaks), (50, 0, described));
        });
    }

    #[test]
    fn what_comes_too_fast_is_known_to_be_lost() {
        with_switch(|capture, send| {
            // The kernel grants at least a few kilobytes, whatever is asked.
            setsockopt(&*capture.socket, sockopt::RcvBuf, &1).unwrap();
            let held = Arc::clone(&capture.counts);
            let held = lock(&held);
            for _ in 0..1000 {
                send(&leak());
            }
            thread::sleep(Duration::from_millis(200));
            drop(held);
            let counts = capture.finish().unwrap();
            // A lost frame cannot be told from the host's own, of which one may have been among them.
            assert!(counts.lost > 0 && counts.plaintext + counts.lost >= 1000, "{counts:?}");
        });
    }
}
