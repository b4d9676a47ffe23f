//! Transport keys: what a handshake leaves behind (WireGuard paper, section 5.4.5 and 5.4.6).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use portable_atomic::AtomicU64;

use super::constants::{PADDING, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME};
use super::event::Role;
use super::message::{DATA_HEADER_LEN, DATA_OVERHEAD, DataHeader};
use super::replay::Replay;
use crate::crypto::{Aead, AeadKey, Forged};
use crate::time::Instant;

/// Why a packet cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The session has used up its counters; a new handshake is needed.
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
}

impl Sealer {
    /// Bytes that sealing adds to a plaintext: header and tag.
    pub const OVERHEAD: usize = DATA_OVERHEAD;
    /// Where the plaintext stands in a slot.
    pub const PLAINTEXT_AT: usize = DATA_HEADER_LEN;

    pub(super) fn new(key: &[u8; 32], receiver: u32) -> Self {
        Sealer { key: AeadKey::new(key), receiver, counter: AtomicU64::new(0) }
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
        let first = self.take_counters((slots.len() / stride) as u64)?;
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
    fn new(key: &[u8; 32]) -> Self {
        Opener { key: AeadKey::new(key) }
    }

    /// Decrypts `sealed`, which ends in the tag, in place: the plaintext is at its front.
    #[inline]
    pub(super) fn open(&self, counter: u64, sealed: &mut [u8]) -> Result<(), Forged> {
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
    /// Our index: peers put it into their data packets.
    pub(super) index: u32,
    pub(super) born: Instant,
    /// Cleared when our private key changes: the session still opens packets, but seals no more.
    pub(super) may_seal: bool,
    pub(super) sealer: Arc<Sealer>,
    pub(super) opener: Opener,
    pub(super) replay: Replay,
}

impl Session {
    pub(super) fn new(
        role: Role,
        index: u32,
        receiver: u32,
        sending: &[u8; 32],
        receiving: &[u8; 32],
        now: Instant,
    ) -> Self {
        Session {
            role,
            index,
            born: now,
            may_seal: true,
            sealer: Arc::new(Sealer::new(sending, receiver)),
            opener: Opener::new(receiving),
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
        self.may_seal && !self.has_ended(now) && self.sealer.sealed() < REJECT_AFTER_MESSAGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn pair() -> (Session, Session) {
        let (to, back) = ([1; 32], [2; 32]);
        (
            Session::new(Role::Initiator, 10, 20, &to, &back, Instant::ORIGIN),
            Session::new(Role::Responder, 20, 10, &back, &to, Instant::ORIGIN),
        )
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
        let (alice, _) = pair();
        let mut counters: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..500).map(|_| alice.sealer.seal(&mut [0; 32]).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        counters.sort_unstable();
        assert!(counters.into_iter().eq(0..2000), "every counter once");
    }
}
