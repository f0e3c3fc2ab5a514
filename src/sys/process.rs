//! Processes: clone3(2), pidfds, waitid(2), execve(2), prctl(2).

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::sys::call::{self, syscall};
use crate::sys::{Error, Result, StringArray, check};

/// linux/sched.h; it does not fit the C library's int.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// linux/sched.h: no handler of ours runs in the child. What we ignore, it still ignores.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// What clone3(2) is asked for. Always with a pidfd.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clone3<'a> {
    /// CLONE_NEW* and the like.
    pub flags: u64,
    /// Sent to the parent at the end; 0 for a child that only the parent's own `waitid(pidfd)` shall see.
    pub exit_signal: i32,
    /// CLONE_INTO_CGROUP.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Flags under which the child would not be a copy; only [`super::shared`] sets some of them.
const NOT_A_FORK: u64 = (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_THREAD | libc::CLONE_SETTLS) as u64;

/// Ends the process when it is dropped: by unwinding, the only way out of a clone's closure.
struct NeverReturn;

impl Drop for NeverReturn {
    fn drop(&mut self) {
        exit(EXIT_PANIC)
    }
}

/// What a clone that panicked exits with. Nobody waits for the number; the report pipe is what is read.
const EXIT_PANIC: i32 = 121;

/// clone3(2) with the semantics of fork(2): the child has a copy of everything and runs `child`, and ends
/// with the status that it returns.
///
/// The copy includes locks that other threads of the parent held, the allocator's among them: `child` must not allocate.
pub fn clone3(request: Clone3<'_>, child: impl FnOnce() -> i32) -> Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let args = request.arguments(&mut pidfd);
    // SAFETY: without shared memory (NOT_A_FORK is masked out) and with no new stack this is fork(2): the child goes on
    // with its own copy of this stack. `args` and `pidfd` live over the call.
    let pid = unsafe { syscall!("clone3", libc::SYS_clone3, &raw const args, mem::size_of::<libc::clone_args>()) }?;
    if pid == 0 {
        let _guard = NeverReturn;
        exit(child());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((pid as i32, pidfd))
}

impl Clone3<'_> {
    pub(super) fn arguments(&self, pidfd: &mut RawFd) -> libc::clone_args {
        // SAFETY: clone_args is plain numbers, for which zero means "not asked for".
        let mut args: libc::clone_args = unsafe { mem::zeroed() };
        args.flags = (self.flags & !NOT_A_FORK) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
        args.pidfd = pidfd as *mut RawFd as u64;
        args.exit_signal = self.exit_signal as u64;
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        args
    }
}

/// exit_group(2): no handlers, no buffers flushed.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit has no precondition and does not return.
    unsafe { libc::_exit(status) }
}

/// A child that is only there to hold new namespaces open: it waits to be killed, or dies with its parent. Only the parent's own
/// [`waitid`] sees its end.
///
/// It shares our memory, because to copy that costs more than all the rest, the more the more we hold; and it uses none of it.
#[cfg(target_arch = "x86_64")]
pub fn hold_namespaces(flags: i32) -> Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain numbers, for which zero means "not asked for".
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags as u64 | (libc::CLONE_PIDFD | libc::CLONE_VM) as u64 | CLONE_CLEAR_SIGHAND;
    args.pidfd = &raw mut pidfd as u64;
    let mut result = libc::SYS_clone3;
    // SAFETY: `args` and `pidfd` live over the call. The child shares our memory and even our stack pointer, but from the moment
    // it exists to its end it executes the instructions below only: system calls with numbers in registers, which touch no
    // memory. It has no signal handlers.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            // The child: prctl(PR_SET_PDEATHSIG, SIGKILL), then pause() for ever.
            "mov edi, {death_signal}",
            "mov esi, {kill}",
            "mov eax, {prctl}",
            "syscall",
            "2:",
            "mov eax, {pause}",
            "syscall",
            "jmp 2b",
            "3:",
            death_signal = const libc::PR_SET_PDEATHSIG,
            kill = const libc::SIGKILL,
            prctl = const libc::SYS_prctl,
            pause = const libc::SYS_pause,
            inlateout("rax") result,
            in("rdi") &raw const args,
            in("rsi") mem::size_of::<libc::clone_args>(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if result < 0 {
        return Err(Error::new("clone3", -result as i32));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((result as i32, pidfd))
}

/// The same with the semantics of fork(2).
#[cfg(not(target_arch = "x86_64"))]
pub fn hold_namespaces(flags: i32) -> Result<(i32, OwnedFd)> {
    clone3(Clone3 { flags: flags as u64, ..Clone3::default() }, wait_to_be_killed)
}

/// The life of a child that is only there to be killed, or to die with its parent.
pub fn wait_to_be_killed() -> i32 {
    if set_parent_death_signal(libc::SIGKILL).is_err() {
        return EXIT_PANIC;
    }
    loop {
        // SAFETY: no arguments; it returns when a signal was handled.
        unsafe { libc::syscall(libc::SYS_pause) };
    }
}

/// execve(2). Comes back only with an error.
pub fn execve(path: &CStr, argv: &StringArray, envp: &StringArray) -> Error {
    // SAFETY: StringArray keeps both arrays and their strings alive and ends them with a null pointer.
    let result = unsafe { syscall!("execve", libc::SYS_execve, path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    // It does not come back otherwise.
    result.err().unwrap_or(Error::new("execve", libc::ENOEXEC))
}

pub fn getpid() -> i32 {
    // SAFETY: no arguments, cannot fail. The raw call, because a cached number would be the parent's.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

pub fn setsid() -> Result<()> {
    // SAFETY: takes nothing.
    unsafe { syscall!("setsid", libc::SYS_setsid) }.map(drop)
}

/// Gives the mask from before.
pub fn umask(mask: u32) -> u32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask)).bits()
}

/// PR_SET_PDEATHSIG; 0 for none.
pub fn set_parent_death_signal(signal: i32) -> Result<()> {
    prctl("prctl(PR_SET_PDEATHSIG)", libc::PR_SET_PDEATHSIG, signal as u64, 0)
}

/// setpriority(2) for this process alone: its children begin with 0 where it has less (SCHED_RESET_ON_FORK, sched(7)).
pub fn set_nice(nice: i32) -> Result<()> {
    let policy = libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK;
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameter lives over the call.
    check("sched_setscheduler", unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) })?;
    // SAFETY: it takes numbers only.
    check("setpriority", unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// PR_SET_DUMPABLE.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl("prctl(PR_SET_DUMPABLE)", libc::PR_SET_DUMPABLE, dumpable.into(), 0)
}

/// PR_SET_NO_NEW_PRIVS. There is no way back.
pub fn set_no_new_privs() -> Result<()> {
    prctl("prctl(PR_SET_NO_NEW_PRIVS)", libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// prctl(2) with numbers only.
pub(super) fn prctl(name: &'static str, option: i32, two: u64, three: u64) -> Result<()> {
    // SAFETY: every option that this room passes takes plain numbers, no pointers.
    unsafe { call::enter(name, libc::SYS_prctl, &[option as usize, two as usize, three as usize]) }.map(drop)
}

pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let fd = unsafe { syscall!("pidfd_open", libc::SYS_pidfd_open, pid, 0) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let (number, none) = (libc::SYS_pidfd_send_signal, ptr::null::<libc::siginfo_t>());
    // SAFETY: siginfo may be null; the descriptor is borrowed over the call.
    unsafe { syscall!("pidfd_send_signal", number, pidfd.as_raw_fd(), signal, none, 0) }.map(drop)
}

/// How a child ended: its status, or the signal (negative).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Status(i32),
    Signal(i32),
}

/// waitid(P_PIDFD, WEXITED): waits for one child and reaps it, whatever its exit signal is.
pub fn waitid(pidfd: BorrowedFd<'_>) -> Result<Ended> {
    // SAFETY: siginfo_t is plain data, for which zero is a value.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    loop {
        // SAFETY: `info` is a live siginfo_t.
        let result = unsafe { libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &raw mut info, libc::WEXITED | libc::__WALL) };
        match check("waitid", result) {
            Err(error) if error.is(libc::EINTR) => continue,
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid filled the child fields.
    let status = unsafe { info.si_status() };
    Ok(if info.si_code == libc::CLD_EXITED { Ended::Status(status) } else { Ended::Signal(status) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Of this thread alone: the others keep theirs.
    #[test]
    fn nobody_inherits_a_low_nice_value() {
        set_nice(-20).unwrap();
        // SAFETY: it takes numbers only.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let own = nice();
        let (_, pidfd) = clone3(Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() }, || nice() + 40).unwrap();
        let inherited = waitid(pidfd.as_fd());
        set_nice(0).unwrap();
        assert_eq!((own, inherited, nice()), (-20, Ok(Ended::Status(40)), 0));
    }
}
