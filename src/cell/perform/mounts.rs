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
    pub resolved: bool,
    pub target: TargetPath,
    pub writable: bool,
    pub exec: bool,
    pub devices: bool,
    pub recursive: bool,
    pub idmap: Option<Idmapped>,
    pub create: bool,
}

#[derive(Clone, Copy)]
pub struct Idmapped {
    /// Which of the idmap user namespaces.
    pub index: usize,
    /// Bound without one, where the file system has none, also when the payload cannot write there then.
    pub best_effort: bool,
    /// The payload, as the host knows it.
    pub uid: u32,
    pub gid: u32,
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
    // The host has a few thousand for all.
    let options = [(c"ptmxmode", c"0666"), (c"mode", c"0620"), (c"max", c"256")];
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
        let within = if self.resolved { Within::HereWithoutLinks } else { Within::Here };
        let source = fd::openat2(within, &self.source, libc::O_PATH)?;
        let stat = fd::fstat(source.as_fd())?;
        let make = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Make::Directory,
            _ => Make::File,
        };
        let tree = mount::open_tree(source.as_fd(), self.recursive)?;
        let unless = |granted: bool, attribute: u64| if granted { 0 } else { attribute };
        let set =
            attr::NOSUID | unless(self.writable, attr::READ_ONLY) | unless(self.exec, attr::NOEXEC) | unless(self.devices, attr::NODEV);
        set_attributes(tree.as_fd(), Change { set, recursive: self.recursive, ..Change::default() }, self.idmap, &stat, stage)?;
        let target = open_or_make(&self.target, self.create, stage, make)?;
        mount::move_mount(tree.as_fd(), target.as_fd())
    }
}

/// `stat` is of the source.
pub fn set_attributes(
    tree: BorrowedFd<'_>,
    change: Change<'_>,
    idmap: Option<Idmapped>,
    stat: &libc::stat,
    stage: &Stage<'_>,
) -> Result<()> {
    let Some(map) = idmap else { return mount::mount_setattr(tree, change) };
    let namespace = stage.slot(stage.layout.idmaps.checked_add(map.index))?;
    match mount::mount_setattr(tree, Change { idmap: Some(namespace), ..change }) {
        // A file system without idmapped mounts (tmpfs before 6.3, ramfs, 9p). Mounted as it is, the owner would stay a
        // stranger to the cell, which is an error at the first write that nobody can explain, unless none is needed.
        // All or nothing was set, so once more without it.
        Err(error) if error.is(libc::EINVAL) && (map.best_effort || map.can_write(stat)) => mount::mount_setattr(tree, change),
        result => result,
    }
}

impl Idmapped {
    /// By mode and owner; an access control list is not looked at.
    fn can_write(&self, stat: &libc::stat) -> bool {
        let needed = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR { 0o3 } else { 0o2 };
        let granted = match (stat.st_uid == self.uid, stat.st_gid == self.gid) {
            (true, _) => stat.st_mode >> 6,
            (false, true) => stat.st_mode >> 3,
            (false, false) => stat.st_mode,
        };
        granted & needed == needed
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
