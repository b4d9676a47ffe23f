//! Packets that wait in the send batch to be sealed, many at once.
//!
//! Sealing many packets of one length together costs a fraction of sealing one after the other, so packets
//! that the host hands over one by one are gathered until the batch is sent. Nothing waits for that: the batch
//! is sent as soon as the host has no more.

use std::ops::Range;
use std::sync::Arc;

use span_core::wireguard::Sealer;
use span_nat::transport::SendBatch;

/// The runs of packets that are written but not sealed.
#[derive(Debug, Default)]
pub(super) struct Unsealed(Vec<Run>);

/// Packets of one length side by side in the batch, for one session.
#[derive(Debug)]
struct Run {
    sealer: Arc<Sealer>,
    stride: usize,
    place: Range<usize>,
}

impl Unsealed {
    /// More runs than lanes of the batch save nothing.
    const RUNS: usize = 8;

    /// Adds slots of `stride` bytes that were just reserved at `place`.
    pub(super) fn add(
        &mut self,
        batch: &mut SendBatch,
        sealer: &Arc<Sealer>,
        stride: usize,
        place: Range<usize>,
    ) -> u64 {
        let mut lost = 0;
        if let Some(at) = self.0.iter().rposition(|run| Arc::ptr_eq(&run.sealer, sealer)) {
            let run = &mut self.0[at];
            if run.stride == stride && run.place.end == place.start {
                run.place.end = place.end;
                return 0;
            }
            // The packets of a session are sealed in the order they are sent in.
            lost += self.0.swap_remove(at).seal(batch);
        } else if self.0.len() == Self::RUNS {
            lost += self.seal(batch);
        }
        self.0.push(Run { sealer: Arc::clone(sealer), stride, place });
        lost
    }

    /// Seals all of them. Returns how many packets are lost because their session has sealed all it may.
    pub(super) fn seal(&mut self, batch: &mut SendBatch) -> u64 {
        self.0.drain(..).map(|run| run.seal(batch)).sum()
    }
}

impl Run {
    fn seal(self, batch: &mut SendBatch) -> u64 {
        match self.sealer.seal_burst(batch.bytes_mut(self.place.clone()), self.stride) {
            Ok(_) => 0,
            // What is not sealed must not leave.
            Err(_) => batch.revoke(&self.place),
        }
    }
}
