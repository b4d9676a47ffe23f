//! ICMP: replies to our pings, and what others say about packets of ours. Requests are answered by smoltcp.

use std::io::ErrorKind;
use std::net::SocketAddr;

use smoltcp::socket::tcp::State;
use span_core::time::Instant;

use super::config::MIN_MTU;
use super::frame::{ECHO_HEADER, Packet, Quoted, be16, be32, network_header};
use super::stack::Stack;
use super::tcp::Flow;
use crate::offload::packet::{Tcp, protocol};

/// What an ICMP message means to us, whichever its family.
enum Message {
    EchoRequest,
    EchoReply,
    Unreachable(ErrorKind),
    /// With the MTU that would fit.
    TooBig(u32),
    Other,
}

impl Stack {
    /// Takes an ICMP packet.
    pub(super) fn take_icmp(&mut self, now: Instant, packet: &Packet, frame: &[u8]) {
        let body = &frame[packet.at..];
        if body.len() < ECHO_HEADER {
            self.drops.malformed += 1;
            return;
        }
        match classify(packet.source.is_ipv4(), body) {
            Message::EchoRequest => self.feed(now, None, frame),
            Message::EchoReply => self.end_echo(now, packet.source, be16(body, 4), be16(body, 6), None),
            Message::Unreachable(kind) => {
                if let Some(quoted) = self.quoted(body) {
                    self.unreachable(now, &quoted, kind);
                }
            }
            Message::TooBig(mtu) => {
                if let Some(quoted) = self.quoted(body) {
                    self.too_big(&quoted, mtu);
                }
            }
            Message::Other => {}
        }
    }

    /// The packet the error is about, if it was one of ours.
    fn quoted(&self, body: &[u8]) -> Option<Quoted> {
        Quoted::parse(&body[ECHO_HEADER..]).filter(|quoted| self.is_own(quoted.source))
    }

    fn unreachable(&mut self, now: Instant, quoted: &Quoted, kind: ErrorKind) {
        match quoted.protocol {
            protocol::TCP => {
                // Once open, a connection outlives errors on the way (RFC 1122, section 4.2.3.9).
                let Some(&id) = self.flows.get(&flow(quoted)) else { return };
                let opening = |id| self.connections.get(id).is_some_and(|it| it.state() == State::SynSent);
                if opening(id) {
                    self.reset(now, id, kind);
                }
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let (identifier, sequence) = (be16(&quoted.transport, 4), be16(&quoted.transport, 6));
                self.end_echo(now, quoted.destination, identifier, sequence, Some(kind));
            }
            _ => {}
        }
    }

    /// Packets of a flow do not fit somewhere on the way: the next are shorter.
    fn too_big(&mut self, quoted: &Quoted, mtu: u32) {
        if quoted.protocol != protocol::TCP {
            return;
        }
        let headers = (network_header(quoted.source) + Tcp::HEADER_LEN) as u16;
        // What is less than the least that everybody carries is not to be believed (RFC 8201, section 4). IPv4
        // has a lower one, but nobody has built such a network for a long time.
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(MIN_MTU);
        if let Some(&id) = self.flows.get(&flow(quoted))
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.segment = connection.segment.min(mtu - headers);
        }
    }
}

fn flow(quoted: &Quoted) -> Flow {
    Flow {
        local: SocketAddr::new(quoted.source, be16(&quoted.transport, 0)),
        remote: SocketAddr::new(quoted.destination, be16(&quoted.transport, 2)),
    }
}

fn classify(v4: bool, body: &[u8]) -> Message {
    let port = Message::Unreachable(ErrorKind::ConnectionRefused);
    let host = Message::Unreachable(ErrorKind::HostUnreachable);
    let network = Message::Unreachable(ErrorKind::NetworkUnreachable);
    let prohibited = Message::Unreachable(ErrorKind::PermissionDenied);
    match (v4, body[0], body[1]) {
        (true, 8, _) | (false, 128, _) => Message::EchoRequest,
        (true, 0, _) | (false, 129, _) => Message::EchoReply,
        (true, 3, 4) => Message::TooBig(u32::from(be16(body, 6))),
        (false, 2, _) => Message::TooBig(be32(body, 4)),
        (true, 3, 0 | 6 | 11) | (false, 1, 0) => network,
        (true, 3, 2 | 3) | (false, 1, 4) => port,
        (true, 3, 9 | 10 | 13) | (false, 1, 1 | 5 | 6) => prohibited,
        // All else that is unreachable, and what was under way for too long.
        (true, 3 | 11, _) | (false, 1 | 3, _) => host,
        _ => Message::Other,
    }
}
