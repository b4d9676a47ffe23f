//! From the peers to the host: receive, open in place, coalesce, write.

use std::io;
use std::ops::Range;

use span_core::time::Instant;
use span_core::wireguard;
use span_nat::transport::{Ecn, RecvBatch};
use span_tun::offload::{Coalescer, packet};

use super::outbound::{Sides, Turn};

/// Receive slots of 64 KiB; each takes one datagram, or one burst that the kernel joined.
const SLOTS: usize = 8;

/// The buffers of the way in.
pub(super) struct Inbound {
    batch: RecvBatch,
    coalescer: Coalescer,
    /// Where the packets of the datagrams at hand stand.
    opened: Vec<Range<usize>>,
    /// Packets dropped because they met congestion and cannot say so.
    congested: u64,
}

impl Inbound {
    pub(super) fn new(tun: &dyn span_tun::device::Device) -> Self {
        Inbound {
            batch: RecvBatch::new(SLOTS),
            coalescer: Coalescer::new(tun.accepts_udp_segmentation()),
            opened: Vec::new(),
            congested: 0,
        }
    }

    /// Packets dropped because they met congestion and cannot say so.
    pub(super) fn congested(&self) -> u64 {
        self.congested
    }

    /// Receives one batch and carries what is in it.
    pub(super) fn pump(&mut self, now: Instant, sides: &mut Sides<'_>) -> io::Result<Turn> {
        self.batch.clear();
        if sides.transport.recv(&mut self.batch)? == 0 {
            return Ok(Turn::Over);
        }
        let (arena, entries) = self.batch.split_mut();
        for entry in entries {
            let start = entry.range.start;
            self.opened.clear();
            let opened = &mut self.opened;
            let burst = &mut arena[entry.range.clone()];
            sides.tunnel.handle_burst(now, &entry.path, burst, entry.stride, &mut |inbound| match inbound {
                wireguard::Inbound::Packet { range, .. } => opened.push(range),
                // The tunnel counts what it drops, and answers by itself what wants an answer.
                wireguard::Inbound::Keepalive { .. }
                | wireguard::Inbound::Handshake
                | wireguard::Inbound::Dropped(_) => {}
            });
            for range in &self.opened {
                let packet = &mut arena[start + range.start..start + range.end];
                if entry.ecn == Ecn::Ce || entry.ecn == Ecn::Ect1 {
                    let mark = Ecn::from_bits(packet::ecn(packet));
                    match mark.after(entry.ecn) {
                        Some(after) if after == mark => {}
                        Some(after) => packet::set_ecn(packet, after as u8),
                        None => {
                            self.congested += 1;
                            continue;
                        }
                    }
                }
                self.coalescer.push(arena, start + range.start..start + range.end);
            }
        }
        self.coalescer.flush(arena, &mut |header, parts| sides.tun.send(header, parts))?;
        Ok(Turn::More)
    }
}
