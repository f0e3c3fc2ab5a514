//! `[dirs]`: state and runtime directories, made for a unit and owned by its ids. A service can put a symbolic link where
//! its directory was, between a stop and the next start, so every step is done on a descriptor that was opened without
//! following one (systemd CVE-2018-15687, CVE-2018-6954), and no walk recurses (CVE-2021-3997).

use std::ffi::{CStr, CString};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat};

use crate::sys;

/// Entries of a tree that are given to a new owner in one start, and how deep they may lie: one descriptor is held per level.
const MAX_OWNED: usize = 100_000;
const MAX_DEPTH: usize = 64;
/// Bytes of an SELinux label; one with many categories is an odd one.
const MAX_LABEL: usize = 512;
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Makes `path` below `base` with mode 0700 and gives it to these ids, under this SELinux label; all of it, when the owner or
/// the label was another one.
pub fn provide(base: &Path, path: &Path, (uid, gid): (u32, u32), label: Option<&str>) -> io::Result<()> {
    let directory = descend(base, path, true)?;
    let before = fstat(&directory)?;
    fchmod(&directory, Mode::S_IRWXU)?;
    let owner = Owner { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), label: label.map(CString::new).transpose()? };
    if (before.st_uid, before.st_gid) != (uid, gid) || !owner.has_labelled(&directory) {
        fchown(&directory, Some(owner.uid), Some(owner.gid))?;
        owner.label(&directory)?;
        give(directory, &owner)?;
    }
    Ok(())
}

/// Whom a tree is given to.
struct Owner {
    uid: Uid,
    gid: Gid,
    label: Option<CString>,
}

impl Owner {
    fn has_labelled(&self, descriptor: &OwnedFd) -> bool {
        let mut buffer = [0; MAX_LABEL];
        let Some(label) = &self.label else { return true };
        sys::label::get(&by_number(descriptor), &mut buffer).is_ok_and(|found| found == label.as_bytes())
    }

    fn label(&self, descriptor: &OwnedFd) -> io::Result<()> {
        let Some(label) = &self.label else { return Ok(()) };
        sys::label::set(&by_number(descriptor), label).map_err(|error| io::Error::from_raw_os_error(error.errno))
    }
}

/// What a descriptor is open on, as a path, for calls that take no O_PATH descriptor; open(2).
fn by_number(descriptor: &OwnedFd) -> CString {
    // A number has no NUL in it.
    CString::new(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap_or_default()
}

/// Takes the directory out of the way, in one step whatever is in it. [`sweep`] removes it from `trash` later.
pub fn discard(base: &Path, path: &Path, trash: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = match descend(base, parent, false) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let trash = descend(trash, trash, true)?;
    match renameat(&parent, name, &trash, free_name(&trash)?.as_c_str()) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes what is in `trash`, at most `budget` entries of it; true if something is left. Directories inside directories
/// are first moved up into `trash`, so that neither the stack nor the descriptors grow with the depth of the tree.
pub fn sweep(trash: &Path, mut budget: usize) -> io::Result<bool> {
    let top = match open(trash, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    for name in names(&top)? {
        let name = name?;
        if remove_entry(&top, &name)? {
            budget = budget.saturating_sub(1);
        } else {
            let inside = openat(&top, name.as_c_str(), DIRECTORY, Mode::empty())?;
            for name in names(&inside)? {
                let name = name?;
                if !remove_entry(&inside, &name)? {
                    renameat(&inside, name.as_c_str(), &top, free_name(&top)?.as_c_str())?;
                }
                budget = budget.saturating_sub(1);
                if budget == 0 {
                    return Ok(true);
                }
            }
            remove_entry(&top, &name)?;
        }
        if budget == 0 {
            return Ok(true);
        }
    }
    // What was moved up during the listing may have been missed by it.
    Ok(names(&top)?.next().is_some())
}

/// False for a directory that is not empty.
fn remove_entry(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let removed = match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => unlinkat(parent, name, UnlinkatFlags::RemoveDir),
        other => other,
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens `path` name by name from `base`, which is the supervisor's own and trusted.
fn descend(base: &Path, path: &Path, make: bool) -> io::Result<OwnedFd> {
    let below = path.strip_prefix(base).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    if make {
        std::fs::create_dir_all(base)?;
    }
    let mut at = open(base, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for component in below.components() {
        let Component::Normal(name) = component else { return Err(ErrorKind::InvalidInput.into()) };
        if make {
            match mkdirat(&at, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        at = openat(&at, name, DIRECTORY, Mode::empty())?;
    }
    Ok(at)
}

/// Changes the owner of everything below `root`.
fn give(root: OwnedFd, owner: &Owner) -> io::Result<()> {
    let mut levels = vec![(names(&root)?, root)];
    let mut seen = 0;
    while let Some((names_here, directory)) = levels.last_mut() {
        let Some(name) = names_here.next() else {
            levels.pop();
            continue;
        };
        let name = name?;
        seen += 1;
        let stat = fstatat(&*directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        // A hard link to somebody else's file must not be given away with the tree.
        if is_directory(&stat) || stat.st_nlink == 1 {
            fchownat(&*directory, name.as_c_str(), Some(owner.uid), Some(owner.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if owner.label.is_some() {
                owner.label(&openat(&*directory, name.as_c_str(), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)?;
            }
        }
        if is_directory(&stat) {
            let below = openat(&*directory, name.as_c_str(), DIRECTORY, Mode::empty())?;
            levels.push((names(&below)?, below));
        }
        if seen > MAX_OWNED || levels.len() > MAX_DEPTH {
            return Err(io::Error::other(format!("more than {MAX_OWNED} entries or {MAX_DEPTH} levels to give to uid {}", owner.uid)));
        }
    }
    Ok(())
}

/// A listing of its own, but for `.` and `..`.
fn names(directory: &impl AsFd) -> io::Result<Names> {
    Ok(Names(Dir::from_fd(openat(directory, ".", DIRECTORY, Mode::empty())?)?.into_iter()))
}

struct Names(OwningIter);

impl Iterator for Names {
    type Item = io::Result<CString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => return Some(Ok(entry.file_name().to_owned())),
                Err(errno) => return Some(Err(errno.into())),
            }
        }
    }
}

/// A name that is not taken in `trash`. Nobody else makes names there.
fn free_name(trash: &OwnedFd) -> io::Result<CString> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let name = CString::new(NEXT.fetch_add(1, Ordering::Relaxed).to_string())?;
        match fstatat(trash, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(name),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
    }
}

fn is_directory(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_link_in_the_place_of_a_directory_is_refused_and_its_target_untouched() {
        let base = tempfile::tempdir().unwrap();
        let canary = base.path().join("canary");
        fs::write(&canary, "x").unwrap();
        std::os::unix::fs::symlink(base.path(), base.path().join("link")).unwrap();
        let uid = nix::unistd::getuid().as_raw();
        assert!(provide(base.path(), &base.path().join("link"), (uid, uid), None).is_err());
        assert!(provide(base.path(), &base.path().join("link/inner"), (uid, uid), None).is_err());
        assert!(provide(base.path(), &base.path().join("../outside"), (uid, uid), None).is_err());
        discard(base.path(), &base.path().join("link"), &base.path().join("trash")).unwrap();
        while sweep(&base.path().join("trash"), 10).unwrap() {}
        assert!(canary.exists());
        assert!(!base.path().join("link").exists());
    }

    #[test]
    fn deep_and_wide_trees_go_in_slices() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("runtime");
        let mut deep = top.clone();
        for _ in 0..200 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        for n in 0..300 {
            fs::write(top.join(format!("f{n}")), "x").unwrap();
        }
        let trash = base.path().join("trash");
        discard(base.path(), &top, &trash).unwrap();
        assert!(!top.exists());
        let mut turns = 0;
        while sweep(&trash, 16).unwrap() {
            turns += 1;
            assert!(turns < 1000);
        }
        assert!(turns >= 500 / 16);
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }
}
