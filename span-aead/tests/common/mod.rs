//! What the tests share: slots with guards around them, and `ring` as the oracle.

#![allow(dead_code, reason = "no test uses all of it")]

use std::io::Write;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use span_aead::Lanes;

pub(crate) const TAG: usize = 16;

/// The lanes. Where the CPU has none the test cannot say anything, and says so past the capture of its output.
pub(crate) fn lanes(test: &str) -> Option<Lanes> {
    let lanes = Lanes::detect();
    if lanes.is_none() {
        let message = format!("\n*** SKIPPED, THIS CPU HAS NO AVX-512 LANES: {test} ***\n");
        std::io::stderr().write_all(message.as_bytes()).expect("stderr");
    }
    lanes
}

/// Packets side by side, between bytes that are nobody's business.
#[derive(Clone)]
pub(crate) struct Burst {
    pub(crate) key: [u8; 32],
    pub(crate) counters: Vec<u64>,
    pub(crate) stride: usize,
    pub(crate) text_at: usize,
    /// A guard of `GUARD` bytes, the slots, another guard.
    bytes: Vec<u8>,
}

const GUARD: usize = 70;

impl Burst {
    /// Texts, headers and guards all drawn from `draw`.
    pub(crate) fn new(draw: &mut Draw, counters: Vec<u64>, text_at: usize, len: usize) -> Self {
        let stride = text_at + len + TAG;
        let mut key = [0; 32];
        draw.fill(&mut key);
        let mut bytes = vec![0; 2 * GUARD + stride * counters.len()];
        draw.fill(&mut bytes);
        Self { key, counters, stride, text_at, bytes }
    }

    pub(crate) fn slots(&mut self) -> &mut [u8] {
        let end = self.bytes.len() - GUARD;
        &mut self.bytes[GUARD..end]
    }

    pub(crate) fn slot(&mut self, index: usize) -> &mut [u8] {
        let stride = self.stride;
        &mut self.slots()[index * stride..][..stride]
    }

    /// The text and the tag of a slot.
    pub(crate) fn packet(&mut self, index: usize) -> &mut [u8] {
        let text_at = self.text_at;
        &mut self.slot(index)[text_at..]
    }

    pub(crate) fn seal(&mut self, lanes: Lanes) {
        let (key, first, stride, text_at) = (self.key, self.counters[0], self.stride, self.text_at);
        lanes.seal(&key, first, self.slots(), stride, text_at);
    }

    pub(crate) fn open(&mut self, lanes: Lanes) -> Vec<bool> {
        let (key, counters, stride, text_at) = (self.key, self.counters.clone(), self.stride, self.text_at);
        // Neither answer may be left over from before.
        let mut valid: Vec<bool> = (0..counters.len()).map(|i| i % 2 == 0).collect();
        lanes.open(&key, &counters, self.slots(), stride, text_at, &mut valid);
        valid
    }

    pub(crate) fn seal_with_ring(&mut self) {
        let key = ring_key(&self.key);
        for (index, counter) in self.counters.clone().into_iter().enumerate() {
            let (text, tag) = self.packet(index).split_last_chunk_mut::<TAG>().expect("room for a tag");
            let sealed = key.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text);
            tag.copy_from_slice(sealed.expect("short enough").as_ref());
        }
    }

    /// All bytes, guards and headers too, are those of the other.
    #[track_caller]
    pub(crate) fn assert_same(&self, other: &Self, what: &str) {
        if let Some(at) = (0..self.bytes.len()).find(|&at| self.bytes[at] != other.bytes[at]) {
            let at = at as isize - GUARD as isize;
            panic!(
                "{what}: {} packets of {} bytes at {}, counters from {:#x}: byte {at} of the slots differs",
                self.counters.len(),
                self.stride - self.text_at - TAG,
                self.text_at,
                self.counters[0],
            );
        }
    }
}

/// Packet by packet with `seal_one` and `open_one`.
#[track_caller]
fn check_one_by_one(lanes: Lanes, plain: &Burst, expected: &Burst) {
    let mut burst = plain.clone();
    for (index, counter) in plain.counters.iter().enumerate() {
        let (text, tag) = burst.packet(index).split_last_chunk_mut::<TAG>().expect("room for a tag");
        *tag = lanes.seal_one(&plain.key, *counter, text);
    }
    burst.assert_same(expected, "sealed one by one");
    for (index, counter) in plain.counters.iter().enumerate() {
        let (text, tag) = burst.packet(index).split_last_chunk_mut::<TAG>().expect("room for a tag");
        assert!(lanes.open_one(&plain.key, *counter, text, tag));
        *tag = *plain.clone().packet(index).last_chunk().expect("a tag");
    }
    burst.assert_same(plain, "opened one by one");
}

/// Seals with both, compares, opens again and compares.
#[track_caller]
pub(crate) fn check(lanes: Lanes, plain: &Burst) {
    let mut expected = plain.clone();
    expected.seal_with_ring();
    check_opens(lanes, plain, &expected);
    check_one_by_one(lanes, plain, &expected);
    let consecutive = plain.counters.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1));
    if consecutive {
        let mut sealed = plain.clone();
        sealed.seal(lanes);
        sealed.assert_same(&expected, "sealed");
    }
}

#[track_caller]
fn check_opens(lanes: Lanes, plain: &Burst, sealed: &Burst) {
    let mut opened = sealed.clone();
    let valid = opened.open(lanes);
    assert_eq!(valid, vec![true; valid.len()]);
    // The tag stays.
    let mut expected = plain.clone();
    let mut sealed = sealed.clone();
    for index in 0..plain.counters.len() {
        let tag = *sealed.packet(index).last_chunk::<TAG>().expect("a tag");
        *expected.packet(index).last_chunk_mut().expect("a tag") = tag;
    }
    opened.assert_same(&expected, "opened");
}

pub(crate) fn ring_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes"))
}

pub(crate) fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Numbers that look random and are the same every time (SplitMix64).
pub(crate) struct Draw(pub u64);

impl Draw {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.number().to_le_bytes()[..chunk.len()]);
        }
    }
}
