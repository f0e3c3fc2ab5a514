//! The steps of a plan, in the order in which they are performed.

use std::path::PathBuf;

use serde::Serialize;

/// Everything that a start will do: `before` by the supervisor, `steps` by the clone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub unit: String,
    /// Done by the supervisor, in this order, before the clone.
    pub before: Vec<Preparation>,
    /// Where the clone is born, and what is written there first.
    pub cgroup: CgroupPlan,
    /// The user namespace prepared before the clone: host ids `base .. base + size` appear as `0 .. size`.
    pub user_namespace: Option<IdMap>,
    /// Namespaces that the clone is born into (mount, pid, cgroup).
    pub born: Namespaces,
    /// Performed in order by the clone. The last one is always `Execute`; the one before it is `InstallSeccomp` if there is a filter.
    pub steps: Vec<Step>,
    /// What was asked for, cannot be had here, and is left out: because the unit says `enforce = "best-effort"`,
    /// or because it was only a default.
    pub left_out: Vec<String>,
}

/// What the supervisor makes ready. None of it outlives the unit but for state directories and compiled modules.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preparation {
    /// Look the module up in the cache, and compile it in a cell of its own if it is not there.
    CompileModule { module: PathBuf },
    /// `Plan::cgroup`.
    MakeCgroup,
    /// `Plan::user_namespace`.
    PrepareUserNamespace,
    /// Made with mode 0700 and given to these host ids under this SELinux label, whole tree included when either was another one.
    StateDirectory { host: PathBuf, uid: u32, gid: u32, label: Option<String> },
    /// As a state directory, but empty at each start and removed after the stop.
    RuntimeDirectory { host: PathBuf, uid: u32, gid: u32, label: Option<String> },
    /// Kept open across restarts until the unit comes to rest, handed over as `LISTEN_FDS`.
    OpenSocket { name: String, listen: crate::unit::Listen, backlog: i32, mode: u32 },
    /// The datagram socket behind `NOTIFY_SOCKET`. Who finds it on the host's own mounts is found there by everybody, so it is for
    /// one user and group; without them it is bound into a cell, and out of reach otherwise.
    NotifySocket { path: PathBuf, owner: Option<(u32, u32)> },
    /// `KEY=VALUE` lines that go over the environment of `Execute`.
    ReadEnvironment { path: String, optional: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdMap {
    pub base: u32,
    pub size: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Namespaces {
    pub mount: bool,
    pub pid: bool,
    pub cgroup: bool,
    pub uts: bool,
    pub ipc: bool,
    pub net: bool,
}

/// The cell's cgroup, and its limits in v2 terms; [`CgroupPlan::files`] says what is written, on v2 or v1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CgroupPlan {
    /// Below each mount: `cellinit.slice/web`.
    pub path: String,
    /// The v2 tree: membership, `cgroup.kill`, `populated`, and the limits whose controller is there. A host without one
    /// keeps membership in a v1 hierarchy.
    pub v2: Option<PathBuf>,
    /// v1 controllers with their mounts, only those for which a limit is set.
    pub v1: Vec<(String, PathBuf)>,
    pub limits: crate::unit::Resources,
    /// The file that takes `limits.io_weight`.
    pub io_weight: Option<String>,
    /// `memory.oom.group`.
    pub oom_group: bool,
}

/// One privileged request to the kernel. Each names what it does it to, so that a failure can say so.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// setsid, so that the cell has no controlling terminal.
    NewSession,
    /// prctl(PR_SET_PDEATHSIG) and PR_SET_DUMPABLE 0: nobody may look into the half-built cell (CVE-2016-9962, CVE-2026-41163).
    ShieldSetup,
    SetOomScore(i32),
    SetRlimit {
        resource: u32,
        name: &'static str,
        soft: u64,
        hard: u64,
    },
    /// mount_setattr("/", AT_RECURSIVE, propagation private): nothing leaks back to the host.
    MakeMountsPrivate,
    /// The root to be: a copy of the mount that a host directory is on, and of those `below` it that are still there by
    /// then. An idmap is for all of them, and for whole trees: the owner of the root appears as the unit's user, and all others
    /// as themselves. No other mount of the host is in the cell at all, not even covered: its table of mounts tells nothing.
    CloneRoot {
        source: PathBuf,
        writable: bool,
        idmap: Idmap,
        below: Vec<String>,
    },
    /// The root to be: an empty tmpfs of mode 0755, with these directories made in it.
    EmptyRoot {
        size: u64,
        directories: Vec<String>,
    },
    /// proc of the cell's own pid namespace on /proc.
    MountProc,
    /// A tmpfs, nosuid and nodev, owned by these host ids. One that ends read-only is sealed when everything has its place in it.
    MountTmpfs {
        target: String,
        size: u64,
        mode: u32,
        uid: u32,
        gid: u32,
        exec: bool,
        /// The target is made when it is missing: it is in a tree of the cell's own.
        create: bool,
    },
    /// devpts, a new instance, on /dev/pts.
    MountDevpts,
    /// cgroup2 of the cell's own cgroup namespace, read-only.
    MountCgroup,
    /// A host path appears inside, nosuid; `target` is resolved inside the root with openat2(RESOLVE_IN_ROOT).
    Bind {
        source: PathBuf,
        /// There is no symbolic link on the way to the source: one that is there now was planted, and is an error.
        resolved: bool,
        target: String,
        writable: bool,
        exec: bool,
        /// Device nodes work there; only for `/dev`.
        devices: bool,
        recursive: bool,
        idmap: Idmap,
        /// The target is made when it is missing, parents too: a directory for a directory, otherwise an empty file.
        create: bool,
    },
    /// Made inside a tmpfs of the cell's own.
    Symlink {
        link: String,
        target: String,
    },
    /// Cover a file with /dev/null (verified as char 1:3, CVE-2025-31133) or a directory with an empty read-only tmpfs.
    Mask {
        path: String,
    },
    /// Bind a path onto itself read-only.
    ReadOnly {
        path: String,
    },
    /// pivot_root(".", "."), detach the old root, chdir("/").
    PivotRoot,
    /// mount_setattr(RDONLY) of one mount of the cell's own (an empty root, a tmpfs with binds in it), once everything is in place.
    Seal {
        path: String,
    },
    /// setns(pidfd) into the namespaces of a cell that runs; entering its pid namespace takes one more clone (CLONE_PARENT).
    JoinCell {
        user: bool,
        namespaces: Namespaces,
    },
    /// setns into the prepared user namespace.
    EnterUserNamespace,
    /// unshare(net, uts, ipc): owned by the cell's user namespace.
    Unshare(Namespaces),
    /// ioctl(SIOCSIFFLAGS, IFF_UP) on lo.
    LoopbackUp,
    SetHostname(String),
    SetUmask(u32),
    /// chdir; checked to be inside the root afterwards (CVE-2024-21626).
    ChangeDirectory(String),
    /// setgroups, setresgid, setresuid, with the capabilities below kept across.
    SetIds {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    /// Bounding, permitted, effective, ambient; inheritable and ambient are empty unless `keep` says otherwise (CVE-2022-29162).
    LimitCapabilities {
        keep: crate::unit::CapabilitySet,
        last: u32,
    },
    /// /proc/thread-self/attr/exec through a private, checked procfs handle (CVE-2019-16884, CVE-2025-52881).
    SetSelinuxLabel(String),
    NoNewPrivileges,
    /// stdin, stdout, stderr, then LISTEN_FDS from 3; everything else close-on-exec (CVE-2024-21626).
    PlaceDescriptors,
    /// The signal mask empty, every handler default.
    ResetSignals,
    InstallSeccomp(crate::unit::Seccomp),
    /// execve of `path`, or of the first that is there in the directories of `search` when `path` has no slash. `environment` is complete
    /// but for what is known only at start: LISTEN_PID and the files of `[env]`.
    Execute {
        path: String,
        argv: Vec<String>,
        environment: Vec<(String, String)>,
        /// Variables of `environment` that a file of `[env]` may say otherwise.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        yielding: Vec<String>,
        search: Vec<String>,
    },
}

/// An idmapped mount, on which the owner of the source appears as the unit's user, so that a directory granted for writing can
/// be written. Where the file system has none, a source that the unit's user can write as it is needs none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Idmap {
    No,
    /// Any other source is a failed step: the unit would only find out when it writes.
    Required,
    /// Any other source is bound all the same, and cannot be written (`enforce = "best-effort"`).
    BestEffort,
}
