//! `/dev` and `/sys` as every cell sees them: two small trees below the run directory, made once and bound read-only.
//! Making device nodes per start would cost a tmpfs and a dozen calls each time.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::cell::Error;
use crate::sys::fd::Within;
use crate::sys::mount::{self, Change, attr};
use crate::sys::{self, fd, process};

/// The character devices of a cell: name, major, minor. None of them reaches hardware or another cell.
const DEVICES: [(&CStr, u32, u32); 6] =
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];

const DEVICE_LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

/// Mount points for what each cell has of its own.
const DEVICE_DIRECTORIES: [&CStr; 2] = [c"pts", c"shm"];

/// What of the host's sysfs a cell sees, read-only: how many CPUs there are, and how big a huge page is.
const SYSTEM_BINDS: [&str; 2] = ["devices/system", "kernel/mm"];
/// Where `cgroup` is mounted.
const SYSTEM_DIRECTORIES: [&str; 1] = ["fs/cgroup"];

const UMASK: u32 = 0o022;

/// Makes `RUN_DIR/template/{dev,sys}` unless they are there.
pub fn ensure(run_dir: &Path) -> Result<(), Error> {
    let template = run_dir.join("template");
    make_directory(&template)?;
    if is_mounted(&template)? {
        return Ok(());
    }
    let umask = process::umask(UMASK);
    let made = make(&template);
    process::umask(umask);
    if made.is_err() {
        // Half a template is worse than none; the error that is told is the first.
        let _ = remove(run_dir);
    }
    made
}

/// Takes the templates away, when the supervisor ends. Cells that still run keep what they have bound.
pub fn remove(run_dir: &Path) -> Result<(), Error> {
    let template = run_dir.join("template");
    if is_mounted(&template).unwrap_or(false) {
        mount::detach(&c_path(&template)?)?;
    }
    match fs::remove_dir(&template) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::File(template, error)),
        _ => Ok(()),
    }
}

/// One tmpfs for both, private, so that only this one mount is ever seen by other mount namespaces of the host.
fn make(template: &Path) -> Result<(), Error> {
    let tree = tmpfs()?;
    mount::mount_setattr(tree.as_fd(), Change { private: true, ..Change::default() })?;
    mount::move_mount(tree.as_fd(), open(template)?.as_fd())?;
    for name in [c"dev", c"sys"] {
        fd::mkdirat(tree.as_fd(), name, 0o755)?;
    }
    devices(&below(tree.as_fd(), c"dev")?)?;
    system(&below(tree.as_fd(), c"sys")?, &template.join("sys"))
}

fn devices(dev: &OwnedFd) -> Result<(), Error> {
    let tree = tmpfs()?;
    mount::move_mount(tree.as_fd(), dev.as_fd())?;
    let tree = tree.as_fd();
    process::umask(0);
    for (name, major, minor) in DEVICES {
        fd::mknodat(tree, name, libc::S_IFCHR | 0o666, libc::makedev(major, minor))?;
    }
    process::umask(UMASK);
    for (name, to) in DEVICE_LINKS {
        fd::symlinkat(to, tree, name)?;
    }
    for name in DEVICE_DIRECTORIES {
        fd::mkdirat(tree, name, 0o755)?;
    }
    Ok(mount::mount_setattr(tree, Change { set: attr::READ_ONLY, ..Change::default() })?)
}

fn system(sys: &OwnedFd, path: &Path) -> Result<(), Error> {
    let tree = tmpfs()?;
    mount::move_mount(tree.as_fd(), sys.as_fd())?;
    for name in SYSTEM_DIRECTORIES {
        make_directory(&path.join(name))?;
    }
    for name in SYSTEM_BINDS {
        let source = Path::new("/sys").join(name);
        if !source.exists() {
            continue;
        }
        let target = path.join(name);
        make_directory(&target)?;
        let bind = mount::open_tree(open(&source)?.as_fd(), false)?;
        let set = attr::READ_ONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        mount::mount_setattr(bind.as_fd(), Change { set, private: true, ..Change::default() })?;
        mount::move_mount(bind.as_fd(), open(&target)?.as_fd())?;
    }
    let set = attr::READ_ONLY | attr::NODEV | attr::NOEXEC;
    Ok(mount::mount_setattr(tree.as_fd(), Change { set, ..Change::default() })?)
}

fn tmpfs() -> Result<OwnedFd, sys::Error> {
    let options = [(c"size", c"65536"), (c"mode", c"0755")];
    mount::fsmount(c"tmpfs", &options, attr::NOSUID)
}

fn open(path: &Path) -> Result<OwnedFd, Error> {
    Ok(fd::openat2(Within::Here, &c_path(path)?, libc::O_PATH | libc::O_DIRECTORY)?)
}

fn below(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, sys::Error> {
    fd::openat2(Within::Beneath(dir), name, libc::O_PATH | libc::O_DIRECTORY)
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|error| Error::File(path.to_owned(), error))
}

/// A mount point is on another device than the directory it is in.
fn is_mounted(path: &Path) -> Result<bool, Error> {
    let device = |path: PathBuf| open(&path).and_then(|dir| Ok(fd::fstat(dir.as_fd())?.st_dev));
    Ok(device(path.to_owned())? != device(path.join(".."))?)
}

fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Nul { what: "path", text: path.to_string_lossy().into_owned() })
}
