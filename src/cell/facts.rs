//! What this host is like, looked up once when the supervisor starts. From here on it is data.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::sysinfo::sysinfo;

use super::text::{lines, number, words};
use crate::plan::{CgroupFacts, DEFAULT_PATH, Facts, HostGroup, HostUser, MOUNT_POINTS, RootFacts, SelinuxFacts, Tree};
use crate::sys::caps;
use crate::unit::{Identity, Payload, Profile, Rlimit, Unit};

const MOUNTS: &str = "/proc/self/mountinfo";
const UNIFIED: &str = "/sys/fs/cgroup";
/// INR_OPEN_CUR, for a kernel that does not say.
const DESCRIPTORS: u64 = 1024;
const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// moby's default masked and read-only paths below /proc (daemon/pkg/oci/defaults.go, 2026). A cell's /sys is a tree of our own,
/// so nothing there needs a mask.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const HOMES: &[&str] = &["/home", "/root"];

/// Where the supervisor keeps things; all of it hidden from cells.
#[derive(Debug, Clone)]
pub struct Places {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub cache_dir: PathBuf,
    pub log_dir: PathBuf,
    /// The supervisor's node below each cgroup mount: `cellinit.slice`.
    pub slice: String,
}

#[cfg(test)]
impl Places {
    /// Of a supervisor that runs nowhere.
    pub fn imagined() -> Places {
        Places {
            run_dir: "/run/x".into(),
            state_dir: "/run/x/state".into(),
            cache_dir: "/run/x/cache".into(),
            log_dir: "/run/x/log".into(),
            slice: "x.slice".into(),
        }
    }
}

/// Looks at the host, for these units: most of what none of them asks for is not looked up. The directories of `places` must be there
/// already: one that is made later is not hidden.
pub fn gather<'a>(places: &Places, units: impl IntoIterator<Item = &'a Unit>) -> Facts {
    gather_beside(places, units, &[])
}

/// The same without a look into these roots, which give no answer.
pub fn gather_beside<'a>(places: &Places, units: impl IntoIterator<Item = &'a Unit>, silent: &[String]) -> Facts {
    let units: Vec<&Unit> = units.into_iter().collect();
    let any = |asks: fn(&Unit) -> bool| units.iter().any(|unit| asks(unit));
    // What it holds and may still pass on.
    let (bounding, last_capability) = caps::bounding();
    let capabilities = caps::permitted().unwrap_or_default().0 & bounding.0;
    Facts {
        cgroup: cgroup(&places.slice, any(|unit| unit.resources.io_weight.is_some())),
        selinux: selinux(),
        root: any(Unit::has_root).then(|| root(places, &units, silent)),
        users: lines("/etc/passwd").iter().filter_map(|line| user(line)).collect(),
        groups: match any(|unit| matches!(unit.user.group, Some(Identity::Name(_)))) {
            true => lines("/etc/group").iter().filter_map(|line| group(line)).collect(),
            false => Vec::new(),
        },
        rlimit_ceiling: rlimit_ceiling(capabilities, any(sets_descriptors)),
        nofile: getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((DESCRIPTORS, DESCRIPTORS)),
        capabilities,
        // No link is followed on the way to what is below them.
        run_dir: resolved(&places.run_dir),
        state_dir: resolved(&places.state_dir),
        wasm_host: any(|unit| matches!(unit.payload, Payload::Wasm(_))).then(wasm_host).flatten(),
        last_capability,
    }
}

/// As it is for who only looks, and has not made it.
fn resolved(directory: &Path) -> PathBuf {
    fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned())
}

/// Whether its limit of descriptors is another than the supervisor's own.
fn sets_descriptors(unit: &Unit) -> bool {
    unit.isolation.profile != Profile::None || unit.has_root() || unit.limits.contains_key(&Rlimit::Nofile)
}

fn root(places: &Places, units: &[&Unit], silent: &[String]) -> RootFacts {
    let roots = units.iter().filter_map(|unit| unit.rootfs.path.as_deref());
    let roots: BTreeSet<&Path> = roots.filter(|root| silent.iter().all(|silent| silent != root)).map(Path::new).collect();
    // Resolved, since what is masked is the directory itself: /home and /var/run are links on many hosts.
    let own = [&places.run_dir, &places.state_dir, &places.cache_dir, &places.log_dir].map(PathBuf::as_path);
    let hidden = HOMES.iter().map(Path::new).chain(own).filter_map(|dir| fs::canonicalize(dir).ok());
    let hidden = hidden.filter(|dir| dir.is_dir()).map(|dir| dir.to_string_lossy().into_owned()).collect();
    let existing = |paths: &[&str]| {
        let found = paths.iter().filter(|path| Path::new(path).exists());
        found.map(ToString::to_string).collect()
    };
    RootFacts {
        trees: std::iter::once(Path::new("/")).chain(roots).map(tree).collect(),
        mounts: mount_points(&lines(MOUNTS)),
        hidden,
        masked: existing(MASKED),
        readonly: existing(READONLY),
        memory: sysinfo().map_or(u64::MAX, |info| info.ram_total()),
    }
}

/// The same text as the kernel shows, made into data; apart from the world so that it can be tested.
pub fn cgroup_mounts(mountinfo: &[String]) -> (Option<PathBuf>, Vec<(String, PathBuf)>) {
    const CONTROLLERS: &[&str] = &[
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    ];
    let (mut v2, mut v1) = (None, Vec::new());
    for line in mountinfo {
        // proc_pid_mountinfo(5): id parent device root MOUNTPOINT options [tags] - TYPE source OPTIONS
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let (mut left, mut right) = (left.split(' '), right.split(' '));
        let (Some(point), Some(kind), Some(options)) = (left.nth(4), right.next(), right.nth(1)) else {
            continue;
        };
        let point = PathBuf::from(unescape(point));
        match kind {
            // A bind of a part of the tree is not the tree; the first is the one that the host made.
            "cgroup2" if v2.is_none() && line.split(' ').nth(3) == Some("/") => v2 = Some(point),
            "cgroup" => {
                for controller in options.split(',').filter(|option| CONTROLLERS.contains(option)) {
                    if !v1.iter().any(|(known, _)| known == controller) {
                        v1.push((controller.to_string(), point.clone()));
                    }
                }
            }
            _ => {}
        }
    }
    (v2, v1)
}

/// In order, so that what is mounted below another mount comes after it.
fn mount_points(mountinfo: &[String]) -> Vec<String> {
    let points: BTreeSet<String> = mountinfo.iter().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect();
    points.into_iter().filter(|point| point != "/").collect()
}

fn cgroup(slice: &str, weighs_io: bool) -> CgroupFacts {
    let (v2_mount, v2_controllers, v1) = match unified() {
        Some(controllers) => (Some(UNIFIED.into()), controllers, Vec::new()),
        None => {
            let (v2, v1) = cgroup_mounts(&lines(MOUNTS));
            let controllers = v2.as_deref().map(controllers).unwrap_or_default();
            (v2, controllers, v1)
        }
    };
    let io_weight = weighs_io.then(|| io_weight(v2_mount.as_deref(), &v2_controllers, &v1)).flatten();
    CgroupFacts { v2_mount, v2_controllers, v1, io_weight, slice: slice.to_string() }
}

/// The controllers of version 2, if the whole tree is where most hosts have it, with all that a limit may ask for, so that no other
/// tree has them: told without the table of mounts, which is the longest text of all that is read here. The root of a tree is the first
/// node of its file system.
fn unified() -> Option<Vec<String>> {
    let is_v2 = statfs(UNIFIED).ok()?.filesystem_type() == CGROUP2_SUPER_MAGIC;
    if !is_v2 || fs::metadata(UNIFIED).ok()?.ino() != 1 {
        return None;
    }
    let there = controllers(Path::new(UNIFIED));
    ["cpu", "io", "memory", "pids"].iter().all(|one| there.iter().any(|there| there == one)).then_some(there)
}

fn controllers(tree: &Path) -> Vec<String> {
    words(tree.join("cgroup.controllers"))
}

/// The files of a controller are not in the root of its tree, so this looks into the first nodes below.
fn io_weight(v2: Option<&Path>, controllers: &[String], v1: &[(String, PathBuf)]) -> Option<String> {
    const LOOKED_AT: usize = 64;
    let blkio = v1.iter().find(|(name, _)| name == "blkio").map(|(_, mount)| mount.as_path());
    let io = v2.filter(|_| controllers.iter().any(|name| name == "io"));
    for (mount, names) in [(io, ["io.weight", "io.bfq.weight"]), (blkio, ["blkio.weight", "blkio.bfq.weight"])] {
        let Some(entries) = mount.and_then(|mount| fs::read_dir(mount).ok()) else {
            continue;
        };
        let nodes = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let nodes: Vec<PathBuf> = nodes.take(LOOKED_AT).map(|entry| entry.path()).collect();
        let there = |name: &&str| nodes.iter().any(|node| node.join(name).exists());
        if let Some(name) = names.iter().find(|name| there(name)) {
            return Some((*name).to_string());
        }
    }
    // Nothing below yet: BFQ shows its statistics in the root of v1 where it weighs further down.
    let bfq = blkio.is_some_and(|mount| mount.join("blkio.bfq.io_serviced").exists());
    bfq.then(|| "blkio.bfq.weight".to_string())
}

/// selinuxfs is there, and this kernel has a policy.
fn selinux() -> Option<SelinuxFacts> {
    /// Types of cellinit's own policy, then those of container-selinux.
    const NATIVE: &[&str] = &["system_u:system_r:cell_t", "system_u:system_r:container_t"];
    const WASM: &[&str] = &["system_u:system_r:cell_wasm_t", "system_u:system_r:cell_t", "system_u:system_r:container_t"];
    const FILES: &[&str] = &["system_u:object_r:cell_file_t", "system_u:object_r:container_file_t"];
    let filesystem = Path::new("/sys/fs/selinux");
    let enforce = number::<u32>(filesystem.join("enforce"))?;
    // Writing a context asks the policy whether it is one.
    let known = |label: &&str| fs::write(filesystem.join("context"), format!("{label}:s0\0")).is_ok();
    let pick = |labels: &[&str]| labels.iter().find(|label| known(label)).or(labels.first()).map(ToString::to_string);
    Some(SelinuxFacts { enforcing: enforce != 0, native: pick(NATIVE)?, wasm: pick(WASM)?, files: pick(FILES)? })
}

fn tree(root: &Path) -> Tree {
    let has = |point: &&&str| root.join(point.trim_start_matches('/')).symlink_metadata().is_ok_and(|meta| meta.is_dir());
    Tree { root: root.to_path_buf(), mount_points: MOUNT_POINTS.iter().filter(has).map(ToString::to_string).collect() }
}

/// A supervisor without CAP_SYS_RESOURCE cannot raise its own hard limits; no one can raise descriptors above fs.nr_open.
fn rlimit_ceiling(capabilities: u64, descriptors: bool) -> Vec<(u32, u64)> {
    const RESOURCES: [Resource; 16] = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_LOCKS,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_NICE,
        Resource::RLIMIT_RTPRIO,
        Resource::RLIMIT_RTTIME,
    ];
    let may_raise = capabilities & CAP_SYS_RESOURCE != 0;
    let nr_open = descriptors.then(|| number("/proc/sys/fs/nr_open")).flatten().unwrap_or(u64::MAX);
    let ceiling = |resource: Resource| {
        let hard = if may_raise { u64::MAX } else { getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard) };
        if resource == Resource::RLIMIT_NOFILE { hard.min(nr_open) } else { hard }
    };
    RESOURCES.into_iter().map(|resource| (resource as u32, ceiling(resource))).filter(|(_, hard)| *hard != u64::MAX).collect()
}

/// Beside this program, or where programs are: `/init` of an initramfs has nothing beside it.
fn wasm_host() -> Option<PathBuf> {
    let here = std::env::current_exe().ok();
    let beside = here.as_deref().and_then(Path::parent);
    let directories = beside.into_iter().chain(DEFAULT_PATH.split(':').map(Path::new));
    directories.map(|directory| directory.join("cell-wasm")).find(|host| host.is_file())
}

fn user(line: &str) -> Option<HostUser> {
    let mut fields = line.split(':');
    let name = fields.next()?.to_string();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(HostUser { name, uid, gid, home: fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_string() })
}

fn group(line: &str) -> Option<HostGroup> {
    let mut fields = line.split(':');
    Some(HostGroup { name: fields.next()?.to_string(), gid: fields.nth(1)?.parse().ok()? })
}

/// `\040` and its like, as mountinfo writes what would end a field.
fn unescape(field: &str) -> String {
    let mut text = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                text.push(byte);
                rest = &after[3..];
            }
            _ => {
                text.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_trees_are_found_in_mountinfo() {
        let check = |text: &str, v2: Option<&str>, v1: &[(&str, &str)]| {
            let mounts: Vec<String> = text.lines().map(ToString::to_string).collect();
            let v1 = v1.iter().map(|(name, point)| (name.to_string(), PathBuf::from(point))).collect();
            assert_eq!(cgroup_mounts(&mounts), (v2.map(PathBuf::from), v1));
        };
        check("", None, &[]);
        check("31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate", Some("/sys/fs/cgroup"), &[]);
        check(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             garbage\n\
             42 31 0:38 /a.slice /mnt/part rw - cgroup2 cgroup2 rw\n\
             41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw",
            Some("/sys/fs/cgroup/uni fied"),
            &[("cpu", "/sys/fs/cgroup/cpu,cpuacct"), ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct")],
        );
    }

    #[test]
    fn what_no_unit_asks_for_is_not_looked_up() {
        let places = Places::imagined();
        let look = |text: &str| gather(&places, [&crate::unit::parse("x.toml".as_ref(), text).unwrap()]);
        let free = look("[service]\nexec = [\"/bin/true\"]\n[isolation]\nprofile = \"none\"\n");
        assert_eq!((&free.root, &free.groups, &free.wasm_host, &free.cgroup.io_weight), (&None, &Vec::new(), &None, &None));
        assert!(free.users.iter().any(|user| user.uid == 0));
        let cell = look("[service]\nexec = [\"/bin/true\"]\n[user]\ngroup = \"root\"\n[isolation]\nuser = \"host\"\n");
        let root = cell.root.unwrap();
        assert!(root.mounts.iter().any(|mount| mount == "/proc") && root.readonly.iter().any(|path| path == "/proc/sys"));
        assert!(cell.groups.iter().any(|group| group.gid == 0));
        // Whoever has a limit of his own is told what no limit can be above.
        let limited = look("[service]\nexec = [\"/bin/true\"]\n[isolation]\nprofile = \"none\"\n[limits]\nnofile = 64\n");
        assert!([cell.rlimit_ceiling, limited.rlimit_ceiling].iter().all(|ceiling| ceiling.iter().any(|(resource, _)| *resource == 7)));
        let guest = look("[wasm]\nmodule = \"/x.wasm\"\n[isolation]\nprofile = \"none\"\n");
        assert!(guest.root.is_some());
        assert_eq!((free.last_capability, free.capabilities), (guest.last_capability, guest.capabilities));
        assert_eq!(Some(free.last_capability), number("/proc/sys/kernel/cap_last_cap"));
    }

    #[test]
    fn a_silent_root_is_not_looked_into_and_takes_nothing_else_away() {
        let places = Places::imagined();
        let text = "[service]\nexec = [\"/bin/true\"]\n[rootfs]\npath = \"/usr\"\n[user]\ngroup = \"root\"\n[isolation]\nuser = \"host\"\n";
        let unit = crate::unit::parse("x.toml".as_ref(), text).unwrap();
        let facts = gather_beside(&places, [&unit], &["/usr".to_owned()]);
        let trees: Vec<PathBuf> = facts.root.unwrap().trees.into_iter().map(|tree| tree.root).collect();
        assert_eq!((trees, facts.groups.is_empty()), (vec![PathBuf::from("/")], false));
    }

    #[test]
    fn a_unified_tree_is_what_the_table_of_mounts_says() {
        let told = cgroup_mounts(&lines(MOUNTS));
        assert!(unified().is_none() || told == (Some(UNIFIED.into()), Vec::new()), "{told:?}");
    }

    #[test]
    fn users_are_lines_of_seven_fields() {
        let check = |line: &str, expected: Option<(&str, u32, u32, &str)>| {
            let found = user(line);
            let found = found.as_ref().map(|user| (user.name.as_str(), user.uid, user.gid, user.home.as_str()));
            assert_eq!(found, expected, "{line}");
        };
        check("root:x:0:0:root:/root:/bin/bash", Some(("root", 0, 0, "/root")));
        check("www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin", Some(("www-data", 33, 33, "/var/www")));
        check("nohome:x:5:6::", Some(("nohome", 5, 6, "/")));
        check("+nis", None);
        check("bad:x:many:0::/:", None);
    }
}
