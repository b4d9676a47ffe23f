//! The lanes of AVX-512: sixteen words of 32 bits, or eight of 64, in one register.

mod batch;
mod chacha;
mod memory;
mod packet;
mod poly1305;
mod single;
mod transpose;

#[cfg(test)]
mod tests;

use core::arch::x86_64::*;
use core::array;

use packet::Packet;

use crate::TAG_LEN;

cpufeatures::new!(cpu, "avx512f", "avx512bw", "avx512vl", "avx512ifma", "avx512vbmi2");

/// Proof that the CPU and the operating system have what is used here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof(cpu::InitToken);

impl Proof {
    pub(crate) fn detect() -> Option<Self> {
        let (token, present) = cpu::init_get();
        present.then_some(Self(token))
    }

    pub(crate) fn seal(self, key: &[u8; 32], first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
        // SAFETY: `self` exists only where the CPU has all features that `seal` is compiled for.
        unsafe { seal(key, first, slots, stride, text_at) }
    }

    pub(crate) fn open(
        self,
        key: &[u8; 32],
        counters: &[u64],
        slots: &mut [u8],
        stride: usize,
        text_at: usize,
        valid: &mut [bool],
    ) {
        // SAFETY: `self` exists only where the CPU has all features that `open` is compiled for.
        unsafe { open(key, counters, slots, stride, text_at, valid) }
    }

    pub(crate) fn seal_one(self, key: &[u8; 32], counter: u64, text: &mut [u8]) -> [u8; 16] {
        // SAFETY: `self` exists only where the CPU has all features that `seal` is compiled for.
        unsafe { single::seal(key, counter, text) }
    }

    pub(crate) fn open_one(self, key: &[u8; 32], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
        // SAFETY: `self` exists only where the CPU has all features that `open` is compiled for.
        unsafe { single::open(key, counter, text, tag) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn seal(key: &[u8; 32], mut first: u64, mut slots: &mut [u8], stride: usize, text_at: usize) {
    while !slots.is_empty() {
        let together = together(slots.len() / stride, stride - text_at - TAG_LEN);
        let (batch, rest) = split(slots, together.saturating_mul(stride));
        slots = rest;
        match together {
            1 => seal_alone(key, first, batch, text_at),
            8 => seal_batch::<8>(key, first, batch, stride, text_at),
            _ => seal_batch::<16>(key, first, batch, stride, text_at),
        }
        first = first.wrapping_add(together as u64);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn seal_alone(key: &[u8; 32], counter: u64, slot: &mut [u8], text_at: usize) {
    if let Some(packet) = Packet::new(slot, text_at) {
        *packet.tag = single::seal(key, counter, packet.text);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn seal_batch<const PER: usize>(key: &[u8; 32], first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
    let counters = array::from_fn(|i| first.wrapping_add(i as u64));
    let mut packets = packets::<PER>(slots, stride, text_at);
    let tags = batch::run::<PER, true>(key, &counters, &mut packets, stride - text_at - TAG_LEN);
    let mut bytes = [[0; 64]; 4];
    for (bytes, tags) in bytes.iter_mut().zip(tags) {
        memory::store(bytes, tags);
    }
    for (packet, tag) in packets.iter_mut().flatten().zip(bytes.as_flattened().as_chunks().0) {
        *packet.tag = *tag;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn open(
    key: &[u8; 32],
    mut counters: &[u64],
    mut slots: &mut [u8],
    stride: usize,
    text_at: usize,
    mut valid: &mut [bool],
) {
    while !slots.is_empty() {
        let together = together(slots.len() / stride, stride - text_at - TAG_LEN);
        let (batch, rest) = split(slots, together.saturating_mul(stride));
        let (verdicts, later) = split(valid, together);
        let (numbers, next) = counters.split_at_checked(together).unwrap_or((counters, &[]));
        (slots, valid, counters) = (rest, later, next);
        match together {
            1 => open_alone(key, numbers, batch, text_at, verdicts),
            8 => open_batch::<8>(key, numbers, batch, stride, text_at, verdicts),
            _ => open_batch::<16>(key, numbers, batch, stride, text_at, verdicts),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn open_alone(key: &[u8; 32], counters: &[u64], slot: &mut [u8], text_at: usize, valid: &mut [bool]) {
    if let (Some(packet), [counter], [valid]) = (Packet::new(slot, text_at), counters, valid) {
        *valid = single::open(key, *counter, packet.text, packet.tag);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn open_batch<const PER: usize>(
    key: &[u8; 32],
    counters: &[u64],
    slots: &mut [u8],
    stride: usize,
    text_at: usize,
    valid: &mut [bool],
) {
    let counters = array::from_fn(|i| counters.get(i).copied().unwrap_or_default());
    let mut packets = packets::<PER>(slots, stride, text_at);
    let expected = batch::run::<PER, false>(key, &counters, &mut packets, stride - text_at - TAG_LEN);
    let mut bytes = [[0; 64]; 4];
    for (packet, tag) in packets.iter_mut().flatten().zip(bytes.as_flattened_mut().as_chunks_mut().0) {
        *tag = *packet.tag;
    }
    // Two bits of the mask to a tag; all tags are compared at once and in whole.
    let mut held = 0_u32;
    for (i, (bytes, expected)) in bytes.iter().zip(expected).enumerate() {
        held |= u32::from(_mm512_cmpeq_epi64_mask(memory::load(bytes), expected)) << (8 * i);
    }
    for (packet, valid) in packets.iter_mut().flatten().zip(valid) {
        *valid = held & 0b11 == 0b11;
        held >>= 2;
        if !*valid {
            packet.text.fill(0);
        }
    }
}

/// How many packets to take together next, of `count` with texts of `len` bytes: sixteen, eight or one.
///
/// The cost is nearly all in the keystream, 32 blocks at a time however many of them are used. Beginning and ending
/// takes about a quarter of that for a batch, a sixteenth for one packet.
fn together(count: usize, len: usize) -> usize {
    let blocks = 1 + len.div_ceil(64);
    let batch = |packets: usize| 16 * blocks.div_ceil(32 / packets) + 4;
    let alone = |packets: usize| packets * (16 * blocks.div_ceil(32) + 1);
    match count {
        0..=8 if alone(count) <= batch(8) => 1,
        0..=8 => 8,
        9..=15 if batch(8) + alone(count - 8).min(batch(8)) < batch(16) => 8,
        _ => 16,
    }
}

/// The first `count` elements, or as many as there are, and the rest.
fn split<T>(all: &mut [T], count: usize) -> (&mut [T], &mut [T]) {
    all.split_at_mut(count.min(all.len()))
}

/// The packets in up to `PER` slots.
fn packets<const PER: usize>(slots: &mut [u8], stride: usize, text_at: usize) -> [Option<Packet<'_>>; PER] {
    let mut slots = slots.chunks_exact_mut(stride);
    array::from_fn(|_| Packet::new(slots.next()?, text_at))
}
