//! Descriptors that the loop waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the loop's epoll.
pub fn watch<T: AsFd + AsRawFd>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor must stay open as long as it is registered. `T` owns or borrows it (AsFd), the AsyncFd owns `T` and
    // deregisters before it drops it; that `as_raw_fd` names this same descriptor is kept by the types of std and nix that are passed.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest)? })
}
