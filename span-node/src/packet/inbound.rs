//! From the peers to the host: receive, open in place, coalesce, write.

use std::io;

use span_core::time::Instant;
use span_core::wireguard;
use span_nat::transport::RecvBatch;
use span_tun::offload::Coalescer;

use super::outbound::{Sides, Turn};

/// Receive slots of 64 KiB; each takes one datagram, or one burst that the kernel joined.
const SLOTS: usize = 8;

/// The buffers of the way in.
pub(super) struct Inbound {
    batch: RecvBatch,
    coalescer: Coalescer,
}

impl Inbound {
    pub(super) fn new(tun: &dyn span_tun::device::Device) -> Self {
        Inbound { batch: RecvBatch::new(SLOTS), coalescer: Coalescer::new(tun.accepts_udp_segmentation()) }
    }

    /// Receives one batch and carries what is in it.
    pub(super) fn pump(&mut self, now: Instant, sides: &mut Sides<'_>) -> io::Result<Turn> {
        self.batch.clear();
        if sides.transport.recv(&mut self.batch)? == 0 {
            return Ok(Turn::Over);
        }
        let (arena, entries) = self.batch.split_mut();
        for entry in entries {
            for datagram in entry.datagrams() {
                let start = datagram.start;
                match sides.tunnel.handle_datagram(now, &entry.path, &mut arena[datagram]) {
                    wireguard::Inbound::Packet { range, .. } => {
                        self.coalescer.push(arena, start + range.start..start + range.end);
                    }
                    // The tunnel counts what it drops, and answers by itself what wants an answer.
                    wireguard::Inbound::Keepalive { .. }
                    | wireguard::Inbound::Handshake
                    | wireguard::Inbound::Dropped(_) => {}
                }
            }
        }
        self.coalescer.flush(arena, &mut |header, parts| sides.tun.send(header, parts))?;
        Ok(Turn::More)
    }
}
