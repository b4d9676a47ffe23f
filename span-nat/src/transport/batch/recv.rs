//! What arrived, and where in the arena it stands.

use std::ops::Range;
use std::slice::ChunksExactMut;

use span_core::path::Path;

use crate::transport::Ecn;

/// Datagrams received, in one arena that is reused.
///
/// The arena is cut into slots of [`RecvBatch::SLOT`] bytes, and each entry fills one: a single datagram,
/// or a burst of equally long ones that the kernel joined. Memory the kernel never wrote to is never
/// touched, so an idle batch costs address space only.
#[derive(Debug)]
pub struct RecvBatch {
    arena: Vec<u8>,
    entries: Vec<Received>,
}

/// One entry of a [`RecvBatch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where the bytes stand in the arena.
    pub range: Range<usize>,
    /// The length of each datagram; the last may be shorter.
    pub stride: usize,
    /// The path to answer on: the sender's address, and as source the address it sent to.
    pub path: Path,
    /// The congestion mark all of them came with.
    pub ecn: Ecn,
}

impl RecvBatch {
    /// Bytes per slot: more than any datagram, or any burst the kernel joins, so nothing is ever cut off.
    pub const SLOT: usize = 1 << 16;

    /// A batch that takes up to `slots` entries, at least one.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(1);
        RecvBatch { arena: vec![0; slots * Self::SLOT], entries: Vec::with_capacity(slots) }
    }

    /// What arrived, in order of arrival on each socket.
    pub fn entries(&self) -> &[Received] {
        &self.entries
    }

    /// The arena the entries' ranges point into; datagrams are opened in place in it.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// Arena and entries at once, to walk the one while writing to the other.
    pub fn split_mut(&mut self) -> (&mut [u8], &[Received]) {
        (&mut self.arena, &self.entries)
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether nothing arrived.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many more entries it takes.
    pub fn spare_len(&self) -> usize {
        self.arena.len() / Self::SLOT - self.entries.len()
    }

    /// The free slots, for a transport to write into from the first on; what it wrote counts once it is
    /// [`commit`](Self::commit)ted.
    pub fn spare(&mut self) -> ChunksExactMut<'_, u8> {
        self.arena[self.entries.len() * Self::SLOT..].chunks_exact_mut(Self::SLOT)
    }

    /// Turns the first `len` bytes of the first free slot into an entry.
    ///
    /// # Panics
    /// If there is no free slot or `len` exceeds it.
    pub fn commit(&mut self, len: usize, stride: usize, path: Path, ecn: Ecn) {
        assert!(self.spare_len() > 0 && len <= Self::SLOT, "more committed than lent");
        let start = self.entries.len() * Self::SLOT;
        self.entries.push(Received { range: start..start + len, stride, path, ecn });
    }
}

impl Default for RecvBatch {
    /// Four slots: measured, more no longer save work per datagram, but do cost cache and memory.
    fn default() -> Self {
        RecvBatch::new(4)
    }
}

impl Received {
    /// Where each datagram stands in the arena. Empty datagrams are left out: nothing Span speaks has
    /// any.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = Range<usize>> + use<> {
        let Range { start, end } = self.range;
        let stride = self.stride.max(1);
        (0..(end - start).div_ceil(stride)).map(move |index| {
            let at = start + index * stride;
            at..end.min(at + stride)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Path {
        Path::udp("192.0.2.1:51820".parse().unwrap())
    }

    #[test]
    fn a_burst_is_cut_at_its_stride_and_its_last_datagram_may_be_short() {
        let mut batch = RecvBatch::new(2);
        batch.commit(10, 10, path(), Ecn::NotEct);
        batch.commit(250, 100, path(), Ecn::Ce);
        let cut: Vec<_> = batch.entries().iter().flat_map(Received::datagrams).collect();
        let at = RecvBatch::SLOT;
        assert_eq!(cut, [0..10, at..at + 100, at + 100..at + 200, at + 200..at + 250]);
        assert_eq!(batch.spare_len(), 0);
        assert_eq!(batch.spare().count(), 0);
    }

    #[test]
    fn empty_datagrams_and_a_stride_of_zero_yield_nothing() {
        let mut batch = RecvBatch::new(0);
        batch.commit(0, 0, path(), Ecn::NotEct);
        assert_eq!(batch.entries()[0].datagrams().len(), 0);
        batch.clear();
        assert_eq!(batch.spare_len(), 1);
    }
}
