//! A clone that shares its parent's memory, and leaves the parent to go on meanwhile.

use std::ffi::c_void;
use std::mem;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use crate::sys::call::syscall;
use crate::sys::process::{Clone3, exit};
use crate::sys::{Error, Result, check};

/// Room for one such clone: the stack that it runs on, and whatever it reads and writes until it has left.
pub struct Berth {
    stack: *mut c_void,
    guest: Option<Guest>,
}

/// How far the clone has come, as it says itself, and the kernel.
#[derive(Debug, Default)]
pub struct Progress {
    /// Not 0: it is in our memory. The kernel clears it when the clone executes a program or ends; CLONE_CHILD_CLEARTID in clone(2).
    here: AtomicI32,
    /// It has a table of descriptors of its own.
    apart: AtomicBool,
    /// It has come back from what it was to do, so it executes nothing any more.
    back: AtomicBool,
}

/// Its pid, its pidfd, and how far it has come.
pub type Cloned = (i32, OwnedFd, Arc<Progress>);

struct Guest {
    /// From a box, which is made again when the guest has left.
    luggage: NonNull<Luggage>,
    progress: Arc<Progress>,
}

/// What is the clone's alone until it has left.
struct Luggage {
    keep: RawFd,
    child: Box<dyn FnMut() -> i32>,
    progress: Arc<Progress>,
}

/// Far more than the way to execve(2) takes (its largest frames hold a path each), and the guard below it.
const SIZE: usize = 256 * 1024;
const GUARD: usize = 4096;

/// What a clone exits with that has not got descriptors of its own, or that panicked.
const EXIT_LOST: i32 = 121;

impl Progress {
    /// What it was given of descriptors is not the parent's any more.
    pub fn is_apart(&self) -> bool {
        self.apart.load(Ordering::Acquire) || self.has_left()
    }

    /// Nothing of the parent's memory is its any more.
    pub fn has_left(&self) -> bool {
        self.here.load(Ordering::Acquire) == 0
    }

    /// Waits until it has left, but not for longer than that. True: it has.
    pub fn wait(&self, patience: Duration) -> bool {
        let limit = libc::timespec { tv_sec: patience.as_secs() as libc::time_t, tv_nsec: patience.subsec_nanos().into() };
        let there = self.here.load(Ordering::Acquire);
        if there != 0 {
            // SAFETY: both pointers live over the call. The kernel wakes whoever waits for this word when it clears it; an
            // error says that the word has changed, or that time is up, or that a signal came.
            let _ = unsafe { syscall!("futex", libc::SYS_futex, self.here.as_ptr(), libc::FUTEX_WAIT, there, &raw const limit) };
        }
        self.has_left()
    }

    /// It has left by execve(2), unless it was killed on the way.
    pub fn has_executed(&self) -> bool {
        self.has_left() && !self.back.load(Ordering::Acquire)
    }
}

impl Berth {
    pub fn new() -> Result<Berth> {
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK);
        // SAFETY: a new mapping wherever there is room.
        let stack = unsafe { libc::mmap(ptr::null_mut(), SIZE, rights, flags, -1, 0) };
        if stack == libc::MAP_FAILED {
            return Err(Error::last("mmap"));
        }
        let berth = Berth { stack, guest: None };
        // SAFETY: the lowest page of our own mapping, which nothing uses yet.
        let guarded = unsafe { libc::mprotect(stack, GUARD, libc::PROT_NONE) };
        check("mprotect", guarded)?;
        Ok(berth)
    }

    /// Of whoever is in it.
    pub fn progress(&self) -> Option<&Arc<Progress>> {
        self.guest.as_ref().map(|guest| &guest.progress)
    }

    /// Frees what a guest leaves that has left. True: nobody is in it.
    pub fn clear(&mut self) -> bool {
        if let Some(left) = self.guest.take_if(|guest| guest.progress.has_left()) {
            // SAFETY: it came out of a box, and whoever used it is gone.
            drop(unsafe { Box::from_raw(left.luggage.as_ptr()) });
        }
        self.guest.is_none()
    }

    /// clone3(2) with CLONE_VM and CLONE_FILES: the child runs `child` in the parent's memory, beside the parent. First it takes a
    /// table of descriptors of its own, with what is below `keep`; the kernel never copies the rest. Until then
    /// ([`Progress::is_apart`]) those descriptors stay as they are.
    ///
    /// `child` neither allocates nor frees, for the parent does so at the same time, and makes its system calls by `sys::call`.
    pub fn clone3(&mut self, request: Clone3<'_>, keep: RawFd, child: Box<dyn FnMut() -> i32>) -> Result<Cloned> {
        if !self.clear() {
            return Err(Error::new("clone3", libc::EBUSY));
        }
        let progress = Arc::new(Progress { here: AtomicI32::new(1), ..Progress::default() });
        let luggage = NonNull::from(Box::leak(Box::new(Luggage { keep, child, progress: Arc::clone(&progress) })));
        let cloned = self.begin(request, luggage.as_ptr(), progress.here.as_ptr());
        if cloned.is_err() {
            // There is no child.
            progress.here.store(0, Ordering::Release);
        }
        self.guest = Some(Guest { luggage, progress: Arc::clone(&progress) });
        cloned.map(|(pid, pidfd)| (pid, pidfd, progress))
    }

    #[cfg(target_arch = "x86_64")]
    fn begin(&self, request: Clone3<'_>, luggage: *mut Luggage, here: *mut i32) -> Result<(i32, OwnedFd)> {
        let mut pidfd: RawFd = -1;
        let mut args = request.arguments(&mut pidfd);
        args.flags |= (libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_CHILD_CLEARTID) as u64;
        args.child_tid = here as u64;
        args.stack = self.stack as u64;
        args.stack_size = SIZE as u64;
        let result: isize;
        // SAFETY: in the parent this is one system call, after which it goes on as it was: the child runs on another stack
        // (ours, which is aligned to a page and which nobody else is on) and never comes back from `enter`. `args` and `pidfd` live
        // over the call. `luggage` and `here` live until the kernel has cleared `here`, which it does last: `clear` and `drop`
        // see to that. The calling convention of `enter` is kept: the stack is aligned to 16 bytes before the call, the argument is in rdi.
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
                in("r12") enter as extern "C" fn(*mut Luggage) -> !,
                in("r13") luggage,
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

    #[cfg(not(target_arch = "x86_64"))]
    fn begin(&self, _: Clone3<'_>, _: *mut Luggage, _: *mut i32) -> Result<(i32, OwnedFd)> {
        Err(Error::new("clone3", libc::ENOSYS))
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        if self.clear() {
            // SAFETY: our own mapping; whoever ran on it has left.
            unsafe { libc::munmap(self.stack, SIZE) };
        } else {
            // Somebody is still there: the stack and the luggage stay, and the counters that the kernel will write.
            mem::forget(self.guest.take());
        }
    }
}

/// The child's whole life. A panic would abort: `extern "C"` does not unwind.
extern "C" fn enter(luggage: *mut Luggage) -> ! {
    // SAFETY: the parent leaves it alone until we have left, but for the counters in `progress`.
    let luggage = unsafe { &mut *luggage };
    // First of all: until then each descriptor that is opened or closed here is the parent's.
    // SAFETY: takes numbers only; the numbers that are lost are those of a table that nobody has seen.
    let unshared = unsafe { syscall!("close_range", libc::SYS_close_range, luggage.keep, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    let mut status = EXIT_LOST;
    if unshared.is_ok() {
        luggage.progress.apart.store(true, Ordering::Release);
        status = (luggage.child)();
    }
    luggage.progress.back.store(true, Ordering::Release);
    exit(status)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;
    use crate::sys::process::{Ended, waitid};

    fn request() -> Clone3<'static> {
        Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() }
    }

    #[test]
    fn a_guest_runs_beside_its_host_and_is_known_to_have_left() {
        let (mut told, tell) = std::io::pipe().unwrap();
        let (hear, mut heard) = std::io::pipe().unwrap();
        let beyond = std::fs::File::open("/dev/null").unwrap();
        let (beyond_number, keep) = (beyond.as_raw_fd(), beyond.as_raw_fd());
        let mut berth = Berth::new().unwrap();
        // It looks for the descriptor beyond, says what it found, and waits for us: whoever waited for it would wait for ever.
        let child = Box::new(move || {
            let mut byte = 0u8;
            // SAFETY: F_GETFD takes a number; the pointers are to one live byte.
            unsafe {
                let lost = syscall!("fcntl", libc::SYS_fcntl, beyond_number, libc::F_GETFD).is_err();
                byte += u8::from(lost);
                let _ = syscall!("write", libc::SYS_write, tell.as_raw_fd(), &raw const byte, 1);
                let _ = syscall!("read", libc::SYS_read, hear.as_raw_fd(), &raw mut byte, 1);
            }
            7
        });
        let (_, pidfd, progress) = berth.clone3(request(), keep, child).unwrap();
        let mut said = [9];
        told.read_exact(&mut said).unwrap();
        assert_eq!(said, [1]);
        assert!(progress.is_apart() && !progress.has_left() && !berth.clear());
        assert!(beyond.metadata().is_ok());
        assert!(!progress.wait(Duration::from_millis(1)));
        let busy = berth.clone3(request(), keep, Box::new(|| 0));
        assert_eq!(busy.map(drop), Err(Error::new("clone3", libc::EBUSY)));
        // It has a copy of every end, this one too.
        heard.write_all(&[0]).unwrap();
        assert_eq!(waitid(pidfd.as_fd()), Ok(Ended::Status(7)));
        assert!(progress.has_left() && !progress.has_executed());
        // The pipes went with the guest.
        assert!(berth.clear() && told.read(&mut said).unwrap() == 0);
        assert!(progress.wait(Duration::ZERO));
    }

    #[test]
    fn who_executes_has_left() {
        use crate::sys::{StringArray, process};
        let mut berth = Berth::new().unwrap();
        let (arguments, nothing) = (StringArray::new(vec![c"true".into()]), StringArray::new(Vec::new()));
        let child = Box::new(move || process::execve(c"/bin/true", &arguments, &nothing).errno);
        let (_, pidfd, progress) = berth.clone3(request(), RawFd::MAX, child).unwrap();
        assert!(progress.wait(Duration::from_secs(60)));
        assert_eq!(waitid(pidfd.as_fd()), Ok(Ended::Status(0)));
        assert!(progress.has_executed() && berth.clear());
    }
}
