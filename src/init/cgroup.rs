//! A cell is its cgroup: made here before the clone, limited, watched until it is empty, killed and removed.
//!
//! The v2 tree gives membership, "populated" and `cgroup.kill` wherever it is mounted, also when (on a hybrid host) every
//! controller belongs to v1; see cgroups(7). `super::cgroup_v1` has the limits of v1, and membership where there is no v2.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::cgroup_v1::{self, Legacy};
use crate::plan::{CgroupFacts, CgroupPlan};
use crate::sys::watch::watch;
use crate::unit::{Kind, Payload, Unit};

/// Longest cgroup file that is read; `cgroup.procs` of a big cell is the longest.
const FILE_BYTES: u64 = 1 << 20;
/// Nodes of one tree that are removed, and how deep they may lie: a payload that is granted a tree nests in it as it likes.
const MAX_LEFTOVERS: usize = 65_536;
const MAX_NESTING: usize = 64;
/// How long a start waits until those that a dead predecessor left are gone. Who sleeps in the kernel may outstay it.
const CLEARING: Duration = Duration::from_secs(2);

/// An error of one cgroup file: which, and what was asked of it.
#[derive(Debug)]
pub struct Error {
    pub what: String,
    pub error: io::Error,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for Error {}

pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    move |error| Error { what, error }
}

/// The supervisor's own node in every hierarchy. Nothing outside of it is ever written, but for switching controllers on.
#[derive(Debug)]
pub struct Slice {
    facts: CgroupFacts,
    v2: Option<PathBuf>,
}

impl Slice {
    /// Makes the node and clears what a dead predecessor left in it. The caller holds the lock of the run directory,
    /// which the slice's name stands for, so nobody living is hit.
    pub fn open<'a>(facts: &CgroupFacts, units: impl IntoIterator<Item = &'a Unit>) -> Result<Slice, Error> {
        check_name(&facts.slice)?;
        let v2 = facts.v2_mount.as_ref().map(|mount| mount.join(&facts.slice));
        let mut is_new = false;
        if let (Some(mount), Some(slice)) = (&facts.v2_mount, &v2) {
            is_new = make_directory(slice)?;
            for controller in controllers(units).into_iter().filter(|c| facts.v2_controllers.iter().any(|have| have == c)) {
                for node in [mount, slice] {
                    // Refused where the parent has not got it; the limit that needs it then fails with its own words.
                    if let Err(error) = write_file(&node.join("cgroup.subtree_control"), &format!("+{controller}")) {
                        tracing::warn!(%error, controller, "a cgroup controller cannot be switched on");
                    }
                }
            }
        }
        let slice = Slice { facts: facts.clone(), v2 };
        if !(is_new && facts.v1.is_empty()) {
            slice.clear();
        }
        Ok(slice)
    }

    /// Kills whom a predecessor left, waits until they are gone, for the kernel keeps the cgroup of a dying process, and takes
    /// the nodes away. What stays is said; a unit of the same name will say it again when it cannot be started.
    fn clear(&self) {
        let deadline = Instant::now() + CLEARING;
        let legacy: Vec<PathBuf> = self.facts.v1.iter().map(|(_, mount)| mount.join(&self.facts.slice)).collect();
        let nodes: Vec<&PathBuf> = self.v2.iter().chain(&legacy).collect();
        let left: Vec<PathBuf> = nodes.iter().flat_map(|node| subdirectories(node)).collect();
        if left.is_empty() {
            return;
        }
        for left in left {
            if write_file(&left.join("cgroup.kill"), "1").is_err() {
                tree(&left).iter().for_each(|node| cgroup_v1::kill_members(node));
            }
        }
        if let Some(slice) = &self.v2 {
            wait_until_empty(slice, deadline).unwrap_or_else(|error| tracing::warn!(%error, "cgroup.events"));
        }
        for left in nodes.iter().flat_map(|node| subdirectories(node)) {
            cgroup_v1::wait_until_empty(&tree(&left), deadline);
            if let Err(error) = remove_tree(&left) {
                tracing::warn!(%error, node = %left.display(), "a predecessor's cgroup stays");
            }
        }
    }

    /// The cell's own node, with its limits written. Whatever was made is removed again when a limit cannot be had.
    pub fn create(&self, plan: &CgroupPlan) -> Result<Cgroup, Error> {
        let path = Path::new(&plan.path);
        let below = path.strip_prefix(&self.facts.slice).ok().and_then(|p| p.to_str()).unwrap_or("");
        check_name(below)?;
        let legacy = Legacy::create(&self.facts, plan)?;
        let mut cgroup = Cgroup { v2: None, legacy };
        let made = self.create_v2(below, plan, &mut cgroup);
        if let Err(error) = made {
            cgroup.remove();
            return Err(error);
        }
        Ok(cgroup)
    }

    fn create_v2(&self, name: &str, plan: &CgroupPlan, cgroup: &mut Cgroup) -> Result<(), Error> {
        let Some(slice) = &self.v2 else { return Ok(()) };
        let path = slice.join(name);
        make_anew(&path)?;
        limit(cgroup.v2.insert(path.into()), plan)
    }

    /// At exit. What is still populated stays, and is said.
    pub fn remove(&self) {
        let legacy = self.facts.v1.iter().map(|(_, mount)| mount.join(&self.facts.slice));
        for node in self.v2.iter().cloned().chain(legacy) {
            match fs::remove_dir(&node) {
                Err(error) if error.kind() != ErrorKind::NotFound => tracing::warn!(%error, node = %node.display(), "cgroup stays"),
                _ => {}
            }
        }
    }
}

/// Those that these units, or the cells in which their modules are compiled, need. Each makes every cgroup dearer: memory more than all
/// that it has otherwise. The cpu controller makes every switch between processes dearer too.
fn controllers<'a>(units: impl IntoIterator<Item = &'a Unit>) -> BTreeSet<&'static str> {
    let mut needed = BTreeSet::new();
    for unit in units.into_iter().filter(|unit| unit.kind != Kind::Target) {
        let (limits, compiles) = (&unit.resources, matches!(unit.payload, Payload::Wasm(_)));
        let uses = [
            ("memory", unit.counts_memory() || compiles),
            ("cpu", limits.cpu_max_milli.is_some() || limits.cpu_weight.is_some() || compiles),
            ("pids", limits.pids_max.is_some() || compiles),
            ("io", limits.io_weight.is_some()),
        ];
        needed.extend(uses.into_iter().filter(|(_, used)| *used).map(|(controller, _)| controller));
    }
    needed
}

/// One cell's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    v2: Option<Rc<Path>>,
    legacy: Legacy,
}

impl Cgroup {
    /// For CLONE_INTO_CGROUP, to which its place is enough (clone(2)). Opened for each clone: what is held for each unit costs every
    /// clone of every other.
    pub fn directory(&self) -> Result<Option<File>, Error> {
        let place = |path: &Rc<Path>| File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path);
        self.v2.as_ref().map(|path| place(path).map_err(failed(format!("open {}", path.display())))).transpose()
    }

    /// What the clone writes itself into, since it can be born into one tree only.
    pub fn entrances(&self) -> Result<Vec<File>, Error> {
        self.legacy.entrances()
    }

    /// Below the mount that holds the members, for people.
    pub fn path(&self) -> PathBuf {
        self.v2.as_deref().map(Path::to_owned).or_else(|| self.legacy.members()).unwrap_or_default()
    }

    /// SIGKILL to everyone inside, also to those being forked right now.
    pub fn kill(&self) {
        match &self.v2 {
            Some(v2) => {
                if let Err(error) = write_file(&v2.join("cgroup.kill"), "1") {
                    tracing::error!(%error, "cgroup.kill");
                }
            }
            None => self.legacy.kill(),
        }
    }

    /// Host pids of everyone inside.
    pub fn pids(&self) -> Vec<i32> {
        let text = read_file(&self.path().join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect()
    }

    /// A watch that outlives a borrow of the cell.
    pub fn watch(&self) -> Watch {
        match &self.v2 {
            Some(v2) => Watch::Events(Rc::clone(v2)),
            None => Watch::Members(self.path()),
        }
    }

    /// Where the kernel tells of OOM kills while they happen.
    pub fn watch_oom(&self) -> Option<OomWatch> {
        let events = self.v2.as_ref().and_then(|v2| File::open(v2.join("memory.events")).ok());
        match events {
            Some(events) => watch(events, Interest::PRIORITY).ok().map(OomWatch::Events),
            None => watch(self.legacy.watch_oom()?, Interest::READABLE).ok().map(OomWatch::Legacy),
        }
    }

    /// Processes killed for want of memory since the cgroup was made.
    pub fn oom_kills(&self) -> u64 {
        let v2 = self.v2.as_ref().and_then(|v2| read_file(&v2.join("memory.events")).ok());
        v2.or_else(|| self.legacy.read("memory", "memory.oom_control")).map_or(0, |text| oom_kills(&text))
    }

    /// Bytes in use: the cell's page cache and kernel memory too, where a controller counts them.
    pub fn memory(&self) -> Option<u64> {
        let v2 = self.v2.as_ref().and_then(|v2| read_file(&v2.join("memory.current")).ok());
        let counted = v2.or_else(|| self.legacy.read("memory", "memory.usage_in_bytes"));
        counted.and_then(|text| text.trim().parse().ok()).or_else(|| cgroup_v1::resident(&self.pids()))
    }

    /// After it is empty.
    pub fn remove(&self) {
        if let Some(v2) = &self.v2 {
            // A payload may have been given a subtree to make groups of its own in.
            if let Err(error) = remove_tree(v2) {
                tracing::warn!(%error, path = %v2.display(), "cgroup stays");
            }
        }
        self.legacy.remove();
    }
}

/// Writes below `node` what the plan says, and nothing that it does not say: `cell plan` prints the same list.
pub(super) fn limit(node: &Path, plan: &CgroupPlan) -> Result<(), Error> {
    for (path, value) in plan.files().into_iter().filter(|(path, _)| path.parent() == Some(node)) {
        write_file(&path, &value).map_err(failed(format!("write {value:?} to {}", path.display())))?;
    }
    Ok(())
}

/// Waits for the last process to be gone.
#[derive(Debug)]
pub enum Watch {
    /// `cgroup.events` of this node, opened only when there is something to wait for: mostly the cell is empty once its main process
    /// is gone.
    Events(Rc<Path>),
    Members(PathBuf),
}

/// `memory.events`, or an eventfd of a v1 node.
pub enum OomWatch {
    Events(AsyncFd<File>),
    Legacy(AsyncFd<File>),
}

impl OomWatch {
    /// Until there is something to count.
    pub async fn told(&self) {
        match self {
            OomWatch::Events(events) => changed(events).await,
            OomWatch::Legacy(told) => cgroup_v1::out_of_memory(told).await,
        }
    }
}

/// How often a cgroup is looked at that cannot be watched.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Watch {
    pub async fn emptied(&self) {
        match self {
            Watch::Events(node) => unpopulated(node).await,
            Watch::Members(path) => cgroup_v1::emptied(path).await,
        }
    }
}

async fn unpopulated(node: &Path) {
    loop {
        let events = match File::open(node.join("cgroup.events")) {
            Ok(events) if is_empty(&events) => return,
            // Somebody has removed it, which can be done to an empty cgroup only.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            // What changes after the look above wakes the watch.
            other => other.and_then(|events| watch(events, Interest::PRIORITY)),
        };
        match events {
            Ok(events) => changed(&events).await,
            // No descriptor or no memory for a watch.
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn is_empty(events: &File) -> bool {
    read_at_start(events).is_ok_and(|text| text.lines().any(|line| line == "populated 0"))
}

/// Until the kernel marks a cgroup file as changed (POLLPRI). What is read after this is not older than the mark.
async fn changed(file: &AsyncFd<File>) {
    match file.ready(Interest::PRIORITY).await {
        Ok(mut ready) => ready.clear_ready(),
        Err(_) => std::future::pending().await,
    }
}

/// The `oom_kill` line of `memory.events`, and of v1's `memory.oom_control`.
fn oom_kills(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// One name, below the slice: never a path that leads elsewhere (systemd CVE-2026-29111).
fn check_name(name: &str) -> Result<(), Error> {
    let plain = !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0', '\n']);
    if plain {
        return Ok(());
    }
    Err(Error { what: format!("cgroup name {name:?}"), error: ErrorKind::InvalidInput.into() })
}

/// True if it was not there.
pub(super) fn make_directory(path: &Path) -> Result<bool, Error> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(format!("mkdir {}", path.display()))(error)),
    }
}

/// Counters (memory.events) must begin at nought: an empty leftover is replaced, a full one is an error.
pub(super) fn make_anew(path: &Path) -> Result<(), Error> {
    let made = match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            remove_tree(path).ok();
            fs::create_dir(path)
        }
        other => other,
    };
    made.map_err(failed(format!("mkdir {}", path.display())))
}

fn subdirectories(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().take(MAX_LEFTOVERS).flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A node and all below it, as far as the bounds go; a parent comes before its children.
fn tree(top: &Path) -> Vec<PathBuf> {
    let depth = top.components().count() + MAX_NESTING;
    let mut nodes = vec![top.to_owned()];
    let mut next = 0;
    while let Some(node) = nodes.get(next).filter(|_| nodes.len() < MAX_LEFTOVERS) {
        let below = if node.components().count() < depth { subdirectories(node) } else { Vec::new() };
        nodes.extend(below);
        next += 1;
    }
    nodes
}

/// The deepest first; the error is that of the node itself, in which whatever else stays is.
pub(super) fn remove_tree(top: &Path) -> io::Result<()> {
    // Mostly there is nothing below.
    match fs::remove_dir(top) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
        Ok(()) => return Ok(()),
    }
    let nodes = tree(top);
    for below in nodes.iter().skip(1).rev() {
        fs::remove_dir(below).ok();
    }
    match fs::remove_dir(top) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Sleeps until nobody lives in this v2 node or below it; the kernel wakes it with POLLPRI. Only before the loop begins.
fn wait_until_empty(node: &Path, deadline: Instant) -> io::Result<()> {
    let events = File::open(node.join("cgroup.events"))?;
    while !is_empty(&events) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, format!("{} is not empty after {CLEARING:?}", node.display())));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout)?;
    }
    Ok(())
}

pub(super) fn write_file(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

pub(super) fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn read_at_start(file: &File) -> io::Result<String> {
    let mut bytes = [0; 256];
    let length = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_switched_on_for_who_needs_them() {
        let unit = |more: &str| crate::unit::parse("x.toml".as_ref(), &format!("[service]\nexec = [\"/bin/x\"]\n{more}")).unwrap();
        let free = unit("[isolation]\nprofile = \"none\"\n");
        assert_eq!(controllers([&free]), BTreeSet::new());
        for asks in ["[oom]\npolicy = \"stop\"\n", "[restart]\non = [\"oom\"]\n", "[resources]\nmemory = { low = \"1MiB\" }\n"] {
            let unit = unit(&format!("[isolation]\nprofile = \"none\"\n{asks}"));
            assert_eq!(controllers([&free, &unit]), BTreeSet::from(["memory"]), "{asks}");
        }
        assert_eq!(controllers([&free, &unit("")]), BTreeSet::from(["memory", "pids"]));
        assert_eq!(controllers([&unit("[resources]\ncpu = { weight = 5 }\nio = { weight = 5 }\n")]).len(), 4);
        let target = crate::unit::parse("x.toml".as_ref(), "[unit]\nkind = \"target\"\n").unwrap();
        assert_eq!(controllers([&free, &target]), BTreeSet::new());
        let guest = crate::unit::parse("x.toml".as_ref(), "[wasm]\nmodule = \"/x.wasm\"\n").unwrap();
        assert!(controllers([&guest]).contains("cpu"));
        // Its compiler has a limit, whatever the guest has.
        let text = "[wasm]\nmodule = \"/x.wasm\"\n[isolation]\nprofile = \"none\"\n[resources]\nmemory = { max = \"max\" }\n";
        assert!(controllers([&crate::unit::parse("x.toml".as_ref(), text).unwrap()]).contains("memory"));
    }

    #[test]
    fn names_stay_inside() {
        for (name, good) in [("web", true), ("a@b:c", true), ("", false), ("..", false), ("a/b", false), ("a\0", false), ("/", false)] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    /// Directories of any file system do: nothing here is special to cgroups.
    #[test]
    fn nested_nodes_go_with_their_cell() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("cell");
        fs::create_dir_all(top.join("a/b/c/d")).unwrap();
        fs::create_dir_all(top.join("e/f")).unwrap();
        assert_eq!(tree(&top).len(), 7);
        remove_tree(&top).unwrap();
        assert!(!top.exists());
        remove_tree(&top).unwrap();
        let mut deep = top.clone();
        deep.extend(std::iter::repeat_n("x", MAX_NESTING + 5));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(tree(&top).len(), MAX_NESTING + 1);
        assert!(remove_tree(&top).is_err());
    }

    #[test]
    fn oom_lines() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 3\noom 2\noom_kill 7\noom_group_kill 0\n"), 7);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), 1);
        assert_eq!(oom_kills(""), 0);
    }
}
