//! The vectors of RFC 8439, as far as they fit: no associated data, and a nonce that begins with four zeros.
//!
//! That leaves ChaCha20's (A.1 and A.2): both examples of the whole (2.8.2 and A.5) have associated data. Those of Poly1305 (A.3),
//! and Wycheproof's, all of which have other nonces, are tested inside the crate, on the parts.

mod common;

use common::{TAG, lanes};
use span_aead::Lanes;

/// Seals a text alone and among others, in every place of a batch.
fn sealed(lanes: Lanes, key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
    let stride = text.len() + TAG;
    let slot = [text, &[0; TAG]].concat();
    let mut alone = slot.clone();
    lanes.seal(key, counter, &mut alone, stride, 0);
    for (count, place) in [(8, 3), (16, 0), (16, 15), (20, 18)] {
        let Some(first) = counter.checked_sub(place) else { continue };
        if first.checked_add(count).is_none() {
            continue;
        }
        let mut slots = slot.repeat(count as usize);
        lanes.seal(key, first, &mut slots, stride, 0);
        assert_eq!(slots[place as usize * stride..][..stride], alone, "place {place} of {count}");
    }
    alone
}

#[test]
fn rfc_8439_keystream() {
    let Some(lanes) = lanes("rfc_8439_keystream") else { return };
    let mut one = [0; 32];
    one[31] = 1;
    let mut second = [0; 32];
    second[1] = 0xff;
    // Key, block, keystream; the nonce is zero. A.1, vectors 2, 3 and 4.
    let vectors = [
        (
            [0; 32],
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            one,
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a
             8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            second,
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca
             13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ];
    for (key, block, keystream) in vectors {
        let text = vec![0; 64 * block];
        let sealed = sealed(lanes, &key, 0, &text);
        assert_eq!(sealed[64 * (block - 1)..][..64], hex(keystream));
    }
}

#[test]
fn rfc_8439_encryption() {
    let Some(lanes) = lanes("rfc_8439_encryption") else { return };
    // A.2, vector 2: the nonce ends in 2, and the text begins at block 1.
    let text = b"Any submission to the IETF intended by the Contributor for publication as all or part of an \
        IETF Internet-Draft or RFC and any statement made within the context of an IETF activity is considered an \
        \"IETF Contribution\". Such statements include oral statements in IETF sessions, as well as written and \
        electronic communications made at any time or place, which are addressed to";
    let ciphertext = hex("a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec
        2a97948bd3722915c8f3d337f7d370050e9e96d647b7c39f56e031ca5eb6250d4042e02785ececfa4b4bb5e8ead0440e20b6e8db09
        d881a7c6132f420e52795042bdfa7773d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85ad00f8449ed8f72d0d662
        ab052691ca66424bc86d2df80ea41f43abf937d3259dc4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e6
        2b0871cdac638939e25e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6ccc3aaf9f3979c92b3720fc88dc95ed84a1be059c
        6499b9fda236e7e818b04b0bc39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f5869ca52c5b83fa36f
        f216b9c1d30062bebcfd2dc5bce0911934fda79a86f6e698ced759c3ff9b6477338f3da4f9cd8514ea9982ccafb341b2384dd902f3
        d1ab7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221");
    let mut key = [0; 32];
    key[31] = 1;
    let sealed = sealed(lanes, &key, 2 << 56, text);
    assert_eq!(sealed[..text.len()], ciphertext);
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| (digit as char).to_digit(16).expect("a digit") as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
