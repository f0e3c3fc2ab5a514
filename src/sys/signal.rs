//! Signal masks and dispositions, by the raw calls: the C library hides two real-time signals from sigaction(3).

use std::ptr;

use crate::sys::{Result, check};

/// Signals are numbered 1 to 64; the kernel's set is 64 bits.
const LAST_SIGNAL: i32 = 64;
const SET_SIZE: usize = 8;

/// struct sigaction as rt_sigaction(2) wants it on x86_64.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// A signal mask, one bit per signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mask(u64);

impl Mask {
    pub const NONE: Mask = Mask(0);
    pub const ALL: Mask = Mask(u64::MAX);
}

/// sigprocmask(2) with SIG_SETMASK; gives the mask from before.
pub fn set_mask(mask: Mask) -> Result<Mask> {
    let mut before = 0u64;
    // SAFETY: both pointers are to live u64s, which is what SET_SIZE says.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, &raw mut before, SET_SIZE) };
    check("rt_sigprocmask", result)?;
    Ok(Mask(before))
}

/// Every signal gets its default disposition. An ignored one would stay ignored across execve(2).
pub fn reset_dispositions() -> Result<()> {
    let default = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in (1..=LAST_SIGNAL).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)) {
        // SAFETY: `default` lives over the call and has the kernel's layout; the old action is not asked for.
        let result =
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null_mut::<KernelAction>(), SET_SIZE) };
        check("rt_sigaction", result)?;
    }
    Ok(())
}
