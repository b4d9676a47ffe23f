//! A host without a TUN, its peers and its application, all at odds.
//!
//! The input is a list of events: packets, most of them of connections that exist; calls of the application; time
//! that passes. Whatever happens, nothing panics, and what leaves can be cut into packets of the MTU.
#![no_main]

use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libfuzzer_sys::fuzz_target;
use span_core::time::Instant;
use span_tun::device::{Device, MAX_FRAME};
use span_tun::netstack::{Clock, Config, Netstack, NetstackDevice, TcpStream};
use span_tun::offload::{VirtioHeader, split};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const PEER: [u8; 4] = [10, 0, 0, 2];
const MTU: u16 = 1420;

fuzz_target!(|input: &[u8]| {
    let mut host = Host::new();
    let mut bytes = input;
    while let Some((event, rest)) = bytes.split_first_chunk::<8>() {
        bytes = host.happen(*event, rest);
        host.listen();
    }
});

struct Host {
    stack: Netstack,
    device: NetstackDevice,
    time: Arc<AtomicU64>,
    streams: Vec<TcpStream>,
    /// Both ports of the last segment that left, and the numbers a peer would use: sequence, acknowledgement.
    flow: [u8; 4],
    numbers: [u32; 2],
    frame: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        let time = Arc::new(AtomicU64::new(1_000_000_000));
        let clock = Arc::clone(&time);
        let mut config = Config::new([OWN]);
        config.mtu = MTU;
        config.seed = Some(1);
        config.receive_buffer = 8192;
        config.send_buffer = 8192;
        config.datagram_buffer = 8192;
        config.max_connections = 8;
        config.queue = 16;
        config.clock = Clock::new(move || Instant::from_nanos(clock.load(Ordering::Relaxed)));
        let (stack, device) = Netstack::new(config).expect("the configuration is right");
        Self { stack, device, time, streams: vec![], flow: [0, 80, 0, 80], numbers: [0; 2], frame: vec![] }
    }

    fn happen<'a>(&mut self, event: [u8; 8], rest: &'a [u8]) -> &'a [u8] {
        let [kind, a, b, c, d, e, f, g] = event;
        match kind % 16 {
            0..8 => {
                let sequence =
                    self.numbers[0].wrapping_add_signed(i32::from(i16::from_be_bytes([a, b])) >> (f & 15));
                let number =
                    self.numbers[1].wrapping_add_signed(i32::from(i16::from_be_bytes([c, d])) >> (f & 15));
                let options = usize::from(g & 7) * 4;
                let payload = if g & 8 == 0 { usize::from(g) } else { 0 };
                let (options, rest) = rest.split_at(options.min(rest.len()) & !3);
                self.segment(sequence, number, e, u16::from_be_bytes([f, a]), options, payload);
                return rest;
            }
            8 => {
                let len = usize::from(a).min(rest.len());
                let (raw, rest) = rest.split_at(len);
                self.packet(b, raw);
                return rest;
            }
            9 => {
                let nanos = u64::from(a) << (b % 32);
                self.time.fetch_add(nanos, Ordering::Relaxed);
            }
            10 if self.streams.len() < 6 => {
                let peer = SocketAddr::new(PEER.into(), 1 + u16::from(a & 3));
                if let Ok(stream) = self.stack.start_connect(peer) {
                    stream.set_nonblocking(true);
                    self.streams.push(stream);
                }
            }
            11 if !self.streams.is_empty() => {
                let at = usize::from(a) % self.streams.len();
                let _ = match b % 6 {
                    0 => self.streams[at].write(&vec![7; usize::from(c) * 64]),
                    1 => self.streams[at].read(&mut vec![0; usize::from(c) * 64]),
                    2 => self.streams[at].shutdown(Shutdown::Write).map(|()| 0),
                    3 => self.streams[at].shutdown(Shutdown::Read).map(|()| 0),
                    4 => self.streams[at].peek(&mut [0; 99]),
                    _ => {
                        self.streams.swap_remove(at);
                        Ok(0)
                    }
                };
            }
            12 => {
                // A listener that lives for as long as the packets of the rest of this event.
                if let Ok(listener) = self.stack.listen_with_backlog(SocketAddr::new(OWN, 80), 2) {
                    listener.set_nonblocking(true);
                    self.segment(9, 0, 2, 999, &[2, 4, a, b], 0);
                    self.listen();
                    self.segment(10, self.numbers[1], c, 999, &[], usize::from(d));
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true);
                        self.streams.push(stream);
                    }
                }
            }
            13 => drop(self.device.limit_frames(u32::from(a) << 9)),
            14 => {
                if let Ok(socket) = self.stack.bind_udp(SocketAddr::new(OWN, 53)) {
                    socket.set_nonblocking(true);
                    let _ = socket.send_to(&vec![0; usize::from(a) * 8], SocketAddr::new(PEER.into(), 53));
                    let (raw, rest) = rest.split_at(usize::from(b).min(rest.len()));
                    self.packet(1, raw);
                    let _ = socket.recv_from(&mut [0; 64]);
                    return rest;
                }
            }
            _ => {}
        }
        rest
    }

    /// A segment of the peer, as it stands in the last flow.
    fn segment(
        &mut self,
        sequence: u32,
        number: u32,
        flags: u8,
        window: u16,
        options: &[u8],
        payload: usize,
    ) {
        let mut body = self.flow.to_vec();
        body.extend(sequence.to_be_bytes());
        body.extend(number.to_be_bytes());
        body.extend([((20 + options.len()) as u8) << 2, flags]);
        body.extend(window.to_be_bytes());
        body.extend([0; 4]);
        body.extend(options);
        body.extend(vec![0x55; payload]);
        self.packet(0, &body);
        self.numbers[0] = sequence.wrapping_add(payload as u32).wrapping_add(u32::from(flags & 3 != 0));
    }

    /// A packet of the peer to this host.
    fn packet(&mut self, kind: u8, body: &[u8]) {
        let protocol = [6, 17, 1, kind][usize::from(kind % 4)];
        let mut packet = vec![0x45, 0];
        packet.extend(((20 + body.len()) as u16).to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        packet.extend(PEER);
        packet.extend([10, 0, 0, 1]);
        let sum = span_tun::offload::checksum::finish(span_tun::offload::checksum::add(0, &packet));
        packet[10..12].copy_from_slice(&sum);
        packet.extend(body);
        let header = VirtioHeader { needs_checksum: true, ..VirtioHeader::default() };
        self.device.send(&header, &[IoSlice::new(&packet)]).expect("few parts");
    }

    /// What leaves is whole, and fits.
    fn listen(&mut self) {
        self.frame.resize(MAX_FRAME, 0);
        for _ in 0..64 {
            let Ok((header, len)) = self.device.recv(&mut self.frame) else { return };
            let segments = split(&header, &mut self.frame[..len]).expect("a frame made here can be cut");
            for segment in segments {
                let mut packet = vec![0; segment.len()];
                segment.write_to(&mut packet);
                assert!(packet.len() <= usize::from(MTU), "{} bytes", packet.len());
                if packet[9] == 6 && packet[16..20] == PEER {
                    // The ports of the answer, and where the peer would go on.
                    self.flow = [packet[22], packet[23], packet[20], packet[21]];
                    let at = |at: usize| {
                        u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
                    };
                    let taken = (packet.len() - 20 - usize::from(packet[32] >> 4) * 4) as u32;
                    self.numbers[1] = at(24).wrapping_add(taken).wrapping_add(u32::from(packet[33] & 3 != 0));
                    if packet[33] & 16 != 0 {
                        self.numbers[0] = at(28);
                    }
                }
            }
        }
    }
}
