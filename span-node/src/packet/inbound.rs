//! From the peers to the host: receive, open in place, coalesce, write.

use std::io;

use span_core::time::Instant;
use span_nat::transport::{Ecn, RecvBatch};
use span_tun::offload::{Coalescer, packet};

use super::lend::Lend;
use super::outbound::{Drops, Sides, Turn};
use super::standing::Standing;

/// Receive slots of 64 KiB; each takes one datagram, or one burst that the kernel joined. Two of them are 90
/// packets: a program of the host that reads with the kernel's usual buffer has no room for many more at once.
const SLOTS: usize = 2;

/// The buffers of the way in.
pub(super) struct Inbound {
    batch: RecvBatch,
    coalescer: Coalescer,
    socket: Standing,
    drops: Drops,
}

impl Inbound {
    pub(super) fn new(tun: &dyn span_tun::device::Device) -> Self {
        Inbound {
            batch: RecvBatch::new(SLOTS),
            coalescer: Coalescer::new(tun.accepts_udp_segmentation()),
            socket: Standing::default(),
            drops: Drops::default(),
        }
    }

    pub(super) fn drops(&self) -> Drops {
        self.drops
    }

    /// Receives one batch from the descriptors that are readable and carries what is in it.
    pub(super) fn pump<T: Lend>(
        &mut self,
        now: Instant,
        readable: u64,
        sides: &mut Sides<'_, T>,
    ) -> io::Result<Turn> {
        let Inbound { batch, coalescer, socket, drops } = self;
        batch.clear();
        let received = sides.transport.recv_readable(readable, batch)?;
        let turn = if batch.spare_len() == 0 { Turn::More } else { Turn::Over };
        if turn == Turn::Over {
            socket.empty(now);
        }
        if received == 0 {
            return Ok(turn);
        }
        let mut tells = socket.tells(now);
        let (arena, entries) = batch.split_mut();
        sides.tunnel.receive(now, arena, entries, &mut |arena, entry, opened| {
            let start = entry.range.start;
            // Whoever sends bursts fills queues.
            let told = opened.len() > 1 && std::mem::take(&mut tells);
            for (index, range) in opened.iter().enumerate() {
                let range = start + range.start..start + range.end;
                let outer = if told && index == 0 { Ecn::Ce } else { entry.ecn };
                if marked(&mut arena[range.clone()], outer) {
                    coalescer.push(arena, range);
                } else {
                    drops.congested += 1;
                }
            }
        });
        self.coalescer.flush(arena, &mut |header, parts| sides.tun.send(header, parts))?;
        Ok(turn)
    }
}

/// Gives a packet that came in one marked `outer` the mark it goes on with. False if it is to be dropped.
#[inline]
fn marked(inner: &mut [u8], outer: Ecn) -> bool {
    // The others change nothing.
    if matches!(outer, Ecn::Ce | Ecn::Ect1) {
        let mark = Ecn::from_bits(packet::ecn(inner));
        match mark.after(outer) {
            Some(after) if after == mark => {}
            Some(after) => packet::set_ecn(inner, after as u8),
            None => return false,
        }
    }
    true
}
