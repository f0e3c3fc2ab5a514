//! What stands around the payload: namespaces, root, filters, limits, sockets.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Isolation {
    pub profile: Profile,
    pub enforce: Enforce,
    pub user: Namespace,
    pub mount: Namespace,
    pub uts: Namespace,
    pub ipc: Namespace,
    pub pid: Namespace,
    /// Follows `[network] mode`: `none` is private, `host` is host.
    pub net: Namespace,
    pub cgroup: Namespace,
    /// The host name inside, when `uts` is private.
    pub hostname: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    None,
    Host,
    Default,
    Strict,
    Wasm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforce {
    /// What cannot be built is a failed start.
    Required,
    /// What this host cannot do (a missing controller, no SELinux) is left out and said so.
    BestEffort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    Private,
    Host,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rootfs {
    /// A directory of the host that becomes the cell's root. Without it: the host's tree, read-only
    /// (profile `default`), or an empty one (profiles `strict` and `wasm`).
    pub path: Option<String>,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mount {
    pub target: String,
    pub kind: MountKind,
    pub writable: bool,
    pub exec: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    Bind {
        source: String,
        recursive: bool,
    },
    /// `size` in bytes; `mode` as in chmod.
    Tmpfs {
        size: Option<u64>,
        mode: u32,
    },
}

/// Directories made for the unit and owned by its user. Relative names below the host's
/// `/var/lib/cellinit/state` or the run directory; seen inside as `/var/lib/NAME` and `/run/NAME`, and in
/// `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`. State stays; runtime goes when the unit stops.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Dirs {
    pub state: Vec<String>,
    pub runtime: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seccomp {
    pub policy: SeccompPolicy,
    /// Syscall names or `@groups` (systemd's sets) added.
    pub allow: Vec<String>,
    /// Names or `@groups` taken away; stronger than `allow`.
    pub deny: Vec<String>,
    /// The errno number that a denied known call answers; EPERM unless said otherwise.
    pub errno: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompPolicy {
    Off,
    /// The default list: everything outside it is logged by the kernel and allowed.
    Log,
    /// The default list of SECURITY: Docker's and systemd's `@system-service` together.
    Default,
    /// Only what `allow` says (plus what execve itself needs).
    AllowList,
    /// What a Wasm host needs for the grants of its unit.
    Derived,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Selinux {
    /// Demanded: a host without SELinux refuses the unit (unless best-effort).
    pub kind: Option<String>,
    /// `s0:c1,c2`; demanded like `kind`. Without it a pair of categories is allocated.
    pub level: Option<String>,
}

/// cgroup v2 terms; on v1 the same keys are mapped. `None` is "not limited".
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// Thousandths of one CPU: 1500 is 150 %.
    pub cpu_max_milli: Option<u32>,
    /// 1 to 10000.
    pub cpu_weight: Option<u32>,
    pub memory_high: Option<u64>,
    pub memory_max: Option<u64>,
    pub memory_low: Option<u64>,
    pub pids_max: Option<u32>,
    /// 1 to 10000.
    pub io_weight: Option<u32>,
}

/// setrlimit(2), by the unit file's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rlimit {
    CpuTime,
    FileSize,
    Data,
    Stack,
    Core,
    Rss,
    Nofile,
    AddressSpace,
    Nproc,
    Memlock,
    Locks,
    Sigpending,
    Msgqueue,
    Nice,
    Rtprio,
    Rttime,
}

/// `None` is RLIM_INFINITY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RlimitValue {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomPolicy {
    /// The unit goes on if its main process lives.
    Continue,
    /// Stop the unit in order.
    Stop,
    /// Everyone in the cell dies together (`memory.oom.group`).
    KillCell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// A network namespace with loopback only.
    None,
    Host,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Socket {
    pub listen: Listen,
    /// LISTEN_FDNAMES.
    pub name: String,
    pub backlog: i32,
    /// For unix sockets.
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    Tcp(std::net::SocketAddr),
    /// A path on the host.
    Unix(String),
}
