use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac};
use hmac::SimpleHmac;
use zeroize::Zeroizing;

/// BLAKE2s-256 over the concatenation of `parts`.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// Keyed BLAKE2s-128 over the concatenation of `parts`: the paper's MAC. `key` has at most 32 bytes.
pub fn keyed_mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut state = Blake2sMac::<U16>::new_from_slice(key).expect("a key has at most 32 bytes");
    for part in parts {
        Update::update(&mut state, part);
    }
    state.finalize_fixed().into()
}

/// One key from the chaining key and `input` (HKDF over HMAC-BLAKE2s).
pub fn hkdf1(chain: &[u8; 32], input: &[u8]) -> Zeroizing<[u8; 32]> {
    let secret = Zeroizing::new(hmac(chain, &[input]));
    Zeroizing::new(hmac(&secret, &[&[1]]))
}

/// Two keys from the chaining key and `input`.
pub fn hkdf2(chain: &[u8; 32], input: &[u8]) -> [Zeroizing<[u8; 32]>; 2] {
    let secret = Zeroizing::new(hmac(chain, &[input]));
    let first = Zeroizing::new(hmac(&secret, &[&[1]]));
    let second = Zeroizing::new(hmac(&secret, &[&first[..], &[2]]));
    [first, second]
}

/// Three keys from the chaining key and `input`.
pub fn hkdf3(chain: &[u8; 32], input: &[u8]) -> [Zeroizing<[u8; 32]>; 3] {
    let secret = Zeroizing::new(hmac(chain, &[input]));
    let first = Zeroizing::new(hmac(&secret, &[&[1]]));
    let second = Zeroizing::new(hmac(&secret, &[&first[..], &[2]]));
    let third = Zeroizing::new(hmac(&secret, &[&second[..], &[3]]));
    [first, second, third]
}

fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut state = <SimpleHmac<Blake2s256> as KeyInit>::new_from_slice(key).expect("HMAC takes any key");
    for part in parts {
        Mac::update(&mut state, part);
    }
    state.finalize_fixed().into()
}
