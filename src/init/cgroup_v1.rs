//! Version 1 hierarchies, through cgroups-rs: the limits on hosts whose controllers are there, and, where no v2 tree is
//! mounted at all, the membership too (a node of the freezer, or of any other hierarchy).

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cgroups_rs::Cgroup;
use cgroups_rs::freezer::FreezerController;
use cgroups_rs::hierarchies::V1;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::unix::AsyncFd;

use super::cgroup::{Error, failed, limit, make_anew, make_directory, read_file, remove_tree, write_file};
use crate::plan::{CgroupFacts, CgroupPlan};

/// Without v2 nothing tells that a cgroup got empty: look this often, and only while a cell is going down.
const EMPTY_INTERVAL: Duration = Duration::from_millis(50);
/// From the word of an eventfd to the kill that it announces.
const UNTIL_KILLED: Duration = Duration::from_millis(100);
/// A fork bomb is frozen before it is killed; where it cannot be frozen, this many rounds chase it before the next look.
const KILL_ROUNDS: usize = 8;
/// Processes whose memory is summed up where no controller counts it.
const MAX_SUMMED: usize = 256;
/// Hierarchies that can stand in for membership, the best first.
const MEMBERSHIP: [&str; 5] = ["freezer", "pids", "memory", "cpu", "devices"];

/// The nodes of one cell in v1 hierarchies; empty where v2 does it all.
#[derive(Debug, Default)]
pub struct Legacy {
    /// A controller, and the cell's node in its hierarchy.
    nodes: Vec<(String, PathBuf)>,
    /// The node's name, below every mount.
    path: String,
    /// The node whose `cgroup.procs` says who belongs to the cell, when no v2 tree does.
    members: Option<PathBuf>,
}

impl Legacy {
    pub fn create(facts: &CgroupFacts, plan: &CgroupPlan) -> Result<Legacy, Error> {
        let path = plan.path.as_str();
        let mount = |controller: &str| facts.v1.iter().find(|(name, _)| name == controller).map(|(_, mount)| mount);
        let mut controllers: Vec<&str> = plan.v1.iter().map(|(name, _)| name.as_str()).collect();
        let membership = match facts.v2_mount {
            Some(_) => None,
            None => Some(MEMBERSHIP.into_iter().find(|c| mount(c).is_some()).ok_or_else(no_hierarchy)?),
        };
        controllers.extend(membership.filter(|m| !controllers.contains(m)));
        if controllers.is_empty() {
            return Ok(Legacy::default());
        }
        let mut legacy =
            Legacy { nodes: Vec::new(), path: path.to_owned(), members: membership.and_then(mount).map(|mount| mount.join(path)) };
        let made = controllers.iter().try_for_each(|controller| legacy.add(controller, mount(controller), &facts.slice));
        if let Err(error) = made.and_then(|()| legacy.limit(plan)) {
            legacy.remove();
            return Err(error);
        }
        Ok(legacy)
    }

    /// Not by cgroups-rs, whose create() only warns when it fails, and reads the table of mounts for each cell.
    fn add(&mut self, controller: &str, mount: Option<&PathBuf>, slice: &str) -> Result<(), Error> {
        let Some(mount) = mount else { return Ok(()) };
        make_directory(&mount.join(slice))?;
        let node = mount.join(&self.path);
        make_anew(&node)?;
        self.nodes.push((controller.to_owned(), node));
        Ok(())
    }

    /// What the plan says for these nodes, file by file as `cell plan` prints it; cgroups-rs would have words of its own.
    fn limit(&self, plan: &CgroupPlan) -> Result<(), Error> {
        self.nodes().try_for_each(|node| limit(node, plan))
    }

    pub fn members(&self) -> Option<PathBuf> {
        self.members.clone()
    }

    /// `tasks` of every node, to write to. A process of one thread that writes itself there is moved in 50 us; by way of
    /// `cgroup.procs` the kernel first waits for every processor, for 4 to 15 ms.
    pub fn entrances(&self) -> Result<Vec<File>, Error> {
        let open = |node: &Path| {
            let path = node.join("tasks");
            File::options().write(true).open(&path).map_err(failed(format!("open {}", path.display())))
        };
        self.nodes().map(open).collect()
    }

    pub fn read(&self, controller: &str, file: &str) -> Option<String> {
        read_file(&self.node(controller)?.join(file)).ok()
    }

    /// An eventfd that the kernel writes to when the cell has no memory left, just before somebody is killed for it; memory.rst of
    /// cgroup-v1, section 10.
    pub fn watch_oom(&self) -> Option<File> {
        let node = self.node("memory")?;
        let told = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
        let control = File::open(node.join("memory.oom_control")).ok()?;
        let line = format!("{} {}", told.as_fd().as_raw_fd(), control.as_raw_fd());
        write_file(&node.join("cgroup.event_control"), &line).ok()?;
        Some(File::from(OwnedFd::from(told)))
    }

    pub fn kill(&self) {
        let Some(members) = &self.members else { return };
        let names = self.nodes.iter().map(|(controller, _)| controller.clone()).collect();
        let group = Cgroup::load_with_specified_controllers(Box::new(V1::new()), &self.path, names);
        let freezer = group.controller_of::<FreezerController>();
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
            if let Err(error) = remove_tree(node) {
                tracing::warn!(%error, node = %node.display(), "cgroup stays");
            }
        }
    }

    fn nodes(&self) -> impl Iterator<Item = &Path> {
        self.nodes.iter().map(|(_, node)| node.as_path())
    }

    fn node(&self, controller: &str) -> Option<&Path> {
        self.nodes.iter().find(|(name, _)| name == controller).map(|(_, node)| node.as_path())
    }
}

/// Until a kill is counted, which follows what the eventfd tells.
pub async fn out_of_memory(told: &AsyncFd<File>) {
    let Ok(mut ready) = told.readable().await else { return std::future::pending().await };
    told.get_ref().read_exact(&mut [0; 8]).ok();
    ready.clear_ready();
    tokio::time::sleep(UNTIL_KILLED).await;
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

/// Sleeps until nobody is in these nodes. Only before the loop begins.
pub fn wait_until_empty(nodes: &[PathBuf], deadline: Instant) {
    let is_populated = |node: &PathBuf| read_file(&node.join("cgroup.procs")).is_ok_and(|text| !text.trim().is_empty());
    while nodes.iter().any(is_populated) && Instant::now() < deadline {
        std::thread::sleep(EMPTY_INTERVAL);
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

fn no_hierarchy() -> Error {
    let error = std::io::Error::other("neither cgroup2 nor a freezer, pids, memory, cpu or devices hierarchy is mounted");
    Error { what: "cgroup".into(), error }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;
    use crate::unit::Resources;

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
            v1: facts.v1.iter().filter(|(name, _)| name == "pids").cloned().collect(),
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
