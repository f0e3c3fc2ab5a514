//! Limits that travel with the process and not with its cgroup.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::cell::perform::Stage;
use crate::sys::fd::Within;
use crate::sys::{Error, Result, fd, limits};

pub struct SetRlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

pub struct SetOomScore(Vec<u8>);

impl SetRlimit {
    pub fn perform(&self) -> Result<()> {
        limits::setrlimit(self.resource, self.soft, self.hard)
    }
}

impl SetOomScore {
    pub fn new(score: i32) -> Self {
        SetOomScore(score.to_string().into_bytes())
    }

    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        write_own(stage.proc()?, c"self/oom_score_adj", &self.0)
    }
}

/// Writes a file of this process in a private procfs. That it is one is checked all the same: writing a credential to a
/// file that only looks like procfs is how labels were lost (CVE-2019-16884).
pub fn write_own(proc: BorrowedFd<'_>, path: &CStr, bytes: &[u8]) -> Result<()> {
    let file = fd::openat2(Within::Beneath(proc), path, libc::O_WRONLY)?;
    if fd::file_system(file.as_fd())? != libc::PROC_SUPER_MAGIC {
        return Err(Error::new("fstatfs", libc::EXDEV));
    }
    fd::write_whole(file.as_fd(), bytes)
}
