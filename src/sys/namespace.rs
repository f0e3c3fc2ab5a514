//! Namespaces: setns(2), unshare(2), and what is named in them.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::{Result, check};

/// setns(2). `flags` of 0 takes whatever namespace `fd` is; a pidfd takes the named ones, all or none.
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: takes a borrowed descriptor and a number.
    let result = unsafe { libc::setns(fd.as_raw_fd(), flags) };
    check("setns", result).map(drop)
}

pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no caller in this program shares memory with another thread's view of a namespace; it takes a number.
    let result = unsafe { libc::unshare(flags) };
    check("unshare", result).map(drop)
}

pub fn sethostname(name: &CStr) -> Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: pointer and length are of one live slice.
    let result = unsafe { libc::sethostname(bytes.as_ptr().cast(), bytes.len()) };
    check("sethostname", result).map(drop)
}
