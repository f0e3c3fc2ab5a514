//! Who may speak for a cell, and which of its processes is its main one.

use std::path::Path;

use super::cgroup::{Cgroup, read_file};
use super::children::Children;
use super::follow::Main;
use super::member::Alive;
use super::notify::Sender;
use crate::plan::IdMap;
use crate::sys::process::pidfd_open;

/// The sender is a process of the cell. An id of the cell's own range proves it even when the process is gone by now
/// (systemd-notify is); without such a range it must still be there to be found in the cgroup.
pub fn belongs(sender: Sender, map: Option<IdMap>, cgroup: &Cgroup) -> bool {
    let in_range = map.is_some_and(|map| sender.uid >= map.base && sender.uid - map.base < map.size);
    in_range || cgroup.pids().contains(&sender.pid)
}

/// Follows another main process. `named` is what the service called it, in its own pid namespace.
pub fn switch(alive: &mut Alive, named: i32, children: &Children) -> Result<(), &'static str> {
    let pid = alive.cgroup.pids().into_iter().find(|pid| inner_pid(*pid) == Some(named)).ok_or("no process of the cell has that number")?;
    if pid == alive.pid {
        return Ok(());
    }
    let pidfd = pidfd_open(pid).map_err(|_| "it is gone")?;
    // The number was read before the descriptor was made: it must still be the same process.
    if !alive.cgroup.pids().contains(&pid) {
        return Err("it is gone");
    }
    let watched = pidfd.try_clone().ok();
    let main = Main { expected: children.register(pid), pidfd: watched };
    alive.successors.try_send(main).map_err(|_| "too many changes at once")?;
    alive.pid = pid;
    alive.pidfd = pidfd;
    Ok(())
}

/// The number that a process has in the innermost pid namespace; proc_pid_status(5).
fn inner_pid(pid: i32) -> Option<i32> {
    let status = read_file(Path::new(&format!("/proc/{pid}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().last()?.parse().ok()
}
