//! FLOOR: the only room with `unsafe`. One thin function per system call, named as its man page names it.
//!
//! Two rules hold for all of them. They neither allocate nor lock, so that the clone may call every one between
//! clone3(2) and execve(2). And ids, capabilities and signals go to the kernel itself and not through the C library, whose
//! wrappers know threads of the parent that the clone does not have. What a clone on the launchpad calls leaves `errno` alone too
//! (`call`).

mod call;
pub mod caps;
pub mod fd;
pub mod ids;
pub mod inherited;
pub mod label;
pub mod limits;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod process;
pub mod rights;
pub mod seccomp;
pub mod shared;
pub mod signal;
mod strings;
pub mod wait;
pub mod watch;

use std::fmt;

use nix::errno::Errno;

pub use strings::{DIGITS, StringArray};

/// A system call that failed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    pub call: &'static str,
    pub errno: i32,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(call: &'static str, errno: i32) -> Self {
        Error { call, errno }
    }

    fn last(call: &'static str) -> Self {
        Error { call, errno: Errno::last_raw() }
    }

    pub fn is(&self, errno: i32) -> bool {
        self.errno == errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, describe(self.errno))
    }
}

impl std::error::Error for Error {}

/// `No such file or directory (ENOENT)`.
pub fn describe(errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    format!("{} ({errno:?})", errno.desc())
}

/// The result of a raw call: -1 is the errno of this thread.
fn check(call: &'static str, result: impl Into<libc::c_long>) -> Result<libc::c_long> {
    let result = result.into();
    if result == -1 { Err(Error::last(call)) } else { Ok(result) }
}

/// The same for a call that nix wraps.
fn named<T>(call: &'static str, result: nix::Result<T>) -> Result<T> {
    result.map_err(|errno| Error::new(call, errno as i32))
}
