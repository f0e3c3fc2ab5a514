//! The root of a cell: what is mounted, in which order. Whatever a later step needs as a target is made by an earlier one.

use std::path::{Path, PathBuf};

use crate::unit::{Dirs, Enforce, Mount, MountKind, Namespace, Payload, Profile, Unit};

use super::error::{PlanError, Shortcomings};
use super::guest::{ARTIFACT_PATH, HOST_PATH, MODULE_PATH, PREOPEN_DIR};
use super::identity::Who;
use super::{Facts, Given, Idmap, RootFacts, Step};

/// An empty root holds directories and mount points only.
const EMPTY_ROOT_SIZE: u64 = 1 << 20;
/// `/tmp`, `/var/tmp` and a `[[mount]]` tmpfs that says no size; charged to the cell's memory like all it holds. A full one must
/// not be the end of its neighbours where the cell has no limit.
const TMP_SIZE: u64 = 1 << 30;
const TMP_SHARE: u64 = 8;
const SHM_SIZE: u64 = 64 << 20;
/// The cell's own, and empty at each start.
const PRIVATE: [&str; 3] = ["/tmp", "/var/tmp", "/run"];
/// `/run`, and directories that hold nothing but mount points.
const SMALL_SIZE: u64 = 16 << 20;
/// Below the run directory: notify sockets that are bound into cells, closed to everybody else, and those of units that share the
/// host's mounts, which everybody may pass through.
pub const NOTIFY: &str = "notify";
/// The same for runtime directories.
pub const RUNTIME: &str = "runtime";
pub const NOTIFY_HOST: &str = "notify-host";

/// Where the notify socket appears in a cell with a root of its own.
pub(super) const NOTIFY_PATH: &str = "/run/cellinit/notify";

/// Everything between "the host's tree" and `PivotRoot`.
pub(super) fn steps(unit: &Unit, facts: &Facts, given: &Given, who: &Who, shortcomings: &Shortcomings<'_>) -> Result<Vec<Step>, PlanError> {
    let mut root = Root::new(who, unit.isolation.enforce, facts, shortcomings)?;
    match (&unit.payload, &unit.rootfs.path, unit.isolation.profile) {
        // A host without granted directories asks nothing of /proc.
        (Payload::Wasm(wasm), _, _) if wasm.dirs.is_empty() && unit.dirs == Dirs::default() => root.empty(&[]),
        (Payload::Wasm(_), _, _) => {
            root.empty(&["/proc"]);
            root.proc();
        }
        (_, None, Profile::Strict | Profile::Wasm) => {
            root.empty(&["/dev", "/proc", "/run", "/sys", "/tmp", "/var/tmp", "/var/lib"]);
            root.system(unit);
        }
        (_, path, _) => {
            let source = path.as_deref().unwrap_or("/");
            let tree = root.host.trees.iter().find(|tree| tree.root == Path::new(source));
            let has = |point: &str| tree.is_none_or(|tree| tree.mount_points.iter().any(|known| known == point));
            for point in ["/proc", "/dev"] {
                if !has(point) {
                    return Err(shortcomings.refuse(
                        "rootfs.path",
                        format!("{source} has no directory {point} to mount on"),
                        Some(format!("mkdir {}{point}", source.trim_end_matches('/'))),
                    ));
                }
            }
            let below = root.host.mounts.iter().filter_map(|mount| inside(mount, source));
            let below = below.filter(|mount| !is_covered(mount, source, &root.host.hidden));
            root.steps.push(Step::CloneRoot {
                source: PathBuf::from(source),
                writable: unit.rootfs.writable,
                idmap: if unit.rootfs.writable { root.granted } else { Idmap::No },
                below: below.map(ToString::to_string).collect(),
            });
            root.over_tree(unit, &has);
        }
    }
    if let Payload::Wasm(wasm) = &unit.payload {
        let (host, artifact) = (wasm_host(facts, shortcomings)?, given.artifact_of(&wasm.module));
        root.bind(host, HOST_PATH, Access::EXEC);
        root.bind(&artifact, ARTIFACT_PATH, Access::EXEC);
        for (index, dir) in wasm.dirs.iter().enumerate() {
            let access = Access { writable: dir.writable, recursive: true, ..Access::default() };
            root.bind(Path::new(&dir.host), &format!("{PREOPEN_DIR}/{index}"), access);
        }
    }

    // Parents before children, otherwise in the order of the file.
    let mut mounts: Vec<&Mount> = unit.mounts.iter().collect();
    mounts.sort_by_key(|mount| mount.target.split('/').filter(|part| !part.is_empty()).count());
    for mount in mounts {
        root.mount(mount, unit);
    }
    root.directories(unit, facts, shortcomings)?;
    if super::payload::wants_notify(unit) {
        root.needs(NOTIFY_PATH, "/run", shortcomings)?;
        root.bind(&notify_socket(unit, facts), NOTIFY_PATH, Access::default());
    }
    Ok(root.finish())
}

/// The root in which a module is looked at: itself, and the program that does.
pub(super) fn around_host(
    module: Option<&Path>,
    who: &Who,
    facts: &Facts,
    shortcomings: &Shortcomings<'_>,
) -> Result<Vec<Step>, PlanError> {
    let mut root = Root::new(who, Enforce::Required, facts, shortcomings)?;
    root.empty(&[]);
    root.bind(wasm_host(facts, shortcomings)?, HOST_PATH, Access::EXEC);
    if let Some(module) = module {
        root.bind(module, MODULE_PATH, Access { resolved: true, ..Access::default() });
    }
    Ok(root.finish())
}

fn wasm_host<'a>(facts: &'a Facts, shortcomings: &Shortcomings<'_>) -> Result<&'a Path, PlanError> {
    facts.wasm_host.as_deref().ok_or_else(|| {
        shortcomings.refuse(
            "wasm.module",
            "the Wasm host (cell-wasm) is not installed beside this program",
            Some("build it with the feature \"wasm\"".to_string()),
        )
    })
}

pub(super) fn notify_socket(unit: &Unit, facts: &Facts) -> PathBuf {
    let directory = match unit.isolation.mount {
        Namespace::Private => NOTIFY,
        Namespace::Host => NOTIFY_HOST,
    };
    facts.run_dir.join(directory).join(&unit.name)
}

/// Where a state directory is kept, and where it is seen.
pub(super) fn state_directory(unit: &Unit, facts: &Facts, name: &str) -> (PathBuf, String) {
    let host = facts.state_dir.join("state").join(name);
    let inside = match unit.isolation.mount {
        Namespace::Private => format!("/var/lib/{name}"),
        Namespace::Host => host.to_string_lossy().into_owned(),
    };
    (host, inside)
}

/// The same for a runtime directory.
pub(super) fn runtime_directory(unit: &Unit, facts: &Facts, name: &str) -> (PathBuf, String) {
    let host = facts.run_dir.join(RUNTIME).join(name);
    let inside = match unit.isolation.mount {
        Namespace::Private => format!("/run/{name}"),
        Namespace::Host => host.to_string_lossy().into_owned(),
    };
    (host, inside)
}

struct Root<'a> {
    who: &'a Who,
    host: &'a RootFacts,
    /// Where templates are, and directories that units may write to.
    run_dir: &'a Path,
    state_dir: &'a Path,
    /// Of what is granted for writing, and not the cell's already.
    granted: Idmap,
    steps: Vec<Step>,
    /// Trees of the cell's own, in which mount points can be made.
    made: Vec<String>,
    /// Those of them that get read-only in the end.
    sealed: Vec<String>,
}

#[derive(Default)]
struct Access {
    writable: bool,
    exec: bool,
    recursive: bool,
    /// The source belongs to the cell already.
    owned: bool,
    /// There is no link on the way to the source.
    resolved: bool,
}

impl Access {
    /// Read-only; code is mapped from it.
    const EXEC: Access = Access { writable: false, exec: true, recursive: false, owned: false, resolved: false };
}

impl<'a> Root<'a> {
    fn new(who: &'a Who, enforce: Enforce, facts: &'a Facts, shortcomings: &Shortcomings<'_>) -> Result<Self, PlanError> {
        let Some(host) = &facts.root else {
            return Err(shortcomings.refuse("isolation.mount", "what a root is made of was not looked up on this host", None));
        };
        let granted = match (who.map, enforce) {
            (None, _) => Idmap::No,
            (_, Enforce::Required) => Idmap::Required,
            (_, Enforce::BestEffort) => Idmap::BestEffort,
        };
        let steps = vec![Step::MakeMountsPrivate];
        Ok(Root { who, host, run_dir: &facts.run_dir, state_dir: &facts.state_dir, granted, steps, made: Vec::new(), sealed: Vec::new() })
    }

    /// Nothing is mounted after this.
    fn finish(mut self) -> Vec<Step> {
        self.steps.extend(self.sealed.into_iter().rev().map(|path| Step::Seal { path }));
        self.steps.push(Step::PivotRoot);
        self.steps
    }

    fn empty(&mut self, directories: &[&str]) {
        let directories = directories.iter().map(ToString::to_string).collect();
        self.steps.push(Step::EmptyRoot { size: EMPTY_ROOT_SIZE, directories });
        self.made.push("/".to_string());
        self.sealed.push("/".to_string());
    }

    /// A tree of files, from the host or from `rootfs.path`, gets the parts of a system that are the cell's own.
    fn over_tree(&mut self, unit: &Unit, has: &dyn Fn(&str) -> bool) {
        self.proc();
        self.devices();
        if has("/sys") {
            self.sys(unit);
        }
        for point in PRIVATE {
            if has(point) {
                self.private(point);
            }
        }
        if has("/var/lib") && !unit.dirs.state.is_empty() {
            // Its own state and nobody else's: a mount point cannot be made in a tree that is read-only.
            self.tmpfs("/var/lib", SMALL_SIZE, 0o755, false, (0, 0));
            self.sealed.push("/var/lib".to_string());
        }
        if unit.rootfs.path.is_none() {
            self.hide(unit);
        }
    }

    /// The same over an empty root.
    fn system(&mut self, unit: &Unit) {
        self.proc();
        self.devices();
        self.sys(unit);
        for point in PRIVATE {
            self.private(point);
        }
    }

    /// Its own processes, and of the kernel's files none that tells about the host or changes it.
    fn proc(&mut self) {
        self.steps.push(Step::MountProc);
        self.steps.extend(self.host.masked.iter().map(|path| Step::Mask { path: path.clone() }));
        self.steps.extend(self.host.readonly.iter().map(|path| Step::ReadOnly { path: path.clone() }));
    }

    fn devices(&mut self) {
        self.template("dev", "/dev", true);
        self.steps.push(Step::MountDevpts);
        self.tmpfs("/dev/shm", SHM_SIZE, 0o1777, false, (0, 0));
    }

    /// Not the host's sysfs: processors and memory only, which is what runtimes look up.
    fn sys(&mut self, unit: &Unit) {
        self.template("sys", "/sys", false);
        if unit.isolation.cgroup == Namespace::Private {
            self.steps.push(Step::MountCgroup);
        }
    }

    /// Prepared once by the supervisor for all cells, bound read-only.
    fn template(&mut self, name: &str, target: &str, devices: bool) {
        self.steps.push(Step::Bind {
            source: self.run_dir.join("template").join(name),
            resolved: false,
            target: target.to_string(),
            writable: false,
            exec: false,
            devices,
            recursive: true,
            idmap: Idmap::No,
            create: false,
        });
    }

    fn private(&mut self, target: &str) {
        match target {
            "/run" => self.tmpfs(target, SMALL_SIZE, 0o755, false, (0, 0)),
            _ => self.tmpfs(target, tmp_size(self.host.memory), 0o1777, false, (0, 0)),
        }
    }

    fn tmpfs(&mut self, target: &str, size: u64, mode: u32, exec: bool, (uid, gid): (u32, u32)) {
        let (uid, gid) = (self.who.on_host(uid), self.who.on_host(gid));
        let create = self.made.iter().any(|tree| is_below(target, tree));
        self.steps.push(Step::MountTmpfs { target: target.to_string(), size, mode, uid, gid, exec, create });
        self.made.push(target.to_string());
    }

    /// Homes and the supervisor's own directories are covered, unless something of the cell's own covers them already.
    fn hide(&mut self, unit: &Unit) {
        let mut hidden: Vec<&str> = self.host.hidden.iter().map(String::as_str).collect();
        hidden.sort_unstable();
        let mut covered: Vec<String> = self.made.clone();
        for path in hidden {
            if covered.iter().any(|cover| is_below(path, cover)) {
                continue;
            }
            covered.push(path.to_string());
            if unit.mounts.iter().any(|mount| mount.target != path && is_below(&mount.target, path)) {
                self.tmpfs(path, SMALL_SIZE, 0o755, false, (0, 0));
                self.sealed.push(path.to_string());
            } else {
                self.steps.push(Step::Mask { path: path.to_string() });
            }
        }
    }

    fn mount(&mut self, mount: &Mount, unit: &Unit) {
        match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let access = Access { writable: mount.writable, exec: mount.exec, recursive: *recursive, ..Access::default() };
                self.bind(Path::new(source), &mount.target, access);
            }
            MountKind::Tmpfs { size, mode } => {
                let size = size.or(unit.resources.memory_max).unwrap_or_else(|| tmp_size(self.host.memory));
                let owner = (self.who.uid, self.who.gid);
                self.tmpfs(&mount.target, size, *mode, mount.exec, owner);
                if !mount.writable {
                    self.sealed.push(mount.target.clone());
                }
            }
        }
    }

    fn directories(&mut self, unit: &Unit, facts: &Facts, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
        let state = unit.dirs.state.iter().map(|name| (state_directory(unit, facts, name), "/var/lib"));
        let runtime = unit.dirs.runtime.iter().map(|name| (runtime_directory(unit, facts, name), "/run"));
        for ((host, inside), parent) in state.chain(runtime) {
            self.needs(&inside, parent, shortcomings)?;
            // It was made without following a link, and another unit may have had its hands on what is above it.
            let access = Access { writable: true, owned: true, resolved: true, ..Access::default() };
            self.bind(&host, &inside, access);
        }
        Ok(())
    }

    fn bind(&mut self, source: &Path, target: &str, access: Access) {
        // Below the directories of another unit it decides what is a link.
        let is_a_units = [self.run_dir, self.state_dir].iter().any(|dir| source.starts_with(dir));
        let nearest = self.made.iter().filter(|tree| is_below(target, tree)).max_by_key(|tree| tree.len());
        self.steps.push(Step::Bind {
            source: source.to_path_buf(),
            resolved: access.resolved || is_a_units,
            target: target.to_string(),
            writable: access.writable,
            exec: access.exec,
            devices: false,
            recursive: access.recursive,
            idmap: if access.writable && !access.owned { self.granted } else { Idmap::No },
            create: nearest.is_some(),
        });
    }

    fn needs(&self, target: &str, parent: &str, shortcomings: &Shortcomings<'_>) -> Result<(), PlanError> {
        match self.made.iter().any(|tree| is_below(target, tree)) {
            true => Ok(()),
            false => Err(shortcomings.refuse(
                "rootfs.path",
                format!("there is no directory {parent} to put {target} in"),
                Some(format!("make {parent} in it")),
            )),
        }
    }
}

/// In whole MiB, and never 0, which to a tmpfs is no limit.
fn tmp_size(memory: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    (memory / TMP_SHARE / MIB).max(1).saturating_mul(MIB).min(TMP_SIZE)
}

/// A path below `root` as it is called inside; `None` for what is not below it.
fn inside<'p>(path: &'p str, root: &str) -> Option<&'p str> {
    path.strip_prefix(root.trim_end_matches('/')).filter(|rest| rest.starts_with('/') && rest.len() > 1)
}

/// Whether something of the cell's own will lie over this path.
fn is_covered(path: &str, root: &str, hidden: &[String]) -> bool {
    const OWN: [&str; 3] = ["/proc", "/dev", "/sys"];
    let hidden = hidden.iter().map(String::as_str).filter(|_| root == "/");
    OWN.into_iter().chain(PRIVATE).chain(hidden).any(|own| is_below(path, own))
}

/// The directory that this path of the host is lost with in a cell over the host's tree, where it is empty: one that every cell
/// has for itself, a home, or one of the supervisor's own. Whoever names just one of the first may well mean the cell's.
pub fn emptied<'a>(path: &str, host: &'a RootFacts) -> Option<&'a str> {
    let private = PRIVATE.into_iter().find(|private| is_below(path, private) && path != *private);
    private.or_else(|| host.hidden.iter().map(String::as_str).find(|hidden| is_below(path, hidden)))
}

/// Whether `path` is `parent` or below it, by components.
fn is_below(path: &str, parent: &str) -> bool {
    Path::new(path).starts_with(parent)
}
