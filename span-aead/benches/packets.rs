//! Nanoseconds per packet, sealed and opened, by `ring` one after the other and by the lanes.
//!
//!     cargo bench -p span-aead
//!
//! All ways take turns, a hundred rounds of half a millisecond each; the table has the fastest round of each. Packets lie
//! side by side as they are sent, 16 bytes of header before and the tag behind.

use std::hint::black_box;
use std::time::{Duration, Instant};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use span_aead::Lanes;

const HEADER: usize = 16;
const TAG: usize = 16;
const ROUNDS: usize = 100;
const ROUND: Duration = Duration::from_micros(500);

fn main() {
    let lanes = Lanes::detect();
    if lanes.is_none() {
        println!("this CPU has no lanes: figures of ring alone");
    }
    println!(
        "{:>6} {:>6} {:>10} {:>10} {:>10} {:>10}",
        "bytes", "batch", "ring seal", "lanes", "ring open", "lanes"
    );
    for len in [64, 256, 512, 1420, 8192] {
        for count in [1, 2, 3, 4, 8, 12, 16, 32] {
            let mut bench = Bench::new(len, count);
            let mut best = [f64::INFINITY; 4];
            for _ in 0..ROUNDS {
                best[0] = best[0].min(timed(count, || bench.ring_seal()));
                best[2] = best[2].min(timed(count, || bench.ring_open()));
                if let Some(lanes) = lanes {
                    best[1] = best[1].min(timed(count, || bench.lanes_seal(lanes)));
                    best[3] = best[3].min(timed(count, || bench.lanes_open(lanes)));
                }
            }
            let [a, b, c, d] = best;
            println!("{len:>6} {count:>6} {a:>10.1} {b:>10.1} {c:>10.1} {d:>10.1}");
        }
    }
}

/// Nanoseconds per packet of a job of `count` packets.
fn timed(count: usize, mut job: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut packets = 0;
    loop {
        for _ in 0..8 {
            job();
            packets += count;
        }
        let taken = start.elapsed();
        if taken > ROUND {
            return taken.as_secs_f64() * 1e9 / packets as f64;
        }
    }
}

struct Bench {
    key: [u8; 32],
    ring: LessSafeKey,
    stride: usize,
    slots: Vec<u8>,
    /// Sealed under the counters from 0 on, and a copy to open.
    sealed: Vec<u8>,
    counters: Vec<u64>,
    valid: Vec<bool>,
}

impl Bench {
    fn new(len: usize, count: usize) -> Self {
        let key = [7; 32];
        let ring = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("32 bytes"));
        let stride = HEADER + len + TAG;
        let slots = vec![0x5a; stride * count];
        let counters = (0..count as u64).collect();
        let mut bench =
            Self { key, ring, stride, slots, sealed: Vec::new(), counters, valid: vec![false; count] };
        bench.ring_seal();
        bench.sealed = bench.slots.clone();
        bench
    }

    fn ring_seal(&mut self) {
        for (slot, counter) in self.slots.chunks_exact_mut(self.stride).zip(0..) {
            let (text, tag) = slot[HEADER..].split_last_chunk_mut::<TAG>().expect("room for a tag");
            let sealed = self.ring.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text);
            tag.copy_from_slice(sealed.expect("short enough").as_ref());
        }
        black_box(&mut self.slots);
    }

    fn lanes_seal(&mut self, lanes: Lanes) {
        lanes.seal(&self.key, 0, &mut self.slots, self.stride, HEADER);
        black_box(&mut self.slots);
    }

    fn ring_open(&mut self) {
        self.slots.copy_from_slice(&self.sealed);
        for (slot, &counter) in self.slots.chunks_exact_mut(self.stride).zip(&self.counters) {
            self.ring.open_in_place(nonce(counter), Aad::empty(), &mut slot[HEADER..]).expect("genuine");
        }
        black_box(&mut self.slots);
    }

    fn lanes_open(&mut self, lanes: Lanes) {
        self.slots.copy_from_slice(&self.sealed);
        lanes.open(&self.key, &self.counters, &mut self.slots, self.stride, HEADER, &mut self.valid);
        assert!(self.valid.iter().all(|&valid| valid), "genuine");
        black_box(&mut self.slots);
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
