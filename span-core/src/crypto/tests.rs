use std::vec::Vec;

use super::*;
use crate::key::{PrivateKey, PublicKey};

fn hex(text: &str) -> Vec<u8> {
    let text: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    text.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 8439, appendix A.5 would need a nonce with a non-zero head; this is the same construction with
/// WireGuard's nonce, checked between the two providers over every length around the block sizes.
#[cfg(feature = "ring")]
#[test]
fn both_providers_agree() {
    let key = core::array::from_fn(|i| i as u8 * 7 + 1);
    let suite = Suite::ChaCha20Poly1305;
    let (ring, soft) = (RingKey::new(suite, &key), ChaChaKey::new(suite, &key));
    for len in (0..=200).chain([255, 256, 257, 1420, 1424, 9000]) {
        let counter = 0x0123_4567_89ab_cdef_u64.wrapping_mul(len as u64 + 1);
        let plain: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
        let aad = &plain[..len.min(33)];

        let mut by_ring = plain.clone();
        let tag = ring.seal(counter, aad, &mut by_ring);
        by_ring.extend_from_slice(&tag);
        let mut by_soft = plain.clone();
        let tag = soft.seal(counter, aad, &mut by_soft);
        by_soft.extend_from_slice(&tag);
        assert_eq!(by_ring, by_soft, "length {len}");

        soft.open(counter, aad, &mut by_ring).unwrap();
        ring.open(counter, aad, &mut by_soft).unwrap();
        assert_eq!((&by_ring[..len], &by_soft[..len]), (&plain[..], &plain[..]));
    }
}

/// The same against the pure-Rust `aes-gcm`, with the nonce written out.
#[cfg(feature = "ring")]
#[test]
fn aes_gcm_agrees_with_another_implementation() {
    use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
    let key: [u8; 32] = core::array::from_fn(|i| i as u8 * 7 + 1);
    let ring = RingKey::new(Suite::Aes256Gcm, &key);
    let other = aes_gcm::Aes256Gcm::new(&key.into());
    for len in (0..=200).chain([255, 256, 257, 1420, 1424, 9000]) {
        let counter = 0x0123_4567_89ab_cdef_u64.wrapping_mul(len as u64 + 1);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let plain: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
        let aad = &plain[..len.min(33)];

        let mut by_ring = plain.clone();
        let tag = ring.seal(counter, aad, &mut by_ring);
        by_ring.extend_from_slice(&tag);
        let by_other = other.encrypt(&nonce.into(), Payload { msg: &plain, aad }).unwrap();
        assert_eq!(by_ring, by_other, "length {len}");
        ring.open(counter, aad, &mut by_ring).unwrap();
        assert_eq!(by_ring[..len], plain);
    }
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test cases 13 and 14: those for a key
/// of 256 bits whose nonce is one of ours.
#[cfg(feature = "ring")]
#[test]
fn aes_gcm_vectors() {
    let key = RingKey::new(Suite::Aes256Gcm, &[0; 32]);
    assert_eq!(key.seal(0, &[], &mut [])[..], hex("530f8afbc74536b9a963b4f1c4cb738b")[..]);
    let mut block = [0; 16];
    let tag = key.seal(0, &[], &mut block);
    assert_eq!(block[..], hex("cea7403d4d606b6e074ec5d3baf39d18")[..]);
    assert_eq!(tag[..], hex("d0d1c8a799996bf0265b98b5d48ab919")[..]);
}

fn forgeries_are_refused<A: Aead>(suite: Suite) {
    let key = A::new(suite, &[9; 32]);
    let mut sealed = [5; 40].to_vec();
    let tag = key.seal(3, b"aad", &mut sealed);
    sealed.extend_from_slice(&tag);
    for bit in 0..sealed.len() * 8 {
        let mut forged = sealed.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(key.open(3, b"aad", &mut forged), Err(Forged), "bit {bit}");
    }
    assert_eq!(key.open(4, b"aad", &mut sealed.clone()), Err(Forged), "another counter");
    assert_eq!(key.open(3, b"aae", &mut sealed.clone()), Err(Forged), "another context");
    assert_eq!(key.open(3, b"aad", &mut sealed[..15].to_vec()), Err(Forged), "shorter than a tag");
    assert_eq!(A::new(suite, &[8; 32]).open(3, b"aad", &mut sealed.clone()), Err(Forged), "another key");
    assert_eq!(key.open(3, b"aad", &mut sealed), Ok(()));
}

#[cfg(feature = "ring")]
#[test]
fn ring_refuses_forgeries() {
    for suite in Suite::ALL {
        forgeries_are_refused::<RingKey>(suite);
    }
}

#[test]
fn pure_rust_refuses_forgeries() {
    forgeries_are_refused::<ChaChaKey>(Suite::ChaCha20Poly1305);
}

/// RFC 7693, appendix B.
#[test]
fn blake2s_vector() {
    let expected = hex("508C5E8C327C14E2E1A72BA34EEB452F37458B209ED63A294D999B4C86675982");
    assert_eq!(hash(&[b"a", b"bc"])[..], expected[..]);
}

/// The Noise specification's HKDF on the inputs every WireGuard handshake starts from: the chaining key
/// after the construction's name is a constant printed in many implementations.
#[test]
fn initial_chaining_key() {
    let chain = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
    let expected = hex("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36");
    assert_eq!(chain[..], expected[..]);
    let hash = hash(&[&chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
    let expected = hex("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3");
    assert_eq!(hash[..], expected[..]);
}

#[test]
fn longer_hkdf_outputs_extend_shorter_ones() {
    let three = hkdf3(&[1; 32], b"input");
    let two = hkdf2(&[1; 32], b"input");
    assert_eq!(*hkdf1(&[1; 32], b"input"), *three[0]);
    assert_eq!((*two[0], *two[1]), (*three[0], *three[1]));
    assert_ne!(*three[0], *three[2]);
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
#[test]
fn xchacha_vector() {
    let key: [u8; 32] = core::array::from_fn(|i| 0x80 + i as u8);
    let nonce: [u8; 24] = core::array::from_fn(|i| 0x40 + i as u8);
    let aad = hex("50515253c0c1c2c3c4c5c6c7");
    let plain =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                  sunscreen would be it.";
    let mut data = plain.to_vec();
    let tag = xchacha_seal(&key, &nonce, &aad, &mut data);
    assert_eq!(tag[..], hex("c0875924c1c7987947deafd8780acf49")[..]);
    assert_eq!(data[..16], hex("bd6d179d3e83d43b9576579493c0e939")[..]);
    xchacha_open(&key, &nonce, &aad, &mut data, &tag).unwrap();
    assert_eq!(data, plain);
}

/// Bob's side of RFC 7748, section 6.1.
#[test]
fn x25519_agreement() {
    let bob =
        PrivateKey::from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb").unwrap();
    let alice =
        PublicKey::from_hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a").unwrap();
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(diffie_hellman(&bob, &alice).unwrap()[..], shared[..]);
}

#[test]
fn low_order_points_give_no_secret() {
    let private = PrivateKey::from_bytes([0x55; 32]);
    for point in LOW_ORDER {
        let public = PublicKey::from_hex(point).unwrap();
        assert!(diffie_hellman(&private, &public).is_none(), "{point}");
    }
}

/// The points of small order on Curve25519 and their non-canonical encodings.
const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// A burst is its packets, whatever the provider does with many at once.
fn bursts_are_their_packets<A: Aead>(suite: Suite) {
    let key = A::new(suite, &[7; 32]);
    for count in [1, 2, 3, 4, 5, 15, 16, 17, 33, 64] {
        for len in [0, 1, 16, 64, 80, 1424] {
            let (at, stride) = (16, 16 + len + TAG_LEN);
            let plain: Vec<u8> = (0..count * stride).map(|i| (i * 13 + count) as u8).collect();
            let mut burst = plain.clone();
            key.seal_burst(1000, &mut burst, stride, at);
            for (i, slot) in burst.chunks_exact(stride).enumerate() {
                let mut single = plain[i * stride + at..][..len].to_vec();
                let tag = key.seal(1000 + i as u64, &[], &mut single);
                single.extend_from_slice(&tag);
                assert_eq!(slot[at..], single, "{i} of {count} of {len} bytes");
                assert_eq!(slot[..at], plain[i * stride..][..at], "the header is left alone");
            }
            // In any order, one of them forged.
            let counters: Vec<u64> = (1000..1000 + count as u64).collect();
            let forged = count / 2;
            burst[forged * stride + at + len] ^= 1;
            let mut authentic = std::vec![false; count];
            key.open_burst(&counters, &mut burst, stride, at, &mut authentic);
            for (i, slot) in burst.chunks_exact(stride).enumerate() {
                assert_eq!(authentic[i], i != forged);
                let text = &plain[i * stride + at..][..len];
                assert_eq!(slot[at..at + len] == *text, i != forged || len == 0, "{i} of {count} of {len}");
            }
        }
    }
}

#[cfg(feature = "ring")]
#[test]
fn bursts_by_ring() {
    bursts_are_their_packets::<RingKey>(Suite::ChaCha20Poly1305);
    bursts_are_their_packets::<RingKey>(Suite::Aes256Gcm);
}

#[test]
fn bursts_by_pure_rust() {
    bursts_are_their_packets::<ChaChaKey>(Suite::ChaCha20Poly1305);
}
