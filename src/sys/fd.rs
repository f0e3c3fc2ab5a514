//! Descriptors: openat2(2), pipe2(2), close_range(2), and the one way in which a clone arranges its own.

use std::ffi::CStr;
use std::fs::Metadata;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::OFlag;

use crate::sys::call::syscall;
use crate::sys::{Error, Result, check, named};

/// Where openat2(2) starts and what it may not leave. No path is ever walked through a magic link.
#[derive(Clone, Copy)]
pub enum Within<'a> {
    /// `/` and `..` stay inside this directory, symbolic links included (RESOLVE_IN_ROOT).
    Root(BorrowedFd<'a>),
    /// The same, and no symbolic link on the way (RESOLVE_NO_SYMLINKS).
    RootWithoutLinks(BorrowedFd<'a>),
    /// Leaving this directory or its mount is an error (RESOLVE_BENEATH, RESOLVE_NO_XDEV).
    Beneath(BorrowedFd<'a>),
    /// The root of this process.
    Here,
    /// The same, and no symbolic link on the way (RESOLVE_NO_SYMLINKS).
    HereWithoutLinks,
    /// The same, but only as far as the mount of that root goes (RESOLVE_NO_XDEV) and the kernel knows the way without asking
    /// a disk or a server (RESOLVE_CACHED): it does not wait for anything, and fails with EXDEV or EAGAIN where it would.
    HereAtOnce,
}

/// openat2(2), always O_CLOEXEC.
pub fn openat2(within: Within<'_>, path: &CStr, flags: i32) -> Result<OwnedFd> {
    let (dir, resolve) = match within {
        Within::Root(dir) => (dir.as_raw_fd(), libc::RESOLVE_IN_ROOT),
        Within::RootWithoutLinks(dir) => (dir.as_raw_fd(), libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS),
        Within::Beneath(dir) => (dir.as_raw_fd(), libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV),
        Within::Here => (libc::AT_FDCWD, 0),
        Within::HereWithoutLinks => (libc::AT_FDCWD, libc::RESOLVE_NO_SYMLINKS),
        Within::HereAtOnce => (libc::AT_FDCWD, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV | libc::RESOLVE_CACHED),
    };
    // SAFETY: open_how is plain numbers, for which zero means "not asked for".
    let mut how: libc::open_how = unsafe { mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve | libc::RESOLVE_NO_MAGICLINKS;
    loop {
        let size = mem::size_of::<libc::open_how>();
        // SAFETY: path and how live over the call; the size is theirs.
        let opened = unsafe { syscall!("openat2", libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size) };
        match opened {
            // A rename somewhere on the machine while `..` was resolved; openat2(2) says try again.
            Err(error) if (error.is(libc::EAGAIN) && how.resolve & libc::RESOLVE_CACHED == 0) || error.is(libc::EINTR) => continue,
            Err(error) => return Err(error),
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        }
    }
}

/// pipe2(O_CLOEXEC): read end, write end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    named("pipe2", nix::unistd::pipe2(OFlag::O_CLOEXEC))
}

pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    let flags = named("fcntl(F_GETFL)", nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    named("fcntl(F_SETFL)", nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags))).map(drop)
}

/// pipe2(O_CLOEXEC | O_NONBLOCK): read end, write end.
pub fn pipe_nonblocking() -> Result<(OwnedFd, OwnedFd)> {
    named("pipe2", nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK))
}

/// Writes all of it, or fails: a short write to procfs is a wrong write.
pub fn write_whole(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    // SAFETY: pointer and length are of one live slice, the descriptor is borrowed.
    match unsafe { syscall!("write", libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr(), bytes.len()) }? {
        n if n == bytes.len() => Ok(()),
        _ => Err(Error::new("write", libc::EIO)),
    }
}

pub fn fstat(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    named("fstat", nix::sys::stat::fstat(fd))
}

/// One word that changes when a file is another one, or has another content.
pub fn identity(data: &Metadata) -> String {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let modified = nanoseconds(data.mtime(), data.mtime_nsec());
    let changed = nanoseconds(data.ctime(), data.ctime_nsec());
    format!("{}-{}-{}-{modified}-{changed}", data.dev(), data.ino(), data.size())
}

/// The magic number of the file system that `fd` is on; fstatfs(2).
pub fn file_system(fd: BorrowedFd<'_>) -> Result<i64> {
    // SAFETY: statfs is plain data, for which zero is a value.
    let mut stat: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: `stat` is live and the descriptor borrowed.
    let result = unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut stat) };
    check("fstatfs", result)?;
    Ok(stat.f_type)
}

pub fn fchdir(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the descriptor is borrowed.
    unsafe { syscall!("fchdir", libc::SYS_fchdir, fd.as_raw_fd()) }.map(drop)
}

/// chdir(2) to the root of this process.
pub fn chdir_root() -> Result<()> {
    // SAFETY: the path is a constant.
    unsafe { syscall!("chdir", libc::SYS_chdir, c"/".as_ptr()) }.map(drop)
}

/// True when the working directory is inside the root: the kernel writes `(unreachable)` where it is not; getcwd(2).
pub fn working_directory_is_reachable() -> Result<bool> {
    let mut path = [0u8; libc::PATH_MAX as usize];
    // SAFETY: pointer and length are of one live buffer.
    unsafe { syscall!("getcwd", libc::SYS_getcwd, path.as_mut_ptr(), path.len()) }?;
    Ok(path.first() == Some(&b'/'))
}

pub fn mkdirat(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: the name lives over the call, the directory is borrowed.
    let result = unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) };
    check("mkdirat", result).map(drop)
}

/// An empty regular file; mknod(2) never follows a link nor opens what is there.
pub fn make_file(dir: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    mknodat(dir, name, libc::S_IFREG | mode, 0)
}

pub fn mknodat(dir: BorrowedFd<'_>, name: &CStr, mode: u32, device: u64) -> Result<()> {
    // SAFETY: the name lives over the call, the directory is borrowed.
    let result = unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) };
    check("mknodat", result).map(drop)
}

pub fn symlinkat(target: &CStr, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both strings live over the call, the directory is borrowed.
    let result = unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) };
    check("symlinkat", result).map(drop)
}

/// The descriptors of a clone after [`keep_only`]: numbers 0 to n-1, all close-on-exec, and nothing else open.
#[derive(Clone, Copy)]
pub struct Slots(usize);

impl Slots {
    pub fn get(self, index: usize) -> Option<BorrowedFd<'static>> {
        // SAFETY: `keep_only`, which alone makes this type, put a descriptor there; the clone closes none of them before
        // execve(2) or its end.
        (index < self.0).then(|| unsafe { BorrowedFd::borrow_raw(index as RawFd) })
    }
}

/// For a clone only, whose copies of the parent's descriptors nobody else uses: `wanted[i]` becomes descriptor `i`,
/// and every other one is closed. `scratch` is room for as many numbers.
pub fn keep_only(wanted: &[impl AsFd], scratch: &mut [RawFd]) -> Result<Slots> {
    let count = wanted.len();
    scratch.iter_mut().zip(wanted).for_each(|(moved, fd)| *moved = fd.as_fd().as_raw_fd());
    // First away from the numbers that are about to be overwritten, if any is there, then into them.
    if scratch.iter().any(|fd| usize::try_from(*fd).is_ok_and(|fd| fd < count)) {
        for moved in scratch.iter_mut().take(count) {
            // SAFETY: F_DUPFD_CLOEXEC takes a number.
            let result = unsafe { syscall!("fcntl(F_DUPFD_CLOEXEC)", libc::SYS_fcntl, *moved, libc::F_DUPFD_CLOEXEC, count) };
            *moved = result? as RawFd;
        }
    }
    for (slot, moved) in scratch.iter().take(count).enumerate() {
        // SAFETY: what was at `slot` belongs to a copy of the parent's frames that never runs again in this process.
        unsafe { syscall!("dup3", libc::SYS_dup3, *moved, slot, libc::O_CLOEXEC) }?;
    }
    // SAFETY: as above: whoever owned these numbers is not there any more.
    unsafe { syscall!("close_range", libc::SYS_close_range, count, libc::c_uint::MAX, 0) }?;
    Ok(Slots(count))
}

/// Makes the number of one descriptor stand for what another one is; dup3(2).
pub fn replace(fd: &OwnedFd, with: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the number stays open and its owner's: only what it refers to changes, which no owner of a number can rely on.
    let result = unsafe { libc::dup3(with.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) };
    check("dup3", result).map(drop)
}

/// The first `count` descriptors outlive execve(2); every later one is close-on-exec.
pub fn pass_on(count: usize) -> Result<()> {
    for slot in 0..count {
        // SAFETY: F_SETFD takes a number.
        unsafe { syscall!("fcntl(F_SETFD)", libc::SYS_fcntl, slot, libc::F_SETFD, 0) }?;
    }
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing.
    unsafe { syscall!("close_range", libc::SYS_close_range, count, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }.map(drop)
}
