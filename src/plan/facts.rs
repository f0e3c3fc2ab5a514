//! What a plan needs to know about the host. Gathered once by the shell (`cell::facts`), passed in as data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    pub cgroup: CgroupFacts,
    /// SELinux is enabled in the kernel (selinuxfs is there), and enforcing.
    pub selinux: Option<SelinuxFacts>,
    /// None if no unit has a root of its own: a plan for one is refused then.
    pub root: Option<RootFacts>,
    /// Users and groups of the host, for `[user]` by name.
    pub users: Vec<HostUser>,
    pub groups: Vec<HostGroup>,
    /// Hard limits that cannot be raised from here, by resource number: the supervisor's own when it has no
    /// CAP_SYS_RESOURCE, and `fs.nr_open` for descriptors.
    pub rlimit_ceiling: Vec<(u32, u64)>,
    /// The supervisor's own soft and hard limit of descriptors, as it was found before it was raised.
    pub nofile: (u64, u64),
    /// What the supervisor can pass on to a cell that shares the host's user namespace, as a bit set.
    pub capabilities: u64,
    /// Where the supervisor keeps things. `run_dir/template/{dev,sys}` are made before the first start.
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// The static Wasm host, if it is installed beside this program.
    pub wasm_host: Option<PathBuf>,
    /// CAP_LAST_CAP of this kernel.
    pub last_capability: u32,
}

/// What the roots of cells are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RootFacts {
    /// The host's tree and every `rootfs.path`, so that nothing is mounted over what is not there.
    pub trees: Vec<Tree>,
    /// Where something is mounted on the host, parents first; the root itself is not named.
    pub mounts: Vec<String>,
    /// Directories of the host that no cell shall see: homes, and where the supervisor keeps things. Only those that exist.
    pub hidden: Vec<String>,
    /// Paths of the OCI masked and read-only lists that exist here.
    pub masked: Vec<String>,
    pub readonly: Vec<String>,
    /// Bytes of memory in this machine; what is in a tmpfs comes out of it, and no OOM killer can tell whose that was.
    pub memory: u64,
}

/// A line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostUser {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostGroup {
    pub name: String,
    pub gid: u32,
}

/// Which of [`MOUNT_POINTS`] a tree has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    pub root: PathBuf,
    pub mount_points: Vec<String>,
}

/// Where a plan may mount something of the cell's own over a tree.
pub const MOUNT_POINTS: &[&str] = &["/proc", "/dev", "/sys", "/tmp", "/var/tmp", "/var/lib", "/run"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CgroupFacts {
    /// Where the v2 tree is mounted, if it is (`/sys/fs/cgroup` or `/sys/fs/cgroup/unified`).
    pub v2_mount: Option<PathBuf>,
    /// Controllers of the v2 tree.
    pub v2_controllers: Vec<String>,
    /// v1 controllers with their mount points.
    pub v1: Vec<(String, PathBuf)>,
    /// The file that takes a weight for block devices. It depends on the kernel's I/O schedulers whether there is one:
    /// `io.weight`, `io.bfq.weight`, `blkio.weight` or `blkio.bfq.weight`.
    pub io_weight: Option<String>,
    /// The supervisor's node below each mount: `cellinit.slice`.
    pub slice: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelinuxFacts {
    pub enforcing: bool,
    /// Label for native and for Wasm cells when the unit says none, e.g. `system_u:system_r:cell_t`; the level is appended.
    pub native: String,
    pub wasm: String,
    /// Label of the directories that are made for a cell, to which its level is appended, too.
    pub files: String,
}

/// What the shell allocates for one unit before its plan is built; small integers that stay with the unit while the supervisor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// 0-based; the id range is `ID_BASE + slot * ID_RANGE`, the MCS pair is the slot-th of the 523,776 sorted pairs.
    pub index: u32,
}

/// First host id of the pool, and ids per cell (UNITS.md: `uid-pool`).
pub const ID_BASE: u32 = 524_288;
pub const ID_RANGE: u32 = 65_536;
/// Slots that fit below 2^32 - 2.
pub const SLOTS: u32 = (u32::MAX - 1 - ID_BASE) / ID_RANGE;
