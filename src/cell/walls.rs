//! The walls of a running cell as the kernel shows them. Nothing here comes from the plan: what is reported was asked for again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::facts::cgroup_mounts;
use super::text::{lines, number, words};
use crate::unit::CAPABILITIES;

/// Values are the kernel's own text wherever it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walls {
    /// By name as in `/proc/PID/ns`; the inode is what two processes have in common when they share one.
    pub namespaces: BTreeMap<String, u64>,
    /// Inside, outside, how many.
    pub uid_map: Vec<[u32; 3]>,
    pub gid_map: Vec<[u32; 3]>,
    /// Effective, as the host knows them.
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: Capabilities,
    pub seccomp: SeccompState,
    pub no_new_privs: bool,
    /// Where the kernel has SELinux.
    pub selinux: Option<String>,
    /// The cgroup in the v2 tree, and by v1 controller where it is not the root of that.
    pub cgroups: BTreeMap<String, String>,
    /// By the name of the file: `memory.max` on v2, `memory.limit_in_bytes` on v1.
    pub limits: BTreeMap<String, String>,
    /// By the keys of `[limits]`, `soft:hard`.
    pub rlimits: BTreeMap<String, String>,
    pub oom_score_adj: Option<i32>,
    /// What is mounted in its mount namespace.
    pub mounts: usize,
    /// Its root seen from here: `/` for a root of its own too, which only `mounts` and `namespaces` tell apart.
    pub root: Option<String>,
}

/// Sets in hexadecimal, and the effective one by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub names: Vec<&'static str>,
    pub effective: String,
    pub permitted: String,
    pub inheritable: String,
    pub bounding: String,
    pub ambient: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SeccompState {
    /// 0 none, 1 strict, 2 filter.
    pub mode: u32,
    pub filters: u32,
}

/// `None` when the process is gone.
pub fn read(pid: i32) -> Option<Walls> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let status = lines(process.join("status"));
    let field = |name: &str| {
        let line = status.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).unwrap_or_default()
    };
    // Real, effective, saved, file system.
    let effective = |name: &str| field(name).split_whitespace().nth(1)?.parse().ok();
    let numbers = |name: &str| field(name).split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let cgroups = cgroups(&process);
    Some(Walls {
        uid: effective("Uid")?,
        gid: effective("Gid")?,
        groups: numbers("Groups"),
        namespaces: namespaces(&process),
        uid_map: map(&process.join("uid_map")),
        gid_map: map(&process.join("gid_map")),
        capabilities: Capabilities {
            names: names(field("CapEff")),
            effective: field("CapEff").to_string(),
            permitted: field("CapPrm").to_string(),
            inheritable: field("CapInh").to_string(),
            bounding: field("CapBnd").to_string(),
            ambient: field("CapAmb").to_string(),
        },
        seccomp: SeccompState { mode: field("Seccomp").parse().unwrap_or(0), filters: field("Seccomp_filters").parse().unwrap_or(0) },
        no_new_privs: field("NoNewPrivs") == "1",
        selinux: selinux(&process),
        limits: limits(&cgroups, &self::cgroups(Path::new("/proc/self"))),
        cgroups,
        rlimits: rlimits(&lines(process.join("limits"))),
        oom_score_adj: number(process.join("oom_score_adj")),
        mounts: lines(process.join("mountinfo")).len(),
        root: fs::read_link(process.join("root")).ok().map(|root| root.to_string_lossy().into_owned()),
    })
}

fn names(set: &str) -> Vec<&'static str> {
    let bits = u64::from_str_radix(set, 16).unwrap_or(0);
    (0..).zip(CAPABILITIES).filter(|(number, _)| bits >> number & 1 == 1).map(|(_, name)| *name).collect()
}

fn namespaces(process: &Path) -> BTreeMap<String, u64> {
    const NAMES: &[&str] = &["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    // `mnt:[4026531841]`
    let inode = |name: &str| {
        let link = fs::read_link(process.join("ns").join(name)).ok()?;
        link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
    };
    NAMES.iter().filter_map(|name| Some((name.to_string(), inode(name)?))).collect()
}

fn map(file: &Path) -> Vec<[u32; 3]> {
    let numbers: Vec<u32> = words(file).iter().filter_map(|word| word.parse().ok()).collect();
    numbers.as_chunks::<3>().0.to_vec()
}

fn selinux(process: &Path) -> Option<String> {
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return None;
    }
    words(process.join("attr/current")).first().map(|label| label.trim_end_matches('\0').to_string())
}

/// `0::/cellinit.slice/web`, or `4:memory:/cellinit.slice/web`; cgroups(7).
fn cgroups(process: &Path) -> BTreeMap<String, String> {
    let mut cgroups = BTreeMap::new();
    for line in lines(process.join("cgroup")) {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        match controllers {
            "" => {
                cgroups.insert("v2".to_string(), path.to_string());
            }
            _ if path == "/" => {}
            controllers => cgroups.extend(controllers.split(',').map(|name| (name.to_string(), path.to_string()))),
        }
    }
    cgroups
}

/// What is set on the nodes themselves, read from whichever tree has the controller. A cell without a limit of some v1 controller
/// stays where its supervisor is: what is set there is nothing of the cell's.
fn limits(cgroups: &BTreeMap<String, String>, ours: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const FILES: &[(&str, &[&str])] = &[
        (
            "v2",
            &[
                "memory.max",
                "memory.high",
                "memory.low",
                "memory.oom.group",
                "pids.max",
                "cpu.max",
                "cpu.weight",
                "io.weight",
                "io.bfq.weight",
            ],
        ),
        ("memory", &["memory.limit_in_bytes", "memory.soft_limit_in_bytes"]),
        ("pids", &["pids.max"]),
        ("cpu", &["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"]),
        ("blkio", &["blkio.weight", "blkio.bfq.weight"]),
    ];
    let (v2, v1) = cgroup_mounts(&lines("/proc/self/mountinfo"));
    let mut limits = BTreeMap::new();
    for (tree, files) in FILES {
        let mount = match *tree {
            "v2" => v2.as_ref(),
            controller => v1.iter().find(|(known, _)| known == controller).map(|(_, mount)| mount),
        };
        let (Some(mount), Some(path)) = (mount, cgroups.get(*tree).filter(|path| ours.get(*tree) != Some(path))) else {
            continue;
        };
        let node = mount.join(path.trim_start_matches('/'));
        for file in *files {
            let value = words(node.join(file));
            if !value.is_empty() {
                limits.insert((*file).to_string(), value.join(" "));
            }
        }
    }
    limits
}

/// Names are padded to a column and have spaces in them, so each is known in full; proc_pid_limits(5).
fn rlimits(lines: &[String]) -> BTreeMap<String, String> {
    const NAMES: &[(&str, &str)] = &[
        ("Max cpu time", "cpu-time"),
        ("Max file size", "file-size"),
        ("Max data size", "data"),
        ("Max stack size", "stack"),
        ("Max core file size", "core"),
        ("Max resident set", "rss"),
        ("Max processes", "nproc"),
        ("Max open files", "nofile"),
        ("Max locked memory", "memlock"),
        ("Max address space", "address-space"),
        ("Max file locks", "locks"),
        ("Max pending signals", "sigpending"),
        ("Max msgqueue size", "msgqueue"),
        ("Max nice priority", "nice"),
        ("Max realtime priority", "rtprio"),
        ("Max realtime timeout", "rttime"),
    ];
    let value = |name: &str| {
        let mut words = lines.iter().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        Some(format!("{}:{}", words.next()?, words.next()?))
    };
    NAMES.iter().filter_map(|(name, key)| Some(((*key).to_string(), value(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_host_has_walls() {
        let walls = read(std::process::id() as i32).expect("this process is there");
        for name in ["mnt", "pid", "user", "net", "uts", "ipc", "cgroup"] {
            assert!(walls.namespaces.contains_key(name), "{name}");
        }
        assert_eq!(walls.capabilities.effective.len(), 16);
        assert!(!walls.uid_map.is_empty() && walls.mounts > 0);
        assert_eq!(walls.rlimits.len(), 16, "{:?}", walls.rlimits);
        assert_eq!(read(i32::MAX), None);
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(names("0000000000000401"), ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
        assert_eq!(names("000001ffffffffff").len(), CAPABILITIES.len());
        assert!(names("0000000000000000").is_empty());
    }

    #[test]
    fn limits_are_read_by_column() {
        let check = |line: &str, key: &str, expected: Option<&str>| {
            assert_eq!(rlimits(&[line.to_string()]).get(key).map(String::as_str), expected);
        };
        check("Max open files            1024                 524288               files     ", "nofile", Some("1024:524288"));
        check("Max core file size        unlimited            unlimited            bytes     ", "core", Some("unlimited:unlimited"));
        check("Max open files", "nofile", None);
    }
}
