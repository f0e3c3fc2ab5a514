//! A clone that shares its parent's memory, as after vfork(2).

use std::ffi::c_void;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::sys::process::{Clone3, exit};
use crate::sys::{Error, Result, check};

/// Where such a clone runs. One at a time: its parent stands still meanwhile.
pub struct Stack {
    base: *mut c_void,
}

/// Far more than the way to execve(2) takes (its largest frames hold a path each), and the guard below it.
const SIZE: usize = 256 * 1024;
const GUARD: usize = 4096;

impl Stack {
    pub fn new() -> Result<Stack> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: a new mapping wherever there is room.
        let base = unsafe { libc::mmap(ptr::null_mut(), SIZE, rights, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(Error::last("mmap"));
        }
        let stack = Stack { base };
        // SAFETY: the lowest page of our own mapping, which nothing uses yet.
        let guarded = unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) };
        check("mprotect", guarded)?;
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; a clone that ran on it is gone, or has executed a program.
        unsafe { libc::munmap(self.base, SIZE) };
    }
}

/// What a clone exits with that has not got descriptors of its own, or that panicked.
const EXIT_LOST: i32 = 121;

struct Guest<'a, F> {
    keep: RawFd,
    child: &'a mut F,
}

/// clone3(2) with CLONE_VM, CLONE_VFORK and CLONE_FILES: the child runs `child` in the parent's memory, and the parent goes on when
/// the child has executed a program or has ended. The child has a table of descriptors of its own with what is below `keep`;
/// the kernel never copies the rest.
///
/// What `child` allocates and does not free is lost, what it changes stays changed, and whatever it waits for stops the parent.
pub fn clone3_shared<F: FnMut() -> i32>(request: Clone3<'_>, stack: &Stack, keep: RawFd, child: &mut F) -> Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let mut args = request.arguments(&mut pidfd);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES) as u64;
    args.stack = stack.base as u64;
    args.stack_size = SIZE as u64;
    let mut guest = Guest { keep, child };
    let result: isize;
    // SAFETY: in the parent this is one system call, after which it goes on as it was: the child has run on another stack
    // (`stack`, which is aligned to a page) and has ended or left this memory. The child never comes back from `enter`. `args`,
    // `pidfd` and `guest` live over all of it. The calling convention of `enter` is kept: the stack is aligned to 16 bytes
    // before the call, the argument is in rdi.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw const args,
            in("rsi") mem::size_of::<libc::clone_args>(),
            in("r12") enter::<F> as extern "C" fn(*mut Guest<'_, F>) -> !,
            in("r13") &raw mut guest,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    let pid = i32::try_from(result).unwrap_or(-libc::EOVERFLOW);
    if pid < 0 {
        return Err(Error::new("clone3", -pid));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The child's whole life. A panic would abort: `extern "C"` does not unwind.
extern "C" fn enter<F: FnMut() -> i32>(guest: *mut Guest<'_, F>) -> ! {
    // SAFETY: the parent's frame, which waits for us.
    let guest = unsafe { &mut *guest };
    // First of all: until then each descriptor that is opened or closed here is the parent's.
    // SAFETY: takes numbers only; the numbers that are lost are those of a table that nobody has seen.
    let unshared = unsafe { libc::syscall(libc::SYS_close_range, guest.keep, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if unshared == -1 {
        exit(EXIT_LOST);
    }
    exit((guest.child)())
}
