//! Signal masks and dispositions, by the raw calls: the C library hides two real-time signals from sigaction(3).

use std::sync::OnceLock;

use crate::sys::Result;
use crate::sys::call::syscall;

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
    unsafe { syscall!("rt_sigprocmask", libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask.0, &raw mut before, SET_SIZE) }?;
    Ok(Mask(before))
}

/// The signals that this process ignores, as one bit each: handlers end with execve(2), but an ignored signal would stay
/// ignored. Asked once: this program changes none that it was started with, but for those of the standard library.
pub fn ignored() -> Mask {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    let is_ignored = |signal: &i32| {
        let mut action = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
        // SAFETY: the new action is not given; the old one is written into the live `action`, which has the kernel's layout.
        let asked = unsafe { syscall!("rt_sigaction", libc::SYS_rt_sigaction, *signal, 0, &raw mut action, SET_SIZE) };
        asked.is_ok() && action.handler == libc::SIG_IGN
    };
    Mask(*IGNORED.get_or_init(|| (1..=LAST_SIGNAL).filter(is_ignored).fold(0, |mask, signal| mask | 1 << (signal - 1))))
}

/// These signals get their default dispositions.
pub fn reset_dispositions(signals: Mask) -> Result<()> {
    let default = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in (1..=LAST_SIGNAL).filter(|signal| signals.0 & 1 << (signal - 1) != 0) {
        // SAFETY: `default` lives over the call and has the kernel's layout; the old action is not asked for.
        unsafe { syscall!("rt_sigaction", libc::SYS_rt_sigaction, signal, &raw const default, 0, SET_SIZE) }?;
    }
    Ok(())
}
