//! Namespaces: setns(2), unshare(2), and what is named in them.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys::process::Clone3;
use crate::sys::{Error, Result, caps, check, fd, ids, process};

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

/// A child that is only there to hold a user namespace open that is `owner`'s. To him the kernel counts what those inside take of what
/// each user has so much of: inotify instances, message queues, timers, queued signals (kernel/ucount.c). Made by root it is root's, and
/// what one cell takes is missed by the host and by every other cell.
pub fn hold_user_namespace(owner: u32) -> Result<(i32, OwnedFd)> {
    let (ours, theirs) = fd::pipe()?;
    let enter = || {
        let permitted = caps::permitted()?;
        // It takes away what is effective, and what is permitted gives it back.
        ids::seteuid(owner)?;
        caps::capset(permitted, permitted, caps::Set::default())?;
        unshare(libc::CLONE_NEWUSER)
    };
    let child = || {
        let errno = enter().err().map_or(0, |error| error.errno);
        match fd::write_whole(theirs.as_fd(), &errno.to_ne_bytes()) {
            Ok(()) => process::wait_to_be_killed(),
            Err(_) => 1,
        }
    };
    let (pid, pidfd) = process::clone3(Clone3::default(), child)?;
    drop(theirs);
    let mut errno = libc::ECHILD.to_ne_bytes();
    // Its end is the end of the pipe, too.
    nix::unistd::read(&ours, &mut errno).ok();
    match i32::from_ne_bytes(errno) {
        0 => Ok((pid, pidfd)),
        errno => {
            process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL)?;
            process::waitid(pidfd.as_fd())?;
            Err(Error::new("unshare", errno))
        }
    }
}

pub fn sethostname(name: &CStr) -> Result<()> {
    let bytes = name.to_bytes();
    // SAFETY: pointer and length are of one live slice.
    let result = unsafe { libc::sethostname(bytes.as_ptr().cast(), bytes.len()) };
    check("sethostname", result).map(drop)
}
