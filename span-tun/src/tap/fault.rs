use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use span_core::time::Instant;

use crate::device::{Descriptor, Device};
use crate::offload::VirtioHeader;

/// How often frames of one direction are spoilt: probabilities from 0 to 1, each drawn on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// The frame is lost.
    pub drop: f64,
    /// The frame comes twice.
    pub duplicate: f64,
    /// One bit of the frame is flipped.
    pub corrupt: f64,
    /// The frame is held back until the next has passed.
    pub reorder: f64,
}

/// How many frames were spoilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spoilt {
    /// Frames lost.
    pub dropped: u64,
    /// Frames that came twice.
    pub duplicated: u64,
    /// Frames with a flipped bit.
    pub corrupted: u64,
    /// Frames overtaken by the next.
    pub reordered: u64,
}

/// Spoils what passes, the same way for the same seed and the same frames.
///
/// Super-packets are spoilt as a whole. A frame held back on the way out is released by the next frame, or when
/// [`Device::recv`] finds nothing.
#[derive(Debug)]
pub struct Fault<D> {
    inner: D,
    receiving: Direction,
    sending: Direction,
    random: Random,
}

type Frame = (VirtioHeader, Vec<u8>);

#[derive(Debug)]
struct Direction {
    faults: Faults,
    spoilt: Spoilt,
    /// Frames on their way out of here, oldest first.
    ready: VecDeque<Frame>,
    held: Option<Frame>,
}

impl<D: Device> Fault<D> {
    /// Spoils what `inner` receives and sends.
    pub fn new(inner: D, seed: u64, receiving: Faults, sending: Faults) -> Self {
        let direction =
            |faults| Direction { faults, spoilt: Spoilt::default(), ready: VecDeque::new(), held: None };
        Self { inner, receiving: direction(receiving), sending: direction(sending), random: Random(seed) }
    }

    /// What was done so far to received and to sent frames.
    pub fn spoilt(&self) -> (Spoilt, Spoilt) {
        (self.receiving.spoilt, self.sending.spoilt)
    }

    fn send_ready(&mut self) -> io::Result<()> {
        while let Some((header, frame)) = self.sending.ready.pop_front() {
            self.inner.send(&header, &[IoSlice::new(&frame)])?;
        }
        Ok(())
    }
}

impl Direction {
    fn take(&mut self, mut frame: Frame, random: &mut Random) {
        if random.happens(self.faults.drop) {
            self.spoilt.dropped += 1;
            return;
        }
        if random.happens(self.faults.corrupt) && !frame.1.is_empty() {
            self.spoilt.corrupted += 1;
            let bit = random.below(frame.1.len() * 8);
            frame.1[bit / 8] ^= 1 << (bit % 8);
        }
        let twice = random.happens(self.faults.duplicate).then(|| frame.clone());
        if self.held.is_none() && random.happens(self.faults.reorder) {
            self.held = Some(frame);
        } else {
            self.ready.push_back(frame);
            self.spoilt.reordered += u64::from(self.held.is_some());
            self.ready.extend(self.held.take());
        }
        if let Some(twice) = twice {
            self.spoilt.duplicated += 1;
            self.ready.push_back(twice);
        }
    }
}

impl<D: Device> Device for Fault<D> {
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
        loop {
            if let Some((header, frame)) = self.receiving.ready.pop_front() {
                let len = frame.len().min(buf.len());
                buf[..len].copy_from_slice(&frame[..len]);
                return Ok((header, len));
            }
            match self.inner.recv(buf) {
                Ok((header, len)) => {
                    self.receiving.take((header, buf[..len].to_vec()), &mut self.random);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Nothing will overtake what is held back for now.
                    self.sending.ready.extend(self.sending.held.take());
                    self.send_ready()?;
                    match self.receiving.held.take() {
                        Some(frame) => self.receiving.ready.push_back(frame),
                        None => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, header: &VirtioHeader, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let frame = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.sending.take((*header, frame), &mut self.random);
        self.send_ready()
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

/// SplitMix64: small, and good enough to throw dice with.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws even for certain outcomes, so that one setting does not shift the dice of the others.
    fn happens(&mut self, probability: f64) -> bool {
        // 53 bits are what a double has.
        ((self.next() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::memory;

    /// Frames that arrive when `count` numbered ones are sent through faults on the given side.
    fn pass(faults: Faults, on_receive: bool, count: u32) -> (Vec<Vec<u8>>, Spoilt) {
        let none = Faults::default();
        let (near, far) = memory::pair(1420, 100_000).unwrap();
        let mut near = Fault::new(near, 1, none, if on_receive { none } else { faults });
        let mut far = Fault::new(far, 2, if on_receive { faults } else { none }, none);
        for number in 0..count {
            near.send(&VirtioHeader::default(), &[IoSlice::new(&number.to_be_bytes())]).unwrap();
        }
        assert_eq!(near.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut frames = Vec::new();
        let mut buf = [0; 8];
        while let Ok((_, len)) = far.recv(&mut buf) {
            frames.push(buf[..len].to_vec());
        }
        (frames, if on_receive { far.spoilt().0 } else { near.spoilt().1 })
    }

    #[test]
    fn does_what_it_says_and_counts_it() {
        let numbers: Vec<Vec<u8>> = (0..10_000u32).map(|number| number.to_be_bytes().to_vec()).collect();
        for on_receive in [false, true] {
            assert_eq!(pass(Faults::default(), on_receive, 10_000), (numbers.clone(), Spoilt::default()));

            let (frames, spoilt) = pass(Faults { drop: 0.1, ..Faults::default() }, on_receive, 10_000);
            assert_eq!(frames.len() as u64, 10_000 - spoilt.dropped);
            assert!((800..1200).contains(&spoilt.dropped), "{spoilt:?}");

            let (frames, spoilt) = pass(Faults { duplicate: 0.1, ..Faults::default() }, on_receive, 10_000);
            assert_eq!(frames.len() as u64, 10_000 + spoilt.duplicated);
            assert!((800..1200).contains(&spoilt.duplicated), "{spoilt:?}");

            let (frames, spoilt) = pass(Faults { corrupt: 0.1, ..Faults::default() }, on_receive, 10_000);
            let wrong = frames.iter().zip(&numbers).filter(|(frame, number)| frame != number).count();
            assert_eq!((frames.len(), wrong as u64), (10_000, spoilt.corrupted));

            let (mut frames, spoilt) = pass(Faults { reorder: 0.1, ..Faults::default() }, on_receive, 10_000);
            let swaps = frames.windows(2).filter(|pair| pair[0] > pair[1]).count();
            assert_eq!(swaps as u64, spoilt.reordered);
            assert!((800..1200).contains(&spoilt.reordered), "{spoilt:?}");
            frames.sort();
            assert_eq!(frames, numbers, "held back, not lost");
        }
        assert!(pass(Faults { drop: 1.0, ..Faults::default() }, false, 100).0.is_empty());
    }

    #[test]
    fn the_same_seed_spoils_the_same() {
        let faults = Faults { drop: 0.2, duplicate: 0.2, corrupt: 0.2, reorder: 0.2 };
        assert_eq!(pass(faults, true, 1000), pass(faults, true, 1000));
    }
}
