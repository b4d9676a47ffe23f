//! What is to leave, laid out so that a burst for one path is one system call.

use std::ops::Range;

use span_core::path::Path;
use span_core::wireguard::Reserve;

use crate::transport::{DropReason, Drops, Ecn, SendError, Sent, Transmit, Transport};

/// Datagrams to send, in one arena that is reused.
///
/// [`reserve`](Reserve::reserve) lends the place a datagram will be sent from. Datagrams of one path and one
/// length stand side by side and leave as one burst, which a shorter last one ends. The arena is cut into
/// lanes, and each path gets one of its own as long as there are any, so packets of several paths that
/// come interleaved still form bursts; the last lane is shared by all paths that found none. Datagrams of
/// one path leave in the order they were reserved.
#[derive(Debug)]
pub struct SendBatch {
    arena: Vec<u8>,
    lanes: Vec<Lane>,
    /// In the order they leave.
    entries: Vec<Entry>,
    /// The first entry not yet sent whole.
    cursor: usize,
    /// The lane reserved from last, where the next datagram most likely goes too.
    recent: usize,
    last: Option<Reservation>,
    ecn: Ecn,
    lost_sources: Vec<Path>,
}

/// What a [`SendBatch::flush`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct FlushOutcome {
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// Their bytes, without IP and UDP headers.
    pub bytes: u64,
    /// Calls of [`Transport::send`] that sent something.
    pub calls: u64,
    /// Datagrams lost, by reason.
    pub drops: Drops,
    /// The socket's buffer is full: the rest is kept. Stop reading what would be sent, wait until the
    /// socket is writable and flush again.
    pub blocked: bool,
}

/// A region of the arena that one path fills from front to back.
#[derive(Clone, Copy, Debug)]
struct Lane {
    /// Whose it is; `None` once it had no room for the path's next datagram, and for the shared lane.
    path: Option<Path>,
    used: usize,
    /// The entry last opened in it.
    entry: Option<usize>,
}

/// A burst: datagrams of `stride` bytes, of which only the last may be shorter.
#[derive(Clone, Copy, Debug)]
struct Entry {
    path: Path,
    ecn: Ecn,
    start: usize,
    len: usize,
    stride: usize,
    /// Bytes already sent.
    sent: usize,
    /// Bursts did not work for it.
    single: bool,
}

/// What `release` needs to give the last reservation back.
#[derive(Clone, Copy, Debug)]
struct Reservation {
    lane: usize,
    len: usize,
    /// The lane's entry before, if this reservation opened a new one.
    opened: Option<Option<usize>>,
}

impl SendBatch {
    /// Most datagrams in a burst: what every kernel with UDP_SEGMENT takes.
    pub const MAX_SEGMENTS: usize = 64;
    /// Lanes of a batch made by [`SendBatch::default`]: as many paths can be busy at once before their
    /// bursts suffer.
    const LANES: usize = 16;
    const LANE: usize = 1 << 16;
    const ENTRIES: usize = 512;
    /// Lost sources remembered per flush; a path that is not told loses its source at the next send.
    const LOST_SOURCES: usize = 16;

    /// A batch of `lanes` lanes of 64 KiB, at least one. Lanes that are never needed are never touched
    /// and cost address space only.
    pub fn new(lanes: usize) -> Self {
        let lanes = lanes.max(1);
        SendBatch {
            arena: vec![0; lanes * Self::LANE],
            lanes: Vec::with_capacity(lanes),
            entries: Vec::with_capacity(Self::ENTRIES),
            cursor: 0,
            recent: 0,
            last: None,
            ecn: Ecn::NotEct,
            lost_sources: Vec::with_capacity(Self::LOST_SOURCES),
        }
    }

    /// The congestion mark of all datagrams reserved from now on.
    pub fn set_ecn(&mut self, ecn: Ecn) {
        self.ecn = ecn;
    }

    /// Lends the place of `count` datagrams of `stride` bytes each, side by side and in one burst.
    ///
    /// `None` when the batch is full, so that it must be flushed first; and when they are empty, too many
    /// or too long for one burst: at most [`MAX_SEGMENTS`](Self::MAX_SEGMENTS), together at most
    /// [`max_datagram`](Self::max_datagram).
    pub fn reserve_burst(&mut self, path: &Path, count: usize, stride: usize) -> Option<&mut [u8]> {
        self.last = None;
        let len = count.checked_mul(stride)?;
        if len == 0 || count > Self::MAX_SEGMENTS || len > Self::max_datagram(path) {
            return None;
        }
        let index = self.lane(path, len)?;
        let lane = &mut self.lanes[index];
        let opened = match lane.entry {
            Some(at) if at >= self.cursor && self.entries[at].takes(path, self.ecn, count, stride) => {
                self.entries[at].len += len;
                None
            }
            before => {
                if self.entries.len() == Self::ENTRIES {
                    return None;
                }
                lane.entry = Some(self.entries.len());
                self.entries.push(Entry {
                    path: *path,
                    ecn: self.ecn,
                    start: index * Self::LANE + lane.used,
                    len,
                    stride,
                    sent: 0,
                    single: false,
                });
                Some(before)
            }
        };
        self.last = Some(Reservation { lane: index, len, opened });
        self.recent = index;
        let start = index * Self::LANE + lane.used;
        lane.used += len;
        Some(&mut self.arena[start..start + len])
    }

    /// Where the last reservation stands, as long as nothing was sent since. What is reserved for one path
    /// right after it, if it is of the same length, mostly begins where it ends.
    pub fn reserved(&self) -> Range<usize> {
        let Some(Reservation { lane: index, len, .. }) = self.last else { return 0..0 };
        let end = index * Self::LANE + self.lanes[index].used;
        end - len..end
    }

    /// The bytes at a place that [`reserved`](Self::reserved) named, to complete datagrams that were reserved
    /// one after the other.
    ///
    /// # Panics
    /// If the place is not within the batch.
    pub fn bytes_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.arena[place]
    }

    /// Takes back the datagrams from `place` on that were reserved last for their path: they will not be
    /// sent. Returns how many they are.
    pub fn revoke(&mut self, place: &Range<usize>) -> u64 {
        let mut lost = 0;
        for entry in &mut self.entries[self.cursor..] {
            if entry.start < place.end && place.start < entry.start + entry.len {
                let kept = place.start.saturating_sub(entry.start).max(entry.sent);
                lost += (entry.len - kept).div_ceil(entry.stride) as u64;
                entry.len = kept;
            }
        }
        self.last = None;
        lost
    }

    /// Sends what is waiting, in order, until all is gone or the transport is blocked.
    pub fn flush(&mut self, transport: &mut dyn Transport) -> FlushOutcome {
        let mut outcome = FlushOutcome::default();
        self.last = None;
        self.lost_sources.clear();
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            if entry.sent == entry.len {
                self.cursor += 1;
                continue;
            }
            let segments = if entry.single { 1 } else { transport.max_segments().max(1) };
            let len = (entry.len - entry.sent).min(segments * entry.stride);
            let start = entry.start + entry.sent;
            let datagrams = len.div_ceil(entry.stride) as u64;
            let path = entry.path;
            let transmit = Transmit {
                path,
                contents: &self.arena[start..start + len],
                segment_size: (datagrams > 1).then_some(entry.stride),
                ecn: entry.ecn,
            };
            match transport.send(&transmit) {
                Ok(sent) => {
                    entry.sent += len;
                    outcome.datagrams += datagrams;
                    outcome.bytes += len as u64;
                    outcome.calls += 1;
                    match sent {
                        Sent::Done => {}
                        Sent::SourceLost => self.forget_source(&path),
                    }
                }
                Err(SendError::Blocked) => {
                    outcome.blocked = true;
                    return outcome;
                }
                Err(SendError::Unsegmented) if datagrams > 1 => entry.single = true,
                Err(SendError::Unsegmented) => {
                    entry.sent += len;
                    outcome.drops.add(DropReason::Other, datagrams);
                }
                Err(SendError::Dropped(reason)) => {
                    entry.sent += len;
                    outcome.drops.add(reason, datagrams);
                }
            }
        }
        self.reset();
        outcome
    }

    /// Paths whose source address was of no use in the last flush: they should forget it. Bounded; a
    /// path left out comes again when it is next sent on.
    pub fn lost_sources(&self) -> &[Path] {
        &self.lost_sources
    }

    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Throws away what waits, without sending it. Returns the number of datagrams lost.
    pub fn discard(&mut self) -> u64 {
        let lost = self.entries[self.cursor..].iter().map(Entry::waiting).sum();
        self.reset();
        lost
    }

    /// The most bytes a datagram, or a burst as a whole, can have on `path`: what the length field of the
    /// IP header leaves.
    pub fn max_datagram(path: &Path) -> usize {
        const UDP_HEADER: usize = 8;
        const IPV4_HEADER: usize = 20;
        let total = usize::from(u16::MAX) - UDP_HEADER;
        match path.remote() {
            Some(remote) if remote.is_ipv6() => total,
            Some(_) | None => total - IPV4_HEADER,
        }
    }

    /// The lane `path` goes on in, with room for `len` bytes.
    fn lane(&mut self, path: &Path, len: usize) -> Option<usize> {
        let fits = |lane: &Lane| Self::LANE - lane.used >= len;
        let owns = |lane: &Lane| lane.path.as_ref() == Some(path);
        let own = match self.lanes.get(self.recent) {
            Some(lane) if owns(lane) => Some(self.recent),
            Some(_) | None => self.lanes.iter().position(owns),
        };
        if let Some(index) = own {
            if fits(&self.lanes[index]) {
                return Some(index);
            }
            // From here on its datagrams stand elsewhere; a shorter one must not slip in front of them.
            self.lanes[index].path = None;
        }
        let shared = self.arena.len() / Self::LANE - 1;
        if self.lanes.len() > shared {
            return fits(&self.lanes[shared]).then_some(shared);
        }
        let path = (self.lanes.len() < shared).then_some(*path);
        self.lanes.push(Lane { path, used: 0, entry: None });
        Some(self.lanes.len() - 1)
    }

    fn forget_source(&mut self, path: &Path) {
        if self.lost_sources.len() < Self::LOST_SOURCES && !self.lost_sources.contains(path) {
            self.lost_sources.push(*path);
        }
        for entry in &mut self.entries[self.cursor..] {
            if entry.path == *path {
                entry.path = path.without_source();
            }
        }
    }

    fn reset(&mut self) {
        self.lanes.clear();
        self.entries.clear();
        self.cursor = 0;
        self.recent = 0;
        self.last = None;
    }
}

impl Reserve for SendBatch {
    /// As [`reserve_burst`](SendBatch::reserve_burst) for one datagram.
    fn reserve(&mut self, path: &Path, len: usize) -> Option<&mut [u8]> {
        self.reserve_burst(path, 1, len)
    }

    /// Gives back what was lent last, datagram or burst, as if it had never been reserved. Only once per
    /// reservation, and not after a flush; else it does nothing.
    fn release(&mut self) {
        let Some(Reservation { lane, len, opened }) = self.last.take() else { return };
        let lane = &mut self.lanes[lane];
        lane.used -= len;
        match opened {
            Some(before) => {
                self.entries.pop();
                lane.entry = before;
            }
            None => {
                if let Some(entry) = lane.entry {
                    self.entries[entry].len -= len;
                }
            }
        }
    }
}

impl Default for SendBatch {
    fn default() -> Self {
        SendBatch::new(Self::LANES)
    }
}

impl Entry {
    /// Whether `count` datagrams of `stride` bytes can go on this burst.
    fn takes(&self, path: &Path, ecn: Ecn, count: usize, stride: usize) -> bool {
        let whole = self.len.is_multiple_of(self.stride);
        let same = if count == 1 { stride <= self.stride } else { stride == self.stride };
        whole
            && same
            && self.len / self.stride + count <= SendBatch::MAX_SEGMENTS
            && self.len + count * stride <= SendBatch::max_datagram(path)
            && self.ecn == ecn
            && self.path == *path
    }

    fn waiting(&self) -> u64 {
        (self.len - self.sent).div_ceil(self.stride) as u64
    }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
