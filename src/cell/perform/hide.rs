//! Masked and read-only paths.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::cell::perform::{Stage, TargetPath};
use crate::sys::fd::Within;
use crate::sys::mount::{Change, attr};
use crate::sys::{Error, Result, fd, mount};

pub struct Mask {
    pub target: TargetPath,
}

pub struct ReadOnly {
    pub target: TargetPath,
}

/// What masked paths are covered with, made at the first need.
#[derive(Default)]
pub struct Covers {
    /// The host's /dev/null: never the cell's, which an image could have replaced (CVE-2025-31133).
    null: Option<OwnedFd>,
    /// An empty read-only tmpfs, attached over the first masked directory and copied from there: a mount that is attached
    /// nowhere cannot be copied on kernels before 6.15.
    empty: Option<OwnedFd>,
}

/// c 1:3, whatever its name.
const NULL_DEVICE: u64 = libc::makedev(1, 3);

impl Mask {
    /// What is not there needs no cover.
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let Some(target) = present(self.target.open(stage.root()?))? else {
            return Ok(());
        };
        match fd::fstat(target.as_fd())?.st_mode & libc::S_IFMT {
            libc::S_IFDIR => stage.covers.cover_directory(target.as_fd()),
            _ => stage.covers.cover_file(target.as_fd()),
        }
    }
}

impl Covers {
    fn cover_file(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        if self.null.is_none() {
            self.null = Some(open_null()?);
        }
        let Some(null) = &self.null else {
            return Ok(());
        };
        let cover = mount::open_tree(null.as_fd(), false)?;
        let set = attr::READ_ONLY | attr::NOSUID | attr::NOEXEC;
        mount::mount_setattr(cover.as_fd(), Change { set, ..Change::default() })?;
        mount::move_mount(cover.as_fd(), target)
    }

    fn cover_directory(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        if let Some(empty) = &self.empty {
            let cover = mount::open_tree(empty.as_fd(), false)?;
            return mount::move_mount(cover.as_fd(), target);
        }
        let attributes = attr::READ_ONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let cover = mount::fsmount(c"tmpfs", &[(c"mode", c"0555"), (c"size", c"4096")], attributes)?;
        mount::move_mount(cover.as_fd(), target)?;
        self.empty = Some(cover);
        Ok(())
    }
}

fn open_null() -> Result<OwnedFd> {
    let null = fd::openat2(Within::Here, c"/dev/null", libc::O_PATH)?;
    let stat = fd::fstat(null.as_fd())?;
    if stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == NULL_DEVICE {
        Ok(null)
    } else {
        Err(Error::new("fstat", libc::ENODEV))
    }
}

impl ReadOnly {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let Some(target) = present(self.target.open(stage.root()?))? else {
            return Ok(());
        };
        let tree = mount::open_tree(target.as_fd(), true)?;
        let set = attr::READ_ONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        mount::mount_setattr(tree.as_fd(), Change { set, recursive: true, ..Change::default() })?;
        mount::move_mount(tree.as_fd(), target.as_fd())
    }
}

fn present(opened: Result<OwnedFd>) -> Result<Option<OwnedFd>> {
    match opened {
        Err(error) if error.is(libc::ENOENT) => Ok(None),
        result => result.map(Some),
    }
}
