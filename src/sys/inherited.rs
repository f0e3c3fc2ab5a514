//! Descriptors that this process was started with; sd_listen_fds(3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// One bit per descriptor already handed out, so that nobody can own one twice.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// 0 to 2 belong to the standard library; no cell is given more than 61 sockets.
const FIRST: RawFd = 3;
const LAST: RawFd = 63;

/// Takes ownership of a descriptor that the process that started this one left open for it, and makes it close-on-exec.
/// Each can be taken once.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if !(FIRST..=LAST).contains(&fd) || TAKEN.fetch_or(1 << fd, Ordering::Relaxed) & (1 << fd) != 0
    {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: fcntl(2) with F_SETFD touches no memory; a number that names nothing answers EBADF.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as fcntl said just now, and it is owned by nobody else: the caller names it because
    // it was inherited (before any descriptor of our own could take its number), and TAKEN keeps a second caller out.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
