//! A path inside the root to be: opened, and made where a plan says so, without ever leaving it.

use std::ffi::{CString, NulError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::fd::Within;
use crate::sys::{Error, Result, fd};

/// What the kernel mounts of its own are reached by. An image in which one of these is a symbolic link would choose where
/// they go, so no link is followed there (CVE-2019-16884, CVE-2023-27561, CVE-2026-41579).
const KERNEL_TREES: [&str; 3] = ["/proc", "/dev", "/sys"];

#[derive(Debug)]
pub struct TargetPath {
    whole: CString,
    /// Each directory on the way and the target itself: (path of the parent, name), outermost first.
    levels: Vec<Level>,
    follow: bool,
}

#[derive(Debug)]
struct Level {
    parent: CString,
    path: CString,
    name: CString,
}

/// What [`TargetPath::make`] makes at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    File,
    Directory,
}

impl TargetPath {
    /// Lexical: empty components and `.` fall away, `..` is left to the kernel.
    pub fn new(path: &str) -> std::result::Result<Self, NulError> {
        let mut levels = Vec::new();
        let mut parent = String::from("/");
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            let separator = if parent.ends_with('/') { "" } else { "/" };
            let here = format!("{parent}{separator}{name}");
            levels.push(Level { parent: CString::new(parent)?, path: CString::new(here.as_str())?, name: CString::new(name)? });
            parent = here;
        }
        let follow =
            !KERNEL_TREES.iter().any(|tree| parent.strip_prefix(tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        Ok(TargetPath { whole: CString::new(parent)?, levels, follow })
    }

    /// The target as an O_PATH descriptor.
    pub fn open(&self, root: BorrowedFd<'_>) -> Result<OwnedFd> {
        fd::openat2(self.within(root), &self.whole, libc::O_PATH)
    }

    /// The same; what is missing on the way is made. A dangling link is not followed to make its target: mkdirat(2) and
    /// mknodat(2) answer EEXIST for it.
    pub fn make(&self, root: BorrowedFd<'_>, make: Make) -> Result<OwnedFd> {
        match self.open(root) {
            Err(error) if error.is(libc::ENOENT) => {}
            result => return result,
        }
        let last = self.levels.len().saturating_sub(1);
        for (index, level) in self.levels.iter().enumerate() {
            let make = if index == last { make } else { Make::Directory };
            level.make(self.within(root), root, self.follow, make)?;
        }
        self.open(root)
    }

    /// Opens the directory that the last name is in, and gives that name.
    pub fn open_parent(&self, root: BorrowedFd<'_>) -> Result<(OwnedFd, &CString)> {
        let level = self.levels.last().ok_or(Error { call: "openat2", errno: libc::EEXIST })?;
        let parent = fd::openat2(self.within(root), &level.parent, libc::O_PATH | libc::O_DIRECTORY)?;
        Ok((parent, &level.name))
    }

    fn within<'a>(&self, root: BorrowedFd<'a>) -> Within<'a> {
        within(root, self.follow)
    }
}

fn within(root: BorrowedFd<'_>, follow: bool) -> Within<'_> {
    if follow { Within::Root(root) } else { Within::RootWithoutLinks(root) }
}

impl Level {
    fn make(&self, whole: Within<'_>, root: BorrowedFd<'_>, follow: bool, make: Make) -> Result<()> {
        match fd::openat2(whole, &self.path, libc::O_PATH) {
            Err(error) if error.is(libc::ENOENT) => {}
            result => return result.map(drop),
        }
        let parent = fd::openat2(within(root, follow), &self.parent, libc::O_PATH | libc::O_DIRECTORY)?;
        match make {
            Make::Directory => fd::mkdirat(parent.as_fd(), &self.name, 0o755),
            Make::File => fd::make_file(parent.as_fd(), &self.name, 0o644),
        }
    }
}
