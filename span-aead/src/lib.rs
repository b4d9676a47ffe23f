//! ChaCha20-Poly1305 ([RFC 8439]) for many WireGuard packets at once.
//!
//! A tunnel seals packets in bursts: a run of equal length, under one key and consecutive counters. Instead of
//! doing one packet quickly, this crate does sixteen side by side, one packet to a lane of the CPU's widest
//! registers. No lane waits for another and nothing is shuffled between lanes but at the ends, so that short
//! packets gain as much as long ones. Where there are fewer packets, several lanes share one.
//!
//! That takes AVX-512 with its 52-bit multiplier. [`Lanes::detect`] says whether this CPU has it. Where it does
//! not, and on every other architecture, packets are sealed one after the other by another crate: this one has no
//! slow way of its own.
//!
//! `cargo bench -p span-aead` shows what it gains. On a Zen 5 core, nanoseconds for one packet of 1420 bytes:
//!
//! | | alone | of 8 | of 16 |
//! |---|--:|--:|--:|
//! | `ring` 0.17 | 720 | 720 | 720 |
//! | the lanes | 370 | 270 | 250 |
//!
//! # Layout
//!
//! ```text
//!              stride                       stride
//! ├──────────────────────────────┼──────────────────────────────┼── ...
//! │ header │ text          │ tag │ header │ text          │ tag │
//! ├────────┼───────────────┼─────┤
//!  text_at                   16
//! ```
//!
//! Slots lie side by side as a send with segmentation offload wants them. A slot is `text_at` bytes that are
//! neither read nor written, the text, and its tag of 16 bytes; so the text has `stride - text_at - 16` bytes,
//! the same in all slots. There is no associated data. The nonce is WireGuard's: four zero bytes and the packet's
//! counter, little-endian.
//!
//! # Secrets
//!
//! No branch, address or length depends on a key, a text or a tag before its verdict. The one-time
//! keys of Poly1305 and the copy of the key are wiped after use; what the compiler moved to the stack on its
//! own, such as a spilled register, is not.
//!
//! [RFC 8439]: https://www.rfc-editor.org/rfc/rfc8439

#![no_std]

#[cfg(test)]
extern crate std;

#[cfg_attr(not(all(target_arch = "x86_64", target_feature = "sse2")), path = "absent.rs")]
mod lanes;

/// Proof that this CPU has what the lanes need: AVX-512 F, BW, VL, IFMA and VBMI2, and an operating system that
/// keeps their registers.
#[derive(Clone, Copy, Debug)]
pub struct Lanes(lanes::Proof);

impl Lanes {
    /// Packets in a full batch.
    pub const WIDTH: usize = 16;

    /// Fewest packets for which [`seal`](Self::seal) and [`open`](Self::open) beat `ring` doing one after the
    /// other, at any length. From [`Self::WORTHWHILE_ALONE`] bytes on they always do.
    pub const WORTHWHILE: usize = 3;

    /// Bytes of text from which on [`seal_one`](Self::seal_one) and [`open_one`](Self::open_one) beat `ring`.
    pub const WORTHWHILE_ALONE: usize = 320;

    /// Whether this CPU has the lanes. Asks it once; after that it costs a load.
    #[must_use]
    pub fn detect() -> Option<Self> {
        lanes::Proof::detect().map(Self)
    }

    /// Seals the text of every slot in place and writes its tag behind it. The counter of slot `i`
    /// is `first + i`.
    ///
    /// Any number of slots will do; multiples of [`Self::WIDTH`] are the best use of the lanes.
    ///
    /// # Panics
    ///
    /// If `slots` is not a whole number of slots, if a slot has no room for the tag, if a text is longer than 256 GiB
    /// (RFC 8439, section 2.8), or if the counters would pass the greatest `u64` and nonces repeat.
    pub fn seal(self, key: &[u8; 32], first: u64, slots: &mut [u8], stride: usize, text_at: usize) {
        let count = checked_count(slots, stride, text_at);
        assert!(
            count == 0 || first.checked_add(count as u64 - 1).is_some(),
            "{count} packets from counter {first} on: a nonce would repeat"
        );
        self.0.seal(key, first, slots, stride, text_at);
    }

    /// Opens the text of every slot in place. Slot `i` has the counter `counters[i]`.
    ///
    /// `valid[i]` becomes whether the tag of slot `i` held. Where it did not, the text is zeroed; plaintext is
    /// never left of it.
    ///
    /// # Panics
    ///
    /// If `slots` is not a whole number of slots, if a slot has no room for the tag, if a text is longer than 256 GiB
    /// (RFC 8439, section 2.8), or if there are more or fewer `counters` or `valid` than slots.
    pub fn open(
        self,
        key: &[u8; 32],
        counters: &[u64],
        slots: &mut [u8],
        stride: usize,
        text_at: usize,
        valid: &mut [bool],
    ) {
        let count = checked_count(slots, stride, text_at);
        assert_eq!(counters.len(), count, "one counter for each slot");
        assert_eq!(valid.len(), count, "one verdict for each slot");
        self.0.open(key, counters, slots, stride, text_at, valid);
    }

    /// Seals one text in place and gives its tag.
    ///
    /// # Panics
    ///
    /// If the text is longer than 256 GiB (RFC 8439, section 2.8).
    #[must_use = "without its tag the text cannot be opened"]
    pub fn seal_one(self, key: &[u8; 32], counter: u64, text: &mut [u8]) -> [u8; 16] {
        check_text(text.len());
        self.0.seal_one(key, counter, text)
    }

    /// Opens one text in place, and says whether its tag held. If it did not, the text is zeroed.
    ///
    /// # Panics
    ///
    /// If the text is longer than 256 GiB (RFC 8439, section 2.8).
    #[must_use = "a text whose tag does not hold is not plaintext"]
    pub fn open_one(self, key: &[u8; 32], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
        check_text(text.len());
        self.0.open_one(key, counter, text, tag)
    }
}

/// Bytes of a tag.
const TAG_LEN: usize = 16;

/// The number of slots, if they are what was promised.
fn checked_count(slots: &[u8], stride: usize, text_at: usize) -> usize {
    let text_len = text_at.checked_add(TAG_LEN).and_then(|around| stride.checked_sub(around));
    let Some(text_len) = text_len else {
        panic!("a slot of {stride} bytes has no room for {text_at} bytes and a tag");
    };
    // Block 0 of the stream is the one-time key.
    assert!(
        text_len.div_ceil(64) < u32::MAX as usize,
        "a text of {text_len} bytes is longer than the keystream"
    );
    assert!(slots.len().is_multiple_of(stride), "{} bytes are not slots of {stride} bytes", slots.len());
    slots.len() / stride
}

fn check_text(len: usize) {
    // Block 0 of the stream is the one-time key.
    assert!(len.div_ceil(64) < u32::MAX as usize, "a text of {len} bytes is longer than the keystream");
}
