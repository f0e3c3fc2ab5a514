//! Descriptors that this process was started with; sd_listen_fds(3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// 0 to 2 belong to the standard library.
const FIRST: RawFd = 3;

/// Takes ownership of a descriptor that whoever started this process left open for it, and makes it close-on-exec.
/// Each can be taken once: what is close-on-exec was not inherited, or is somebody's already, and answers EBADF.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with F_GETFD touches no memory; a number that names nothing answers EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    if fd < FIRST || flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: as above; F_SETFD takes an integer.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, as fcntl said just now, and nobody owns it: everything that this program opens is
    // close-on-exec from the start, so one that was not came through execve(2), and from here on it is marked as taken.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
