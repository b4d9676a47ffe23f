//! The packets of one batch where they lie, and the keystream on its way to them.

use core::arch::x86_64::*;

use super::{chacha, memory, transpose};

/// One packet in its slot.
pub(super) struct Packet<'a> {
    pub(super) text: &'a mut [u8],
    pub(super) tag: &'a mut [u8; 16],
}

impl<'a> Packet<'a> {
    /// The packet in a slot, if the slot has room for its tag.
    pub(super) fn new(slot: &'a mut [u8], text_at: usize) -> Option<Self> {
        let (text, tag) = slot.get_mut(text_at..)?.split_last_chunk_mut()?;
        Some(Self { text, tag })
    }
}

/// Sixteen pieces of ciphertext, up to 64 bytes each and zeros behind their ends, as Poly1305 takes them: for
/// each half of the pieces the low and the high 64 bits of their first blocks, of their second, and so on.
pub(super) struct Ciphertext([[__m512i; 8]; 2]);

impl Ciphertext {
    /// The low and high 64 bits of a block of 16 bytes, of eight pieces.
    #[inline]
    pub(super) fn block(&self, half: usize, index: usize) -> (__m512i, __m512i) {
        (self.0[half][2 * index], self.0[half][2 * index + 1])
    }
}

/// Adds keystream to the packets. Lane `i` belongs to packet `i % PER` and has block number `block + i / PER` of
/// its stream, of which block 1 meets the first 64 bytes of the text.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn apply<const PER: usize, const SEAL: bool>(
    mut keystream: chacha::State,
    packets: &mut [Option<Packet<'_>>; PER],
    block: usize,
) -> Ciphertext {
    transpose::words(&mut keystream);
    let mut pieces = keystream;
    for lane in 0..16 {
        pieces[lane] = _mm512_setzero_si512();
        let Some(from) = (64 * (block + lane / PER)).checked_sub(64) else { continue };
        if let Some(packet) = &mut packets[lane % PER] {
            let rest = packet.text.get_mut(from..).unwrap_or_default();
            let (before, after);
            if let Some(whole) = rest.first_chunk_mut() {
                before = memory::load(whole);
                after = _mm512_xor_si512(before, keystream[lane]);
                memory::store(whole, after);
            } else {
                let there = memory::first(rest.len());
                before = memory::load_part(rest);
                after = _mm512_maskz_mov_epi8(there, _mm512_xor_si512(before, keystream[lane]));
                memory::store_part(rest, after);
            }
            pieces[lane] = if SEAL { after } else { before };
        }
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = pieces;
    Ciphertext([
        transpose::double_words([a, b, c, d, e, f, g, h]),
        transpose::double_words([i, j, k, l, m, n, o, p]),
    ])
}
