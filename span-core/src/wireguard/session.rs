//! Transport keys: what a handshake leaves behind (WireGuard paper, section 5.4.5 and 5.4.6).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use portable_atomic::AtomicU64;

use super::constants::{
    PADDING, REJECT_AFTER_BLOCKS, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_BLOCKS,
    REKEY_AFTER_MESSAGES,
};
use super::event::Role;
use super::handshake::TransportKeys;
use super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader};
use super::replay::Replay;
#[cfg(test)]
use crate::crypto::Forged;
use crate::crypto::{Aead, AeadKey, Suite};
use crate::time::Instant;

/// Why a packet cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The session has used up its counters, or the blocks that its cipher may seal; a new handshake is
    /// needed.
    #[error("the session has sealed as many packets as it may; ask the device for the next session")]
    Exhausted,
    /// The slot has no room for header and tag, or the stride does not divide the burst.
    #[error("a slot holds a 16-byte header, the packet and a 16-byte tag; a burst holds whole slots")]
    SlotLength,
}

/// The sending half of a session. Any number of threads may seal with it at once.
///
/// A slot is laid out as it goes on the wire: a header of 16 bytes, the plaintext, zeros up to
/// [`slot_len`](Sealer::slot_len), a tag of 16 bytes. Header and tag are written by sealing.
pub struct Sealer {
    key: AeadKey,
    /// The session's index at the peer.
    receiver: u32,
    /// The next counter.
    counter: AtomicU64,
    /// Calls of the block cipher so far, where they are limited.
    blocks: Option<AtomicU64>,
}

impl Sealer {
    /// Bytes that sealing adds to a plaintext: header and tag.
    pub const OVERHEAD: usize = DATA_OVERHEAD;
    /// Where the plaintext stands in a slot.
    pub const PLAINTEXT_AT: usize = DATA_HEADER_LEN;

    pub(super) fn new(suite: Suite, key: &[u8; 32], receiver: u32) -> Self {
        let blocks = match suite {
            Suite::ChaCha20Poly1305 => None,
            Suite::Aes256Gcm => Some(AtomicU64::new(0)),
        };
        Sealer { key: AeadKey::new(suite, key), receiver, counter: AtomicU64::new(0), blocks }
    }

    /// The length of the slot for a plaintext of `len` bytes on a link of `mtu` bytes: padded to a multiple
    /// of 16, unless that would cross the MTU. Then it is not padded at all, because the route may allow no
    /// more than the packet has, and only the kernel knows.
    #[inline]
    pub const fn slot_len(len: usize, mtu: usize) -> usize {
        let padded = len.next_multiple_of(PADDING);
        DATA_OVERHEAD + if padded > mtu { len } else { padded }
    }

    /// Seals the packet that stands in `slot` and returns its counter. The caller has zeroed the padding.
    #[inline]
    pub fn seal(&self, slot: &mut [u8]) -> Result<u64, SealError> {
        self.seal_burst(slot, slot.len())
    }

    /// Seals the packets that stand one after the other in slots of `stride` bytes, under consecutive
    /// counters, and returns the first counter. The caller has zeroed the padding.
    ///
    /// `slots` holds a whole number of slots, as one message with UDP segmentation offload wants them; a
    /// shorter last packet is sealed by itself.
    #[inline]
    pub fn seal_burst(&self, slots: &mut [u8], stride: usize) -> Result<u64, SealError> {
        if stride < DATA_OVERHEAD || !slots.len().is_multiple_of(stride) {
            return Err(SealError::SlotLength);
        }
        let packets = (slots.len() / stride) as u64;
        if let Some(blocks) = &self.blocks {
            take_blocks(blocks, packets * blocks_in(stride))?;
        }
        let first = self.take_counters(packets)?;
        for (counter, slot) in (first..).zip(slots.chunks_exact_mut(stride)) {
            let header = DataHeader { receiver: self.receiver, counter };
            slot[..DATA_HEADER_LEN].copy_from_slice(&header.to_bytes());
        }
        self.key.seal_burst(first, slots, stride, DATA_HEADER_LEN);
        Ok(first)
    }

    /// How many counters have been used.
    pub fn sealed(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// Whether so much has been sealed that the next session should be asked for.
    #[inline]
    pub(super) fn is_worn(&self) -> bool {
        self.sealed() > REKEY_AFTER_MESSAGES || self.blocks() > REKEY_AFTER_BLOCKS
    }

    /// Whether nothing more can be sealed.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.sealed() >= REJECT_AFTER_MESSAGES || self.blocks() >= REJECT_AFTER_BLOCKS
    }

    fn blocks(&self) -> u64 {
        self.blocks.as_ref().map_or(0, |blocks| blocks.load(Ordering::Relaxed))
    }

    /// Reserves `count` counters. The limit is never passed, not even by failing attempts, so that no
    /// nonce can ever wrap.
    #[inline]
    fn take_counters(&self, count: u64) -> Result<u64, SealError> {
        self.counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                next.checked_add(count).filter(|end| *end <= REJECT_AFTER_MESSAGES)
            })
            .map_err(|_| SealError::Exhausted)
    }

    #[cfg(test)]
    pub(super) fn set_counter(&self, next: u64) {
        self.counter.store(next, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn set_blocks(&self, sealed: u64) {
        self.blocks.as_ref().expect("blocks are counted").store(sealed, Ordering::Relaxed);
    }
}

/// What one packet costs of the cipher's blocks: its plaintext, and one for the tag.
#[inline]
const fn blocks_in(stride: usize) -> u64 {
    (stride - DATA_OVERHEAD).div_ceil(16) as u64 + 1
}

/// Reserves `count` blocks. What no longer fits uses up what is left: else a session that has room for small
/// packets alone would hold up the large ones until its time is over.
#[inline]
fn take_blocks(blocks: &AtomicU64, count: u64) -> Result<(), SealError> {
    let taken = blocks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sealed| {
        sealed.checked_add(count).filter(|end| *end <= REJECT_AFTER_BLOCKS)
    });
    taken.map(drop).map_err(|_| {
        blocks.fetch_max(REJECT_AFTER_BLOCKS, Ordering::Relaxed);
        SealError::Exhausted
    })
}

impl core::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sealer").field("sealed", &self.sealed()).finish_non_exhaustive()
    }
}

/// The receiving half of a session. Decrypting needs no exclusive access; what has been received before
/// is kept apart, in [`Replay`].
pub(super) struct Opener {
    key: AeadKey,
}

impl Opener {
    fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Opener { key: AeadKey::new(suite, key) }
    }

    #[cfg(test)]
    fn open(&self, counter: u64, sealed: &mut [u8]) -> Result<(), Forged> {
        self.key.open(counter, &[], sealed)
    }

    /// Decrypts data messages of `stride` bytes side by side, each under its own counter, and says which were
    /// authentic.
    #[inline]
    pub(super) fn open_burst(
        &self,
        counters: &[u64],
        messages: &mut [u8],
        stride: usize,
        authentic: &mut [bool],
    ) {
        self.key.open_burst(counters, messages, stride, DATA_HEADER_LEN, authentic);
    }
}

/// The two transport keys of one handshake and what they have been used for.
pub(super) struct Session {
    pub(super) role: Role,
    pub(super) suite: Suite,
    /// Our index: peers put it into their data packets.
    pub(super) index: u32,
    pub(super) born: Instant,
    /// Cleared when our private key changes: the session still opens packets, but seals no more.
    pub(super) may_seal: bool,
    pub(super) sealer: Arc<Sealer>,
    /// Shared with those who decrypt without the device.
    pub(super) opener: Arc<Opener>,
    pub(super) replay: Replay,
}

impl Session {
    pub(super) fn new(role: Role, index: u32, keys: &TransportKeys, now: Instant) -> Self {
        let TransportKeys { suite, sending, receiving, receiver } = keys;
        Session {
            role,
            suite: *suite,
            index,
            born: now,
            may_seal: true,
            sealer: Arc::new(Sealer::new(*suite, sending, *receiver)),
            opener: Arc::new(Opener::new(*suite, receiving)),
            replay: Replay::new(),
        }
    }

    /// When it ends: from then on it neither seals nor opens.
    pub(super) fn end(&self) -> Instant {
        self.born + REJECT_AFTER_TIME
    }

    pub(super) fn has_ended(&self, now: Instant) -> bool {
        now >= self.end()
    }

    /// Whether a packet may be sealed with it.
    pub(super) fn can_seal(&self, now: Instant) -> bool {
        self.may_seal && !self.has_ended(now) && !self.sealer.is_spent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;
    use zeroize::Zeroizing;

    fn keys(suite: Suite, sending: u8, receiving: u8, receiver: u32) -> TransportKeys {
        let [sending, receiving] = [sending, receiving].map(|byte| Zeroizing::new([byte; 32]));
        TransportKeys { suite, sending, receiving, receiver }
    }

    fn pair_of(suite: Suite) -> (Session, Session) {
        (
            Session::new(Role::Initiator, 10, &keys(suite, 1, 2, 20), Instant::ORIGIN),
            Session::new(Role::Responder, 20, &keys(suite, 2, 1, 10), Instant::ORIGIN),
        )
    }

    fn pair() -> (Session, Session) {
        pair_of(Suite::default())
    }

    #[test]
    fn padding_reaches_sixteen_but_never_crosses_the_mtu() {
        let cases = [(0, 0), (1, 16), (15, 16), (16, 16), (17, 32), (1269, 1280), (1297, 1297), (1300, 1300)];
        for (len, padded) in cases {
            assert_eq!(Sealer::slot_len(len, 1300), padded + 32, "{len}");
        }
        assert_eq!(Sealer::slot_len(1400, 1300), 1432, "a packet above the MTU is not cut");
    }

    #[test]
    fn what_is_sealed_opens() {
        let (alice, bob) = pair();
        for len in [0, 16, 52, 1420] {
            let mut slot = vec![0; len + 32];
            slot[16..16 + len].fill(7);
            let counter = alice.sealer.seal(&mut slot).unwrap();
            assert_eq!(slot[..8], [4, 0, 0, 0, 20, 0, 0, 0]);
            assert_eq!(slot[8..16], counter.to_le_bytes());
            bob.opener.open(counter, &mut slot[16..]).unwrap();
            assert!(slot[16..16 + len].iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn a_burst_is_its_packets_under_consecutive_counters() {
        let (alice, bob) = pair();
        alice.sealer.seal(&mut [0; 32]).unwrap();
        let mut burst: Vec<u8> = (0..5 * 80).map(|i| (i / 80) as u8).collect();
        assert_eq!(alice.sealer.seal_burst(&mut burst, 80), Ok(1));
        for (i, slot) in burst.chunks_exact_mut(80).enumerate() {
            assert_eq!(slot[8..16], (i as u64 + 1).to_le_bytes());
            bob.opener.open(i as u64 + 1, &mut slot[16..]).unwrap();
            assert_eq!(slot[16..64], [i as u8; 48]);
        }
    }

    #[test]
    fn slots_too_short_or_uneven_are_refused() {
        let (alice, _) = pair();
        assert_eq!(alice.sealer.seal(&mut [0; 31]), Err(SealError::SlotLength));
        assert_eq!(alice.sealer.seal(&mut []), Err(SealError::SlotLength));
        assert_eq!(alice.sealer.seal_burst(&mut [0; 100], 48), Err(SealError::SlotLength));
        assert_eq!(alice.sealer.sealed(), 0, "no counter is lost");
    }

    #[test]
    fn reject_after_messages_holds_before_the_nonce_wraps() {
        let (alice, _) = pair();
        alice.sealer.set_counter(REJECT_AFTER_MESSAGES - 2);
        assert_eq!(alice.sealer.seal_burst(&mut [0; 96], 32), Err(SealError::Exhausted));
        assert_eq!(alice.sealer.seal(&mut [0; 32]), Ok(REJECT_AFTER_MESSAGES - 2));
        assert_eq!(alice.sealer.seal(&mut [0; 32]), Ok(REJECT_AFTER_MESSAGES - 1));
        for _ in 0..20_000 {
            assert_eq!(alice.sealer.seal(&mut [0; 32]), Err(SealError::Exhausted));
        }
        assert!(!alice.can_seal(Instant::ORIGIN));
    }

    #[cfg(feature = "ring")]
    #[test]
    fn blocks_are_counted_where_the_cipher_bounds_them() {
        let (alice, bob) = pair_of(Suite::Aes256Gcm);
        // An empty packet is its tag; 17 bytes are two blocks and the tag.
        alice.sealer.seal(&mut [0; 32]).unwrap();
        alice.sealer.seal(&mut [0; 32 + 17]).unwrap();
        assert_eq!(alice.sealer.blocks(), 1 + 3);
        let mut burst = vec![0; 7 * (32 + 1424)];
        alice.sealer.seal_burst(&mut burst, 32 + 1424).unwrap();
        assert_eq!((alice.sealer.blocks(), alice.sealer.sealed()), (4 + 7 * 90, 9));
        bob.opener.open(2, &mut burst[16..32 + 1424]).unwrap();

        let (alice, _) = pair();
        alice.sealer.seal(&mut [0; 32]).unwrap();
        assert_eq!(alice.sealer.blocks(), 0);
        assert!(alice.sealer.blocks.is_none(), "nothing is counted for a cipher without such a bound");
    }

    #[cfg(feature = "ring")]
    #[test]
    fn reject_after_blocks_is_never_passed() {
        let (alice, _) = pair_of(Suite::Aes256Gcm);
        alice.sealer.set_blocks(REKEY_AFTER_BLOCKS);
        assert!(!alice.sealer.is_worn());
        alice.sealer.seal(&mut [0; 32]).unwrap();
        assert!(alice.sealer.is_worn() && alice.can_seal(Instant::ORIGIN));

        alice.sealer.set_blocks(REJECT_AFTER_BLOCKS - 5);
        alice.sealer.seal(&mut [0; 64]).unwrap();
        assert!(alice.can_seal(Instant::ORIGIN));
        let sealed = alice.sealer.sealed();
        assert_eq!(alice.sealer.seal(&mut [0; 64]), Err(SealError::Exhausted), "three blocks, two are left");
        assert!(!alice.can_seal(Instant::ORIGIN), "so that the next session is asked for");
        assert_eq!(alice.sealer.seal(&mut [0; 32]), Err(SealError::Exhausted));
        assert_eq!((alice.sealer.blocks(), alice.sealer.sealed()), (REJECT_AFTER_BLOCKS, sealed));
    }

    #[test]
    fn a_session_ends_at_reject_after_time() {
        let (alice, _) = pair();
        assert!(alice.can_seal(Instant::from_nanos(179_999_999_999)));
        assert!(!alice.can_seal(Instant::from_secs(180)));
    }

    #[test]
    fn shards_can_share_a_sealer() {
        fn shared<T: Send + Sync>() {}
        shared::<Sealer>();
        for suite in Suite::ALL.into_iter().filter(|suite| suite.is_available()) {
            let (alice, _) = pair_of(suite);
            assert!(seal_on_four_threads(&alice.sealer).into_iter().eq(0..2000), "every counter once");
            if suite == Suite::Aes256Gcm {
                assert_eq!(alice.sealer.blocks(), 2000 * 2);
                alice.sealer.set_blocks(REJECT_AFTER_BLOCKS - 2 * 700 - 1);
                assert_eq!(seal_on_four_threads(&alice.sealer).len(), 700, "and none too many");
                assert_eq!(alice.sealer.blocks(), REJECT_AFTER_BLOCKS);
            }
        }
    }

    /// Four threads seal 500 packets of one block each; the counters that were used, ascending.
    fn seal_on_four_threads(sealer: &Sealer) -> Vec<u64> {
        let mut counters: Vec<u64> = std::thread::scope(|scope| {
            let seal = || (0..500).filter_map(|_| sealer.seal(&mut [0; 48]).ok()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(seal)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        counters.sort_unstable();
        counters
    }
}
