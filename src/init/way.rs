//! The way to a file that a unit names, walked by root from name to name. Whoever may write to a directory on the way can put a
//! symbolic link there, and root would follow it anywhere: to the supervisor's own socket, to a secret. So a link counts only
//! where nobody but root could have made it; any other is an error that names it. CVE-2021-30465 is what became of another rule.
//!
//! For a process of its own (`super::aside`): any name may lie on a mount whose server is gone.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, poll};

use crate::sys::fd::{self, Within, openat2};
use crate::sys::process::{Clone3, clone3, pidfd_send_signal, set_parent_death_signal};

/// Links followed on one way, as many as the kernel's own; path_resolution(7).
const MAX_LINKS: usize = 40;
/// How long a granted directory may take to say which one it is, in milliseconds.
const PATIENCE: u16 = 1000;

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
            if let Some(objection) = self.objection(&passed, &next) {
                let link = fs::read_link(format!("/proc/self/fd/{}", next.as_raw_fd())).unwrap_or_default();
                let (link, target) = (link.display(), target.display());
                return Err(io::Error::other(format!("{link} is a link to {target}, and {objection}; name what it leads to")));
            }
            if target.is_absolute() {
                passed.truncate(1);
            }
            left.extend(names(&target)?);
        }
        passed.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Why this link in the last of these directories does not count, if it does not.
    fn objection(&self, passed: &[File], link: &File) -> Option<String> {
        let root = |file: &File| file.metadata().is_ok_and(|data| data.uid() == 0 || data.uid() == nix::unistd::geteuid().as_raw());
        let closed = |file: &File| file.metadata().is_ok_and(|data| data.mode() & 0o022 == 0);
        let theirs = || Some("others than root may have made it".to_owned());
        if !root(link) || !passed.last().is_some_and(|here| root(here) && closed(here)) {
            return theirs();
        }
        let Some(passed) = passed.iter().map(identity).collect::<Option<Vec<_>>>() else { return theirs() };
        match self.granted(&passed) {
            Ok(false) => None,
            Ok(true) => theirs(),
            Err(silent) => Some(format!("a unit may have made it, for all that can be told: {} gives no answer", silent.display())),
        }
    }

    /// Whether a unit may write to one of these directories; or the grant of which nobody can say where it leads. Any may be on a mount
    /// whose server is gone, so a child looks at all of them in their order and it is known which one it waits for.
    fn granted(&self, passed: &[(u64, u64)]) -> Result<bool, &Path> {
        let Some(first) = self.grants.first() else { return Ok(false) };
        let Ok((answers, home)) = fd::pipe() else { return Err(first) };
        let request = Clone3 { exit_signal: libc::SIGCHLD, ..Clone3::default() };
        let child = clone3(request, || {
            // Whoever waits for it may be killed; and it keeps nothing that others wait for the end of.
            let alone = set_parent_death_signal(libc::SIGKILL).and_then(|()| fd::keep_only(&[home.as_fd()], &mut [0]));
            let Some(home) = alone.ok().and_then(|kept| kept.get(0)) else { return 1 };
            let say = |grant: &PathBuf| fd::write_whole(home, &[u8::from(leads_to(grant, passed))]);
            i32::from(!self.grants.iter().all(|grant| say(grant).is_ok()))
        });
        let Ok((_, pidfd)) = child else { return Err(first) };
        drop(home);
        let mut answers = File::from(answers);
        let silent = self.grants.iter().find_map(|grant| match answer(&mut answers) {
            Some(true) => Some(Ok(true)),
            Some(false) => None,
            None => Some(Err(grant.as_path())),
        });
        pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
        silent.unwrap_or(Ok(false))
    }
}

/// One of the directories; or what cannot be looked at, which counts as one.
fn leads_to(grant: &Path, directories: &[(u64, u64)]) -> bool {
    match fs::metadata(grant) {
        Ok(data) => directories.contains(&(data.dev(), data.ino())),
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

fn answer(answers: &mut File) -> Option<bool> {
    let mut heard = [PollFd::new(answers.as_fd(), PollFlags::POLLIN)];
    poll(&mut heard, PATIENCE).ok().filter(|heard| *heard > 0)?;
    let mut said = [0];
    answers.read_exact(&mut said).ok()?;
    Some(said != [0])
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
        for name in ["real", "granted/deep", "open", "run", "led-to"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::write(at("real/file"), "").unwrap();
        fs::set_permissions(at("open"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for (link, target) in [("link", "real"), ("granted/deep/link", "../../real"), ("open/link", "../real"), ("loop", "loop")] {
            symlink(target, at(link)).unwrap();
        }
        symlink(at("real"), at("absolute")).unwrap();
        // A grant that leads back, as from a server's file system.
        symlink("led-to", at("elsewhere")).unwrap();
        symlink("../real", at("led-to/link")).unwrap();
        // Somebody else's link in root's directory, and root's link in somebody else's.
        fs::create_dir(at("theirs")).unwrap();
        symlink("real", at("foreign")).unwrap();
        symlink("../real", at("theirs/link")).unwrap();
        std::os::unix::fs::lchown(at("foreign"), Some(1), Some(1)).unwrap();
        std::os::unix::fs::chown(at("theirs"), Some(1), Some(1)).unwrap();
        let way = Way { grants: [at("granted"), at("elsewhere")].into(), run_dir: at("run") };
        for (path, outcome) in [
            ("real/file", Ok(())),
            ("link/file", Ok(())),
            ("absolute/../link/./file", Ok(())),
            ("granted/deep/../../real/file", Ok(())),
            ("granted/deep/link/file", Err("granted/deep/link is a link to ../../real, and others than root may have made it")),
            ("led-to/link/file", Err("led-to/link is a link to ../real, and others than root may have made it")),
            ("open/link/file", Err("open/link is a link to ../real, and others than root may have made it")),
            ("foreign/file", Err("foreign is a link to real, and others than root may have made it")),
            ("theirs/link/file", Err("theirs/link is a link to ../real, and others than root may have made it")),
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

    /// Nobody ever reads from /dev/fuse.
    #[test]
    fn a_grant_without_an_answer_counts() {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["real", "dead"] {
            fs::create_dir(at(name)).unwrap();
        }
        symlink("real", at("link")).unwrap();
        let server = File::options().read(true).write(true).open("/dev/fuse").expect("a kernel with FUSE");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        mount(Some("dead"), &at("dead"), Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let way = Way { grants: [at("real/none"), at("dead/granted")].into(), run_dir: at("real") };
        let (direct, linked) = (way.to_file(&at("real")), way.to_file(&at("link")));
        umount2(&at("dead"), MntFlags::MNT_DETACH).unwrap();
        assert!(direct.is_ok());
        let objection = linked.map(drop).unwrap_err().to_string();
        assert!(
            objection.contains("link is a link to real, and a unit may have made it") && objection.contains("dead/granted gives no answer")
        );
    }
}
