//! User and group ids, by the raw calls: the C library's would signal the parent's other threads, which are not there.

use crate::sys::call::syscall;
use crate::sys::{Result, process};

pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and count are of one live slice of the kernel's gid_t.
    unsafe { syscall!("setgroups", libc::SYS_setgroups, groups.len(), groups.as_ptr()) }.map(drop)
}

/// setresgid(2) with the same id three times.
pub fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { syscall!("setresgid", libc::SYS_setresgid, gid, gid, gid) }.map(drop)
}

/// setresuid(2) with the same id three times.
pub fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: takes numbers only.
    unsafe { syscall!("setresuid", libc::SYS_setresuid, uid, uid, uid) }.map(drop)
}

/// The effective one alone; setresuid(2).
pub fn seteuid(uid: u32) -> Result<()> {
    const SAME: u32 = u32::MAX;
    // SAFETY: takes numbers only.
    unsafe { syscall!("setresuid", libc::SYS_setresuid, SAME, uid, SAME) }.map(drop)
}

/// PR_SET_KEEPCAPS: permitted capabilities outlive the next change of ids; execve(2) clears it.
pub fn keep_capabilities() -> Result<()> {
    process::prctl("prctl(PR_SET_KEEPCAPS)", libc::PR_SET_KEEPCAPS, 1, 0)
}
