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
/// Entries that are looked at for it; those that an earlier start gave away already cost little.
const MAX_SEEN: usize = 1_000_000;
/// Sweeps at most, each of which may move up what is for the next one, and the entries of one.
const SWEEPS: usize = 1000;
const SWEPT_AT_ONCE: usize = 1000;
/// Entries of one discarded directory that cannot be removed, before the others in it are not tried any more.
const MAX_STUCK: usize = 64;
/// Bytes of an SELinux label; one with many categories is an odd one.
const MAX_LABEL: usize = 512;
const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// Makes `path` below `base` with mode 0700 and gives it to these ids, under this SELinux label; all of it, when the owner or
/// the label was another one. The directory itself comes last: as long as it is a stranger's, the next start knows that a
/// tree was given away in part, and goes on.
pub fn provide(base: &Path, path: &Path, ids: (u32, u32), label: Option<&str>) -> io::Result<()> {
    let (directory, owner) = open_for(base, path, ids, label)?;
    if !owner.has(&directory)? {
        give(&directory, &owner)?;
        owner.take(&directory)?;
    }
    Ok(())
}

/// The same for who may not walk a tree, which a service can make as large as it likes: false if there is one to be given.
pub fn provide_at_once(base: &Path, path: &Path, ids: (u32, u32), label: Option<&str>) -> io::Result<bool> {
    let (directory, owner) = open_for(base, path, ids, label)?;
    if owner.has(&directory)? {
        return Ok(true);
    }
    let is_empty = names(&directory)?.next().is_none();
    if is_empty {
        owner.take(&directory)?;
    }
    Ok(is_empty)
}

fn open_for(base: &Path, path: &Path, (uid, gid): (u32, u32), label: Option<&str>) -> io::Result<(OwnedFd, Owner)> {
    let directory = descend(base, path, true)?;
    fchmod(&directory, Mode::S_IRWXU)?;
    Ok((directory, Owner { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), label: label.map(CString::new).transpose()? }))
}

/// Whom a tree is given to.
struct Owner {
    uid: Uid,
    gid: Gid,
    label: Option<CString>,
}

impl Owner {
    fn has(&self, directory: &OwnedFd) -> io::Result<bool> {
        let stat = fstat(directory)?;
        Ok((stat.st_uid, stat.st_gid) == (self.uid.as_raw(), self.gid.as_raw()) && self.has_labelled(directory))
    }

    /// The directory itself.
    fn take(&self, directory: &OwnedFd) -> io::Result<()> {
        self.label(directory)?;
        Ok(fchown(directory, Some(self.uid), Some(self.gid))?)
    }

    /// One entry of `directory`; false for one that it has already.
    fn give(&self, directory: &OwnedFd, name: &CStr, stat: &FileStat) -> io::Result<bool> {
        let mine = (stat.st_uid, stat.st_gid) == (self.uid.as_raw(), self.gid.as_raw());
        let entry = match self.label {
            Some(_) => Some(openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?),
            None => None,
        };
        if mine && entry.as_ref().is_none_or(|entry| self.has_labelled(entry)) {
            return Ok(false);
        }
        if let Some(entry) = &entry {
            self.label(entry)?;
        }
        fchownat(directory, name, Some(self.uid), Some(self.gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(true)
    }

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
pub(super) fn by_number(descriptor: &impl AsRawFd) -> CString {
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
    if fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) {
        return Ok(());
    }
    let trash = descend(trash, trash, true)?;
    match renameat(&parent, name, &trash, free_name(&trash)?.as_c_str()) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Until nothing is left, or what is left stays. For who may wait for a file system.
pub fn sweep_all(trash: &Path) {
    for _ in 0..SWEEPS {
        match sweep(trash, SWEPT_AT_ONCE) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tracing::warn!(%error, "the trash stays");
                break;
            }
        }
    }
}

/// Removes what is in `trash`, at most `budget` entries of it; true if something is left that can be removed. Directories
/// inside directories are first moved up into `trash`, so that neither the stack nor the descriptors grow with the depth of
/// the tree. What cannot be removed (a mount point, an immutable file) is passed over, and said when nothing else is left.
fn sweep(trash: &Path, budget: usize) -> io::Result<bool> {
    let top = match open(trash, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    let (mut done, mut stuck) = (0, Stuck::default());
    for name in names(&top)? {
        let name = name?;
        match remove_entry(&top, &name) {
            Ok(true) => done += 1,
            Ok(false) => match empty(&top, &name, budget - done) {
                Ok(removed) => done += removed,
                Err((removed, error)) => {
                    done += removed;
                    stuck.add(error);
                }
            },
            Err(error) => stuck.add(error),
        }
        if done >= budget {
            return Ok(true);
        }
    }
    // What was moved up during the listing may have been missed by it.
    if done > 0 && names(&top)?.nth(stuck.entries).is_some() {
        return Ok(true);
    }
    if let Some(error) = stuck.first {
        tracing::warn!(%error, entries = stuck.entries, trash = %trash.display(), "cannot be removed");
    }
    Ok(false)
}

/// Entries that were passed over, and why the first of them.
#[derive(Default)]
struct Stuck {
    entries: usize,
    first: Option<io::Error>,
}

impl Stuck {
    fn add(&mut self, error: io::Error) {
        self.entries += 1;
        self.first.get_or_insert(error);
    }
}

/// Removes a directory of `top`, unless that takes more than `budget` entries. How many were removed or moved up, also when
/// something stays.
fn empty(top: &OwnedFd, name: &CStr, budget: usize) -> Result<usize, (usize, io::Error)> {
    let (mut done, mut stuck) = (0, Stuck::default());
    let mut inside = || -> io::Result<()> {
        let inside = openat(top, name, DIRECTORY, Mode::empty())?;
        for name in names(&inside)? {
            let name = name?;
            let gone = remove_entry(&inside, &name).and_then(|gone| match gone {
                true => Ok(()),
                false => Ok(renameat(&inside, name.as_c_str(), top, free_name(top)?.as_c_str())?),
            });
            match gone {
                Ok(()) => done += 1,
                Err(error) => stuck.add(error),
            }
            if done >= budget || stuck.entries >= MAX_STUCK {
                return Ok(());
            }
        }
        Ok(())
    };
    if let Err(error) = inside() {
        return Err((done, error));
    }
    match stuck.first {
        Some(error) => Err((done, error)),
        None if done >= budget => Ok(done),
        None => match remove_entry(top, name) {
            Ok(_) => Ok(done + 1),
            Err(error) => Err((done, error)),
        },
    }
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

/// Changes the owner of everything below `root`, of which what an earlier attempt has done already is passed over.
fn give(root: &OwnedFd, owner: &Owner) -> io::Result<()> {
    let mut levels = vec![(names(root)?, root.try_clone()?)];
    let (mut seen, mut given) = (0, 0);
    while let Some((names_here, directory)) = levels.last_mut() {
        let Some(name) = names_here.next() else {
            levels.pop();
            continue;
        };
        let name = name?;
        seen += 1;
        let stat = fstatat(&*directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        // A hard link to somebody else's file must not be given away with the tree.
        if (is_directory(&stat) || stat.st_nlink == 1) && owner.give(directory, &name, &stat)? {
            given += 1;
        }
        if is_directory(&stat) {
            let below = openat(&*directory, name.as_c_str(), DIRECTORY, Mode::empty())?;
            levels.push((names(&below)?, below));
        }
        if seen > MAX_SEEN || given > MAX_OWNED || levels.len() > MAX_DEPTH {
            let limits = format!("{MAX_OWNED} entries or {MAX_DEPTH} levels");
            return Err(io::Error::other(format!("more than {limits} to give to uid {}; the next start goes on with it", owner.uid)));
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

    #[test]
    fn a_tree_that_was_given_away_in_part_is_finished() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("state");
        fs::create_dir_all(top.join("a/b")).unwrap();
        let owners = || ["", "a", "a/b"].map(|path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(top.join(path)).unwrap()));
        // What a start leaves that was killed on the way: some below is given, the top is not.
        std::os::unix::fs::chown(top.join("a"), Some(7000), Some(7000)).unwrap();
        assert_eq!(owners(), [0, 7000, 0]);
        provide(base.path(), &top, (7000, 7000), None).unwrap();
        assert_eq!(owners(), [7000, 7000, 7000]);
    }

    #[test]
    fn what_cannot_be_removed_holds_up_nothing_else() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let base = tempfile::tempdir().unwrap();
        let trash = base.path().join("trash");
        for n in 0..50 {
            fs::create_dir_all(trash.join(format!("{n}/deep/er"))).unwrap();
        }
        let busy = trash.join("7/deep");
        mount(Some(&busy), &busy, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let mut turns = 0;
        while sweep(&trash, 16).unwrap() {
            turns += 1;
            assert!(turns < 100);
        }
        umount2(&busy, MntFlags::MNT_DETACH).unwrap();
        let left: Vec<_> = fs::read_dir(&trash).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["7"]);
        while sweep(&trash, 16).unwrap() {}
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }
}
