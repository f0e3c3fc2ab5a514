//! Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2), fsopen(2) and fsmount(2), pivot_root(2).

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::sys::{Result, check};

// linux/mount.h
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const AT_RECURSIVE: i32 = 0x8000;
const IDMAP: u64 = 0x0010_0000;

/// Mount attributes (MOUNT_ATTR_*), for [`mount_setattr`] and [`fsmount`].
pub mod attr {
    pub const READ_ONLY: u64 = 0x01;
    pub const NOSUID: u64 = 0x02;
    pub const NODEV: u64 = 0x04;
    pub const NOEXEC: u64 = 0x08;
}

/// A detached copy of the mount that `fd` is on, with `fd` as its root; with everything mounted below when `recursive`.
pub fn open_tree(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE as i32 | libc::O_CLOEXEC | libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path with AT_EMPTY_PATH names the borrowed descriptor itself.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) };
    let tree = check("open_tree", result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as RawFd) })
}

/// Attaches the mount that `tree` is on over `target`.
pub fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: empty paths with the EMPTY_PATH flags name the borrowed descriptors themselves.
    let result = unsafe { libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), target.as_raw_fd(), c"".as_ptr(), flags) };
    check("move_mount", result).map(drop)
}

/// What mount_setattr(2) changes.
#[derive(Clone, Copy, Default)]
pub struct Change<'a> {
    /// attr::*
    pub set: u64,
    pub recursive: bool,
    /// Propagation becomes private.
    pub private: bool,
    /// MOUNT_ATTR_IDMAP by this user namespace.
    pub idmap: Option<BorrowedFd<'a>>,
}

pub fn mount_setattr(mount: BorrowedFd<'_>, change: Change<'_>) -> Result<()> {
    // SAFETY: mount_attr is plain numbers, for which zero means "no change".
    let mut attributes: libc::mount_attr = unsafe { mem::zeroed() };
    attributes.attr_set = change.set;
    if change.private {
        attributes.propagation = libc::MS_PRIVATE;
    }
    if let Some(user_namespace) = change.idmap {
        attributes.attr_set |= IDMAP;
        attributes.userns_fd = user_namespace.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if change.recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path names the borrowed descriptor; `attributes` lives over the call and the size is its own.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            mem::size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", result).map(drop)
}

/// A new file system of this kind, not mounted anywhere yet: fsopen(2), fsconfig(2) for each option, fsmount(2).
pub fn fsmount(kind: &CStr, options: &[(&CStr, &CStr)], attributes: u64) -> Result<OwnedFd> {
    // SAFETY: the name lives over the call.
    let result = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
    let context = check("fsopen", result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let context = unsafe { OwnedFd::from_raw_fd(context as RawFd) };
    for (key, value) in options {
        fsconfig(context.as_fd(), FSCONFIG_SET_STRING, Some((key, value)))?;
    }
    fsconfig(context.as_fd(), FSCONFIG_CMD_CREATE, None)?;
    // SAFETY: takes a live descriptor and numbers.
    let result = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) };
    let mount = check("fsmount", result)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(mount as RawFd) })
}

fn fsconfig(context: BorrowedFd<'_>, command: u32, option: Option<(&CStr, &CStr)>) -> Result<()> {
    let (key, value) = option.map_or((ptr::null(), ptr::null()), |(key, value)| (key.as_ptr(), value.as_ptr()));
    // SAFETY: both strings, where there are any, live over the call; a command without an option takes null.
    let result = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) };
    check("fsconfig", result).map(drop)
}

/// pivot_root(".", "."): the working directory becomes the root, and the old root lies over it; pivot_root(2) NOTES.
pub fn pivot_root_here() -> Result<()> {
    // SAFETY: two static strings.
    let result = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    check("pivot_root", result).map(drop)
}

/// umount2(MNT_DETACH) without following a link.
pub fn detach(path: &CStr) -> Result<()> {
    // SAFETY: the path lives over the call.
    let result = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    check("umount2", result).map(drop)
}
