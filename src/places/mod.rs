#![forbid(unsafe_code)]
//! Where a supervisor keeps things. The default run directory belongs to the system's supervisor, which has its places in
//! the file system; every other run directory holds everything itself, and id ranges are claimed ([`ids`]), so that two
//! supervisors never meet.

pub mod ids;
mod slots;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::cell;
use crate::plan::{SLOTS, SOCKET_PATH, Slot};
use ids::{Claim, IDS_DIR, Pool};
use slots::Assignment;

pub const RUN_DIR: &str = "/run/cellinit";
/// Below the run directory, where what was made for cells goes to be swept.
pub const TRASH: &str = "trash";
/// Of the files that are locks.
const LOCK_MODE: u32 = 0o600;

pub const RUN_DIR_VARIABLE: &str = "CELLINIT_RUN_DIR";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    pub run: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    pub cache: PathBuf,
    /// The node in every cgroup hierarchy.
    pub slice: String,
    /// Which id ranges are for its units, and where they are claimed.
    pub pool: Pool,
    pub ids: PathBuf,
}

/// What nobody else has while this lives: the run directory and a part of the id ranges.
#[derive(Debug)]
pub struct Taken {
    _run: Flock<File>,
    ids: Claim,
}

impl Places {
    pub fn of(run: &Path) -> Places {
        if run == Path::new(RUN_DIR) {
            return Places {
                run: run.to_owned(),
                state: "/var/lib/cellinit/state".into(),
                log: "/var/log/cellinit".into(),
                cache: "/var/cache/cellinit/aot".into(),
                slice: "cellinit.slice".into(),
                pool: Pool::System,
                ids: IDS_DIR.into(),
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
            pool: Pool::Other(number),
            ids: IDS_DIR.into(),
        }
    }

    /// Of one unit in the foreground, in a run directory that goes with it. Compiled modules are shared with the system's
    /// supervisor. A unit with `[dirs] state` is given what it keeps there, with the ids that it has there, and in return the
    /// system's lock is held for as long as it runs: state is never used by two at once. When a supervisor holds it already,
    /// this is an error; with `--run-dir` a unit has state of its own.
    pub fn in_the_foreground(run: &Path, keeps_state: bool) -> io::Result<(Places, Option<Flock<File>>)> {
        let (own, system) = (Places::of(run), Places::of(Path::new(RUN_DIR)));
        if !keeps_state {
            return Ok((Places { cache: system.cache, pool: Pool::Foreground, ..own }, None));
        }
        let lock = system.lock().map_err(|error| {
            let hint = "it may be using this unit's state; start the unit there, or say --run-dir for state of its own";
            io::Error::other(format!("{error}: {hint}"))
        })?;
        Ok((Places { state: system.state, cache: system.cache, pool: Pool::System, ..own }, Some(lock)))
    }

    /// The slots of these units, kept for the next start unless `taken` is `None`, which is for looking only.
    pub fn slots(&self, taken: Option<&Taken>, names: &[&str]) -> Vec<Slot> {
        let (first, room) = taken.map_or((self.pool.first_slot(), ids::SLOTS_EACH), |taken| (taken.ids.first, taken.ids.room));
        let path = self.state.join("slots");
        let mut assignment = Assignment::read(&path, room);
        let slots = assignment.assign(names, room);
        if taken.is_some() && self.keeps() {
            assignment.write(&path).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "cannot be written; after the next start units may have other ids");
            });
        }
        // What is past the end of the pool is refused by the plan of a unit that needs it, in its own words.
        slots.into_iter().map(|index| Slot { index: index.map_or(SLOTS, |index| first + index) }).collect()
    }

    /// Whether state and logs outlive this supervisor: not those of one unit in the foreground, which has none.
    fn keeps(&self) -> bool {
        self.pool != Pool::Foreground
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
    pub fn take(&self) -> io::Result<Taken> {
        let socket = self.run.join(crate::control::SOCKET);
        let length = socket.as_os_str().len();
        if length > SOCKET_PATH {
            let reason =
                format!("{}: {length} bytes, and the path of a socket has at most {SOCKET_PATH}: a shorter --run-dir", socket.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, reason));
        }
        let lock = self.lock()?;
        let ids = self.pool.claim(&self.ids)?;
        let kept = [(&self.state, 0o755), (&self.log, 0o750)];
        // A full or read-only disk takes state, logs or the cache away, not the services.
        for (directory, mode) in kept.into_iter().filter(|_| self.keeps()).chain([(&self.cache, 0o755)]) {
            make(directory, mode).unwrap_or_else(|error| tracing::warn!(%error, directory = %directory.display(), "cannot be made"));
        }
        let log = self.run.join("log");
        if log != self.log {
            fs::remove_file(&log).ok();
            symlink(&self.log, &log).ok();
        }
        Ok(Taken { _run: lock, ids })
    }

    fn lock(&self) -> io::Result<Flock<File>> {
        // Whose it is may put links in the place of everything that is made there.
        let ours = [0, nix::unistd::geteuid().as_raw()];
        if let Some(owner) = fs::metadata(&self.run).ok().map(|run| run.uid()).filter(|owner| !ours.contains(owner)) {
            let reason = format!("{} belongs to user {owner}: a run directory is its supervisor's own", self.run.display());
            return Err(io::Error::new(ErrorKind::PermissionDenied, reason));
        }
        make(&self.run, 0o755)?;
        let lock = lock_file(&self.run.join("lock"))?;
        Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| io::Error::other(format!("{}: another supervisor runs here", self.run.display())))
    }

    /// What has a meaning only while a supervisor runs. Logs and state stay.
    pub fn leave(&self) {
        for file in ["control.sock", "lock"] {
            fs::remove_file(self.run.join(file)).ok();
        }
        fs::remove_dir(self.run.join(TRASH)).ok();
    }
}

/// For us alone, also where an earlier version made it: whoever can open it can hold it.
fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(LOCK_MODE).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    if file.metadata()?.permissions().mode() & 0o7777 != LOCK_MODE {
        file.set_permissions(Permissions::from_mode(LOCK_MODE))?;
    }
    Ok(file)
}

/// A directory and those above it, with this mode.
pub fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().recursive(true).mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The umask may have taken something away, and somebody may have changed it.
    let found = fs::metadata(path)?.permissions().mode() & 0o7777;
    if found == mode { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(mode)) }
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
        assert_ne!(a.state, b.state);
        assert_eq!(Places::of(Path::new(RUN_DIR)).slice, "cellinit.slice");
        assert_eq!(a, Places::of(Path::new("/run/a")));
    }

    #[test]
    fn a_run_directory_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { ids: dir.path().join("ids"), ..Places::of(dir.path()) };
        let lock = places.take().unwrap();
        assert!(places.take().is_err());
        drop(lock);
        assert!(places.take().is_ok());
    }

    /// flock(2) asks for nothing but an open file.
    #[test]
    fn locks_are_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { ids: dir.path().join("ids"), ..Places::of(dir.path()) };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        // As an earlier version left them.
        fs::create_dir(&places.ids).unwrap();
        fs::set_permissions(&places.ids, Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("lock"), "").unwrap();
        let _taken = places.take().unwrap();
        assert_eq!((mode(&places.ids), mode(&dir.path().join("lock"))), (0o700, 0o600));
        assert!(fs::read_dir(&places.ids).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600));
    }

    #[test]
    fn a_run_directory_of_somebody_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (theirs, victim) = (dir.path().join("run"), dir.path().join("victim"));
        fs::create_dir(&theirs).unwrap();
        fs::write(&victim, "").unwrap();
        symlink(&victim, theirs.join("lock")).unwrap();
        let places = Places { ids: dir.path().join("ids"), ..Places::of(&theirs) };
        // No link in the place of the lock.
        assert!(places.take().is_err());
        fs::remove_file(theirs.join("lock")).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65_534), None).unwrap();
        assert!(places.take().unwrap_err().to_string().contains("belongs to user 65534"));
        std::os::unix::fs::chown(&theirs, Some(0), None).unwrap();
        assert!(places.take().is_ok());
    }

    #[test]
    fn a_run_directory_has_room_for_its_sockets() {
        let long = PathBuf::from(format!("/run/{}", "x".repeat(100)));
        assert!(Places::of(&long).take().unwrap_err().to_string().contains("a shorter --run-dir"));
        assert!(!long.exists());
    }
}
