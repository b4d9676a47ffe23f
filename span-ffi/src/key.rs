//! Keys, and randomness for them.

use std::ffi::c_char;

use span_core::key::{PresharedKey, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use crate::boundary::call;
use crate::pointer;
use crate::status::Status;

/// Characters of a key in base64, with the NUL at the end.
pub const SPAN_KEY_TEXT: usize = 45;

/// A key: private, public or preshared. All zeros mean none.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The 32 bytes of the key.
    pub bytes: [u8; 32],
}

impl Key {
    pub(crate) fn is_set(&self) -> bool {
        self.bytes != [0; 32]
    }

    pub(crate) fn private(&self) -> Option<PrivateKey> {
        self.is_set().then(|| PrivateKey::from_bytes(self.bytes))
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.bytes)
    }

    pub(crate) fn preshared(&self) -> PresharedKey {
        PresharedKey::from_bytes(self.bytes)
    }
}

/// Fills `bytes` with the operating system's randomness.
pub(crate) fn randomness() -> Result<Zeroizing<[u8; 32]>, Status> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(|_| Status::Entropy)?;
    Ok(bytes)
}

/// Makes a private key from the operating system's randomness. Any thread.
///
/// SPAN_STATUS_ENTROPY if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_key_generate(private_key: *mut Key) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { pointer::place(private_key) }?;
        place.write(Key { bytes: *PrivateKey::from_bytes(*randomness()?).as_bytes() });
        Ok(())
    })
}

/// Makes a preshared key from the operating system's randomness. Any thread.
///
/// SPAN_STATUS_ENTROPY if there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_key_generate_preshared(preshared_key: *mut Key) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let place = unsafe { pointer::place(preshared_key) }?;
        place.write(Key { bytes: *randomness()? });
        Ok(())
    })
}

/// The public key that belongs to a private key. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_key_public(private_key: *const Key, public_key: *mut Key) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (private_key, place) =
            unsafe { (pointer::reference(private_key)?.bytes, pointer::place(public_key)?) };
        place.write(Key { bytes: *PrivateKey::from_bytes(private_key).public_key().as_bytes() });
        Ok(())
    })
}

/// Reads a key from 44 characters of base64, as wg prints them, or 64 hexadecimal digits. Any thread.
///
/// SPAN_STATUS_KEY_TEXT if the text is neither.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_key_parse(text: *const c_char, key: *mut Key) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (text, place) = unsafe { (pointer::text(text)?, pointer::place(key)?) };
        // A preshared key is wiped when dropped and changes no bit of what it is made from.
        let parsed = if text.len() == 64 { PresharedKey::from_hex(text) } else { text.parse() };
        place.write(Key { bytes: *parsed.map_err(|_| Status::KeyText)?.as_bytes() });
        Ok(())
    })
}

/// Writes a key as 44 characters of base64 and a NUL into `text`, which has SPAN_KEY_TEXT characters. Any thread.
///
/// Of a private or preshared key that is a secret too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn span_key_format(key: *const Key, text: *mut c_char) -> Status {
    call(|| {
        // SAFETY: the caller's promise.
        let (key, place) =
            unsafe { (pointer::reference(key)?, pointer::slice_mut(text.cast::<u8>(), SPAN_KEY_TEXT)?) };
        let base64 = Zeroizing::new(key.preshared().to_base64());
        place[..44].copy_from_slice(base64.as_bytes());
        place[44] = 0;
        Ok(())
    })
}
