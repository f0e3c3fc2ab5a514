//! The root: copied or empty, attached, and pivoted into.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use crate::cell::perform::mounts::{Idmapped, set_attributes};
use crate::cell::perform::target::Make;
use crate::cell::perform::{Stage, TargetPath};
use crate::sys::fd::Within;
use crate::sys::mount::{Change, attr};
use crate::sys::{Error, Result, fd, mount};

pub struct CloneRoot {
    pub source: CString,
    pub writable: bool,
    pub idmap: Option<Idmapped>,
    pub below: Vec<Below>,
}

/// A mount of the host's that belongs to the tree.
pub struct Below {
    pub source: CString,
    pub target: TargetPath,
}

pub struct EmptyRoot {
    pub size: CString,
    pub directories: Vec<TargetPath>,
}

/// Nothing that is mounted from here on reaches the host, and nothing of the host's arrives later.
pub fn make_private() -> Result<()> {
    let root = fd::openat2(Within::Here, c"/", libc::O_PATH)?;
    mount::mount_setattr(root.as_fd(), Change { private: true, recursive: true, ..Change::default() })
}

impl CloneRoot {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let source = fd::openat2(Within::Here, &self.source, libc::O_PATH | libc::O_DIRECTORY)?;
        attach(self.copy(source, stage)?, stage)?;
        for below in &self.below {
            // What was unmounted since the host was looked at may have taken its directory along.
            let source = match fd::openat2(Within::Here, &below.source, libc::O_PATH) {
                Err(error) if error.is(libc::ENOENT) => continue,
                other => other?,
            };
            let target = below.target.open(stage.root()?)?;
            mount::move_mount(self.copy(source, stage)?.as_fd(), target.as_fd())?;
        }
        Ok(())
    }

    /// One mount, detached. No device of the host's own tree works in the cell, and no set-user-id program gains anything.
    fn copy(&self, source: OwnedFd, stage: &Stage<'_>) -> Result<OwnedFd> {
        let tree = mount::open_tree(source.as_fd(), false)?;
        let read_only = if self.writable { 0 } else { attr::READ_ONLY };
        let change = Change { set: attr::NOSUID | attr::NODEV | read_only, ..Change::default() };
        set_attributes(tree.as_fd(), change, self.idmap, &fd::fstat(source.as_fd())?, stage)?;
        Ok(tree)
    }
}

impl EmptyRoot {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let options = [(c"size", self.size.as_c_str()), (c"mode", c"0755")];
        let tree = mount::fsmount(c"tmpfs", &options, attr::NOSUID | attr::NODEV)?;
        attach(tree, stage)?;
        for directory in &self.directories {
            directory.make(stage.root()?, Make::Directory)?;
        }
        Ok(())
    }
}

/// Attached before anything is built in it: kernels before 6.15 mount nothing inside a detached tree. It goes over `/`, where
/// paths of this process do not see it (they start at the root below), so bind sources are still found on the host.
fn attach(tree: OwnedFd, stage: &mut Stage<'_>) -> Result<()> {
    let slash = fd::openat2(Within::Here, c"/", libc::O_PATH)?;
    mount::move_mount(tree.as_fd(), slash.as_fd())?;
    stage.root = Some(tree);
    Ok(())
}

/// pivot_root(2) onto the new root, then the old one, which lies over it, is taken off. From here on the host is not reachable
/// by any path.
pub fn pivot(stage: &mut Stage<'_>) -> Result<()> {
    fd::fchdir(stage.root()?)?;
    mount::pivot_root_here()?;
    mount::detach(c".")?;
    // The working directory is the new root: `.` was looked up from it.
    let root = fd::openat2(Within::Here, c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    fd::fchdir(root.as_fd())?;
    stage.root = Some(root);
    Ok(())
}

/// One mount of the cell's own becomes read-only, now that everything has its place in it.
pub fn seal(path: &TargetPath, stage: &mut Stage<'_>) -> Result<()> {
    let mount = path.open(stage.root()?)?;
    mount::mount_setattr(mount.as_fd(), Change { set: attr::READ_ONLY, ..Change::default() })
}

/// No magic link is walked, so `/proc/self/fd/N` leads nowhere (CVE-2024-21626); that the result is inside the root is
/// asked of the kernel all the same.
pub fn change_directory(path: &CStr) -> Result<()> {
    // The root itself is in the root.
    if path == c"/" {
        return fd::chdir_root();
    }
    let directory = fd::openat2(Within::Here, path, libc::O_PATH | libc::O_DIRECTORY)?;
    fd::fchdir(directory.as_fd())?;
    if fd::working_directory_is_reachable()? { Ok(()) } else { Err(Error::new("getcwd", libc::EXDEV)) }
}
