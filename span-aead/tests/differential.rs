//! The lanes against `ring` and RustCrypto, byte by byte.

mod common;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use common::{Burst, Draw, TAG, check, lanes};
use proptest::prelude::*;
use span_aead::Lanes;

fn consecutive(first: u64, count: usize) -> Vec<u64> {
    (first..=first + (count as u64 - 1)).collect()
}

#[test]
fn every_length() {
    let Some(lanes) = lanes("every_length") else { return };
    let mut draw = Draw(1);
    for len in 0..=2200 {
        let count = 1 + len % 40;
        let counters = consecutive(draw.number() >> 1, count);
        let burst = Burst::new(&mut draw, counters, len % 19, len);
        check(lanes, &burst);
    }
}

#[test]
fn every_count() {
    let Some(lanes) = lanes("every_count") else { return };
    let mut draw = Draw(2);
    for count in 1..=40 {
        for len in [0, 1, 16, 63, 64, 65, 127, 128, 129, 192, 193, 448, 449, 512, 1420, 1500] {
            let text_at = draw.below(40);
            let counters = consecutive(draw.number() >> 1, count);
            check(lanes, &Burst::new(&mut draw, counters, text_at, len));
        }
    }
}

#[test]
fn texts_that_end_where_memory_may() {
    let Some(lanes) = lanes("texts_that_end_where_memory_may") else { return };
    // No byte before or behind: the allocation is the text.
    for len in (0..300).chain(1300..1500) {
        let mut text = vec![7; len].into_boxed_slice();
        let tag = lanes.seal_one(&[9; 32], 1, &mut text);
        assert!(lanes.open_one(&[9; 32], 1, &mut text, &tag));
        assert_eq!(*text, vec![7; len]);
    }
}

#[test]
fn long_texts() {
    let Some(lanes) = lanes("long_texts") else { return };
    let mut draw = Draw(3);
    for (len, count) in [(9000, 17), (16384, 16), (65535, 9), (65535, 7), (65535, 1)] {
        let counters = consecutive(draw.number() >> 1, count);
        check(lanes, &Burst::new(&mut draw, counters, 16, len));
    }
}

#[test]
fn counters_cross_word_boundaries() {
    let Some(lanes) = lanes("counters_cross_word_boundaries") else { return };
    let mut draw = Draw(4);
    for count in [1, 7, 8, 9, 16, 33] {
        for before in 0..count as u64 {
            for boundary in [1 << 32, 1 << 63, (1 << 40) + (1 << 32)] {
                let counters = consecutive(boundary - before, count);
                check(lanes, &Burst::new(&mut draw, counters, 16, 80));
            }
        }
        // The last counter there is.
        let counters = consecutive(u64::MAX - (count as u64 - 1), count);
        check(lanes, &Burst::new(&mut draw, counters, 16, 80));
    }
}

#[test]
fn packets_open_under_counters_in_any_order() {
    let Some(lanes) = lanes("packets_open_under_counters_in_any_order") else { return };
    let mut draw = Draw(5);
    for count in 2..=40 {
        let counters = (0..count).map(|i| draw.number() >> (i * 7 % 64)).collect();
        check(lanes, &Burst::new(&mut draw, counters, 16, 37 * count));
    }
}

#[test]
fn a_forged_packet_is_zeroed_and_its_neighbours_open() {
    let Some(lanes) = lanes("a_forged_packet_is_zeroed_and_its_neighbours_open") else { return };
    let mut draw = Draw(6);
    for round in 0..300 {
        let count = 1 + round % 40;
        let len = draw.below(if round % 4 == 0 { 1500 } else { 300 });
        let counters = consecutive(draw.number() >> 1, count);
        let plain = Burst::new(&mut draw, counters, round % 17, len);
        // Which are forged: one of them in turn, all, or any subset.
        let forged: Vec<bool> = match round % 3 {
            0 => (0..count).map(|i| i == round / 3 % count).collect(),
            1 => vec![true; count],
            _ => (0..count).map(|_| draw.number() & 1 == 1).collect(),
        };
        let mut sealed = plain.clone();
        sealed.seal_with_ring();
        for index in (0..count).filter(|&index| forged[index]) {
            let bit = draw.below(8 * (len + TAG));
            sealed.packet(index)[bit / 8] ^= 1 << (bit % 8);
        }
        expect_forged(lanes, plain, sealed, &forged);
    }
}

#[test]
fn every_bit_of_a_tag_counts() {
    let Some(lanes) = lanes("every_bit_of_a_tag_counts") else { return };
    let mut draw = Draw(7);
    for count in [5, 16] {
        for bit in 0..8 * TAG {
            let counters = consecutive(bit as u64, count);
            let plain = Burst::new(&mut draw, counters, 3, 33);
            let mut sealed = plain.clone();
            sealed.seal_with_ring();
            let forged: Vec<bool> = (0..count).map(|i| i == bit % count).collect();
            sealed.packet(bit % count)[33 + bit / 8] ^= 1 << (bit % 8);
            expect_forged(lanes, plain, sealed, &forged);
        }
    }
}

/// Opens packets of which some are forged; those become zeros, the others what they were.
#[track_caller]
fn expect_forged(lanes: Lanes, mut expected: Burst, mut sealed: Burst, forged: &[bool]) {
    for (index, &forged) in forged.iter().enumerate() {
        let tag = *sealed.packet(index).last_chunk::<TAG>().expect("a tag");
        let (text, expected_tag) = expected.packet(index).split_last_chunk_mut().expect("a tag");
        *expected_tag = tag;
        if forged {
            text.fill(0);
        }
    }
    for (index, &forged) in forged.iter().enumerate() {
        let (key, counter) = (sealed.key, sealed.counters[index]);
        let mut packet = sealed.packet(index).to_vec();
        let (text, tag) = packet.split_last_chunk_mut::<TAG>().expect("a tag");
        assert_eq!(lanes.open_one(&key, counter, text, tag), !forged);
        assert_eq!(packet, expected.packet(index), "opened alone");
    }
    let valid = sealed.open(lanes);
    let expected_valid: Vec<bool> = forged.iter().map(|forged| !forged).collect();
    assert_eq!(valid, expected_valid);
    sealed.assert_same(&expected, "opened");
}

#[test]
fn no_packets_are_no_work() {
    let Some(lanes) = lanes("no_packets_are_no_work") else { return };
    lanes.seal(&[0; 32], u64::MAX, &mut [], 1 << 36, 16);
    lanes.open(&[0; 32], &[], &mut [], 32, 16, &mut []);
}

/// What a caller must not do, and what the panic says.
#[test]
fn broken_contracts_panic_before_anything_is_written() {
    let Some(lanes) = lanes("broken_contracts_panic_before_anything_is_written") else { return };
    let key = &[0; 32];
    type Call<'a> = &'a dyn Fn(&mut [u8]);
    let broken: [(&str, Call<'_>); 8] = [
        ("has no room", &|slots| lanes.seal(key, 0, slots, 31, 16)),
        ("has no room", &|slots| lanes.seal(key, 0, slots, 0, 0)),
        ("has no room", &|slots| lanes.seal(key, 0, slots, 32, usize::MAX)),
        ("longer than the keystream", &|slots| lanes.seal(key, 0, slots, 1 << 39, 16)),
        ("are not slots", &|slots| lanes.seal(key, 0, slots, 33, 16)),
        ("would repeat", &|slots| lanes.seal(key, u64::MAX - 1, slots, 32, 16)),
        ("one counter", &|slots| lanes.open(key, &[1, 2], slots, 32, 16, &mut [false; 3])),
        ("one verdict", &|slots| lanes.open(key, &[1, 2, 3], slots, 32, 16, &mut [false; 4])),
    ];
    for (expected, call) in broken {
        let mut slots = [0xa5; 96];
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(&mut slots)));
        let panicked = panicked.expect_err(expected);
        let text = panicked.downcast_ref::<String>().expect("a panic with a text");
        assert!(text.contains(expected), "{text:?} does not say {expected:?}");
        assert_eq!(slots, [0xa5; 96]);
    }
}

#[test]
fn any_burst_is_as_rustcrypto_and_ring_have_it() {
    let Some(lanes) = lanes("any_burst_is_as_rustcrypto_and_ring_have_it") else { return };
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(
        seed: u64,
        first in prop_oneof![any::<u64>(), (0..80_u64).prop_map(|less| (1 << 32) - less), 0..100_u64],
        count in 1..=40_usize,
        text_at in 0..70_usize,
        len in prop_oneof![0..200_usize, 0..2200_usize],
    )| {
        let first = first.min(u64::MAX - 40);
        let plain = Burst::new(&mut Draw(seed), consecutive(first, count), text_at, len);
        check(lanes, &plain);

        let mut expected = plain.clone();
        let cipher = ChaCha20Poly1305::new(&plain.key.into());
        for (index, counter) in plain.counters.iter().enumerate() {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let (text, tag) = expected.packet(index).split_last_chunk_mut::<TAG>().expect("a tag");
            *tag = cipher.encrypt_inout_detached(&nonce.into(), &[], text.into()).expect("short enough").into();
        }
        let mut sealed = plain.clone();
        sealed.seal(lanes);
        sealed.assert_same(&expected, "sealed");
    });
}
