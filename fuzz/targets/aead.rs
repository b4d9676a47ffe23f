//! Bursts of packets through the lanes and through ring: every byte must be the same.
//!
//! The input is a header of lengths, counters and key, then which packets are forged, then what the texts are made of, over
//! and over. On a CPU without the lanes there is nothing to try.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use span_aead::Lanes;

const TAG: usize = 16;

fuzz_target!(|input: &[u8]| {
    let Some(lanes) = Lanes::detect() else { return };
    let Some((&[count, text_at, len_low, len_high, key, forged_at, ref first @ ..], rest)) =
        input.split_first_chunk::<14>()
    else {
        return;
    };
    let count = 1 + usize::from(count % 40);
    let text_at = usize::from(text_at % 64);
    let len = usize::from(u16::from_le_bytes([len_low, len_high % 9]));
    let first = u64::from_le_bytes(*first).min(u64::MAX - 40);
    let key: [u8; 32] = std::array::from_fn(|i| key.wrapping_mul(2 * i as u8 + 1));
    let (forged, texts) = rest.split_at(rest.len().min(5));

    let stride = text_at + len + TAG;
    let plain: Vec<u8> = texts.iter().copied().chain([0]).cycle().take(stride * count).collect();
    let mut expected = plain.clone();
    let ring = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).expect("32 bytes"));
    for (slot, counter) in expected.chunks_exact_mut(stride).zip(first..) {
        let (text, tag) = slot[text_at..].split_last_chunk_mut::<TAG>().expect("room for a tag");
        let sealed =
            ring.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text).expect("short enough");
        tag.copy_from_slice(sealed.as_ref());
    }
    let mut slots = plain.clone();
    lanes.seal(&key, first, &mut slots, stride, text_at);
    assert_eq!(slots, expected, "sealed");
    let mut alone = plain[text_at..].to_vec();
    let tag = lanes.seal_one(&key, first, &mut alone[..len]);
    assert_eq!((&alone[..len], &tag[..]), expected[text_at..][..len + TAG].split_at(len), "sealed alone");

    // A bit of the text or the tag is turned over in each packet whose own bit is set.
    let forged: Vec<bool> =
        (0..count).map(|i| forged.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)).collect();
    let bit = usize::from(forged_at) % (8 * (len + TAG));
    for (index, slot) in slots.chunks_exact_mut(stride).enumerate() {
        slot[text_at + bit / 8] ^= u8::from(forged[index]) << (bit % 8);
        let tag_at = text_at + len;
        let (kept, tag) = (slot[..text_at].to_vec(), slot[tag_at..].to_vec());
        let expected = &mut expected[index * stride..][..stride];
        expected.copy_from_slice(&plain[index * stride..][..stride]);
        expected[..text_at].copy_from_slice(&kept);
        expected[tag_at..].copy_from_slice(&tag);
        if forged[index] {
            expected[text_at..tag_at].fill(0);
        }
    }
    let counters: Vec<u64> = (first..).take(count).collect();
    let (alone, tag) = slots[text_at..stride].split_last_chunk::<TAG>().expect("room for a tag");
    let mut alone = alone.to_vec();
    assert_eq!(lanes.open_one(&key, first, &mut alone, tag), !forged[0]);
    assert_eq!(alone, expected[text_at..][..len], "opened alone");

    let mut valid = forged.clone();
    lanes.open(&key, &counters, &mut slots, stride, text_at, &mut valid);
    assert!(valid.iter().zip(&forged).all(|(valid, forged)| valid != forged), "{valid:?} of {forged:?}");
    assert_eq!(slots, expected, "opened");
});

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}
