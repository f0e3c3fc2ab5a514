//! The steps of a plan, in the order in which they are performed.

use std::path::PathBuf;

use serde::Serialize;

/// Everything that a start will do. `before` is done by the supervisor, `steps` by the clone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub unit: String,
    pub cgroup: CgroupPlan,
    /// The user namespace prepared before the clone: host ids `base .. base + size` appear as `0 .. size`.
    pub user_namespace: Option<IdMap>,
    /// Namespaces that the clone is born into (mount, pid, cgroup).
    pub born: Namespaces,
    /// Performed in order by the clone. The last one is always `Execute`; the one before it is `InstallSeccomp` if there is a filter.
    pub steps: Vec<Step>,
    /// What was asked for, cannot be had here, and is left out because the unit says `enforce = "best-effort"`.
    pub left_out: Vec<String>,
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

/// The cell's cgroup and what is written there, in v2 terms. The shell maps it to v1 where only that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CgroupPlan {
    /// Below the mount: `cellinit.slice/web`.
    pub path: String,
    pub limits: crate::unit::Resources,
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
    SetRlimit { resource: u32, name: &'static str, soft: u64, hard: u64 },
    /// mount_setattr("/", AT_RECURSIVE, propagation private): nothing leaks back to the host.
    MakeMountsPrivate,
    /// The root to be: a recursive copy of a host directory, with these attributes on the whole of it.
    CloneRoot { source: PathBuf, writable: bool },
    /// The root to be: an empty tmpfs, with these directories made in it.
    EmptyRoot { size: u64, directories: Vec<String> },
    /// proc of the cell's own pid namespace on /proc.
    MountProc,
    MountTmpfs { target: String, size: u64, mode: u32, exec: bool, read_only: bool },
    /// devpts, a new instance, on /dev/pts.
    MountDevpts,
    /// cgroup2 of the cell's own cgroup namespace, read-only.
    MountCgroup,
    /// A host path appears inside; `target` is resolved inside the root with openat2(RESOLVE_IN_ROOT).
    Bind { source: PathBuf, target: String, writable: bool, exec: bool, recursive: bool, idmap: bool, create: CreateTarget },
    /// Made inside a tmpfs of the cell's own.
    Symlink { link: String, target: String },
    /// Cover a file with /dev/null (verified as char 1:3, CVE-2025-31133) or a directory with an empty read-only tmpfs.
    Mask { path: String },
    /// Bind a path onto itself read-only.
    ReadOnly { path: String },
    /// pivot_root(".", "."), detach the old root, chdir("/").
    PivotRoot,
    /// The finished root gets read-only (an empty root, once everything is in place).
    SealRoot,
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
    SetIds { uid: u32, gid: u32, groups: Vec<u32> },
    /// Bounding, permitted, effective, ambient; inheritable and ambient are empty unless `keep` says otherwise (CVE-2022-29162).
    LimitCapabilities { keep: Vec<u32>, names: Vec<String>, last: u32 },
    /// /proc/thread-self/attr/exec through a private, checked procfs handle (CVE-2019-16884, CVE-2025-52881).
    SetSelinuxLabel(String),
    NoNewPrivileges,
    /// stdin, stdout, stderr, then LISTEN_FDS from 3; everything else close-on-exec (CVE-2024-21626).
    PlaceDescriptors,
    /// The signal mask empty, every handler default.
    ResetSignals,
    InstallSeccomp { policy: &'static str, allow: Vec<String>, deny: Vec<String>, errno: i32 },
    /// execve. `environment` is complete but for what is known only at start: LISTEN_PID and the files of `[env]`.
    Execute { path: String, argv: Vec<String>, environment: Vec<(String, String)>, search: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreateTarget {
    /// It must be there.
    No,
    File,
    Directory,
}
