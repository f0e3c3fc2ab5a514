//! The cache of compiled modules: whose turn it is to fill an entry, how many cells work at once, and what goes when it is full.
//!
//! - `<sha256>-<engine>.cwasm`: an artifact. Its time is that of its last use.
//! - `<artifact>.<unit>.<supervisor>-<run>.part`: one that is being made, locked by whoever makes it (flock(2)).
//! - `by-file/<identity>`: a link to the artifact of a file, known by what stat(2) says of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AT_FDCWD, Flock, FlockArg};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, SemaphorePermit};

use super::aside::Aside;

/// Artifacts that are kept, their bytes, and the links to them. What a unit of this supervisor was started with, and what was
/// used within the last hour, is kept above that: another supervisor may be starting it.
const LIMITS: Limits = Limits { artifacts: 512, bytes: 2 << 30, links: 4096, rest: Duration::from_secs(3600) };
/// Entries of a directory that are looked at.
const MAX_SEEN: usize = 100_000;
/// How long a pruning may take before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const LINKS: &str = "by-file";
const ARTIFACT: &str = "cwasm";
const PART: &str = "part";
/// Bytes of a module that need not wait for larger ones: there is one more place for such.
const SMALL_MODULE: u64 = 1 << 20;
/// Modules that are remembered for not being compiled.
const MAX_REFUSED: usize = 512;

/// Of the copies of modules that are held from their digest to the end of their compilation, in all; they are under nobody's limit.
const COPIES: u64 = 256 << 20;
/// What copies are counted in: a semaphore has no more permits than 32 bits on some machines.
const KIB: u64 = 1 << 10;

pub struct Cache {
    directory: PathBuf,
    /// For copies of modules, in KiB.
    copies: Semaphore,
    /// Those of digests, of compilers, and the one more for small modules.
    places: OnceCell<[Semaphore; 3]>,
    /// Entries that somebody fills. Who wants the same one waits, and then finds it.
    turns: RefCell<BTreeMap<String, Weak<Mutex<()>>>>,
    /// Artifacts that cannot be made, and why: a compiler that failed fails again, until the module is another one.
    refused: RefCell<BTreeMap<String, String>>,
    /// What each unit was started with last.
    used: RefCell<BTreeMap<String, String>>,
    /// Held while entries are looked up or removed.
    tidy: Mutex<()>,
    /// Somebody is about to prune.
    due: Cell<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    artifacts: usize,
    bytes: u64,
    links: usize,
    /// Since the last use.
    rest: Duration,
}

impl Cache {
    pub fn new(directory: PathBuf) -> Rc<Cache> {
        Rc::new(Cache {
            directory,
            copies: Semaphore::new(usize::try_from(COPIES / KIB).unwrap_or(Semaphore::MAX_PERMITS)),
            places: OnceCell::new(),
            turns: RefCell::default(),
            refused: RefCell::default(),
            used: RefCell::default(),
            tidy: Mutex::default(),
            due: Cell::default(),
        })
    }

    /// Waits until there is room for a copy of a module of so many bytes, of which one that is too large takes all. Who has it
    /// waits for compilers only, and they for no room.
    pub async fn room(&self, bytes: u64) -> io::Result<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.min(COPIES).div_ceil(KIB)).unwrap_or(u32::MAX);
        self.copies.acquire_many(kib).await.map_err(io::Error::other)
    }

    /// Waits for a processor that hashes a module. Nothing is hashed for as long as some things are compiled, so neither kind of
    /// work waits for the other. An error only if nobody gives any more places, which does not happen.
    pub async fn place_to_digest(&self) -> io::Result<SemaphorePermit<'_>> {
        let [digests, ..] = self.places();
        digests.acquire().await.map_err(io::Error::other)
    }

    /// Waits for a processor that compiles a module of so many bytes.
    pub async fn place_to_compile(&self, bytes: u64) -> io::Result<SemaphorePermit<'_>> {
        let [_, compilers, small] = self.places();
        let place = tokio::select! {
            biased;
            place = compilers.acquire() => place,
            place = small.acquire(), if bytes < SMALL_MODULE => place,
        };
        place.map_err(io::Error::other)
    }

    /// One for each processor: more of a kind at once would only take memory from one another. Counted when the first is needed.
    fn places(&self) -> &[Semaphore; 3] {
        self.places.get_or_init(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            [processors, processors, 1].map(Semaphore::new)
        })
    }

    /// Why this artifact cannot be made, if that has been tried.
    pub fn refusal(&self, name: &str) -> Option<String> {
        self.refused.borrow().get(name).cloned()
    }

    /// From now on nobody tries to make this artifact.
    pub fn refuse(&self, name: &str, reason: &str) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= MAX_REFUSED {
            refused.pop_first();
        }
        refused.insert(name.to_owned(), reason.to_owned());
    }

    /// Waits until nobody else fills this entry.
    pub async fn turn(&self, entry: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.borrow_mut();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(entry).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(entry.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    /// The artifact of the file with this identity, for this unit.
    pub async fn of_file(&self, identity: &str, unit: &str) -> Option<PathBuf> {
        let _held = self.tidy.lock().await;
        self.follow(identity, unit)
    }

    /// The same, if nobody removes entries just now.
    pub fn of_file_at_once(&self, identity: &str, unit: &str) -> Option<PathBuf> {
        let _held = self.tidy.try_lock().ok()?;
        self.follow(identity, unit)
    }

    fn follow(&self, identity: &str, unit: &str) -> Option<PathBuf> {
        let artifact = fs::read_link(self.directory.join(LINKS).join(identity)).ok()?;
        self.use_it(artifact.file_name()?.to_str()?, unit)
    }

    /// The artifact with this name, for this unit.
    pub async fn named(&self, name: &str, unit: &str) -> Option<PathBuf> {
        let _held = self.tidy.lock().await;
        self.use_it(name, unit)
    }

    fn use_it(&self, name: &str, unit: &str) -> Option<PathBuf> {
        let path = self.directory.join(name);
        let now = utimensat(AT_FDCWD, &path, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW, UtimensatFlags::NoFollowSymlink);
        // A cache that cannot be written is none the worse for reading.
        if now.is_err() && !path.is_file() {
            return None;
        }
        self.used.borrow_mut().insert(unit.to_owned(), name.to_owned());
        Some(path)
    }

    /// A file to compile into, which [`Part::keep`] gives the artifact's name.
    pub fn part(&self, name: &str, unit: &str, run: u64) -> io::Result<Part> {
        fs::create_dir_all(self.directory.join(LINKS))?;
        let path = self.directory.join(format!("{name}.{unit}.{}-{run}.{PART}", std::process::id()));
        let file = Flock::lock(File::create(&path)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        Ok(Part { file, path: Some(path), artifact: self.directory.join(name) })
    }

    /// From now on the file with this identity is known to have this artifact.
    pub fn remember(&self, identity: &str, name: &str) -> io::Result<()> {
        let link = self.directory.join(LINKS).join(identity);
        let part = link.with_extension(PART);
        fs::remove_file(&part).ok();
        symlink(Path::new("..").join(name), &part)?;
        fs::rename(&part, link)
    }

    /// Removes what nobody needs; by a child, since large files on a slow disk take their time.
    pub async fn prune(&self) {
        if self.due.replace(true) {
            return;
        }
        let _held = self.tidy.lock().await;
        self.due.set(false);
        let used = self.used.borrow().values().cloned().collect();
        let pruned = Aside::start(&[], |work| match prune(&self.directory, &used, LIMITS, SystemTime::now()) {
            Ok(0) => {}
            Ok(removed) => work.say(&format!("{removed} old entries are removed from the cache of modules")),
            Err(error) => work.say(&format!("the cache of modules cannot be looked through: {error}")),
        });
        match pruned {
            Ok(mut child) => match tokio::time::timeout(PATIENCE, child.line()).await {
                Ok(Some(said)) => tracing::info!("{said}"),
                Ok(None) => {}
                Err(_) => tracing::warn!(directory = %self.directory.display(), "the cache of modules is not answering"),
            },
            Err(error) => tracing::warn!(%error, "the cache of modules is not looked through"),
        }
    }
}

/// An artifact that is not whole. It goes, unless it is kept.
pub struct Part {
    pub file: Flock<File>,
    path: Option<PathBuf>,
    artifact: PathBuf,
}

impl Part {
    /// What was written has been synced: a name never stands for half an artifact.
    pub fn keep(mut self) -> io::Result<()> {
        match self.path.take() {
            Some(path) => fs::rename(&path, &self.artifact).inspect_err(|_| drop(fs::remove_file(&path))),
            None => Ok(()),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            fs::remove_file(path).ok();
        }
    }
}

struct Entry {
    name: String,
    path: PathBuf,
    bytes: u64,
    /// Of the last use, or of a link's making.
    time: SystemTime,
}

/// How many entries went: parts that nobody makes, artifacts and links above the limits, and links to nothing.
fn prune(directory: &Path, used: &BTreeSet<String>, limits: Limits, now: SystemTime) -> io::Result<usize> {
    let links = directory.join(LINKS);
    let mut removed = 0;
    let mut remove = |path: &Path| removed += usize::from(fs::remove_file(path).is_ok());
    let (parts, artifacts) = entries(directory)?.into_iter().partition::<Vec<_>, _>(|entry| has_extension(entry, PART));
    for part in parts.iter().filter(|part| is_left(&part.path)) {
        remove(&part.path);
    }
    let idle = |entry: &Entry| now.duration_since(entry.time).is_ok_and(|since| since >= limits.rest);
    let (mut count, mut bytes) = (0, 0);
    for artifact in newest_first(artifacts).iter().filter(|entry| has_extension(entry, ARTIFACT)) {
        let within = count < limits.artifacts && bytes + artifact.bytes <= limits.bytes;
        if within || used.contains(&artifact.name) || !idle(artifact) {
            count += 1;
            bytes += artifact.bytes;
        } else {
            remove(&artifact.path);
        }
    }
    for (index, link) in newest_first(entries(&links)?).iter().enumerate() {
        // Only its maker knows the name of one that is not renamed yet, and it takes no time to be.
        let unfinished = has_extension(link, PART) && idle(link);
        if index >= limits.links || unfinished || fs::metadata(&link.path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            remove(&link.path);
        }
    }
    Ok(removed)
}

/// What a supervisor left that is there no more. One that is being written is locked, by the compiler too.
fn is_left(part: &Path) -> bool {
    File::open(part).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
}

fn has_extension(entry: &Entry, extension: &str) -> bool {
    Path::new(&entry.name).extension().is_some_and(|found| found == extension)
}

fn newest_first(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(&b.name)));
    entries
}

/// Files and links. A directory that is not there has none.
fn entries(directory: &Path) -> io::Result<Vec<Entry>> {
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in listing.take(MAX_SEEN) {
        let entry = entry?;
        // Another supervisor's pruning may have been faster.
        let Ok(data) = entry.metadata() else { continue };
        let (Ok(name), Ok(time), false) = (entry.file_name().into_string(), data.modified(), data.is_dir()) else { continue };
        found.push(Entry { name, path: entry.path(), bytes: data.len(), time });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Artifacts a to e, of which a was used last, five hours ago, and each has a link.
    fn filled() -> (tempfile::TempDir, SystemTime) {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        fs::create_dir(directory.path().join(LINKS)).unwrap();
        for (age, name) in (5u32..).zip(["a", "b", "c", "d", "e"]) {
            let path = directory.path().join(format!("{name}.cwasm"));
            fs::write(&path, [0; 100]).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(now - HOUR * age).unwrap();
            symlink(format!("../{name}.cwasm"), directory.path().join(LINKS).join(name)).unwrap();
        }
        (directory, now)
    }

    fn left(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = entries(directory).unwrap().into_iter().map(|entry| entry.name.replace(".cwasm", "")).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_its_link_with_it() {
        let large = Limits { artifacts: 9, bytes: 900, links: 9, rest: HOUR };
        for (limits, used, expected) in [
            (large, &[][..], &["a", "b", "c", "d", "e"][..]),
            (Limits { artifacts: 2, ..large }, &[], &["a", "b"]),
            (Limits { bytes: 250, ..large }, &[], &["a", "b"]),
            // Kept for a unit, though it is the oldest.
            (Limits { artifacts: 2, ..large }, &["e.cwasm"], &["a", "b", "e"]),
            // Nothing has rested for that long.
            (Limits { artifacts: 2, rest: HOUR * 10, ..large }, &[], &["a", "b", "c", "d", "e"]),
        ] {
            let (directory, now) = filled();
            let used = used.iter().map(ToString::to_string).collect();
            let removed = prune(directory.path(), &used, limits, now).unwrap();
            assert_eq!(left(directory.path()), expected, "{limits:?}");
            assert_eq!(left(&directory.path().join(LINKS)), expected, "{limits:?}");
            assert_eq!(removed, 2 * (5 - expected.len()));
        }
    }

    #[test]
    fn parts_go_unless_somebody_writes_them_and_links_unless_they_lead_somewhere() {
        let (directory, now) = filled();
        let cache = Cache::new(directory.path().to_owned());
        let part = cache.part("f.cwasm", "web", 1).unwrap();
        fs::write(directory.path().join("f.cwasm.web.1-1.part"), "half").unwrap();
        symlink("../gone.cwasm", directory.path().join(LINKS).join("gone")).unwrap();
        fs::write(directory.path().join("README"), "not ours").unwrap();
        assert_eq!(prune(directory.path(), &BTreeSet::new(), LIMITS, now).unwrap(), 2);
        part.keep().unwrap();
        assert_eq!(left(directory.path()), ["README", "a", "b", "c", "d", "e", "f"]);
        assert_eq!(left(&directory.path().join(LINKS)), ["a", "b", "c", "d", "e"]);
        drop(cache.part("g.cwasm", "web", 2).unwrap());
        assert_eq!(left(directory.path()).len(), 7);
    }

    #[test]
    fn a_cache_that_is_not_there_is_empty() {
        assert_eq!(prune(Path::new("/nonexistent"), &BTreeSet::new(), LIMITS, SystemTime::now()).unwrap(), 0);
    }

    fn wait(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn copies_of_modules_have_a_bound_together() {
        wait(async {
            let cache = Cache::new(PathBuf::new());
            let soon = Duration::from_millis(1);
            let half = cache.room(COPIES / 2).await.unwrap();
            let rest = cache.room(COPIES / 2).await.unwrap();
            assert!(tokio::time::timeout(soon, cache.room(1)).await.is_err());
            drop((half, rest));
            // One that is larger than all has all, and is not kept waiting for ever.
            let all = cache.room(COPIES * 2).await.unwrap();
            assert!(tokio::time::timeout(soon, cache.room(1)).await.is_err());
            drop(all);
            drop(cache.room(1).await.unwrap());
        });
    }

    #[test]
    fn one_at_a_time_fills_an_entry_and_one_compiles_for_each_processor() {
        wait(async {
            let cache = Cache::new(PathBuf::new());
            let soon = Duration::from_millis(1);
            let first = cache.turn("a").await;
            drop(cache.turn("b").await);
            assert!(tokio::time::timeout(soon, cache.turn("a")).await.is_err());
            drop(first);
            drop(cache.turn("a").await);
            assert!(cache.turns.borrow().len() <= 1);
            let (large, small) = (SMALL_MODULE, SMALL_MODULE - 1);
            let mut places = Vec::new();
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                places.push(cache.place_to_compile(large).await.unwrap());
            }
            // No large one, one small one, and digests as if there were none.
            assert!(tokio::time::timeout(soon, cache.place_to_compile(large)).await.is_err());
            let extra = cache.place_to_compile(small).await.unwrap();
            assert!(tokio::time::timeout(soon, cache.place_to_compile(small)).await.is_err());
            drop((cache.place_to_digest().await.unwrap(), extra));
            places.pop();
            drop(cache.place_to_compile(large).await.unwrap());
        });
    }
}
