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
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn new([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [__m512i; 16]) -> Self {
        Self([
            transpose::double_words([a, b, c, d, e, f, g, h]),
            transpose::double_words([i, j, k, l, m, n, o, p]),
        ])
    }

    /// The low and high 64 bits of a block of 16 bytes, of eight pieces.
    #[inline]
    pub(super) fn block(&self, half: usize, index: usize) -> (__m512i, __m512i) {
        (self.0[half][2 * index], self.0[half][2 * index + 1])
    }
}

/// Adds keystream to the packets, and gives what is sealed of each lane's 64 bytes, with zeros behind the end.
///
/// Lane `i` belongs to packet `i % PER` and has block number `block + i / PER` of its stream, of which block 1
/// meets the first 64 bytes of the text.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn apply<const PER: usize, const SEAL: bool>(
    keystream: &chacha::State,
    packets: &mut [Option<Packet<'_>>; PER],
    block: usize,
) -> [__m512i; 16] {
    let halfway = transpose::words(keystream);
    let mut pieces = [_mm512_setzero_si512(); 16];
    for i in 0..4 {
        let rows = transpose::quarters([halfway[i], halfway[4 + i], halfway[8 + i], halfway[12 + i]]);
        for (j, row) in rows.into_iter().enumerate() {
            let lane = i + 4 * j;
            // Block 0 is not for the text: its place before the beginning is past any end.
            let from = (64 * (block + lane / PER)).wrapping_sub(64);
            let rest = rest(&mut packets[lane % PER], from);
            pieces[lane] = if let Some(whole) = rest.first_chunk_mut() {
                let before = memory::load(whole);
                let after = _mm512_xor_si512(before, row);
                memory::store(whole, after);
                if SEAL { after } else { before }
            } else if !rest.is_empty() {
                apply_part::<SEAL>(&row, rest)
            } else {
                _mm512_setzero_si512()
            };
        }
    }
    pieces
}

/// The text from some byte on; nothing of nothing.
#[inline]
fn rest<'a>(packet: &'a mut Option<Packet<'_>>, from: usize) -> &'a mut [u8] {
    match packet {
        Some(packet) => packet.text.get_mut(from..).unwrap_or_default(),
        None => &mut [],
    }
}

/// Adds keystream to less than 64 bytes, and gives the sealed ones with zeros behind them.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw")]
fn apply_part<const SEAL: bool>(keystream: &__m512i, rest: &mut [u8]) -> __m512i {
    let before = memory::load_part(rest);
    let after = _mm512_maskz_mov_epi8(memory::first(rest.len()), _mm512_xor_si512(before, *keystream));
    memory::store_part(rest, after);
    if SEAL { after } else { before }
}
