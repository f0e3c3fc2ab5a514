//! System calls by the instruction itself. The C library would leave an error in `errno`, which belongs to a thread: a clone on
//! the launchpad shares it with the supervisor that runs beside it, and each would read the other's.

use crate::sys::{Error, Result};

/// The kernel answers an error with -errno, down to this; MAX_ERRNO in linux/err.h.
const LAST_ERROR: isize = -4095;

/// `syscall!("name", number, arguments...)`: up to six numbers and pointers.
macro_rules! syscall {
    ($name:literal, $number:expr $(, $argument:expr)* $(,)?) => {
        $crate::sys::call::enter($name, $number, &[$($argument as usize),*])
    };
}
pub(super) use syscall;

/// # Safety
///
/// The arguments are what the man page of this call asks for, and pointers among them are good for as long as the call takes.
pub unsafe fn enter(name: &'static str, number: libc::c_long, arguments: &[usize]) -> Result<usize> {
    let argument = |n: usize| arguments.get(n).copied().unwrap_or(0);
    // SAFETY: passed on to the caller.
    let result = unsafe { instruction(number, [0, 1, 2, 3, 4, 5].map(argument)) };
    match result {
        LAST_ERROR..=-1 => Err(Error::new(name, -result as i32)),
        value => Ok(value as usize),
    }
}

/// The registers are those of syscall(2).
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn instruction(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: passed on to the caller; of registers the instruction changes rax, rcx and r11 only.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Where there is no launchpad, `errno` is nobody else's.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn instruction(number: libc::c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    // SAFETY: passed on to the caller.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => -(nix::errno::Errno::last_raw() as isize),
        result => result as isize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_errno_alone() {
        nix::errno::Errno::set_raw(libc::EXDEV);
        // SAFETY: the descriptor is none; nothing is read from nowhere.
        let refused = unsafe { syscall!("write", libc::SYS_write, -1i32, std::ptr::null::<u8>(), 0) };
        assert_eq!(refused, Err(Error::new("write", libc::EBADF)));
        assert_eq!(nix::errno::Errno::last_raw(), libc::EXDEV);
        // SAFETY: takes nothing.
        let pid = unsafe { syscall!("getpid", libc::SYS_getpid) };
        assert_eq!(pid, Ok(std::process::id() as usize));
    }
}
