//! Version 1 hierarchies, through cgroups-rs: the limits on hosts whose controllers are there, and, where no v2 tree is
//! mounted at all, the membership too (a node of the freezer, or of any other hierarchy).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cgroups_rs::cpu::CpuController;
use cgroups_rs::freezer::FreezerController;
use cgroups_rs::hierarchies::V1;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, MaxValue};

use super::cgroup::{CPU_PERIOD_US, Error, failed, make_directory, read_file, write_file};
use crate::plan::{CgroupFacts, CgroupPlan};
use crate::unit::Resources;

/// Without v2 nothing tells that a cgroup got empty: look this often, and only while a cell is going down.
const EMPTY_INTERVAL: Duration = Duration::from_millis(50);
/// A fork bomb is frozen before it is killed; where it cannot be frozen, this many rounds chase it before the next look.
const KILL_ROUNDS: usize = 8;
/// Processes whose memory is summed up where no controller counts it.
const MAX_SUMMED: usize = 256;
/// Hierarchies that can stand in for membership, the best first.
const MEMBERSHIP: [&str; 5] = ["freezer", "pids", "memory", "cpu", "devices"];

/// The nodes of one cell in v1 hierarchies; empty where v2 does it all.
#[derive(Debug, Default)]
pub struct Legacy {
    group: Option<Cgroup>,
    /// The node whose `cgroup.procs` says who belongs to the cell, when no v2 tree does.
    members: Option<PathBuf>,
}

impl Legacy {
    pub fn create(facts: &CgroupFacts, plan: &CgroupPlan) -> Result<Legacy, Error> {
        let (path, limits) = (plan.path.as_str(), &plan.limits);
        let mount = |controller: &str| facts.v1.iter().find(|(name, _)| name == controller).map(|(_, mount)| mount);
        let mut controllers: Vec<&str> = wanted(limits).into_iter().filter(|c| mount(c).is_some()).collect();
        let membership = match facts.v2_mount {
            Some(_) => None,
            None => Some(MEMBERSHIP.into_iter().find(|c| mount(c).is_some()).ok_or_else(no_hierarchy)?),
        };
        controllers.extend(membership.filter(|m| !controllers.contains(m)));
        if controllers.is_empty() {
            return Ok(Legacy::default());
        }
        for controller in &controllers {
            let Some(mount) = mount(controller) else { continue };
            make_directory(&mount.join(&facts.slice))?;
            // Here and not by cgroups-rs, whose create() only warns when it fails.
            let node = mount.join(path);
            std::fs::remove_dir(&node).ok();
            std::fs::create_dir(&node).map_err(failed(format!("mkdir {}", node.display())))?;
        }
        let names = controllers.iter().map(|c| (*c).to_owned()).collect();
        let group = Cgroup::load_with_specified_controllers(Box::new(V1::new()), path, names);
        let members = membership.and_then(mount).map(|mount| mount.join(path));
        let legacy = Legacy { group: Some(group), members };
        if let Err(error) = legacy.limit(plan) {
            legacy.remove();
            return Err(error);
        }
        Ok(legacy)
    }

    /// The v2 words in v1's terms.
    fn limit(&self, plan: &CgroupPlan) -> Result<(), Error> {
        let limits = &plan.limits;
        let Some(group) = &self.group else { return Ok(()) };
        let wrong = |what: &'static str| move |e: cgroups_rs::error::Error| failed(what)(std::io::Error::other(chain(&e)));
        if let Some(cpu) = group.controller_of::<CpuController>() {
            if let Some(milli) = limits.cpu_max_milli {
                cpu.set_cfs_period(CPU_PERIOD_US).map_err(wrong("write cpu.cfs_period_us"))?;
                let quota = i64::from(milli) * CPU_PERIOD_US as i64 / 1000;
                cpu.set_cfs_quota(quota).map_err(wrong("write cpu.cfs_quota_us"))?;
            }
            if let Some(weight) = limits.cpu_weight {
                // 100 of 10,000 is 1,024 of 262,144; the kernel's own mapping is linear too.
                let shares = (u64::from(weight) * 1024 / 100).max(2);
                cpu.set_shares(shares).map_err(wrong("write cpu.shares"))?;
            }
        }
        if let Some(memory) = group.controller_of::<MemController>() {
            if let Some(bytes) = limits.memory_max {
                memory.set_limit(signed(bytes)).map_err(wrong("write memory.limit_in_bytes"))?;
            }
            if let Some(bytes) = limits.memory_low {
                memory.set_soft_limit(signed(bytes)).map_err(wrong("write memory.soft_limit_in_bytes"))?;
            }
        }
        if let (Some(pids), Some(max)) = (group.controller_of::<PidController>(), limits.pids_max) {
            pids.set_pid_max(MaxValue::Value(i64::from(max))).map_err(wrong("write pids.max"))?;
        }
        // Not by cgroups-rs, which knows one of the two names of this file.
        if let Some(node) = self.node("blkio") {
            for (path, value) in plan.files().into_iter().filter(|(path, _)| path.starts_with(&node)) {
                write_file(&path, &value).map_err(failed(format!("write {}", path.display())))?;
            }
        }
        Ok(())
    }

    pub fn members(&self) -> Option<PathBuf> {
        self.members.clone()
    }

    /// `tasks` of every node, to write to. A process of one thread that writes itself there is moved in 50 us; by way of
    /// `cgroup.procs` the kernel first waits for every processor, for 4 to 15 ms.
    pub fn entrances(&self) -> Result<Vec<File>, Error> {
        let open = |node: PathBuf| {
            let path = node.join("tasks");
            File::options().write(true).open(&path).map_err(failed(format!("open {}", path.display())))
        };
        self.nodes().map(open).collect()
    }

    pub fn read(&self, controller: &str, file: &str) -> Option<String> {
        read_file(&self.node(controller)?.join(file)).ok()
    }

    pub fn kill(&self) {
        let Some(members) = &self.members else { return };
        let freezer = self.group.as_ref().and_then(|g| g.controller_of::<FreezerController>());
        if let Some(freezer) = freezer {
            freezer.freeze().ok();
        }
        kill_members(members);
        if let Some(freezer) = freezer {
            freezer.thaw().ok();
        }
    }

    /// Not by cgroups-rs, whose delete() sleeps between its attempts.
    pub fn remove(&self) {
        for node in self.nodes() {
            if let Err(error) = std::fs::remove_dir(&node) {
                tracing::warn!(%error, node = %node.display(), "cgroup stays");
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let group = self.group.iter();
        group.flat_map(|g| g.subsystems().iter().map(|s| s.to_controller().path().to_owned()))
    }

    fn node(&self, controller: &str) -> Option<PathBuf> {
        let subsystems = self.group.as_ref()?.subsystems();
        subsystems.iter().find(|s| s.controller_name() == controller).map(|s| s.to_controller().path().to_owned())
    }
}

/// The controllers that these limits need, by their v1 names.
fn wanted(limits: &Resources) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut need = |name, it: bool| names.extend(it.then_some(name));
    need("cpu", limits.cpu_max_milli.is_some() || limits.cpu_weight.is_some());
    need("memory", limits.memory_max.is_some() || limits.memory_low.is_some());
    need("pids", limits.pids_max.is_some());
    need("blkio", limits.io_weight.is_some());
    names
}

/// SIGKILL to everyone in a node, again until nobody new appears.
pub fn kill_members(node: &Path) {
    for _ in 0..KILL_ROUNDS {
        let text = read_file(&node.join("cgroup.procs")).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

pub async fn emptied(node: &Path) {
    while read_file(&node.join("cgroup.procs")).is_ok_and(|text| !text.trim().is_empty()) {
        tokio::time::sleep(EMPTY_INTERVAL).await;
    }
}

/// Resident bytes of these processes; counts shared pages as often as they are shared.
pub fn resident(pids: &[i32]) -> Option<u64> {
    let page = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??).ok()?;
    let pages = pids.iter().take(MAX_SUMMED).filter_map(|pid| {
        let statm = read_file(Path::new(&format!("/proc/{pid}/statm"))).ok()?;
        statm.split(' ').nth(1)?.parse::<u64>().ok()
    });
    Some(pages.sum::<u64>() * page)
}

/// cgroups-rs keeps the reason in the source of its errors.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn no_hierarchy() -> Error {
    let error = std::io::Error::other("neither cgroup2 nor a freezer, pids, memory, cpu or devices hierarchy is mounted");
    Error { what: "cgroup".into(), error }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;

    /// On a host with no v2 tree at all: a node of a v1 hierarchy is the cell. Needs root and any such hierarchy, as the first
    /// kernels of this kind had; a host with neither has nothing to try it on.
    #[test]
    fn a_v1_node_stands_in_for_membership() {
        let (_, v1) = crate::cell::facts::cgroup_mounts(&mount_table());
        if v1.is_empty() || !nix::unistd::geteuid().is_root() {
            return;
        }
        let slice = format!("cellinit-test-{}", std::process::id());
        let facts = CgroupFacts { v2_mount: None, v2_controllers: Vec::new(), v1, io_weight: None, slice: slice.clone() };
        let limits = Resources { pids_max: Some(10), ..Resources::default() };
        let plan = CgroupPlan {
            path: format!("{slice}/cell"),
            v2: None,
            controllers: Vec::new(),
            v1: facts.v1.clone(),
            limits,
            io_weight: None,
            oom_group: false,
        };
        let legacy = Legacy::create(&facts, &plan).unwrap();
        let members = legacy.members().unwrap();
        assert_eq!(legacy.read("pids", "pids.max").map(|text| text.trim().to_owned()).as_deref(), Some("10"));

        let mut child = Command::new("sh").args(["-c", "sleep 100 & sleep 100 & wait"]).spawn().unwrap();
        for mut entrance in legacy.entrances().unwrap() {
            entrance.write_all(child.id().to_string().as_bytes()).unwrap();
        }
        assert!(read_file(&members.join("cgroup.procs")).unwrap().contains(&child.id().to_string()));
        legacy.kill();
        child.wait().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(emptied(&members));
        legacy.remove();
        assert!(!members.exists());
        for (_, mount) in &facts.v1 {
            std::fs::remove_dir(mount.join(&slice)).ok();
        }
    }

    fn mount_table() -> Vec<String> {
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect()
    }
}
