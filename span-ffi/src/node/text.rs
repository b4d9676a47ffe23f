//! Texts for the caller.

use std::ffi::c_char;
use std::mem::MaybeUninit;

use crate::pointer;
use crate::status::Status;

/// Characters the caller lends; NULL lends none, however many it says.
///
/// # Safety
/// The promise of the module `pointer`.
pub(super) unsafe fn room<'a>(text: *mut c_char, room: usize) -> Result<&'a mut [MaybeUninit<u8>], Status> {
    // SAFETY: the caller's promise.
    unsafe { pointer::slice_mut(text.cast::<MaybeUninit<u8>>(), if text.is_null() { 0 } else { room }) }
}

/// Writes as much of the text as fits, and a NUL.
pub(super) fn write(room: &mut [MaybeUninit<u8>], text: &str) {
    let Some(most) = room.len().checked_sub(1) else { return };
    let mut len = text.len().min(most);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    for (place, byte) in room.iter_mut().zip(text.as_bytes()[..len].iter().chain([&0])) {
        place.write(*byte);
    }
}

/// Writes the whole text and a NUL, or nothing but the NUL.
pub(super) fn write_whole(room: &mut [MaybeUninit<u8>], text: &str) {
    write(room, if text.len() < room.len() { text } else { "" });
}

/// The text in an array of a struct, cut off where it does not fit, and zeros behind it.
pub(super) fn array<const N: usize>(text: &str) -> [c_char; N] {
    let mut len = text.len().min(N - 1);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().zip(text.as_bytes()[..len].iter()) {
        *place = byte.cast_signed() as c_char;
    }
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(room: usize, text: &str, how: fn(&mut [MaybeUninit<u8>], &str)) -> Vec<u8> {
        let mut bytes = vec![MaybeUninit::new(9); room];
        how(&mut bytes, text);
        // SAFETY: all were initialised with 9.
        bytes.into_iter().map(|byte| unsafe { byte.assume_init() }).collect()
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(written(0, "ab", write), b"");
        assert_eq!(written(1, "ab", write), b"\0");
        assert_eq!(written(2, "ab", write), b"a\0");
        assert_eq!(written(5, "ab", write), b"ab\0\x09\x09");
        assert_eq!(written(4, "ab\u{e9}", write), b"ab\0\x09");
        assert_eq!(written(3, "ab", write_whole), b"ab\0");
        assert_eq!(written(2, "ab", write_whole), b"\0\x09");
        assert_eq!(array::<4>("a\u{e9}\u{e9}"), [97, -61_i8 as c_char, -87_i8 as c_char, 0]);
    }
}
