//! What is mounted in the root to be.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::cell::perform::target::Make;
use crate::cell::perform::{Stage, TargetPath};
use crate::sys::fd::Within;
use crate::sys::mount::{Change, attr};
use crate::sys::{Result, fd, mount};

pub struct Tmpfs {
    pub target: TargetPath,
    pub size: CString,
    pub mode: CString,
    pub uid: CString,
    pub gid: CString,
    pub exec: bool,
    pub create: bool,
}

pub struct Bind {
    pub source: CString,
    pub target: TargetPath,
    pub writable: bool,
    pub exec: bool,
    pub devices: bool,
    pub recursive: bool,
    /// Which of the idmap user namespaces.
    pub idmap: Option<usize>,
    pub create: bool,
}

pub struct Symlink {
    pub link: TargetPath,
    pub target: CString,
}

pub fn proc(stage: &mut Stage<'_>) -> Result<()> {
    let target = kernel_mount_point(stage, c"/proc")?;
    mount::move_mount(stage.proc()?, target.as_fd())
}

pub fn devpts(stage: &mut Stage<'_>) -> Result<()> {
    let target = kernel_mount_point(stage, c"/dev/pts")?;
    // No gid: the host's tty group has no name in the cell, and a terminal belongs to whoever opens it.
    let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620")];
    let devpts = mount::fsmount(c"devpts", &options, attr::NOSUID | attr::NOEXEC)?;
    mount::move_mount(devpts.as_fd(), target.as_fd())
}

pub fn cgroup(stage: &mut Stage<'_>) -> Result<()> {
    let target = kernel_mount_point(stage, c"/sys/fs/cgroup")?;
    let attributes = attr::READ_ONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let cgroup = mount::fsmount(c"cgroup2", &[], attributes)?;
    mount::move_mount(cgroup.as_fd(), target.as_fd())
}

/// Reached without a symbolic link, or not at all: an image does not choose where these go.
fn kernel_mount_point(stage: &mut Stage<'_>, path: &CStr) -> Result<OwnedFd> {
    fd::openat2(Within::RootWithoutLinks(stage.root()?), path, libc::O_PATH | libc::O_DIRECTORY)
}

impl Tmpfs {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let target = open_or_make(&self.target, self.create, stage, Make::Directory)?;
        let options = [
            (c"size", self.size.as_c_str()),
            (c"mode", self.mode.as_c_str()),
            (c"uid", self.uid.as_c_str()),
            (c"gid", self.gid.as_c_str()),
        ];
        let noexec = if self.exec { 0 } else { attr::NOEXEC };
        let tmpfs = mount::fsmount(c"tmpfs", &options, attr::NOSUID | attr::NODEV | noexec)?;
        mount::move_mount(tmpfs.as_fd(), target.as_fd())
    }
}

impl Bind {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let source = fd::openat2(Within::Here, &self.source, libc::O_PATH)?;
        let make = match fd::fstat(source.as_fd())?.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Make::Directory,
            _ => Make::File,
        };
        let tree = mount::open_tree(source.as_fd(), self.recursive)?;
        let idmap = match self.idmap {
            Some(index) => Some(stage.slot(stage.layout.idmaps.checked_add(index))?),
            None => None,
        };
        self.set_attributes(tree.as_fd(), idmap)?;
        let target = open_or_make(&self.target, self.create, stage, make)?;
        mount::move_mount(tree.as_fd(), target.as_fd())
    }

    fn set_attributes(&self, tree: BorrowedFd<'_>, idmap: Option<BorrowedFd<'_>>) -> Result<()> {
        let unless = |granted: bool, attribute: u64| if granted { 0 } else { attribute };
        let set =
            attr::NOSUID | unless(self.writable, attr::READ_ONLY) | unless(self.exec, attr::NOEXEC) | unless(self.devices, attr::NODEV);
        let change = Change { set, recursive: self.recursive, idmap, private: false };
        match mount::mount_setattr(tree, change) {
            // A file system without idmapped mounts (tmpfs before 6.3, 9p): the owner stays a stranger to the cell, which
            // only takes access away. All or nothing was set, so once more without it.
            Err(error) if idmap.is_some() && error.is(libc::EINVAL) => mount::mount_setattr(tree, Change { idmap: None, ..change }),
            result => result,
        }
    }
}

fn open_or_make(target: &TargetPath, create: bool, stage: &mut Stage<'_>, make: Make) -> Result<OwnedFd> {
    let root = stage.root()?;
    if create { target.make(root, make) } else { target.open(root) }
}

impl Symlink {
    pub fn perform(&self, stage: &mut Stage<'_>) -> Result<()> {
        let (directory, name) = self.link.open_parent(stage.root()?)?;
        fd::symlinkat(&self.target, directory.as_fd(), name)
    }
}
