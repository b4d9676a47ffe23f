//! What crosses a wire, and of which kind it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, getsockopt, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::namespace::Namespace;

/// A running capture of one interface.
#[derive(Debug)]
pub struct Capture {
    socket: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

impl Capture {
    /// Begins; everything sent after this returns is in it.
    ///
    /// # Panics
    /// If there is no such interface.
    #[must_use]
    pub fn start(namespace: &Namespace, interface: &str) -> Self {
        let (socket, index) = namespace.inside(|| {
            let index = if_nametoindex(interface).expect("an interface");
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
            (socket.expect("a packet socket"), index)
        });
        // Beyond the limit for everyone where permitted; what the limit allows otherwise.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER).expect("a socket");
        }
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(QUIET)).expect("a socket");
        let (socket, stop) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (socket, stop) = (Arc::clone(&socket), Arc::clone(&stop));
            move || collect(&socket, index, &stop)
        });
        Self { socket, stop, thread }
    }

    /// Ends and gives what was seen.
    ///
    /// # Panics
    /// If the capture missed packets: nothing could be said from it.
    #[must_use]
    pub fn finish(self) -> Vec<Packet> {
        self.stop.store(true, Ordering::Relaxed);
        let packets = self.thread.join().expect("a capture");
        let dropped = getsockopt(&*self.socket, PacketStatistics).expect("a packet socket").dropped;
        assert_eq!(dropped, 0, "packets the capture missed");
        packets
    }
}

/// Room for frames while the capturing thread waits for its turn.
const RECEIVE_BUFFER: usize = 64 << 20;
/// After this many milliseconds without a frame, all that was sent has been seen.
const QUIET: i64 = 200;

/// The socket hears every interface of its namespace; `index` is the one asked for.
fn collect(socket: &OwnedFd, index: u32, stop: &AtomicBool) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut frame = [0; 160];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok((len, Some(from))) if u32::try_from(from.ifindex()) == Ok(index) => {
                packets.push(classify(&frame[..len]));
            }
            Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return packets,
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => panic!("capturing: {error}"),
        }
    }
}

/// `struct tpacket_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Statistics {
    seen: u32,
    dropped: u32,
}

#[derive(Clone, Copy)]
struct PacketStatistics;

nix::getsockopt_impl!(
    PacketStatistics,
    nix::libc::SOL_PACKET,
    nix::libc::PACKET_STATISTICS,
    Statistics,
    nix::sys::socket::sockopt::GetStruct<Statistics>
);

/// One frame, as far as the tests need it. A burst the kernel carries as one frame is one packet here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source, where it is IP.
    pub source: Option<IpAddr>,
    /// Destination, where it is IP.
    pub destination: Option<IpAddr>,
    /// Ports, where it is TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// What it is.
    pub kind: Kind,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UDP whose payload begins like a WireGuard message of this type, 1 to 4.
    WireGuard(u8),
    /// ARP, neighbour and router discovery, multicast membership: what wires always carry.
    Neighbours,
    /// TCP.
    Tcp,
    /// Other UDP.
    Udp,
    /// Ping and its answer, and other ICMP.
    Icmp,
    /// Anything else.
    Other,
}

impl Packet {
    /// Whether both addresses are these, in either direction.
    #[must_use]
    pub fn between(&self, a: IpAddr, b: IpAddr) -> bool {
        (self.source, self.destination) == (Some(a), Some(b))
            || (self.source, self.destination) == (Some(b), Some(a))
    }

    /// Whether one of its ports is this.
    #[must_use]
    pub fn uses_port(&self, port: u16) -> bool {
        self.ports.is_some_and(|(from, to)| from == port || to == port)
    }

    /// Whether it carries what a host sent, in the clear: not WireGuard, not the wire's own talk.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        match self.kind {
            Kind::WireGuard(_) | Kind::Neighbours => false,
            Kind::Tcp | Kind::Udp | Kind::Icmp | Kind::Other => true,
        }
    }
}

fn classify(frame: &[u8]) -> Packet {
    let mut packet = Packet { source: None, destination: None, ports: None, kind: Kind::Other };
    let (Some(ethertype), Some(ip)) = (frame.get(12..14), frame.get(14..)) else { return packet };
    let (protocol, transport) = match ethertype {
        [0x08, 0x06] => {
            packet.kind = Kind::Neighbours;
            return packet;
        }
        [0x08, 0x00] if ip.len() >= 20 => {
            let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
            packet.source = Some(address(12));
            packet.destination = Some(address(16));
            let header = usize::from(ip[0] & 0xf) * 4;
            (ip[9], ip.get(header..).unwrap_or_default())
        }
        [0x86, 0xdd] if ip.len() >= 40 => {
            let address = |at: usize| {
                let octets: [u8; 16] = ip[at..at + 16].try_into().expect("sixteen bytes");
                IpAddr::V6(Ipv6Addr::from(octets))
            };
            packet.source = Some(address(8));
            packet.destination = Some(address(24));
            // Multicast listener reports come behind a hop-by-hop header.
            match ip[6] {
                0 => (ip.get(40).copied().unwrap_or(0), ip.get(48..).unwrap_or_default()),
                next => (next, &ip[40..]),
            }
        }
        _ => return packet,
    };
    if matches!(protocol, 6 | 17) && transport.len() >= 8 {
        let port = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
        packet.ports = Some((port(0), port(2)));
    }
    packet.kind = match (protocol, transport) {
        (6, _) => Kind::Tcp,
        (17, [_, _, _, _, _, _, _, _, kind @ 1..=4, 0, 0, 0, ..]) => Kind::WireGuard(*kind),
        (17, _) => Kind::Udp,
        // IGMP, and the same for IPv6.
        (2, _) | (58, [130..=137 | 143, ..]) => Kind::Neighbours,
        (1 | 58, _) => Kind::Icmp,
        _ => Kind::Other,
    };
    packet
}

/// How many packets of each kind, for messages.
#[must_use]
pub fn summary(packets: &[Packet]) -> String {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for packet in packets {
        *counts.entry(format!("{:?}", packet.kind)).or_default() += 1;
    }
    counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}
