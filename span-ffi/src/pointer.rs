//! Pointers of a caller in C, checked as far as that can be done.
//!
//! What cannot be checked is the caller's promise, the same for every function: a pointer that is not NULL points
//! to as many values of its type as the function's documentation says, nobody else changes them during the call,
//! and those that the library writes nobody else reads.

use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::ops::Deref;
use std::ptr;

use zeroize::zeroize_flat_type;

use crate::status::Status;

fn check<T>(pointer: *const T) -> Result<(), Status> {
    if pointer.is_null() {
        Err(Status::Null)
    } else if pointer.is_aligned() {
        Ok(())
    } else {
        Err(Status::Misaligned)
    }
}

/// A value the caller lends.
///
/// # Safety
/// The promise of this module.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T) -> Result<&'a T, Status> {
    check(pointer)?;
    // SAFETY: it is neither NULL nor misaligned; the rest is promised.
    Ok(unsafe { &*pointer })
}

/// Values the caller lends; NULL is fine for none.
///
/// # Safety
/// The promise of this module.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, len: usize) -> Result<&'a [T], Status> {
    if len == 0 {
        return Ok(&[]);
    }
    check(pointer)?;
    fits::<T>(len)?;
    // SAFETY: it is neither NULL nor misaligned, and not larger than any object can be; the rest is promised.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// Values the caller lends to be changed; NULL is fine for none.
///
/// # Safety
/// The promise of this module. The values are initialised, or `T` is a `MaybeUninit`, or bytes: C has no others.
pub(crate) unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize) -> Result<&'a mut [T], Status> {
    if len == 0 {
        return Ok(&mut []);
    }
    check(pointer)?;
    fits::<T>(len)?;
    // SAFETY: it is neither NULL nor misaligned, and not larger than any object can be; the rest is promised.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, len) })
}

fn fits<T>(len: usize) -> Result<(), Status> {
    let bytes = len.checked_mul(size_of::<T>()).ok_or(Status::Invalid)?;
    isize::try_from(bytes).map(drop).map_err(|_| Status::Invalid)
}

/// The place of one result, to be written when all has gone well.
///
/// # Safety
/// The promise of this module.
pub(crate) unsafe fn place<'a, T>(pointer: *mut T) -> Result<&'a mut MaybeUninit<T>, Status> {
    check(pointer)?;
    // SAFETY: it is neither NULL nor misaligned; the rest is promised, and a `MaybeUninit` may hold anything.
    Ok(unsafe { &mut *pointer.cast::<MaybeUninit<T>>() })
}

/// A text the caller lends. One that is not UTF-8 is as good as none of ours.
///
/// # Safety
/// The promise of this module; the text ends in a NUL.
pub(crate) unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, Status> {
    check(pointer)?;
    // SAFETY: it is not NULL, and it is promised to end.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_str().unwrap_or_default())
}

/// A struct that grows from version to version, and begins with its size.
///
/// # Safety
/// The type is `repr(C)`, its first field is the `u32` with the size, and every pattern of bits is a value of it.
pub(crate) unsafe trait Versioned: Copy {
    /// The size of the first version of the struct.
    const FIRST_SIZE: usize;
}

/// No struct of ours will ever be larger.
const ABSURD_SIZE: usize = 1 << 16;

/// What the caller says to be the size of its version of the struct.
///
/// # Safety
/// The promise of this module, for as many bytes as the struct itself says.
unsafe fn caller_size<T: Versioned>(pointer: *const T) -> Result<usize, Status> {
    check(pointer)?;
    // SAFETY: every version of the struct begins with its size.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if (T::FIRST_SIZE..=ABSURD_SIZE).contains(&size) { Ok(size) } else { Err(Status::StructSize) }
}

/// The caller's struct as this version of the library knows it: fields the caller does not know are zero; those
/// this library does not know must be.
///
/// # Safety
/// The promise of this module, for as many bytes as the struct itself says.
pub(crate) unsafe fn config<T: Versioned>(pointer: *const T) -> Result<Wiped<T>, Status> {
    // SAFETY: as this function demands.
    let size = unsafe { caller_size(pointer) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: the struct has `size` bytes.
    let unknown = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Status::Unsupported);
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: both have `known` bytes, and are not the same. Zeros and whatever the caller wrote are a `T`.
    Ok(Wiped(unsafe {
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), known);
        copy.assume_init()
    }))
}

/// A copy that leaves no trace.
pub(crate) struct Wiped<T: Versioned>(T);

impl<T: Versioned> Deref for Wiped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Versioned> Drop for Wiped<T> {
    fn drop(&mut self) {
        // SAFETY: a versioned struct owns nothing, and zeros are a value of it.
        unsafe { zeroize_flat_type(&raw mut self.0) };
    }
}

/// The place of a result that grows from version to version.
pub(crate) struct Report<T> {
    pointer: *mut T,
    size: usize,
}

/// # Safety
/// The promise of this module, for as many bytes as the struct itself says. The place is used before the call ends.
pub(crate) unsafe fn report<T: Versioned>(pointer: *mut T) -> Result<Report<T>, Status> {
    // SAFETY: as this function demands.
    let size = unsafe { caller_size(pointer.cast_const()) }?;
    Ok(Report { pointer, size })
}

impl<T: Versioned> Report<T> {
    /// Writes what the caller knows of `value`, and how many bytes that are.
    pub(crate) fn write(self, value: &T) {
        let known = self.size.min(size_of::<T>());
        // SAFETY: `report` was promised a struct of `size` bytes; `value` has no fewer than `known` and is not the
        // same, because nobody else could borrow that.
        unsafe {
            ptr::copy_nonoverlapping(ptr::from_ref(value).cast::<u8>(), self.pointer.cast::<u8>(), known);
            self.pointer.cast::<u32>().write(known as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Grown {
        size: u32,
        old: u32,
        new: u64,
    }

    // SAFETY: three numbers, the first of which is the size.
    unsafe impl Versioned for Grown {
        const FIRST_SIZE: usize = 8;
    }

    fn read(from: &[u32; 8]) -> Result<Grown, Status> {
        // SAFETY: the array is as large as any size in these tests; its alignment is checked.
        unsafe { config(from.as_ptr().cast::<Grown>()) }.map(|grown| *grown)
    }

    #[repr(align(8))]
    struct Aligned([u32; 8]);

    #[test]
    fn older_and_newer_callers_are_understood() {
        let with = |size, rest: [u32; 7]| {
            let [a, b, c, d, e, f, g] = rest;
            read(&Aligned([size, a, b, c, d, e, f, g]).0)
        };
        assert_eq!(with(8, [1, 2, 3, 4, 5, 6, 7]), Ok(Grown { size: 8, old: 1, new: 0 }), "older");
        assert_eq!(with(16, [1, 2, 0, 4, 5, 6, 7]), Ok(Grown { size: 16, old: 1, new: 2 }));
        assert_eq!(with(24, [1, 2, 0, 0, 0, 6, 7]), Ok(Grown { size: 24, old: 1, new: 2 }), "newer");
        assert_eq!(with(24, [1, 2, 0, 0, 5, 6, 7]), Err(Status::Unsupported));
        for absurd in [0, 7, u32::MAX] {
            assert_eq!(with(absurd, [0; 7]), Err(Status::StructSize), "{absurd}");
        }
    }

    #[test]
    fn a_report_has_the_size_the_caller_knows() {
        let value = Grown { size: 0, old: 5, new: u64::MAX };
        for (size, written) in [(8, [8, 5, 9, 9, 9, 9, 9, 9]), (16, [16, 5, u32::MAX, u32::MAX, 9, 9, 9, 9])]
        {
            let mut place = Aligned([9; 8]);
            place.0[0] = size;
            // SAFETY: the array is no smaller than it says, and aligned.
            unsafe { report(place.0.as_mut_ptr().cast::<Grown>()) }.unwrap().write(&value);
            assert_eq!(place.0, written);
        }
    }

    #[test]
    fn pointers_are_checked() {
        let values = [1_u32, 2];
        let odd = values.as_ptr().cast::<u8>().wrapping_add(1).cast::<u32>();
        // SAFETY: what is not refused points to `values`.
        unsafe {
            assert_eq!(reference::<u32>(ptr::null()), Err(Status::Null));
            assert_eq!(reference(odd), Err(Status::Misaligned));
            assert_eq!(slice::<u32>(ptr::null(), 0), Ok(&[][..]));
            assert_eq!(slice::<u32>(ptr::null(), 1), Err(Status::Null));
            assert_eq!(slice(values.as_ptr(), 2), Ok(&values[..]));
            assert_eq!(slice(values.as_ptr(), usize::MAX / 4), Err(Status::Invalid));
            assert_eq!(slice(values.as_ptr(), usize::MAX), Err(Status::Invalid));
            assert_eq!(text(ptr::null()), Err(Status::Null));
            assert_eq!(text(c"span".as_ptr()), Ok("span"));
        }
    }
}
