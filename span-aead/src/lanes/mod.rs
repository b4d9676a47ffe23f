//! The lanes of AVX-512: sixteen words of 32 bits, or eight of 64, in one register.

mod batch;
mod chacha;
mod memory;
mod packet;
mod poly1305;
mod transpose;

#[cfg(test)]
mod tests;

use core::arch::x86_64::*;
use core::array;

use packet::Packet;

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
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn seal(key: &[u8; 32], mut first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
    for slots in slots.chunks_mut(16 * stride) {
        let count = slots.len() / stride;
        if count > 8 {
            seal_batch::<16>(key, first, slots, stride, text_at);
        } else {
            seal_batch::<8>(key, first, slots, stride, text_at);
        }
        first = first.wrapping_add(count as u64);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn seal_batch<const PER: usize>(key: &[u8; 32], first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
    let counters = array::from_fn(|i| first.wrapping_add(i as u64));
    let mut packets = packets::<PER>(slots, stride, text_at);
    let tags = batch::run::<PER, true>(key, &counters, &mut packets, stride - text_at - 16);
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
    counters: &[u64],
    slots: &mut [u8],
    stride: usize,
    text_at: usize,
    valid: &mut [bool],
) {
    let batches = slots.chunks_mut(16 * stride).zip(counters.chunks(16)).zip(valid.chunks_mut(16));
    for ((slots, counters), valid) in batches {
        if counters.len() > 8 {
            open_batch::<16>(key, counters, slots, stride, text_at, valid);
        } else {
            open_batch::<8>(key, counters, slots, stride, text_at, valid);
        }
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
    let expected = batch::run::<PER, false>(key, &counters, &mut packets, stride - text_at - 16);
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

/// The packets in up to `PER` slots.
fn packets<const PER: usize>(slots: &mut [u8], stride: usize, text_at: usize) -> [Option<Packet<'_>>; PER] {
    let mut slots = slots.chunks_exact_mut(stride);
    array::from_fn(|_| Packet::new(slots.next()?, text_at))
}
