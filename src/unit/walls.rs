//! The sections that say what stands around the payload. Profiles are resolved here and nowhere else.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::address::*;
use super::caps::CapabilitySet;
use super::choice::MountType;
use super::kernel::*;
use super::model::*;
use super::names::*;
use super::reader::{File, Reader};
use super::values::*;

/// Docker's default set, which profile `host` keeps.
const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
/// `resources.pids.max` in the profiles that have one.
const DEFAULT_PIDS_MAX: u32 = 1024;

/// What a profile decides; every line can be overridden by a key of its own.
pub(super) struct Walls {
    pub namespaces: Namespace,
    pub cgroup: Namespace,
    pub network: NetworkMode,
    pub caps: CapabilitySet,
    pub seccomp: SeccompPolicy,
    pub pids_max: Option<u32>,
    pub oom: OomPolicy,
}

impl Unit {
    /// Whether something of it runs in a root of its own: itself, or the compiler of its module.
    pub fn has_root(&self) -> bool {
        let is_cell = self.kind != Kind::Target && self.isolation.mount == Namespace::Private;
        is_cell || matches!(self.payload, Payload::Wasm(_))
    }

    /// Whether the memory of its cell is to be counted: it has walls or a limit, or asks what becomes of it when memory runs out.
    pub fn counts_memory(&self) -> bool {
        let Resources { memory_high, memory_max, memory_low, .. } = self.resources;
        let is_limited = [memory_high, memory_max, memory_low].iter().any(Option::is_some);
        let asks = [&self.restart.on, &self.restart.never_on].iter().any(|causes| causes.contains(&CauseKind::Oom));
        self.isolation.profile != Profile::None || self.oom_policy != OomPolicy::Continue || is_limited || asks
    }
}

pub(super) fn of_profile(profile: Profile) -> Walls {
    match profile {
        Profile::None => Walls {
            namespaces: Namespace::Host,
            cgroup: Namespace::Host,
            network: NetworkMode::Host,
            caps: CapabilitySet::all(),
            seccomp: SeccompPolicy::Off,
            pids_max: None,
            // What the kernel does by itself: memory is counted for who has walls, or asks.
            oom: OomPolicy::Continue,
        },
        Profile::Host => Walls {
            namespaces: Namespace::Host,
            cgroup: Namespace::Private,
            network: NetworkMode::Host,
            caps: DOCKER_CAPABILITIES.iter().copied().collect(),
            seccomp: SeccompPolicy::Default,
            pids_max: None,
            oom: OomPolicy::KillCell,
        },
        Profile::Default | Profile::Strict | Profile::Wasm => Walls {
            namespaces: Namespace::Private,
            cgroup: Namespace::Private,
            network: NetworkMode::None,
            caps: CapabilitySet::default(),
            seccomp: if profile == Profile::Wasm { SeccompPolicy::Derived } else { SeccompPolicy::Default },
            pids_max: Some(DEFAULT_PIDS_MAX),
            oom: OomPolicy::KillCell,
        },
    }
}

pub(super) fn profile(isolation: &Reader<'_, '_>, is_wasm: bool) -> Profile {
    let by_payload = if is_wasm { Profile::Wasm } else { Profile::Default };
    isolation.read("profile", one_of).unwrap_or(by_payload)
}

/// `isolation.net` and `network.mode` are two words for one wall: either may be said.
pub(super) fn network(file: &File<'_>, isolation: &Reader<'_, '_>, walls: &Walls) -> NetworkMode {
    let by_net = isolation.read("net", one_of).map(|net| match net {
        Namespace::Host => NetworkMode::Host,
        Namespace::Private => NetworkMode::None,
    });
    static UNSAID: OnceLock<Option<NetworkMode>> = OnceLock::new();
    let said = file.section("network", &UNSAID, || file.table("network").read("mode", one_of));
    if let (Some(said), Some(by_net)) = (said, by_net)
        && said != by_net
    {
        let (place, help) = (file.places().of("network.mode"), "say one of the two");
        file.fault(place, "network.mode", "`isolation.net` says otherwise", Some(help.into()));
    }
    said.or(by_net).unwrap_or(walls.network)
}

pub(super) fn isolation(r: &Reader<'_, '_>, profile: Profile, walls: &Walls, mode: NetworkMode, unit: &str) -> Isolation {
    let namespace = |name| r.read(name, one_of).unwrap_or(walls.namespaces);
    Isolation {
        profile,
        enforce: r.choice("enforce"),
        user: namespace("user"),
        mount: namespace("mount"),
        uts: namespace("uts"),
        ipc: namespace("ipc"),
        pid: namespace("pid"),
        net: if mode == NetworkMode::Host { Namespace::Host } else { Namespace::Private },
        cgroup: r.read("cgroup", one_of).unwrap_or(walls.cgroup),
        hostname: r.read("hostname", plain_name).unwrap_or_else(|| unit.chars().take(MAX_HOSTNAME).collect()),
    }
}

pub(super) fn rootfs(file: &File<'_>) -> Rootfs {
    static UNSAID: OnceLock<Rootfs> = OnceLock::new();
    file.section("rootfs", &UNSAID, || {
        let r = file.table("rootfs");
        Rootfs { path: r.read("path", path), writable: r.value("writable", boolean) }
    })
}

pub(super) fn mounts(file: &File<'_>) -> Vec<Mount> {
    file.tables("mount").iter().map(mount).collect()
}

fn mount(r: &Reader<'_, '_>) -> Mount {
    let target = r.value("target", path);
    let source = r.read("source", path).unwrap_or_else(|| target.clone());
    let (recursive, size, mode) = (r.value("recursive", boolean), r.read("size", size), r.value("mode", mode));
    let is_tmpfs = r.choice::<MountType>("type") == MountType::Tmpfs;
    Mount {
        target,
        kind: if is_tmpfs { MountKind::Tmpfs { size, mode } } else { MountKind::Bind { source, recursive } },
        writable: r.read("writable", boolean).unwrap_or(is_tmpfs),
        exec: r.read("exec", boolean).unwrap_or(!is_tmpfs),
    }
}

pub(super) fn own_dirs(file: &File<'_>) -> Dirs {
    static UNSAID: OnceLock<Dirs> = OnceLock::new();
    file.section("dirs", &UNSAID, || {
        let r = file.table("dirs");
        Dirs { state: r.value("state", dirs), runtime: r.value("runtime", dirs) }
    })
}

pub(super) fn caps(file: &File<'_>, walls: &Walls) -> CapabilitySet {
    static UNSAID: OnceLock<Option<CapabilitySet>> = OnceLock::new();
    file.section("security", &UNSAID, || file.table("security").read("caps", capabilities)).unwrap_or(walls.caps)
}

pub(super) fn seccomp(file: &File<'_>, walls: &Walls, is_wasm: bool) -> Seccomp {
    static UNSAID: OnceLock<(Option<SeccompPolicy>, [Vec<String>; 2], i32)> = OnceLock::new();
    let by_profile = match walls.seccomp {
        SeccompPolicy::Default if is_wasm => SeccompPolicy::Derived,
        policy => policy,
    };
    let (said, [allow, deny], errno) = file.section("seccomp", &UNSAID, || {
        let r = file.table("seccomp");
        (r.read("policy", one_of), [r.value("allow", syscall_names), r.value("deny", syscall_names)], r.value("errno", errno))
    });
    Seccomp { policy: said.unwrap_or(by_profile), allow, deny, errno }
}

pub(super) fn selinux(file: &File<'_>) -> Selinux {
    static UNSAID: OnceLock<Selinux> = OnceLock::new();
    file.section("selinux", &UNSAID, || {
        let r = file.table("selinux");
        Selinux { kind: r.read("type", plain_name), level: r.read("level", selinux_level) }
    })
}

pub(super) fn resources(file: &File<'_>, walls: &Walls) -> Resources {
    static UNSAID: OnceLock<(Resources, bool)> = OnceLock::new();
    let (said, is_pids_max_said) = file.section("resources", &UNSAID, || {
        let (cpus, memory, pids) = (file.table("resources.cpu"), file.table("resources.memory"), file.table("resources.pids"));
        let resources = Resources {
            cpu_max_milli: cpus.value("max", cpu),
            cpu_weight: cpus.int("weight"),
            memory_high: memory.value("high", size_or_max),
            memory_max: memory.value("max", size_or_max),
            memory_low: memory.value("low", size_or_max),
            pids_max: pids.count("max"),
            io_weight: file.table("resources.io").int("weight"),
        };
        (resources, pids.has("max"))
    });
    Resources { pids_max: if is_pids_max_said { said.pids_max } else { walls.pids_max }, ..said }
}

pub(super) fn limits(file: &File<'_>) -> BTreeMap<Rlimit, RlimitValue> {
    const LIMITS: &[(&str, Rlimit)] = &[
        ("cpu-time", Rlimit::CpuTime),
        ("file-size", Rlimit::FileSize),
        ("data", Rlimit::Data),
        ("stack", Rlimit::Stack),
        ("core", Rlimit::Core),
        ("rss", Rlimit::Rss),
        ("nofile", Rlimit::Nofile),
        ("address-space", Rlimit::AddressSpace),
        ("nproc", Rlimit::Nproc),
        ("memlock", Rlimit::Memlock),
        ("locks", Rlimit::Locks),
        ("sigpending", Rlimit::Sigpending),
        ("msgqueue", Rlimit::Msgqueue),
        ("nice", Rlimit::Nice),
        ("rtprio", Rlimit::Rtprio),
        ("rttime", Rlimit::Rttime),
    ];
    static UNSAID: OnceLock<BTreeMap<Rlimit, RlimitValue>> = OnceLock::new();
    file.section("limits", &UNSAID, || {
        let r = file.table("limits");
        LIMITS.iter().filter_map(|(name, which)| Some((*which, r.read(name, |value| rlimit(value, *which))?))).collect()
    })
}

pub(super) fn oom(file: &File<'_>, walls: &Walls) -> (i32, OomPolicy) {
    static UNSAID: OnceLock<(i32, Option<OomPolicy>)> = OnceLock::new();
    let (score, policy) = file.section("oom", &UNSAID, || {
        let r = file.table("oom");
        (r.int("score").unwrap_or_default(), r.read("policy", one_of))
    });
    (score, policy.unwrap_or(walls.oom))
}

pub(super) fn sockets(file: &File<'_>) -> Vec<Socket> {
    file.tables("socket").iter().filter_map(socket).collect()
}

fn socket(r: &Reader<'_, '_>) -> Option<Socket> {
    let (address, name) = (r.read("listen", listen), r.value("name", plain_name));
    let (backlog, mode) = (r.int("backlog").unwrap_or_default(), r.value("mode", mode));
    Some(Socket { listen: address?, name, backlog, mode })
}
