#![forbid(unsafe_code)]
//! Where a supervisor keeps things. The default run directory belongs to the system's supervisor, which has its places in
//! the file system; every other run directory holds everything itself, so that two supervisors never meet.

#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::cell;

pub const RUN_DIR: &str = "/run/cellinit";
pub const RUN_DIR_VARIABLE: &str = "CELLINIT_RUN_DIR";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub run: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    pub cache: PathBuf,
    /// The node in every cgroup hierarchy.
    pub slice: String,
    /// Where the pool of id ranges begins for this supervisor's units.
    pub first_slot: u32,
}

/// Units of one supervisor that get id ranges of their own before the next supervisor's begin.
const SLOTS_EACH: u32 = 4096;

impl Places {
    pub fn of(run: &Path) -> Places {
        if run == Path::new(RUN_DIR) {
            return Places {
                run: run.to_owned(),
                state: "/var/lib/cellinit/state".into(),
                log: "/var/log/cellinit".into(),
                cache: "/var/cache/cellinit/aot".into(),
                slice: "cellinit.slice".into(),
                first_slot: 0,
            };
        }
        let digest: [u8; 32] = Sha256::digest(run.as_os_str().as_encoded_bytes()).into();
        let [a, b, c, d, ..] = digest;
        let number = u32::from_be_bytes([a, b, c, d]);
        Places {
            run: run.to_owned(),
            state: run.join("state"),
            log: run.join("log"),
            cache: run.join("cache/aot"),
            slice: format!("cellinit-{number:08x}.slice"),
            // The first share is the system's.
            first_slot: (1 + number % (crate::plan::SLOTS / SLOTS_EACH - 1)) * SLOTS_EACH,
        }
    }

    /// Of one unit in the foreground: what lasts is where the system's supervisor keeps it, so that state is found again and a
    /// module is compiled once; what does not is its own, so that two never meet.
    pub fn in_the_foreground(run: &Path) -> Places {
        let (own, system) = (Places::of(run), Places::of(Path::new(RUN_DIR)));
        Places { state: system.state, cache: system.cache, ..own }
    }

    pub fn for_facts(&self) -> cell::facts::Places {
        cell::facts::Places {
            run_dir: self.run.clone(),
            state_dir: self.state.clone(),
            cache_dir: self.cache.clone(),
            log_dir: self.log.clone(),
            slice: self.slice.clone(),
        }
    }

    /// Makes what is not there and locks it: a second supervisor for the same run directory is refused.
    pub fn take(&self) -> io::Result<Flock<File>> {
        make(&self.run, 0o755)?;
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(self.run.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| io::Error::other(format!("{}: another supervisor runs here", self.run.display())))?;
        // The sockets inside check who writes; this only keeps their names out of sight.
        make(&self.run.join("notify"), 0o755)?;
        make(&self.state, 0o755)?;
        // A full or read-only disk takes the logs or the cache away, not the services.
        for (directory, mode) in [(&self.log, 0o750), (&self.cache, 0o755)] {
            make(directory, mode).unwrap_or_else(|error| tracing::warn!(%error, directory = %directory.display(), "cannot be made"));
        }
        let log = self.run.join("log");
        if log != self.log {
            fs::remove_file(&log).ok();
            symlink(&self.log, &log).ok();
        }
        Ok(lock)
    }

    /// What has a meaning only while a supervisor runs. Logs and state stay.
    pub fn leave(&self) {
        for file in ["control.sock", "lock"] {
            fs::remove_file(self.run.join(file)).ok();
        }
        for directory in ["notify", "trash"] {
            fs::remove_dir(self.run.join(directory)).ok();
        }
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(mode)),
    }
}

/// From the command line, the environment, or the default.
pub fn run_dir(said: Option<&Path>) -> io::Result<PathBuf> {
    let path = said.map(Path::to_owned).or_else(|| std::env::var_os(RUN_DIR_VARIABLE).map(PathBuf::from));
    std::path::absolute(path.unwrap_or_else(|| RUN_DIR.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_run_directories_share_nothing() {
        let (a, b) = (Places::of(Path::new("/run/a")), Places::of(Path::new("/run/b")));
        assert_ne!(a.slice, b.slice);
        assert_ne!(a.first_slot, b.first_slot);
        assert!(a.first_slot >= SLOTS_EACH && a.first_slot + SLOTS_EACH <= crate::plan::SLOTS);
        assert_eq!(Places::of(Path::new(RUN_DIR)).slice, "cellinit.slice");
        assert_eq!(a, Places::of(Path::new("/run/a")));
    }

    #[test]
    fn a_run_directory_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::of(dir.path());
        let lock = places.take().unwrap();
        assert!(places.take().is_err());
        drop(lock);
        assert!(places.take().is_ok());
    }
}
