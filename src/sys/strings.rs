//! The null-terminated arrays of strings that execve(2) takes.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

/// `argv` or `envp`, complete with its pointers, so that nothing is left to build in the clone.
pub struct StringArray {
    /// Each with its NUL. The pointers point into these, which never move: the heap blocks stay where they are.
    strings: Vec<Box<[u8]>>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    pub fn new(strings: Vec<CString>) -> Self {
        let strings: Vec<Box<[u8]>> = strings.into_iter().map(|s| s.into_bytes_with_nul().into_boxed_slice()).collect();
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr().cast()).collect();
        pointers.push(ptr::null());
        StringArray { strings, pointers }
    }

    /// Valid while `self` lives.
    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }

    pub fn len(&self) -> usize {
        self.strings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.strings.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().filter_map(|s| CStr::from_bytes_with_nul(s).ok())
    }

    /// Writes a decimal number over a string from byte `at` on: what is known only in the clone (its own pid) goes into
    /// memory that was laid out before. Does nothing unless the string has room for [`DIGITS`] bytes there.
    pub fn patch_number(&mut self, index: usize, at: usize, number: u32) {
        let Some(string) = self.strings.get_mut(index) else {
            return;
        };
        let Some(room) = string.get_mut(at..).filter(|room| room.len() > DIGITS) else {
            return;
        };
        let mut digits = [0u8; DIGITS];
        let mut rest = number;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        room.fill(0);
        for (to, from) in room.iter_mut().zip(digits.iter().skip(DIGITS - count)) {
            *to = *from;
        }
        if let Some(pointer) = self.pointers.get_mut(index) {
            *pointer = string.as_ptr().cast();
        }
    }
}

/// The most that a u32 takes.
pub const DIGITS: usize = 10;

impl std::fmt::Debug for StringArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
