//! The way to a file that a unit names, walked by root from name to name. Whoever may write to a directory on the way can put a
//! symbolic link there, and root would follow it anywhere: to the supervisor's own socket, to a secret. So a link counts only
//! where nobody but root could have made it; any other is an error that names it. CVE-2021-30465 is what became of another rule.
//!
//! For a process of its own (`super::aside`): any name may lie on a mount whose server is gone.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sys::fd::{self, Within, openat2};

/// Links followed on one way, as many as the kernel's own; path_resolution(7).
const MAX_LINKS: usize = 40;
/// File systems that a server answers for, as the kernel names them; those of fuse(4) come in addition.
const REMOTE: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "virtiofs", "ocfs2", "gfs2"];

/// What is to be known to walk safely.
#[derive(Debug, Default)]
pub struct Way {
    /// Where units may write. What a cell makes there belongs to the owner of the directory, so owners tell nothing below them.
    pub grants: Rc<[PathBuf]>,
    /// The supervisor's own directory, where no unit has anything to make.
    pub run_dir: PathBuf,
}

impl Way {
    /// The directory of a file that is to be made, or removed again, and its name there, which itself is never followed. With
    /// something to make, directories that are missing are made too.
    pub fn to_name(&self, path: &Path, make: bool) -> io::Result<(OwnedFd, CString)> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let own = fs::metadata(&self.run_dir)?;
        let directory = self.walk(directory, make.then_some((own.dev(), own.ino())))?;
        Ok((directory.into(), CString::new(name.as_bytes())?))
    }

    /// A file that is there, by O_PATH: it has not been opened yet.
    pub fn to_file(&self, path: &Path) -> io::Result<File> {
        self.walk(path, None)
    }

    /// With something to make, directories that are missing are made, but not in `make_outside`.
    fn walk(&self, path: &Path, make_outside: Option<(u64, u64)>) -> io::Result<File> {
        let mut passed = vec![File::from(openat2(Within::Here, c"/", libc::O_PATH | libc::O_DIRECTORY).map_err(number)?)];
        let mut left = names(path)?;
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name.as_bytes() == b".." {
                // Above the root is the root.
                passed.truncate((passed.len() - 1).max(1));
                continue;
            }
            let Some(here) = passed.last() else { break };
            let next = step(here, &name, make_outside.is_some())?;
            if make_outside.is_some() && identity(&next) == make_outside {
                return Err(io::Error::other(format!("{} is the supervisor's own; choose another directory", self.run_dir.display())));
            }
            if !next.metadata()?.is_symlink() {
                passed.push(next);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = PathBuf::from(nix::fcntl::readlinkat(&next, c"")?);
            if !self.is_roots(&passed, &next) {
                let link = fs::read_link(format!("/proc/self/fd/{}", next.as_raw_fd())).unwrap_or_default();
                let (link, target) = (link.display(), target.display());
                return Err(io::Error::other(format!(
                    "{link} is a link to {target} that others than root may have made; name what it leads to"
                )));
            }
            if target.is_absolute() {
                passed.truncate(1);
            }
            left.extend(names(&target)?);
        }
        passed.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Only root could have made this link in the last of these directories. Grants are asked last: any may be on a mount that is
    /// gone, and then hold up whoever meets a link.
    fn is_roots(&self, passed: &[File], link: &File) -> bool {
        let root = |file: &File| file.metadata().is_ok_and(|data| data.uid() == 0 || data.uid() == nix::unistd::geteuid().as_raw());
        let closed = |file: &File| file.metadata().is_ok_and(|data| data.mode() & 0o022 == 0);
        root(link) && passed.last().is_some_and(|here| root(here) && closed(here)) && !self.is_granted(passed)
    }

    /// A unit may write to one of these directories, or it cannot be told.
    fn is_granted(&self, passed: &[File]) -> bool {
        let Some(passed) = passed.iter().map(identity).collect::<Option<Vec<_>>>() else { return true };
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
        self.grants.iter().any(|grant| {
            let mount = mounts.iter().filter(|mount| grant.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count());
            // Its server may be gone, and this way does not go there.
            if mount.is_some_and(|mount| mount.is_remote() && !passed.iter().any(|(device, _)| *device == mount.device)) {
                return false;
            }
            match fs::metadata(grant) {
                Ok(data) => passed.contains(&(data.dev(), data.ino())),
                Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            }
        })
    }
}

/// A line of /proc/self/mountinfo, which waits for nobody; proc_pid_mountinfo(5).
struct Mount<'a> {
    point: PathBuf,
    device: u64,
    kind: &'a str,
}

impl Mount<'_> {
    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, source) = line.split_once(" - ")?;
        let mut words = mount.split(' ').skip(2);
        let (major, minor) = words.next()?.split_once(':')?;
        let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
        // A point with a blank in it is escaped, and found by its parent's name: then it is looked at.
        Some(Mount { point: PathBuf::from(words.nth(1)?), device, kind: source.split(' ').next()? })
    }

    fn is_remote(&self) -> bool {
        REMOTE.contains(&self.kind) || self.kind.starts_with("fuse")
    }
}

fn step(here: &File, name: &CStr, make: bool) -> io::Result<File> {
    let open = || openat2(Within::RootWithoutLinks(here.as_fd()), name, libc::O_PATH | libc::O_NOFOLLOW).map(File::from);
    match open() {
        Err(error) if make && error.is(libc::ENOENT) => match fd::mkdirat(here.as_fd(), name, 0o755) {
            Err(error) if !error.is(libc::EEXIST) => Err(number(error)),
            _ => open().map_err(number),
        },
        opened => opened.map_err(number),
    }
}

/// Of a path, the first one last.
fn names(path: &Path) -> io::Result<Vec<CString>> {
    let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.rev().map(|name| CString::new(name).map_err(io::Error::from)).collect()
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|data| (data.dev(), data.ino()))
}

/// The kind of an error decides what is said of an optional file.
fn number(error: crate::sys::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn whose_links_count() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["real", "granted/deep", "open", "run"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("real/file"), "").unwrap();
        fs::set_permissions(at("open"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for (link, target) in [("link", "real"), ("granted/deep/link", "../../real"), ("open/link", "../real"), ("loop", "loop")] {
            symlink(target, at(link)).unwrap();
        }
        symlink(at("real"), at("absolute")).unwrap();
        // Somebody else's link in root's directory, and root's link in somebody else's.
        fs::create_dir(at("theirs")).unwrap();
        symlink("real", at("foreign")).unwrap();
        symlink("../real", at("theirs/link")).unwrap();
        std::os::unix::fs::lchown(at("foreign"), Some(1), Some(1)).unwrap();
        std::os::unix::fs::chown(at("theirs"), Some(1), Some(1)).unwrap();
        let way = Way { grants: [at("granted")].into(), run_dir: at("run") };
        for (path, outcome) in [
            ("real/file", Ok(())),
            ("link/file", Ok(())),
            ("absolute/../link/./file", Ok(())),
            ("granted/deep/../../real/file", Ok(())),
            ("granted/deep/link/file", Err("granted/deep/link is a link to ../../real that others than root may have made")),
            ("open/link/file", Err("open/link is a link to ../real that others than root may have made")),
            ("foreign/file", Err("foreign is a link to real that others than root may have made")),
            ("theirs/link/file", Err("theirs/link is a link to ../real that others than root may have made")),
            ("loop/file", Err("Too many levels of symbolic links")),
            ("real/file/file", Err("Not a directory")),
            ("real/none", Err("No such file or directory")),
        ] {
            let found = way.to_file(&at(path)).map(drop).map_err(|error| error.to_string());
            assert!(
                found == Ok(()) && outcome == Ok(()) || found.as_ref().is_err_and(|e| outcome.is_err_and(|o| e.contains(o))),
                "{path}: {found:?}"
            );
        }
        let (_, name) = way.to_name(&at("real/new/deep/name"), true).unwrap();
        assert!(name.as_c_str() == c"name" && at("real/new/deep").is_dir() && !at("real/new/deep/name").exists());
        assert!(
            way.to_name(&at("run/new/name"), true).unwrap_err().to_string().contains("the supervisor's own") && !at("run/new").exists()
        );
    }
}
