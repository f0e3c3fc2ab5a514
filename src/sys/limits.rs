//! prlimit(2).

use std::ptr;

use crate::sys::Result;
use crate::sys::call::syscall;

/// setrlimit(2) of this process.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: pid 0 is this process; the new limit lives over the call, the old one is not asked for.
    unsafe { syscall!("prlimit", libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<libc::rlimit64>()) }.map(drop)
}
