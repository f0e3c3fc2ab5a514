//! What the payload may use: the cgroup and the resource limits.

use std::path::{Path, PathBuf};

use crate::unit::{OomPolicy, Profile, Resources, Rlimit, RlimitValue, Unit};

use super::error::{PlanError, Shortcomings};
use super::{CgroupPlan, Facts, Step};

/// `limits.nofile` of a unit that says none: select(2) cannot take more, and who can take more raises it.
pub const DEFAULT_NOFILE: RlimitValue = RlimitValue { soft: Some(1024), hard: Some(524_288) };
/// `resources.pids.max` of a unit that says none.
pub const DEFAULT_PIDS: u32 = 1024;
/// Of `cpu.max`, in microseconds.
const CPU_PERIOD: u64 = 100_000;

pub(super) fn cgroup(unit: &Unit, facts: &Facts, shortcomings: &mut Shortcomings<'_>) -> Result<CgroupPlan, PlanError> {
    let die_together = unit.oom_policy == OomPolicy::KillCell;
    // What nobody asked for is left out where this host cannot do it.
    let defaults = Resources { memory_max: unit.default_memory_max(), pids_max: Some(DEFAULT_PIDS), ..Resources::default() };
    cgroup_for(&unit.name, &unit.resources, &defaults, die_together, facts, shortcomings)
}

/// Each limit goes to the v2 controller if this host has it there, else to the v1 controller, else it is a shortcoming.
pub(super) fn cgroup_for(
    name: &str,
    wanted: &Resources,
    defaults: &Resources,
    die_together: bool,
    facts: &Facts,
    shortcomings: &mut Shortcomings<'_>,
) -> Result<CgroupPlan, PlanError> {
    let host = &facts.cgroup;
    if host.v2_mount.is_none() && host.v1.is_empty() {
        return Err(shortcomings.refuse(
            "isolation.cgroup",
            "no cgroup tree is mounted, and a cell is stopped when its cgroup is empty",
            Some("mount -t cgroup2 none /sys/fs/cgroup".to_string()),
        ));
    }
    let on_v2 = |controller: &str| host.v2_controllers.iter().any(|known| known == controller);
    let on_v1 = |controller: &str| host.v1.iter().find(|(known, _)| known == controller);
    let mut v1: Vec<(String, PathBuf)> = Vec::new();
    // Whether this host has the controller by either name; joins the v1 hierarchy if that is where it is.
    let mut needs = |key: &str, controller: &str, old_name: &str| -> bool {
        if on_v2(controller) {
            return true;
        }
        if let Some(found) = on_v1(old_name) {
            if !v1.contains(found) {
                v1.push(found.clone());
            }
            return true;
        }
        let reason = format!("this host has no cgroup controller for {controller}");
        let by_default = match key {
            "resources.memory.max" => wanted.memory_max == defaults.memory_max,
            "resources.pids.max" => wanted.pids_max == defaults.pids_max,
            _ => false,
        };
        match by_default {
            true => shortcomings.note(key, reason),
            false => shortcomings.cannot(key, reason),
        }
        false
    };

    let mut limits = wanted.clone();
    for (key, limit) in [
        ("resources.memory.max", &mut limits.memory_max),
        ("resources.memory.high", &mut limits.memory_high),
        ("resources.memory.low", &mut limits.memory_low),
    ] {
        if limit.is_some() && !needs(key, "memory", "memory") {
            *limit = None;
        }
    }
    for (key, limit, controller, old_name) in [
        ("resources.cpu.max", &mut limits.cpu_max_milli, "cpu", "cpu"),
        ("resources.cpu.weight", &mut limits.cpu_weight, "cpu", "cpu"),
        ("resources.pids.max", &mut limits.pids_max, "pids", "pids"),
        ("resources.io.weight", &mut limits.io_weight, "io", "blkio"),
    ] {
        if limit.is_some() && !needs(key, controller, old_name) {
            *limit = None;
        }
    }
    if limits.memory_high.is_some() && !on_v2("memory") {
        shortcomings.cannot("resources.memory.high", "cgroup v1 has no such limit");
        limits.memory_high = None;
    }
    if limits.io_weight.is_some() && host.io_weight.is_none() {
        shortcomings.cannot("resources.io.weight", "no I/O scheduler of this kernel takes weights");
        limits.io_weight = None;
        v1.retain(|(name, _)| name != "blkio");
    }

    Ok(CgroupPlan {
        path: format!("{}/{name}", host.slice),
        oom_group: die_together && on_v2("memory"),
        io_weight: host.io_weight.clone().filter(|_| limits.io_weight.is_some()),
        v2: host.v2_mount.clone(),
        v1,
        limits,
    })
}

impl CgroupPlan {
    /// The directory that is the cell, where there is a v2 tree.
    pub fn directory(&self) -> PathBuf {
        self.v2.as_deref().unwrap_or(Path::new("")).join(&self.path)
    }

    /// Every file that is written, with its value, in this order.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let limits = &self.limits;
        let mut files = Vec::new();
        let mut put = |controller: &str, name: &str, value: String| {
            let v1 = self.v1.iter().find(|(known, _)| known == controller).map(|(_, mount)| mount);
            if let Some(mount) = v1.or(self.v2.as_ref()) {
                files.push((mount.join(&self.path).join(name), value));
            }
        };
        let is_v1 = |controller: &str| self.v1.iter().any(|(known, _)| known == controller);

        if let Some(bytes) = limits.memory_low {
            let name = if is_v1("memory") { "memory.soft_limit_in_bytes" } else { "memory.low" };
            put("memory", name, bytes.to_string());
        }
        if let Some(bytes) = limits.memory_high {
            put("memory", "memory.high", bytes.to_string());
        }
        if let Some(bytes) = limits.memory_max {
            let name = if is_v1("memory") { "memory.limit_in_bytes" } else { "memory.max" };
            put("memory", name, bytes.to_string());
        }
        if self.oom_group {
            put("memory", "memory.oom.group", "1".to_string());
        }
        if let Some(milli) = limits.cpu_max_milli {
            let quota = u64::from(milli) * CPU_PERIOD / 1000;
            if is_v1("cpu") {
                put("cpu", "cpu.cfs_period_us", CPU_PERIOD.to_string());
                put("cpu", "cpu.cfs_quota_us", quota.to_string());
            } else {
                put("cpu", "cpu.max", format!("{quota} {CPU_PERIOD}"));
            }
        }
        if let Some(weight) = limits.cpu_weight {
            match is_v1("cpu") {
                true => put("cpu", "cpu.shares", shares(weight).to_string()),
                false => put("cpu", "cpu.weight", weight.to_string()),
            }
        }
        if let Some(processes) = limits.pids_max {
            put("pids", "pids.max", processes.to_string());
        }
        if let (Some(weight), Some(name)) = (limits.io_weight, &self.io_weight) {
            let controller = if name.starts_with("blkio") { "blkio" } else { "io" };
            let value = match name.as_str() {
                "io.weight" => format!("default {weight}"),
                "blkio.weight" => (weight * 5).clamp(10, 1000).to_string(),
                _ => bfq(weight).to_string(),
            };
            put(controller, name, value);
        }
        files
    }
}

/// A v2 weight (100 is the default) as v1 shares (1024 is the default).
fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).clamp(2, 262_144)
}

/// The same scale as far as the default, 100; above it 10,000 becomes BFQ's 1,000.
fn bfq(weight: u32) -> u32 {
    match weight {
        0..=100 => weight,
        _ => 100 + (weight - 100).min(9_900) / 11,
    }
}

/// setrlimit before the user namespace is entered, where raising one still counts against the host's capabilities.
pub(super) fn rlimits(unit: &Unit, facts: &Facts, shortcomings: &mut Shortcomings<'_>) -> Vec<Step> {
    let mut wanted = unit.limits.clone();
    let (soft, hard) = facts.nofile;
    let default = match unit.isolation.profile {
        // What the supervisor was given: it raises its own, which a program with no walls shall not notice.
        Profile::None => RlimitValue { soft: Some(soft), hard: Some(hard) },
        _ => DEFAULT_NOFILE,
    };
    wanted.entry(Rlimit::Nofile).or_insert(default);
    let mut steps = Vec::new();
    for (limit, value) in wanted {
        let (resource, name, key) = number(limit);
        let (mut soft, mut hard) = (value.soft.unwrap_or(u64::MAX), value.hard.unwrap_or(u64::MAX));
        if let Some((_, ceiling)) = facts.rlimit_ceiling.iter().find(|(known, _)| *known == resource)
            && hard > *ceiling
        {
            let reason = format!("{} is above this host's {ceiling}, which cannot be raised from here", show(hard));
            match limit == Rlimit::Nofile && value == default {
                true => shortcomings.note(&format!("limits.{key}"), format!("the default {reason}")),
                false => shortcomings.cannot(&format!("limits.{key}"), reason),
            }
            hard = *ceiling;
            soft = soft.min(hard);
        }
        steps.push(Step::SetRlimit { resource, name, soft, hard });
    }
    steps
}

/// Both soft and hard: as much as `most`, or what is left below this host's own ceiling.
pub(super) fn rlimit(limit: Rlimit, most: u64, facts: &Facts) -> Step {
    let (resource, name, _) = number(limit);
    let ceiling = facts.rlimit_ceiling.iter().find(|(known, _)| *known == resource);
    let most = ceiling.map_or(most, |(_, ceiling)| most.min(*ceiling));
    Step::SetRlimit { resource, name, soft: most, hard: most }
}

/// A host that gives only its own superuser a lower score refuses it to us when we are not.
pub(super) fn oom_score(unit: &Unit, facts: &Facts, shortcomings: &mut Shortcomings<'_>) -> Option<Step> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    if unit.oom_score < 0 && facts.capabilities & CAP_SYS_RESOURCE == 0 {
        shortcomings.cannot("oom.score", "lowering it takes CAP_SYS_RESOURCE, which the supervisor does not have");
        return None;
    }
    (unit.oom_score != 0).then_some(Step::SetOomScore(unit.oom_score))
}

pub(super) fn show(value: u64) -> String {
    match value {
        u64::MAX => "infinity".to_string(),
        value => value.to_string(),
    }
}

/// Resource number (asm-generic/resource.h), its C name, its key.
fn number(limit: Rlimit) -> (u32, &'static str, &'static str) {
    match limit {
        Rlimit::CpuTime => (0, "RLIMIT_CPU", "cpu-time"),
        Rlimit::FileSize => (1, "RLIMIT_FSIZE", "file-size"),
        Rlimit::Data => (2, "RLIMIT_DATA", "data"),
        Rlimit::Stack => (3, "RLIMIT_STACK", "stack"),
        Rlimit::Core => (4, "RLIMIT_CORE", "core"),
        Rlimit::Rss => (5, "RLIMIT_RSS", "rss"),
        Rlimit::Nproc => (6, "RLIMIT_NPROC", "nproc"),
        Rlimit::Nofile => (7, "RLIMIT_NOFILE", "nofile"),
        Rlimit::Memlock => (8, "RLIMIT_MEMLOCK", "memlock"),
        Rlimit::AddressSpace => (9, "RLIMIT_AS", "address-space"),
        Rlimit::Locks => (10, "RLIMIT_LOCKS", "locks"),
        Rlimit::Sigpending => (11, "RLIMIT_SIGPENDING", "sigpending"),
        Rlimit::Msgqueue => (12, "RLIMIT_MSGQUEUE", "msgqueue"),
        Rlimit::Nice => (13, "RLIMIT_NICE", "nice"),
        Rlimit::Rtprio => (14, "RLIMIT_RTPRIO", "rtprio"),
        Rlimit::Rttime => (15, "RLIMIT_RTTIME", "rttime"),
    }
}
