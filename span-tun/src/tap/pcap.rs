use std::io::{self, IoSlice, Write};
use std::time::Duration;

use span_core::time::Instant;

use crate::device::{Descriptor, Device};
use crate::offload::VirtioHeader;

/// Records every frame that passes, in both directions, as a pcap file (nanosecond times, link type "raw IP").
///
/// Frames are recorded as the device has them: super-packets whole, and with the checksums still missing that
/// the other side will fill in, as a capture on the host would show them.
#[derive(Debug)]
pub struct Pcap<D, W, C> {
    inner: D,
    writer: W,
    clock: C,
    error: Option<io::Error>,
}

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_RAW: u32 = 101;
/// Longest record, in bytes; no frame is longer.
const SNAP_LEN: u32 = 0x4_0000;

impl<D: Device, W: Write + Send, C: FnMut() -> Duration + Send> Pcap<D, W, C> {
    /// Writes the file header. `clock` gives the time since the Unix epoch; `writer` should be buffered.
    ///
    /// # Errors
    /// That of the writer.
    pub fn new(inner: D, mut writer: W, clock: C) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC_NANOSECONDS.to_ne_bytes());
        // Version 2.4.
        header.extend(2u16.to_ne_bytes());
        header.extend(4u16.to_ne_bytes());
        header.extend([0; 8]);
        header.extend(SNAP_LEN.to_ne_bytes());
        header.extend(LINKTYPE_RAW.to_ne_bytes());
        writer.write_all(&header)?;
        Ok(Self { inner, writer, clock, error: None })
    }

    /// Why recording stopped, if it did. A full disk does not stop the device.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// Writes out what is buffered, and gives device and writer back.
    ///
    /// # Errors
    /// That of the writer, now or earlier.
    pub fn finish(mut self) -> io::Result<(D, W)> {
        match self.error {
            Some(error) => Err(error),
            None => self.writer.flush().map(|()| (self.inner, self.writer)),
        }
    }

    fn record(&mut self, parts: &[IoSlice<'_>]) {
        if self.error.is_some() {
            return;
        }
        let now = (self.clock)();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut header = [0; 16];
        header[..4].copy_from_slice(&(now.as_secs() as u32).to_ne_bytes());
        header[4..8].copy_from_slice(&now.subsec_nanos().to_ne_bytes());
        header[8..12].copy_from_slice(&(len as u32).to_ne_bytes());
        header[12..16].copy_from_slice(&(len as u32).to_ne_bytes());
        let pieces = std::iter::once(&header[..]).chain(parts.iter().map(|part| &part[..]));
        self.error = pieces.map(|piece| self.writer.write_all(piece)).find_map(Result::err);
    }
}

impl<D: Device, W: Write + Send, C: FnMut() -> Duration + Send> Device for Pcap<D, W, C> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn mtu(&self) -> u16 {
        self.inner.mtu()
    }

    fn index(&self) -> u32 {
        self.inner.index()
    }

    fn refresh(&mut self) -> io::Result<bool> {
        self.inner.refresh()
    }

    fn recv(&mut self, buf: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        let (header, len) = self.inner.recv(buf)?;
        self.record(&[IoSlice::new(&buf[..len])]);
        Ok((header, len))
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.record(parts);
        self.inner.send(header, parts)
    }

    fn descriptor(&self) -> Option<Descriptor> {
        self.inner.descriptor()
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn accepts_udp_segmentation(&self) -> bool {
        self.inner.accepts_udp_segmentation()
    }

    fn refused(&self) -> u64 {
        self.inner.refused()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory;

    #[test]
    fn records_both_directions() {
        let (near, mut far) = memory::pair(1420, 8).unwrap();
        let mut seconds = 0;
        let clock = move || {
            seconds += 1;
            Duration::new(seconds, 7)
        };
        let mut near = Pcap::new(near, Vec::new(), clock).unwrap();
        near.send(&VirtioHeader::default(), &[IoSlice::new(b"ab"), IoSlice::new(b"c")]).unwrap();
        far.send(&VirtioHeader::default(), &[IoSlice::new(b"defg")]).unwrap();
        assert_eq!(near.recv(&mut [0; 9]).unwrap().1, 4);
        let (_, file) = near.finish().unwrap();
        let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(20)), (MAGIC_NANOSECONDS, LINKTYPE_RAW));
        assert_eq!([word(24), word(28), word(32), word(36)], [1, 7, 3, 3]);
        assert_eq!(&file[40..43], b"abc");
        assert_eq!([word(43), word(47), word(51), word(55)], [2, 7, 4, 4]);
        assert_eq!(&file[59..], b"defg");
    }

    #[test]
    fn a_full_disk_does_not_stop_the_device() {
        let (near, mut far) = memory::pair(1420, 8).unwrap();
        let room = [0u8; 50];
        let mut near = Pcap::new(near, io::Cursor::new(room), || Duration::ZERO).unwrap();
        for _ in 0..3 {
            near.send(&VirtioHeader::default(), &[IoSlice::new(b"frame")]).unwrap();
            assert_eq!(far.recv(&mut [0; 9]).unwrap().1, 5);
        }
        assert!(near.error().is_some());
        assert!(near.finish().is_err());
    }
}
